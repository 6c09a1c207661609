"""Words and vectors together, read again by heads, varied, and grown: over a store, with a small encoder."""

from collections.abc import Sequence

import pytest

from loam.core.errors import ModelFailure
from loam.core.ports import SearchOptions
from loam.grounding.encoder.port import Reading, Support
from loam.grounding.index import Index
from loam.grounding.retrieve import Retrieval
from loam.grounding.search_settings import SearchSettings
from loam.grounding.store import Change
from tests.contracts.store import ENCODER, LEAVE, TRAVEL, ingest, taken

pytestmark = pytest.mark.anyio

SAME = "Receipts for lodging and meals are kept until the voucher is paid"
PAGES = [
    taken("one.md", f"# One\n\n{SAME} by the office."),
    taken("two.md", f"# Two\n\n{SAME} in full by somebody."),
    taken("three.md", "# Three\n\nReceipts of another kind: taxis, trains."),
]


class ByLength:
    """Heads that find an answer the sooner, the shorter a passage is."""

    id = "by-length/1"

    async def read(self, question: str, passages: Sequence[str]) -> list[Reading]:
        return [Reading(0, 1 / len(passage), 0, 0) for passage in passages]

    async def verify(self, pairs: Sequence[tuple[str, str]]) -> list[Support]:
        return [Support(1, 0, 0) for _ in pairs]


async def urls(retrieval: Retrieval, question: str, **options: object) -> list[str]:
    found = await retrieval.search("guide", question, 5, options=SearchOptions(**options))  # type: ignore[arg-type]
    return [passage.url for passage in found]


async def test_without_an_encoder_words_are_searched_and_it_is_said(index: Index) -> None:
    await index.apply("guide", Change("s", [LEAVE, TRAVEL]))
    found = await Retrieval(index).look("guide", "receipts", 5)
    assert ([passage.url for passage in found.passages], found.mode) == (["travel.md"], "lexical")
    assert "only words are compared" in found.notes[0]
    with pytest.raises(ModelFailure, match="only words are compared") as caught:
        await Retrieval(index).look("guide", "receipts", 5, options=SearchOptions("dense"))
    assert caught.value.failure.kind == "unsupported"


async def test_a_collection_without_vectors_is_searched_by_words_and_it_is_said(index: Index) -> None:
    await index.apply("guide", Change("s", [LEAVE, TRAVEL]))
    found = await Retrieval(index, ENCODER).look("guide", "receipts", 5)
    assert (found.mode, "has no vectors yet" in found.notes[0]) == ("lexical", True)


@pytest.mark.parametrize("fusion", ["scores", "ranks"])
async def test_both_ways_of_fusing_find_what_either_list_holds(index: Index, fusion: str) -> None:
    await ingest(index, "guide", LEAVE, TRAVEL, *PAGES)
    retrieval = Retrieval(index, ENCODER, settings=SearchSettings(fusion=fusion))  # type: ignore[arg-type]
    found = await urls(retrieval, "lodging receipts")
    assert sorted(found) == ["leave.md", "one.md", "three.md", "travel.md", "two.md"]
    assert found[0] == "travel.md"
    assert found[-1] == "leave.md"


async def test_scores_fall_from_first_to_last(index: Index) -> None:
    await ingest(index, "guide", LEAVE, TRAVEL, *PAGES)
    for rerank in (0, 2, 10):
        retrieval = Retrieval(index, ENCODER, ByLength())
        found = await retrieval.search("guide", "lodging receipts", 5, options=SearchOptions(rerank=rerank))
        scores = [passage.score for passage in found]
        assert scores == sorted(scores, reverse=True)


async def test_without_heads_a_rerank_changes_nothing_and_it_is_said(index: Index) -> None:
    await ingest(index, "guide", LEAVE, TRAVEL, *PAGES)
    retrieval = Retrieval(index, ENCODER)
    plain = await retrieval.look("guide", "lodging receipts", 5)
    asked = await retrieval.look("guide", "lodging receipts", 5, options=SearchOptions(rerank=5))
    assert asked.passages == plain.passages
    assert "no heads are installed" in asked.notes[0]


async def test_diversity_puts_what_says_the_same_behind(index: Index) -> None:
    await ingest(index, "guide", *PAGES)
    retrieval = Retrieval(index, ENCODER)
    assert set((await urls(retrieval, SAME))[:2]) == {"one.md", "two.md"}
    assert (await urls(retrieval, SAME, diversity=0.9))[1] == "three.md"


async def test_word_pairs_as_asked_decide_between_passages_with_the_same_words(index: Index) -> None:
    pages = [
        taken("swapped.md", "# A\n\nDetails on leave when sick: the pay, the form, a doctor."),
        taken("asked.md", "# B\n\nDetails of pay: the sick leave, the form, when a doctor."),
    ]
    await ingest(index, "guide", *pages)
    assert (await urls(Retrieval(index, ENCODER), "sick leave"))[0] == "asked.md"


async def test_heads_weigh_as_much_as_the_settings_say(index: Index) -> None:
    await ingest(index, "guide", LEAVE, TRAVEL, *PAGES)
    plain = await urls(Retrieval(index, ENCODER, ByLength()), SAME)
    for weight, first in ((0.0, plain[0]), (10.0, "travel.md")):
        settings = SearchSettings(heads=weight)
        found = await urls(Retrieval(index, ENCODER, Steep(), settings), SAME, rerank=5)
        assert found[0] == first


class Steep(ByLength):
    """The shortest passage surely answers, no other."""

    async def read(self, question: str, passages: Sequence[str]) -> list[Reading]:
        least = min(map(len, passages))
        return [Reading(0, float(len(passage) == least), 0, 0) for passage in passages]
