"""Rules on what an answer must look like: its form, its size, what becomes of odd input, and the shape of JSON.

Pure. Invariant: a rule speaks once a prompt, for it is about what the prompt as a whole leaves open.
"""

import re
from collections.abc import Iterator

from loam.prompting.lint.finding import Hit
from loam.prompting.lint.sentences import bounds
from loam.prompting.lint.settings import LintSettings
from loam.prompting.lint.sheet import Sheet
from loam.prompting.lint.signs import SIGNS
from loam.prompting.lint.variables_rules import others_wrote
from loam.prompting.lint.wording import vague

_SHORT = 80  # characters; examples whose answers are no longer show how long an answer is
_BARE = 25  # words; a prompt that is longer and uses no vague word has likely been thought about
_FENCE = re.compile(r"```.*?```", re.DOTALL)
_LOOSE, _LOOSEST = 4, 2
"""Marks of a specific prompt up to which silence is taken for silence: a prompt with more of them is likely to say the
thing in words that no sign here knows. Measured: see bench/LINT.md."""


def output_format(sheet: Sheet, settings: LintSettings) -> Iterator[Hit]:
    """A model that is not told the form of its answer chooses another one each time, and programs cannot read it."""
    if not _says_form(sheet) and not _follows(sheet) and _worth_telling(sheet, settings):
        yield _whole(
            sheet,
            "nothing says what form the answer has",
            'say it: "Answer in one paragraph of plain text.", or "Return a Markdown table with the columns …"',
        )


def bound(sheet: Sheet, settings: LintSettings) -> Iterator[Hit]:
    """Without a bound answers grow, cost more, and no test can say that one is too long."""
    if not _says_size(sheet) and not _follows(sheet) and _worth_telling(sheet, settings):
        yield _whole(
            sheet, "nothing bounds how long the answer is or how much is in it", 'add a number: "at most 3 sentences"'
        )


def edge_case(sheet: Sheet, settings: LintSettings) -> Iterator[Hit]:
    """Where the prompt is silent on odd input the model guesses, and guesses differently after each update."""
    if _reads(sheet, settings) and not _says_edge(sheet) and _worth_telling(sheet, settings):
        yield _whole(
            sheet,
            "nothing says what to do when the input is missing, unclear or about something else",
            'add a clause: "If the text does not say, write: not stated."',
        )


def _worth_telling(sheet: Sheet, settings: LintSettings) -> bool:
    """Whether silence is taken for silence.

    A prompt that says the other things, or is specific in other ways, likely says this one too, in words that no
    pattern here knows; it is told of only where a team wants the thorough look.
    """
    if settings.thorough:
        return _marks(sheet) <= _LOOSE
    formed = _says_form(sheet) and _bare_json(sheet) is None
    silent = not (formed or _says_size(sheet) or (_reads(sheet, settings) and _says_edge(sheet)))
    if not silent or _marks(sheet) > _LOOSEST:
        return False
    return len(sheet.text.split()) <= _BARE or vague(sheet, settings)


def _says_form(sheet: Sheet) -> bool:
    if sheet.schema is not None or sheet.json_mode or sheet.examples:
        return True
    text = _FENCE.sub(lambda found: " " if "{" in found[0] else found[0], sheet.text)  # a fenced input is no form
    return bool(SIGNS["form"].search(text)) or any(bounds(sheet.sentences))


def _follows(sheet: Sheet) -> bool:
    """Whether the answer is the given text once more, changed: its form and length are those of the text."""
    return bool(SIGNS["follows"].search(sheet.text))


def _says_size(sheet: Sheet) -> bool:
    shown = [example.output for _, example in sheet.examples]
    if sheet.schema is not None or (len(shown) > 1 and max(map(len, shown)) <= _SHORT):
        return True
    said = [sentence.text for sentence in sheet.sentences]
    return any(SIGNS["size"].search(f"{one} {after}") for one, after in zip(said, [*said[1:], ""], strict=False))


def _says_edge(sheet: Sheet) -> bool:
    return any(SIGNS["edge"].search(sentence.text) for sentence in sheet.sentences)


def _reads(sheet: Sheet, settings: LintSettings) -> bool:
    """Whether the prompt works on something that is given to it; a parameter of the team's own is no input."""
    given = any(others_wrote(passage, slot, settings) for passage in sheet.told for slot in passage.slots)
    return given or sheet.finished or bool(SIGNS["input"].search(sheet.text))


def json_schema(sheet: Sheet, settings: LintSettings) -> Iterator[Hit]:
    """JSON without a shape has other keys every time; a schema makes the provider or Loam enforce them."""
    asked = _bare_json(sheet)
    if asked is None:
        return
    yield Hit(
        asked,
        "JSON is asked for, but neither a schema nor its keys are given",
        "give a schema (`schema` in the front matter, `response_format` in a call), or name each key with its type",
        whole=True,
    )


def _bare_json(sheet: Sheet) -> int | None:
    """The line that asks for JSON whose shape nothing gives."""
    if sheet.schema is not None or any(example.output[:1] in ("{", "[") for _, example in sheet.examples):
        return None
    asked = next((one.line for one in sheet.sentences if SIGNS["json_asked"].search(one.text)), None)
    if asked is None and sheet.json_mode:
        asked = _first(sheet)
    return None if SIGNS["json_shape"].search(sheet.text) else asked


def _marks(sheet: Sheet) -> int:
    """How often a prompt is specific: numbers, quoted words, what not to do, and under which condition."""
    return len(SIGNS["specific"].findall(sheet.text))


def _whole(sheet: Sheet, message: str, fix: str) -> Hit:
    return Hit(_first(sheet), message, fix, whole=True)


def _first(sheet: Sheet) -> int:
    return next((passage.line for passage in sheet.told), 1)
