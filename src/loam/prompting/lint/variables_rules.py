"""Rules on variables: what others write stands in a fence, what changes stands last, and every name is declared.

Pure. Invariant: a Loam file's untrusted variables are fenced when they are filled in, so they are never reported.
"""

import re
from collections.abc import Iterator

from loam.prompting.lint.finding import Hit
from loam.prompting.lint.settings import LintSettings
from loam.prompting.lint.sheet import Passage, Sheet, Slot
from loam.prompting.lint.words import WORDS
from loam.prompting.prompts import INPUT

_TAG = re.compile(r"<(/?)([A-Za-z][\w-]*)[^<>]*>")
_RULED = re.compile(r"^[ \t]*(?:[-=*~]{3,}|#{3,}[ \t]*\w+[ \t]*#{3,}|[-=*~]{3,}.*[-=*~]{3,})[ \t]*$", re.MULTILINE)
_LITERAL = re.compile(
    r"\b\d{4}-\d\d-\d\dT\d\d:\d\d|\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b", re.IGNORECASE
)
"""A moment or an id, as programs write them."""
_LOOKED_AT = 200
"""Variables of a passage; each is looked for a fence around it through the whole text."""
_BRACES = re.compile(r"placeholder|variable|template|brace|token|syntax|`|such as|\blike\b|e\.g\.", re.IGNORECASE)
"""What a line says that speaks about placeholders instead of having one."""


def unfenced_variable(sheet: Sheet, settings: LintSettings) -> Iterator[Hit]:
    """Text of others that stands bare among instructions is read as one: fence it, so that it stays data."""
    if sheet.declared is not None or sheet.finished:
        return
    for passage in sheet.told:
        for slot in passage.slots[:_LOOKED_AT]:
            if others_wrote(passage, slot, settings) and not _fenced(passage.text, slot):
                yield Hit(
                    slot.line,
                    f"{{{slot.name}}} looks like text that others wrote, and nothing marks where it begins and ends",
                    f"put it between tags: <{slot.name}>…</{slot.name}>; or make this a Loam prompt, which fences it",
                )


def others_wrote(passage: Passage, slot: Slot, settings: LintSettings) -> bool:
    """Whether a variable holds what others wrote: by its name, or because it stands alone at the end of its line."""
    parts = [part for part in re.split(r"[\W_]+|(?<=[a-z])(?=[A-Z])", slot.name) if part and not part.isdigit()]
    last = parts[-1].lower()
    if last in WORDS.parameters:
        return False
    if {part.lower() for part in parts} & (WORDS.untrusted | set(settings.untrusted)):
        return True
    before = passage.text[passage.text.rfind("\n", 0, slot.start) + 1 : slot.start]
    rest = passage.text[slot.end :].split("\n")[0]
    return not rest.strip() and (not before.strip() or before.rstrip().endswith(":"))


def _fenced(text: str, slot: Slot) -> bool:
    """Whether it stands between a pair of tags, of fences, of quotes, or of ruled lines."""
    before, after = text[: slot.start], text[slot.end :]
    opened: list[str] = []
    for slash, name in _TAG.findall(before):
        if not slash:
            opened.append(name)
        elif name in opened:
            opened.remove(name)
    if any(f"</{name}>" in after for name in opened):
        return True
    if any(before.count(fence) % 2 and fence in after for fence in ("```", '"""', "'''", "~~~")):
        return True
    line = before[before.rfind("\n") + 1 :]
    if line.strip() == ">":
        return True
    if line.count('"') % 2 and '"' in after.split("\n")[0]:
        return True
    if len(_RULED.findall(before)) % 2 == 1 and _RULED.search(after):
        return True
    return _is_mark(_nearest(before.split("\n")[:-1][::-1])) and _is_mark(_nearest(after.split("\n")[1:]))


def _nearest(lines: list[str]) -> str:
    """The first of some lines that is not empty."""
    return next((line for line in lines if line.strip()), "")


def _is_mark(line: str) -> bool:
    """Whether a line is there to part what stands before it from what comes after: ===, <<<MAIL, [The end]."""
    if re.match(r"^\s*\[[^\[\]]+\]\s*$", line):
        return True
    return re.match(r"^\s*\w*\s*([^\w\s.,:;!?])\1\1|^.*([^\w\s.,:;!?])\2\2\s*\w*\s*$", line) is not None


def unstable_prefix(sheet: Sheet, settings: LintSettings) -> Iterator[Hit]:
    """Providers cache a prompt's beginning as far as it stays the same: what changes belongs after what does not."""
    told = sheet.told
    for number, passage in enumerate(told):
        changing = _changing(passage)
        if changing is None:
            continue
        start, what = changing
        rest = [passage.text[start:], *(later.text for later in told[number + 1 :])]
        stable = sum(len(text) - sum(len(name) for name in _names(text)) for text in rest)
        if stable >= settings.prefix:
            yield Hit(
                passage.at(start),
                f"{what} changes from call to call, and {stable} characters that do not change stand after it",
                "move it behind the unchanging text, so that providers can cache that",
                whole=True,
            )
        return


def _changing(passage: Passage) -> tuple[int, str] | None:
    """The first place of a passage that is another in every call."""
    found = [(one.start(), f'"{one[0]}"') for one in _LITERAL.finditer(passage.text)]
    for slot in passage.slots:
        parts = {part.lower() for part in re.split(r"[_.]|(?<=[a-z])(?=[A-Z])", slot.name)}
        if parts & WORDS.changing and not parts & {"model", "company", "product", "brand", "file"}:
            found.append((slot.start, f"{{{slot.name}}}"))
    return min(found, default=None)


def _names(text: str) -> list[str]:
    return re.findall(r"\{\{?\s*\w+\s*\}?\}", text)


def undeclared_variable(sheet: Sheet, settings: LintSettings) -> Iterator[Hit]:
    """A placeholder that nobody fills reaches the model as it stands; a variable that stands nowhere is a slip."""
    if sheet.finished:
        for passage in sheet.told:
            for slot in passage.slots:
                if passage.text.startswith("{{", slot.start):
                    message = f"{{{{{slot.name}}}}} was never filled in: these messages are sent as they are"
                    yield Hit(slot.line, message, "fill it in, or make this a Loam prompt with variables")
        return
    if not sheet.declared:
        return
    yield from _other_braces(sheet)
    used = [slot for passage in sheet.passages for slot in passage.slots if passage.text.startswith("{{", slot.start)]
    there = ", ".join(sheet.declared)
    for slot in used:
        if slot.name not in sheet.declared and slot.name != INPUT:
            yield Hit(
                slot.line,
                f"{{{{{slot.name}}}}} is not among the declared variables ({there})",
                f"declare it: [variables] {slot.name} = {{}}; or write the name that you meant",
            )
    for name in sheet.declared:
        if name not in {slot.name for slot in used}:
            message = f"the variable {name} is declared and stands nowhere"
            yield Hit(1, message, f"write {{{{{name}}}}} where it belongs, or take it out of [variables]", whole=True)


def _other_braces(sheet: Sheet) -> Iterator[Hit]:
    """Placeholders as other tools write them, which Loam does not fill; not where braces are the topic."""
    for passage in sheet.told:
        for slot in passage.slots:
            line = passage.text[passage.text.rfind("\n", 0, slot.start) + 1 :].split("\n")[0]
            if not passage.text.startswith("{{", slot.start) and not _BRACES.search(line):
                written = passage.text[slot.start : slot.end]
                yield Hit(
                    slot.line,
                    f"{written} is no placeholder of a Loam prompt and is sent as it stands",
                    f"write {{{{{slot.name}}}}} and declare it: [variables] {slot.name} = {{}}",
                )
