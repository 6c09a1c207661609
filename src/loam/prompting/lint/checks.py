"""Checks that an answer can be held against, and how each is carried out.

Pure. Knows answers as texts; not where a check came from. Invariant: a check that nothing but a reader can decide
(`judge`) is never reported as passed or failed.
"""

import json
import re
from collections.abc import Callable
from typing import Any, Literal

from msgspec import Struct

from loam.prompting.schemas import Schema

Kind = Literal[
    "most",
    "least",
    "exact",
    "choice",
    "json",
    "keys",
    "schema",
    "starts",
    "ends",
    "contains",
    "lacks",
    "equals",
    "judge",
]
_BULLET = re.compile(r"^\s*(?:[-*•]|\d+[.)])\s+\S", re.MULTILINE)

UNITS: dict[str, Callable[[str], int]] = {
    "word": lambda text: len(text.split()),
    "character": len,
    "line": lambda text: sum(bool(line.strip()) for line in text.split("\n")),
    "sentence": lambda text: len(
        re.findall(r"[^.!?]*[^.!?\s][.!?]+(?=\s|$|[\"”’)\]])|[^.!?]*\w[^.!?]*$", text.strip())
    ),
    "paragraph": lambda text: sum(bool(part.strip()) for part in re.split(r"\n\s*\n", text)),
    "bullet": lambda text: len(_BULLET.findall(text)),
    "bullet point": lambda text: len(_BULLET.findall(text)),
}
"""What can be counted in a text, by its name in the singular."""


class Check(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """One requirement. `line` and `source` say where it stands in the prompt; `number` counts `unit`s.

    `texts` are the allowed answers (choice), keys (keys), or what must or must not stand there (starts, ends, contains,
    lacks, equals).
    """

    id: str
    kind: Kind
    source: str = ""
    line: int = 0
    unit: str = ""
    number: int = 0
    texts: tuple[str, ...] = ()
    schema: dict[str, Any] | None = None


def problem_of(check: Check, answer: str) -> str | None:
    """What is wrong with an answer: empty where it passes, `None` where only a reader can say.

    Raises ModelFailure (bad_request) for a schema that can't be used.
    """
    if check.kind == "judge":
        return None
    text = answer.strip()
    if check.kind in ("most", "least", "exact"):
        return _counted(check, text)
    if check.kind in ("json", "keys", "schema"):
        return _structured(check, text)
    return _worded(check, text)


def _counted(check: Check, text: str) -> str:
    count = UNITS[check.unit](text)
    right = {"most": count <= check.number, "least": count >= check.number, "exact": count == check.number}
    return "" if right[check.kind] else f"it has {count} {check.unit}s"


def _structured(check: Check, text: str) -> str:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return "it is not JSON"
    if check.kind == "schema":
        return "; ".join(map(str, Schema(check.schema or {}).problems(value, 3)))
    missing = [key for key in check.texts if not isinstance(value, dict) or key not in value]
    return f"it lacks {', '.join(missing)}" if missing else ""


def _worded(check: Check, text: str) -> str:
    folded, wanted = text.casefold(), [one.casefold() for one in check.texts]
    match check.kind:
        case "choice" | "equals":
            plain = folded.strip(" .\"'`*")
            return (
                "" if plain in [one.strip(" .\"'`*") for one in wanted] else f"it is none of {', '.join(check.texts)}"
            )
        case "starts":
            return "" if any(folded.startswith(one) for one in wanted) else f"it does not begin with {check.texts[0]!r}"
        case "ends":
            return "" if any(folded.endswith(one) for one in wanted) else f"it does not end with {check.texts[0]!r}"
        case "contains":
            missing = [one for one in check.texts if one.casefold() not in folded]
            return f"it lacks {missing[0]!r}" if missing else ""
        case _:
            there = [one for one in check.texts if _stands(one.casefold(), folded)]
            return f"it has {there[0]!r}" if there else ""


def _stands(word: str, text: str) -> bool:
    """Whether a word stands there as a word, or a sign anywhere."""
    edged = rf"(?<!\w){re.escape(word)}(?!\w)" if word[:1].isalnum() else re.escape(word)
    return re.search(edged, text) is not None
