"""Opinions on calls: kept whole, only on calls that exist and may be seen, redacted as the key asks."""

from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from msgspec import structs

from loam.core.calls import Principal
from loam.core.errors import ModelFailure
from loam.gateway.calls import Entry
from loam.gateway.feedback import Opinion
from tests.gateway.records import ANN, BOB, START, Shelf, asked, shelf

pytestmark = pytest.mark.anyio


@pytest.fixture
async def records(tmp_path: Path) -> AsyncIterator[Shelf]:
    async with shelf(tmp_path / "loam.db") as records:
        await records.made(asked())
        yield records


async def test_an_opinion_is_kept_and_belongs_to_its_call(records: Shelf) -> None:
    opinion = Opinion("down", 0.25, "helpful", "too short", "Good morning to you.")
    kept = await records.feedback.add("call_0001", opinion, by=ANN, now=START)
    assert (kept.id, kept.thumb, kept.score, kept.score_name) == (1, "down", 0.25, "helpful")
    assert (kept.comment, kept.correction, kept.user, kept.at.timestamp()) == (
        "too short", "Good morning to you.", "ann", START,
    )  # fmt: skip
    second = await records.feedback.add("call_0001", Opinion("up"), by=ANN, now=START + 1)
    assert await records.feedback.of("call_0001") == [kept, second]
    assert (await records.history.show("call_0001")).feedback == [kept, second]
    assert await records.feedback.of("call_0002") == []


@pytest.mark.parametrize(
    "by",
    [Principal(admin=True), ANN, Principal("key_2", "ann"), Principal("key_3", "eve", "research")],
    ids=["admin", "key", "user", "team"],
)
async def test_who_may_judge(records: Shelf, by: Principal) -> None:
    assert (await records.feedback.add("call_0001", Opinion("up"), by=by, now=START)).key_id == by.key_id


@pytest.mark.parametrize(("call_id", "by"), [("call_0001", BOB), ("call_0001", Principal()), ("call_0009", ANN)])
async def test_a_call_that_cannot_be_seen_is_not_found(records: Shelf, call_id: str, by: Principal) -> None:
    with pytest.raises(ModelFailure) as caught:
        await records.feedback.add(call_id, Opinion("up"), by=by, now=START)
    assert caught.value.failure.kind == "not_found"
    assert records.sql("SELECT count(*) FROM feedback") == [(0,)]


async def test_an_open_call_can_be_judged(records: Shelf) -> None:
    await records.log.open(Entry(asked(2), START, 0.0, "none"))
    assert (await records.feedback.add("call_0002", Opinion("up"), by=ANN, now=START)).call_id == "call_0002"


@pytest.mark.parametrize("empty", [Opinion(), Opinion(score_name="helpful")])
async def test_an_empty_opinion_is_refused(records: Shelf, empty: Opinion) -> None:
    with pytest.raises(ModelFailure) as caught:
        await records.feedback.add("call_0001", empty, by=ANN, now=START)
    assert caught.value.failure.kind == "bad_request"


@pytest.mark.parametrize("wrong", ['{"thumb":"sideways"}', '{"score":"high"}', '{"vote":1}', '{"score":1e999}'])
def test_what_is_no_opinion_is_not_read(wrong: str) -> None:
    with pytest.raises(msgspec.DecodeError):
        msgspec.json.decode(wrong, type=Opinion)


async def test_words_are_redacted_as_giver_or_call_ask(records: Shelf) -> None:
    opinion = Opinion(comment="ask ann@example.org", correction="Dear ann@example.org")
    await records.made(asked(2, principal=structs.replace(ANN, redaction="redacted")))
    of_call = await records.feedback.add("call_0002", opinion, by=ANN, now=START)
    assert (of_call.comment, of_call.correction) == ("ask [email]", "Dear [email]")
    by_giver = await records.feedback.add("call_0001", opinion, by=structs.replace(ANN, redaction="full"), now=START)
    assert (by_giver.comment, by_giver.correction) == ("[19 characters withheld]", "[20 characters withheld]")
