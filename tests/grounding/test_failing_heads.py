"""Heads and an encoder that fail while they are used: words alone decide, and it is said; no call fails of it."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from loam.core.answers import collect
from loam.core.calls import Call, Controls
from loam.core.errors import EncoderError, ModelFailure, refuse
from loam.core.messages import say
from loam.core.ports import NOBODY, SearchOptions
from loam.grounding.checking import Checking, Draft
from loam.grounding.encoder import opening
from loam.grounding.encoder.late import PAUSE, LateHeads, LateTokens
from loam.grounding.encoder.settings import EncoderSettings
from loam.grounding.encoder.weights import find_minilm
from loam.grounding.encoder.worker import FAILED, Worker
from loam.grounding.ground import Ground, GroundSettings
from loam.grounding.index import Index
from loam.grounding.reader import Reader
from loam.grounding.retrieve import Retrieval
from loam.grounding.verify import Checkers
from tests.grounding.encoder import made
from tests.promises.grounded_world import Says

pytestmark = pytest.mark.anyio

QUESTION = "When does award leave expire?"
BY_WORDS = "the trained heads failed"


def asked(model: str) -> Call:
    return Call(id="call_1", model=model, messages=(say("user", QUESTION),), controls=Controls(collection="handbook"))


class Breaks:
    """Weights that let themselves be opened, and then run out of memory; it counts how often it was tried."""

    id, size = "broken/1", 4

    def __init__(self, worker: Worker, error: Exception) -> None:
        self._worker = worker
        self._error = error
        self.tried = 0

    async def _fail(self, *_: object) -> list[object]:
        self.tried += 1

        def work() -> list[object]:
            raise self._error

        return await self._worker.run(work)

    embed = states = read = verify = _fail


ERRORS = [MemoryError(), RuntimeError("bad allocation"), EncoderError("damaged"), OSError("no such file")]


@pytest.fixture
def worker() -> Iterator[Worker]:
    worker = Worker()
    yield worker
    worker.close()


def stage(index: Index, breaks: Breaks, worker: Worker, inner: Says | None = None) -> Ground:
    heads = LateHeads("broken/1", lambda: breaks, worker)  # type: ignore[arg-type,return-value]
    tokens = LateTokens("broken/1", 4, lambda: breaks, worker)  # type: ignore[arg-type,return-value]
    retrieval = Retrieval(index, tokens, heads)
    settings = GroundSettings(repair=False)
    checkers = Checkers(heads, tokens)
    return Ground(inner or Reader(heads), lambda asides: retrieval, settings, shelf=index, checkers=checkers)


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
async def test_the_reader_still_answers_and_says_how(
    handbook: Index, worker: Worker, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    breaks = Breaks(worker, error)
    with caplog.at_level(logging.WARNING, "loam.grounding"):
        answer = await collect(stage(handbook, breaks, worker).answer(call := asked("rag:handbook")))
    assert "one year" in answer.text
    assert [citation.quote for citation in answer.choices[0].citations] == [answer.text]
    assert any(BY_WORDS in warning for warning in call.trace.warnings)
    assert any("broken/1 is left alone" in record.message for record in caplog.records)
    assert breaks.tried == 2  # the encoder once, the heads once


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
async def test_a_models_sentences_are_still_checked(handbook: Index, worker: Worker, error: Exception) -> None:
    true = "Award leave expires one year after the employee receives it."
    model = Says(f"{true} Award leave expires three years after the employee receives it.")
    answer = await collect(stage(handbook, Breaks(worker, error), worker, model).answer(call := asked("m")))
    assert "three" not in answer.text
    checks = answer.choices[0].checks
    assert len(checks) == 2
    assert all("broken" not in check.checker for check in checks if "coverage" in check.signals and check.released)
    assert any(BY_WORDS in warning for warning in call.trace.warnings)


async def test_a_draft_is_still_held_against_the_documents(handbook: Index, worker: Worker) -> None:
    breaks = Breaks(worker, MemoryError())
    heads = LateHeads("broken/1", lambda: breaks, worker)  # type: ignore[arg-type,return-value]
    checking = Checking(handbook, lambda principal: Retrieval(handbook, None, heads), Checkers(heads))
    checks = await checking.check("handbook", Draft("Award leave expires in a year."), NOBODY)
    assert any(BY_WORDS in note for note in checks.notes)


async def test_a_search_keeps_the_order_that_it_had(handbook: Index, worker: Worker) -> None:
    plain = await handbook.look("handbook", QUESTION, 5)
    heads = LateHeads("broken/1", lambda: Breaks(worker, MemoryError()), worker)  # type: ignore[arg-type,return-value]
    found = await Retrieval(handbook, None, heads).look("handbook", QUESTION, 5, options=SearchOptions(rerank=9))
    assert found.passages == plain.passages
    assert any(BY_WORDS in note for note in found.notes)


async def test_what_failed_is_left_alone_for_a_while_and_then_tried_again(worker: Worker) -> None:
    clock = [0.0]
    breaks = Breaks(worker, MemoryError())
    heads = LateHeads("broken/1", lambda: breaks, worker, now=lambda: clock[0])  # type: ignore[arg-type,return-value]
    for moment, tried in ((0.0, 1), (PAUSE - 1, 1), (PAUSE + 1, 2)):
        clock[0] = moment
        with pytest.raises(ModelFailure) as failure:
            await heads.verify([("a", "b")])
        assert failure.value.failure.code == FAILED
        assert breaks.tried == tried


async def test_a_file_of_heads_that_is_damaged_within_passes_the_start_and_fails_no_call(
    handbook: Index, tmp_path: Path, worker: Worker
) -> None:
    try:
        minilm = find_minilm(tmp_path)
    except EncoderError as error:
        pytest.skip(f"{error}; `make setup` installs them")
    folder = tmp_path / "heads"
    folder.mkdir()
    arrays = {f"{name}.weight": made.np.zeros((2, 2), "float32") for name in ("span", "rank", "verify")}
    made.write(folder / "shipped.safetensors", arrays, base=minilm.sha256)
    opened = opening.open_encoder(EncoderSettings(), tmp_path, (), folder)
    assert opened.heads is not None
    assert not opened.notice
    retrieval = Retrieval(handbook, None, opened.heads)
    checkers = Checkers(opened.heads, None)
    ground = Ground(Reader(opened.heads), lambda asides: retrieval, GroundSettings(), shelf=handbook, checkers=checkers)
    answer = await collect(ground.answer(asked("rag:handbook")))
    assert "one year" in answer.text
    opened.close()


async def test_a_provider_that_fails_is_asked_again_at_once(worker: Worker) -> None:
    """Only weights are left alone: that one call has no budget for a provider says nothing of the next."""

    class Refuses(Breaks):
        async def _fail(self, *_: object) -> list[object]:
            self.tried += 1
            raise refuse("budget", "nothing is left")

        embed = states = read = verify = _fail

    breaks = Refuses(worker, MemoryError())
    tokens = LateTokens("remote", 4, lambda: breaks, worker)  # type: ignore[arg-type,return-value]
    for _ in range(2):
        with pytest.raises(ModelFailure):
            await tokens.embed(["a"])
    assert breaks.tried == 2
