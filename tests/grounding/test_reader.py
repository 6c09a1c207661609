from collections.abc import Sequence

import msgspec
import pytest

from loam.core.answers import collect
from loam.core.calls import Call, Output, Sampling, ToolChoice
from loam.core.errors import ModelFailure
from loam.core.messages import say
from loam.core.tokens import estimate
from loam.grounding.index import Index
from loam.grounding.reader import DECLINED, Reader, question_of

pytestmark = pytest.mark.anyio

ASKED = Call(id="call_1", model="loam/reader", messages=(say("user", "When does award leave expire?"),))


async def call(handbook: Index, question: str, sampling: Sampling = Sampling()) -> Call:  # noqa: B008 - frozen
    passages = await handbook.search("handbook", question, 8)
    return Call(id="call_1", model="x", messages=(say("user", question),), passages=passages, sampling=sampling)


ANSWERED = [
    ("How much sick leave do federal employees earn each pay period?", "four hours of sick leave per pay period"),
    ("When does award leave expire?", "one year after"),
    ("How many weeks of paid parental leave am I entitled to?", "12 weeks"),
    ("Which password manager is recommended?", "KeePassXC"),
    ("What does a Ventra card cost?", "$5"),
    ("How long must the iPhone passcode be?", "longer than 14 characters"),
    ("How many hours does a full-time employee work in a pay period?", "80 hours"),
    ("Do Zoom meetings need a password?", "require a meeting password"),
]


@pytest.mark.parametrize(("question", "words"), ANSWERED)
async def test_an_answer_is_one_quote_true_to_the_character(handbook: Index, question: str, words: str) -> None:
    answer = await collect(Reader().answer(await call(handbook, question)))
    (choice,) = answer.choices
    (citation,) = choice.citations
    document = await handbook.document("handbook", citation.document_id)
    assert words in answer.text
    assert answer.text == citation.quote == document.text[citation.start : citation.end]
    assert answer.text[citation.answer_start : citation.answer_end] == citation.quote
    assert (citation.title, citation.url, citation.revision) == (document.title, document.path, document.revision)
    assert choice.finish == "stop"
    assert 0.6 <= citation.score <= 1


async def test_whatever_is_asked_a_citation_is_true_to_the_character(handbook: Index) -> None:
    cited = 0
    for entry in await handbook.documents("handbook"):
        for passage in (await handbook.passages("handbook", entry.id))[:2]:
            asked = await call(handbook, f"{entry.title}: {passage.section}?")
            answer = await collect(Reader().answer(asked))
            for citation in answer.choices[0].citations:
                cited += 1
                document = await handbook.document("handbook", citation.document_id)
                assert citation.quote == document.text[citation.start : citation.end] == answer.text
    assert cited > 100


@pytest.mark.parametrize(
    "question", ["What is the capital of France?", "How do I bake bread?", "Who painted the Mona Lisa?", "?!", "the"]
)
async def test_it_says_so_where_the_documents_do_not_say(handbook: Index, question: str) -> None:
    answer = await collect(Reader().answer(await call(handbook, question)))
    assert answer.text == DECLINED
    assert answer.choices[0].citations == ()
    assert answer.choices[0].finish == "stop"


async def test_no_passages_found_is_no_answer_either() -> None:
    answer = await collect(Reader().answer(msgspec.structs.replace(ASKED, passages=())))
    assert answer.text == DECLINED


async def test_it_streams_in_pieces_and_counts_at_the_end(handbook: Index) -> None:
    asked = await call(handbook, "When does award leave expire?")
    deltas = [delta async for delta in Reader().answer(asked)]
    texts = [delta.text for delta in deltas if delta.text]
    assert len(texts) > 1
    assert deltas[0].head is not None
    assert deltas[-2].finish == "stop"
    usage = deltas[-1].usage
    assert usage is not None
    assert usage.estimated
    assert usage.output == estimate("".join(texts))


@pytest.mark.parametrize("tokens", [1, 5, 9])
async def test_a_limit_of_tokens_shortens_the_quote_and_the_citation_with_it(handbook: Index, tokens: int) -> None:
    asked = await call(handbook, "When does award leave expire?", Sampling(max_tokens=tokens))
    answer = await collect(Reader().answer(asked))
    assert estimate(answer.text) <= tokens
    assert answer.choices[0].finish == "length"
    for citation in answer.choices[0].citations:
        document = await handbook.document("handbook", citation.document_id)
        assert document.text[citation.start : citation.end] == citation.quote == answer.text
    assert bool(answer.text) == bool(answer.choices[0].citations)


@pytest.mark.parametrize(
    ("changes", "kind", "told"),
    [
        ({"passages": None}, "bad_request", 'ask the model "rag:NAME"'),
        ({"task": "embed"}, "unsupported", "chat calls only"),
        ({"output": Output("json")}, "unsupported", "plain text"),
        ({"tool_choice": ToolChoice("required")}, "unsupported", "no tools"),
        ({"sampling": Sampling(n=2)}, "unsupported", "one answer"),
    ],
)
async def test_what_it_cannot_do_it_refuses(changes: dict[str, object], kind: str, told: str) -> None:
    asked = msgspec.structs.replace(ASKED, **{"passages": (), **changes})
    with pytest.raises(ModelFailure, match=told) as caught:
        await collect(Reader().answer(asked))
    assert caught.value.failure.kind == kind


async def test_it_counts_without_documents() -> None:
    answer = await collect(Reader().answer(msgspec.structs.replace(ASKED, task="count")))
    assert answer.usage is not None
    assert answer.usage.input > 5


@pytest.mark.parametrize(
    ("said", "question"),
    [
        ([("user", "One?"), ("assistant", "Yes."), ("user", "Two?")], "Two?"),
        ([("user", "One?"), ("assistant", "Yes.")], "One?"),
        ([("system", "Be brief.")], ""),
    ],
)
def test_the_question_is_the_users_last_message(said: Sequence[tuple[str, str]], question: str) -> None:
    messages = tuple(say(role, text) for role, text in said)  # type: ignore[arg-type]
    assert question_of(msgspec.structs.replace(ASKED, messages=messages)) == question
