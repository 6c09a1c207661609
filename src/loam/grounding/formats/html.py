"""HTML to canonical text.

Knows which elements are headings, items, rows and code, which hold no words of the document (scripts, navigation,
footers, what is hidden), and that `main` or a lone `article` is the document where there is one. The walk is by hand
and without recursion: nesting has no limit in HTML.
Invariant: a document that has words in its body never comes out empty because they were all taken for furniture.
"""

import re

from selectolax.lexbor import LexborHTMLParser, LexborNode

from loam.grounding.canonical import Document, Writer
from loam.grounding.formats.encodings import decoded
from loam.grounding.formats.source import UNSEEN, Source, cell, tidy

_CHARSET = re.compile(
    rb"<meta[^>]{0,200}charset\s*=\s*[\"']?\s*([\w-]+)|<\?xml[^>]{0,200}encoding\s*=\s*[\"']([\w-]+)", re.IGNORECASE
)


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


_SILENT = _names(
    "script style noscript template head iframe object embed svg math canvas audio video map select datalist button "
    "input textarea dialog"
)
_APART = _names("nav footer navigation contentinfo banner search menu menubar toolbar")
"""Elements and roles that are never the document."""
_AROUND = _names("header aside complementary")
"""Those that stand around the document, but belong to it when they stand within."""
_IN_LINE = _names(
    "a abbr acronym b bdi bdo big cite code data del dfn em font i ins kbd label mark q rp rt ruby s samp small span "
    "strike strong sub sup time tt u var wbr nobr img"
)
_LAYOUT = "h1, h2, h3, h4, pre"
_BREAK = " \r"
_CLOSED = re.compile(
    r"<((?!(?:area|base|br|col|embed|hr|img|input|link|meta|source|track|wbr)\b)[a-z][a-z0-9]{0,20})\b([^<>]{0,2000})/>"
)
_HIDING = re.compile(r"display\s*:\s*none", re.IGNORECASE)
_PERMALINK = " #¶§\uf0c1🔗"


def read(source: Source) -> Document:
    """Raises DocumentError for bytes that are no text."""
    declared = _CHARSET.search(source.data[:4096])
    name = (declared.group(1) or declared.group(2)).decode() if declared else ""
    found = decoded(source, declared=name, controls=True)
    writer = Writer()
    if found.remark:
        writer.remark(found.remark)
    title = write_html(writer, found.text)
    return writer.document(title or source.title)


def write_html(writer: Writer, html: str) -> str:
    """Writes the words of a page and says what it is called: by its only h1, its title, or ""."""
    if "http://www.w3.org/1999/xhtml" in html[:2000]:
        html = _CLOSED.sub(r"<\1\2></\1>", html)
    tree = LexborHTMLParser(html)
    body = tree.body
    if body is None:
        return ""
    content = _content(tree)
    attempts = [_Walk(writer, content, drop=_APART)] if content is not None else []
    attempts += [_Walk(writer, body, drop=_APART | _AROUND), _Walk(writer, body, drop=frozenset())]
    wrote = next((walk for walk in attempts if walk.write()), None)
    named = tree.css_first("title")
    title = tidy(named.text()) if named is not None else ""
    return wrote.titles[0] if wrote is not None and len(wrote.titles) == 1 else title


def _content(tree: LexborHTMLParser) -> LexborNode | None:
    """The part of the page that is the document, where the page says so."""
    for query in ("main", '[role="main"]', "article"):
        nodes = tree.css(query)
        if len(nodes) == 1:
            return nodes[0]
    return None


class _Walk:
    """Writes the blocks under `root` in order, but for what is named in `drop`.

    Knows which heading, lists, table, row it is in.
    """

    def __init__(self, writer: Writer, root: LexborNode, *, drop: frozenset[str]) -> None:
        self.titles: list[str] = []
        self._writer = writer
        self._root = root
        self._drop = drop
        self._wrote = False
        self._words: list[str] = []
        self._lists: list[int | None] = []  # the next number of each open list, None for bullets
        self._marker = ""
        self._heading = 0
        self._tables: list[bool] = []  # whether each open table holds data, not layout
        self._row: list[str] | None = None

    def write(self) -> bool:
        """Whether there were any words."""
        root = self._root.mem_id
        node = self._root
        while True:
            below = node.first_child if self._enters(node) else None
            if below is not None:
                node = below
                continue
            while node.mem_id != root and node.next is None and node.parent is not None:
                node = node.parent
                self._leave(node)
            if node.mem_id == root or node.next is None:
                break
            node = node.next
        self._end_block()
        return self._wrote

    def _enters(self, node: LexborNode) -> bool:
        """Begins a node; whether its children are to be walked. One without any ends at once."""
        tag = node.tag or ""
        if node.is_text_node:
            self._words.append(node.text_content or "")
        elif not node.is_element_node or tag in _SILENT or self._drops(node, tag):
            return False
        elif tag == "pre" and self._row is None:
            self._code(node)
        elif tag == "br":
            self._break()
        elif tag not in _IN_LINE:
            self._open(node, tag)
            if node.first_child is not None:
                return True
            self._leave(node)
        return tag in _IN_LINE

    def _drops(self, node: LexborNode, tag: str) -> bool:
        if node.mem_id == self._root.mem_id:
            return False
        attributes = node.attributes
        role = attributes.get("role") or ""
        if "hidden" in attributes or attributes.get("aria-hidden") == "true":
            return True
        if _HIDING.search(attributes.get("style") or ""):
            return True
        if tag == "header" and node.css_first("h1") is not None:
            return False
        return tag in self._drop or role in self._drop

    def _open(self, node: LexborNode, tag: str) -> None:
        self._end_block()
        data = bool(self._tables) and self._tables[-1]
        match tag:
            case "h1" | "h2" | "h3" | "h4" | "h5" | "h6":
                self._heading = int(tag[1])
            case "ul" | "ol" | "menu":
                self._lists.append(None if tag != "ol" else _number(node.attributes.get("start")))
            case "li":
                self._marker = self._next_marker()
            case "table":
                self._tables.append(self._row is None and not _is_layout(node))
            case "tr" if data:
                self._row = []
            case _:
                pass

    def _leave(self, node: LexborNode) -> None:
        tag = node.tag or ""
        if tag in _IN_LINE:
            return
        if tag in {"td", "th"} and self._row is not None:
            self._row.append(cell("".join(self._words)))
            self._words.clear()
            return
        self._end_block()
        match tag:
            case "h1" | "h2" | "h3" | "h4" | "h5" | "h6":
                self._heading = 0
            case "ul" | "ol" | "menu":
                self._lists.pop()
            case "li":
                self._marker = ""
            case "table":
                self._tables.pop()
            case "tr" if self._row is not None:
                self._end_row(self._row)
            case _:
                pass

    def _break(self) -> None:
        """One break is a space, two are the end of a paragraph."""
        before = [words for words in self._words[-2:] if words == _BREAK or words.strip()]
        if before[-1:] == [_BREAK]:
            self._end_block()
        else:
            self._words.append(_BREAK)

    def _end_row(self, row: list[str]) -> None:
        self._row = None
        self._words.clear()
        if len(row) == 1 and row[0]:
            self._writer.paragraph(row[0])
        elif any(row):
            self._writer.row(row)
        self._wrote = self._wrote or any(row)

    def _end_block(self) -> None:
        if self._row is not None:
            self._words.append(" ")
            return
        text = tidy("".join(self._words))
        self._words.clear()
        if not text:
            return
        if self._heading:
            text = text.rstrip(_PERMALINK) or text
            self._writer.heading(self._heading, text)
            if self._heading == 1:
                self.titles.append(text)
            return
        self._wrote = True
        if self._marker:
            self._writer.item(text, marker=self._marker, depth=min(len(self._lists), 9) - 1 if self._lists else 0)
            self._marker = ""
        else:
            self._writer.paragraph(text)

    def _code(self, node: LexborNode) -> None:
        self._end_block()
        text = node.text().translate(UNSEEN).strip("\n").rstrip()
        if text:
            self._writer.code(text)
            self._wrote = True

    def _next_marker(self) -> str:
        number = self._lists[-1] if self._lists else None
        if number is None:
            return "-"
        self._lists[-1] = number + 1
        return f"{number}."


def _is_layout(table: LexborNode) -> bool:
    """Whether a table is there to set blocks side by side; `css` counts the table itself."""
    presents = table.attributes.get("role") == "presentation"
    return presents or len(table.css("table")) > 1 or table.css_first(_LAYOUT) is not None


def _number(start: str | None) -> int:
    return int(start) if start and re.fullmatch(r"[0-9]{1,3}", start) else 1
