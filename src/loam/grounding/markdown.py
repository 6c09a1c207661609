"""Markdown to canonical text.

Knows CommonMark with tables (parsed by markdown-it-py), front matter, HTML inside Markdown, and the `{% tags %}` of
site generators. Knows nothing of files or passages. Links keep their words and lose their addresses, so that a quote
reads well.
Invariant: time and memory grow in step with the input, whatever it holds: long documents are parsed in slices, and
inline text with brackets beyond reason is taken as it stands.
"""

import re
from collections.abc import Iterator
from html import unescape
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.token import Token

from loam.grounding.canonical import Document, Writer

_FRONT_MATTER = re.compile(r"\A(---|\+\+\+)[ \t]*\n(.*?)^\1[ \t]*(?:\n|\Z)", re.DOTALL | re.MULTILINE)
_TITLE = re.compile(r"^title[ \t]*[:=](.+)$", re.MULTILINE | re.IGNORECASE)
_COMMENT = re.compile(r"\{%-?\s*comment\s*-?%\}")
_END_COMMENT = re.compile(r"\{%-?\s*endcomment\s*-?%\}")
_TAG_ADDRESS = re.compile(r"\]\(\s*\{%[^%]*%\}[^)\s]*\s*\)")
_TAG_LINE = re.compile(r"^[ \t]*(?:\{%[^%]*%\}[ \t]*)+$", re.MULTILINE)
_TAG = re.compile(r"`[^`]*`|\{%[^%]*%\}")  # code in backticks is passed over
_QUOTED = re.compile(r"\"([^\"]*)\"|'([^']*)'")
_REFERENCE = re.compile(r"^ {0,3}\[[^\]\n]+\]:[ \t]*\S+.*$", re.MULTILINE)
_HTML_TAG = re.compile(r"<!--|</?([a-zA-Z][a-zA-Z0-9-]*)\b[^<>]*>")
_HTML_SILENT = {"!": "-->", "script": "</script>", "style": "</style>"}
_HTML_PHRASING = "a abbr b cite code dfn em i kbd mark q s samp small span strong sub sup time u var wbr"
_SLICE = 200_000  # characters; a token weighs some 30 times its text
_BRACKETS = 400  # of one block: beyond, matching them costs time that grows with their square


def read_markdown(text: str, title: str) -> Document:
    """The canonical form of `text`; `title` serves where neither front matter nor a first heading names one."""
    front = _FRONT_MATTER.match(text)
    if front:
        text = text[front.end() :]
    text = _uncommented(text)
    walk = _Walk()
    parser = MarkdownIt("commonmark").enable("table").disable("inline")
    env: dict[str, Any] = {}
    parser.parse("\n".join(_REFERENCE.findall(text)), env)
    for piece in _slices(text):
        for token in parser.parse(piece, env):
            if token.type == "inline":
                walk.inline(_inline_text(parser, token.content, env))
            else:
                walk.block(token)
    named = _TITLE.search(front.group(2)) if front else None
    return walk.writer.document(_unquoted(named.group(1).strip()) if named else walk.first_heading or title)


def _uncommented(text: str) -> str:
    pieces: list[str] = []
    position = 0
    while (start := _COMMENT.search(text, position)) and (end := _END_COMMENT.search(text, start.end())):
        pieces.append(text[position : start.start()])
        position = end.end()
    return "".join(pieces) + text[position:]


def _slices(text: str) -> Iterator[str]:
    """The text in pieces that begin at a heading outside code, each as long as need be to reach the next one."""
    start = position = 0
    fenced = False
    for line in text.splitlines(keepends=True):
        if line.startswith(("```", "~~~")):
            fenced = not fenced
        elif position - start > _SLICE and line.startswith("#") and not fenced:
            yield text[start:position]
            start = position
        position += len(line)
    yield text[start:]


def _unquoted(value: str) -> str:
    return value[1:-1] if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'" else value


class _Walk:
    """Writes block tokens as they come; knows which list, table row or heading it is in."""

    def __init__(self) -> None:
        self.writer = Writer()
        self.first_heading = ""
        self._lists: list[int | None] = []  # the next number of each open list, None for bullets
        self._marker = ""
        self._heading = 0
        self._cells: list[str] | None = None

    def block(self, token: Token) -> None:
        match token.type:
            case "heading_open":
                self._heading = int(token.tag[1])
            case "bullet_list_open" | "ordered_list_open":
                self._lists.append(None if token.tag == "ul" else int(token.attrGet("start") or 1))
            case "bullet_list_close" | "ordered_list_close":
                self._lists.pop()
            case "list_item_open":
                self._open_item()
            case "list_item_close" | "heading_close":  # one that had no text leaves nothing for the next
                self._marker, self._heading = "", 0
            case "tr_open":
                self._cells = []
            case "tr_close":
                self._close_row()
            case "fence" | "code_block" if token.content.strip():
                self.writer.code(token.content.strip("\n").rstrip())
            case "html_block":
                self._html(token.content)
            case _:
                pass

    def inline(self, text: str) -> None:
        if self._cells is not None:
            self._cells.append(text.replace("|", "/"))
        elif not text:
            return
        elif self._heading:
            self.first_heading = self.first_heading or text
            self.writer.heading(self._heading, text)
        elif self._marker:
            self.writer.item(text, marker=self._marker, depth=len(self._lists) - 1)
            self._marker = ""
        else:
            self.writer.paragraph(text)

    def _html(self, html: str) -> None:
        for paragraph in html_paragraphs(html):
            self.inline(paragraph)

    def _open_item(self) -> None:
        number = self._lists[-1]
        self._marker = "-" if number is None else f"{number}."
        if number is not None:
            self._lists[-1] = number + 1

    def _close_row(self) -> None:
        if self._cells and any(self._cells):
            self.writer.row(self._cells)
        self._cells = None


def _inline_text(parser: MarkdownIt, content: str, env: dict[str, Any]) -> str:
    """What a reader of the page would see: no marks, no addresses, one line."""
    if content.count("[") + content.count("*") + content.count("_") > _BRACKETS:
        return " ".join(content.split())
    tokens = parser.inline.parse(_untagged(content), parser, env, [])
    return " ".join("".join(_pieces(tokens)).split())


def _pieces(tokens: list[Token]) -> Iterator[str]:
    for token in tokens:
        match token.type:
            case "text" | "text_special" | "code_inline":  # special: entities and escapes
                yield token.content
            case "softbreak" | "hardbreak":
                yield " "
            case "html_inline" if token.content.startswith("<br"):
                yield " "
            case _:
                pass  # emphasis, links' ends, tags and pictures have no words of their own


def _untagged(text: str) -> str:
    """Site generators' tags: alone on a line they are layout; in a sentence their last quoted word stands for them."""
    if "{%" not in text:
        return text
    return _TAG.sub(_tag_words, _TAG_LINE.sub("", _TAG_ADDRESS.sub("](#)", text)))


def _tag_words(tag: re.Match[str]) -> str:
    if tag.group().startswith("`"):
        return tag.group()
    quoted = _QUOTED.findall(tag.group())
    return (quoted[-1][0] or quoted[-1][1]) if quoted else ""


def html_paragraphs(html: str) -> list[str]:
    """The words of an HTML fragment, one text for each block element or table row; no scripts, no comments."""
    paragraphs: list[str] = []
    words: list[str] = []
    lower = html.lower()
    phrasing = _HTML_PHRASING.split()
    position = 0
    while tag := _HTML_TAG.search(html, position):
        words.append(html[position : tag.start()])
        position = tag.end()
        name = (tag.group(1) or "!").lower()
        if name in _HTML_SILENT and not tag.group().startswith("</"):
            end = lower.find(_HTML_SILENT[name], position)
            position = len(html) if end < 0 else end + len(_HTML_SILENT[name])
        if name in ("td", "th"):
            words.append(" ")
        elif name not in phrasing:
            paragraphs.append("".join(words))
            words.clear()
    paragraphs.append("".join([*words, html[position:]]))
    texts = (" ".join(unescape(_untagged(paragraph)).split()) for paragraph in paragraphs)
    return [text for text in texts if text]
