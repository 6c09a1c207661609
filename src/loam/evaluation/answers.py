"""How well questions with a known answer were answered from documents: what was right, what was wrong, what declined.

Pure. Knows questions and what was cited; not who answered. An answer is right where a citation lies on the stretch that
the question was made from; the same fact may stand elsewhere too, so "wrong" is an upper bound.
Invariant: each answer counts once, as right, wrong or declined.
"""

import tomllib
from collections.abc import Iterable, Sequence
from importlib.resources import files

from msgspec import Struct

from loam.evaluation.citations import (
    CitationScores,
    Claim,
    Supports,
    citation_scores,
    faithful,
    faithfulness,
    of_answer,
)
from loam.evaluation.intervals import Interval, bootstrap, wilson
from loam.evaluation.questions import Question


class Place(Struct, frozen=True):
    """A stretch of a document."""

    path: str
    start: int
    end: int

    def meets(self, question: Question) -> bool:
        """Whether it shares a character with the stretch that answers."""
        return self.path == question.path and self.start < question.end and question.start < self.end


class Answered(Struct, frozen=True):
    """One question and what came of it. `read` are the texts that the answer was made from."""

    question: Question
    declined: bool
    cited: tuple[Place, ...]
    claims: tuple[Claim, ...] = ()
    read: tuple[str, ...] = ()

    @property
    def sentences(self) -> list[str]:
        return [claim.sentence for claim in self.claims]

    @property
    def right(self) -> bool:
        return not self.declined and any(place.meets(self.question) for place in self.cited)


class AnswerScores(Struct, frozen=True):
    """Shares of the `answerable` questions that were answered rightly, wrongly and not; `refused` of the `foreign`.

    `citations` and `faithfulness` are over the sentences of answers that were given.
    """

    answerable: int
    right: float
    wrong: float
    declined: float
    foreign: int
    refused: float
    citations: CitationScores
    faithfulness: float


def answer_scores(answers: Iterable[Answered], supports: Supports, judge: Supports | None = None) -> AnswerScores:
    """Scores answers; zeros where there are none of a kind. `judge` decides on faithfulness, `supports` without one."""
    every = list(answers)
    known = [one for one in every if one.question.path]
    foreign = [one for one in every if not one.question.path]
    given = [one for one in every if not one.declined]
    right, declined = sum(one.right for one in known), sum(one.declined for one in known)
    return AnswerScores(
        len(known),
        _share(right, len(known)),
        _share(len(known) - right - declined, len(known)),
        _share(declined, len(known)),
        len(foreign),
        _share(sum(one.declined for one in foreign), len(foreign)),
        citation_scores([one.claims for one in given], supports),
        faithfulness([(one.sentences, one.read) for one in given], judge or supports),
    )


def answer_intervals(
    answers: Iterable[Answered], supports: Supports, judge: Supports | None = None
) -> dict[str, Interval]:
    """Where the figures of `answer_scores` lie, by name: shares after Wilson, the others by drawing answers anew."""
    every = list(answers)
    known = [one for one in every if one.question.path]
    foreign = [one for one in every if not one.question.path]
    given = [one for one in every if not one.declined]
    right, declined = sum(one.right for one in known), sum(one.declined for one in known)
    cited = [of_answer(one.claims, supports) for one in given if one.claims]
    held = [faithful(one.sentences, one.read, judge or supports) for one in given]
    return {
        "right": wilson(right, len(known)),
        "wrong": wilson(len(known) - right - declined, len(known)),
        "declined": wilson(declined, len(known)),
        "refused": wilson(sum(one.declined for one in foreign), len(foreign)),
        "citation_recall": bootstrap([recall for recall, _ in cited]),
        "citation_precision": bootstrap([precision for _, precision in cited]),
        "faithfulness": bootstrap(held, [len(one.claims) for one in given]),
    }


def foreign_questions() -> list[Question]:
    """Questions that the documents surely do not answer."""
    table = tomllib.loads(files("loam.evaluation").joinpath("foreign.toml").read_text("utf-8"))
    asked: Sequence[str] = table["questions"]
    return [Question(question, "foreign", "", 0, 0, "") for question in asked]


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0
