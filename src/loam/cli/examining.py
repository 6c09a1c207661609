"""Puts questions with known answers to a collection over the API, and gathers what came back.

Knows the API and the questions; scores nothing.
"""

import json
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

from msgspec import Struct, convert

from loam.cli.reach import Gateway, Refused
from loam.core.calls import Passage
from loam.evaluation.answers import Answered, Place
from loam.evaluation.citations import Claim
from loam.evaluation.questions import ASKED_OF_A_MODEL, Question, asking, chosen, made, ordered, written
from loam.grounding.judge import LONGEST, meant, posed

Way = Literal["hybrid", "lexical", "dense", "reranked"]
Ranked = tuple[Sequence[str], set[str]]
"""Names of what was found, best first, and of what is right."""

_PAGE = 500
_RIGHT = "right"


class Judging:
    """A model that judges, over the API, whether texts support a sentence; `mute` counts replies without a verdict."""

    def __init__(self, reached: Gateway, model: str) -> None:
        self._reached = reached
        self._model = model
        self._known: dict[tuple[str, ...], bool] = {}
        self.mute = 0

    def __call__(self, sentence: str, texts: Sequence[str]) -> bool:
        """Whether the judge finds it supported; it is asked once, and one that says nothing supports nothing."""
        asked = (sentence, *texts)
        if asked not in self._known:
            self._known[asked] = self._asked(sentence, texts) == "supported"
        return self._known[asked]

    def _asked(self, sentence: str, texts: Sequence[str]) -> str:
        messages = [
            {"role": role, "content": text}
            for role, text in zip(("system", "user"), posed(sentence, texts), strict=True)
        ]
        body = {"model": self._model, "messages": messages, "max_tokens": LONGEST, "temperature": 0}
        found = meant(self._reached.send("POST", "/v1/chat/completions", body)["choices"][0]["message"]["content"])
        self.mute += found == "weak"
        return found


class Examination(Struct, frozen=True):
    """A collection, and who answers from it: `model` empty asks whom the settings name."""

    reached: Gateway
    collection: str
    model: str = ""

    @property
    def _path(self) -> str:
        return f"/loam/v1/collections/{self.collection}"

    def passages(self) -> Iterator[Passage]:
        """All passages, document by document."""
        after = ""
        while documents := self.reached.get(f"{self._path}/documents", after=after, limit=_PAGE)["documents"]:
            for document in documents:
                held = self.reached.get(f"{self._path}/documents/{document['id']}/passages")["passages"]
                yield from convert(held, list[Passage])
            after = documents[-1]["id"]

    def questions(self, number: int, seed: int, writer: str = "") -> list[Question]:
        """Questions made from the collection: by patterns, or by the model `writer`."""
        draw = random.Random(seed)
        passages = list(self.passages())
        if not writer:
            return ordered(chosen(made(passages), number, draw))
        drawn = draw.sample(passages, min(number, len(passages)))
        found = (self._written(passage, writer) for passage in drawn)
        return ordered([question for question in found if question is not None])

    def search(self, question: Question, way: Way, k: int) -> Ranked | str:
        """What a way of searching finds, by name; or why it cannot be searched so."""
        asked: dict[str, Any] = {"mode": "hybrid" if way == "reranked" else way, "limit": k}
        asked |= {"rerank": 3 * k} if way == "reranked" else {}
        try:
            found = self.reached.get(f"{self._path}/search", q=question.question, **asked)
        except Refused as error:
            return str(error)
        if found["notes"] and (way != "lexical"):
            return found["notes"][0]
        places = [Place(one["url"], one["start"], one["end"]) for one in found["passages"]]
        names = [_RIGHT if place.meets(question) else str(number) for number, place in enumerate(places)]
        return names, {_RIGHT}

    def ask(self, question: Question) -> Answered:
        """What is answered."""
        loam = {"metadata": True, "cache": {"mode": "bypass"}}
        body = {
            "model": self.model or f"rag:{self.collection}",
            "messages": [{"role": "user", "content": question.question}],
            "loam": {**loam, "collection": self.collection} if self.model else loam,
        }
        said = self.reached.send("POST", "/v1/chat/completions", body)["loam"]
        citations = said["citations"]
        read = self.reached.get(f"{self._path}/search", q=question.question)["passages"]
        return Answered(
            question,
            declined=said.get("grounding", "abstained") == "abstained",
            cited=tuple(Place(one["url"], one["start"], one["end"]) for one in citations),
            claims=tuple(_claims(said.get("checks", ()), citations)),
            read=tuple(passage["text"] for passage in read),
        )

    def _written(self, passage: Passage, writer: str) -> Question | None:
        shape = {"type": "json_schema", "json_schema": {"name": "question", "schema": ASKED_OF_A_MODEL, "strict": True}}
        body = {
            "model": writer,
            "messages": [{"role": "user", "content": asking(passage)}],
            "response_format": shape,
        }
        answer = self.reached.send("POST", "/v1/chat/completions", body)["choices"][0]["message"]["content"]
        try:
            said = json.loads(answer or "")
            return written(passage, said["question"], said["quote"], writer)
        except (ValueError, KeyError, TypeError, AttributeError):
            return None


def each(questions: Sequence[Question], work: Callable[[Question], Any], tell: Callable[[int], None]) -> list[Any]:
    """What the work makes of each question, telling how many are done."""
    results: list[Any] = []
    for done, question in enumerate(questions, 1):
        results.append(work(question))
        tell(done)
    return results


def _claims(checks: Sequence[dict[str, Any]], citations: Sequence[dict[str, Any]]) -> Iterator[Claim]:
    """The sentences that were delivered and state something, with the quotes that each cites."""
    for check in checks:
        if check["released"] and check["verdict"] != "free":
            start, end = check.get("start", 0), check.get("end", 0)
            quotes = [one["quote"] for one in citations if start <= one["answer_start"] < end]
            yield Claim(check["text"], tuple(quotes))
