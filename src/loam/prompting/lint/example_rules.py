"""Rules on examples: how many there are, and whether they keep to the schema that the answer must keep to.

Pure. Invariant: an example is held against the prompt's own schema, and against its fellows where there is none.
"""

import json
from collections.abc import Iterator
from typing import Any, cast

from loam.core.errors import ModelFailure
from loam.prompting.lint.finding import Hit
from loam.prompting.lint.settings import LintSettings
from loam.prompting.lint.sheet import Sheet
from loam.prompting.schemas import Problem, Schema

_FEWEST, _MOST = 3, 5


def example_count(sheet: Sheet, settings: LintSettings) -> Iterator[Hit]:
    """One or two examples are copied rather than learnt from; beyond five they cost tokens and add little."""
    found = sheet.examples
    if not found or _FEWEST <= len(found) <= _MOST:
        return
    passage, first = found[0]
    many = len(found) > _MOST
    yield Hit(
        passage.at(first.start),
        f"{len(found)} example{'s' * (len(found) > 1)}; {_FEWEST} to {_MOST} teach a form best",
        "keep the five that differ most" if many else "add examples that differ, an odd input among them",
        whole=True,
    )


def example_schema(sheet: Sheet, settings: LintSettings) -> Iterator[Hit]:
    """The model follows the example sooner than the schema: one that breaks it teaches the wrong shape."""
    shown = [(passage.at(example.start), example.output) for passage, example in sheet.examples]
    structured = [output[:1] in ("{", "[") for _, output in shown]
    if not any(structured) or (sheet.schema is None and len(shown) < 2):
        return
    parsed = [(line, _parsed(output)) for line, output in shown]
    for line, value in parsed:
        if value is _BROKEN:
            yield Hit(
                line, "the answer of this example is not valid JSON", "write it as JSON: double quotes, true, null"
            )
        elif sheet.schema is not None:
            for problem in _problems(sheet.schema, value):
                yield Hit(line, f"this example breaks the schema: {problem}", "correct the example, or the schema")
    if sheet.schema is None:
        keyed = [(line, set(cast("dict[str, Any]", value))) for line, value in parsed if isinstance(value, dict)]
        yield from _odd_ones(keyed)


def _odd_ones(parsed: list[tuple[int, set[str]]]) -> Iterator[Hit]:
    """Examples that lack a key which all others have, and have one that no other has."""
    for number, (line, keys) in enumerate(parsed):
        others = [other for place, (_, other) in enumerate(parsed) if place != number]
        if not others:
            continue
        lacking, own = others[0].intersection(*others) - keys, keys.difference(*others)
        if lacking and own:
            said = f'this example has the key "{min(own)}" where the others have "{min(lacking)}"'
            yield Hit(line, said, "give all examples the same keys, or write the schema down")


def _problems(schema: dict[str, Any], value: Any) -> tuple[Problem, ...]:
    """The first thing that breaks the schema; none where the schema itself can't be used, which others tell."""
    try:
        return Schema(schema).problems(value, 1)
    except ModelFailure:
        return ()


_BROKEN = object()


def _parsed(output: str) -> Any:
    try:
        return json.loads(output)
    except (ValueError, RecursionError):
        return _BROKEN
