"""Answers from documents as the official clients see them: of any model, sentence by sentence checked and cited."""

from collections.abc import Generator
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest

from loam.cli.reach import Gateway
from loam.config import parse
from loam.serving import Running, running

LEAVE = """\
# Leave policy

## Sick leave

Full-time employees earn 4 hours of sick leave each pay period. Managers approve sick leave of more than three days.
"""
TRAVEL = "# Travel\n\n## Receipts\n\nKeep receipts for lodging. Submit the voucher within five days after the trip.\n"
EARNED = "Full-time employees earn 4 hours of sick leave each pay period."
QUESTION = "How many hours of sick leave do full-time employees earn?"
INVENTED = "Part-time employees earn 9 hours of bonus leave."
DECLINED = "The documents do not say."


def says(*lines: dict[str, Any]) -> dict[str, Any]:
    return {"kind": "scripted", "script": list(lines)}


@pytest.fixture(scope="module")
def grounded(tmp_path_factory: pytest.TempPathFactory) -> Generator[Running, None, None]:
    data: Path = tmp_path_factory.mktemp("grounded")
    settings = parse(
        {
            "data": str(data),
            "server": {"port": 0},
            "providers": {
                "honest": says({"text": f"{EARNED} [1.1] Managers approve sick leave of more than three days. [1.2]"}),
                "liar": says({"text": f"{INVENTED} [1.1]"}),
                "half": says({"text": f"{EARNED} [1.1] {INVENTED} [1.2]"}, {"text": "1: DROP"}),
                "mender": says(
                    {"text": f"{EARNED} [1.1] Nobody approves sick leave of more than three days. [1.2]"},
                    {"text": "1: Managers approve sick leave of more than three days. [1.2]"},
                ),
                "down": says({"fail": "overloaded", "status": 529, "message": "busy"}),
                "plain": says({"text": '{"hours": 4}'}),
            },
        }
    )
    with running(settings) as gateway:
        documents = [{"name": "leave.md", "text": LEAVE}, {"name": "travel.md", "text": TRAVEL}]
        Gateway(gateway.url).send("POST", "/loam/v1/collections/hr/documents", {"documents": documents})
        yield gateway


@pytest.fixture
def client(grounded: Running) -> Generator[openai.OpenAI, None, None]:
    with openai.OpenAI(base_url=f"{grounded.url}/v1", api_key="-", max_retries=0) as client:
        yield client


def ask(client: openai.OpenAI, model: str, **loam: Any) -> Any:
    body = {"loam": {"collection": "hr", **loam}} if not model.startswith("rag:") else {}
    messages: Any = [{"role": "user", "content": QUESTION}]
    return client.chat.completions.create(model=model, messages=messages, extra_body=body)


def holds(grounded: Running, citation: dict[str, Any]) -> bool:
    path = f"/loam/v1/collections/hr/documents/{citation['document_id']}"
    stored = Gateway(grounded.url).get(path)
    return stored["text"][citation["start"] : citation["end"]] == citation["quote"]


@pytest.mark.parametrize("model", ["rag:hr", "honest/x"])
def test_chat_gets_annotations_and_quotes_that_stand_in_the_documents(
    grounded: Running, client: openai.OpenAI, model: str
) -> None:
    completion = ask(client, model)
    message = completion.choices[0].message
    assert message.content.startswith(EARNED)
    first = message.annotations[0].url_citation
    assert (first.title, first.url) == ("Leave policy", "leave.md")
    assert message.content[first.start_index : first.end_index] == EARNED
    loam = completion.model_extra["loam"]
    assert loam["grounding"] == "grounded"
    assert len(loam["citations"]) == len(message.annotations)
    assert all(holds(grounded, citation) for citation in loam["citations"])


def test_a_stream_releases_sentence_by_sentence_with_its_citation(client: openai.OpenAI) -> None:
    stream = client.chat.completions.create(
        model="honest/x",
        messages=[{"role": "user", "content": QUESTION}],
        stream=True,
        extra_body={"loam": {"collection": "hr"}},
    )
    pieces = [(c.delta.content, c.delta.model_extra) for chunk in stream for c in chunk.choices if c.delta.content]
    assert [text for text, _ in pieces] == [EARNED, " Managers approve sick leave of more than three days."]
    assert all(extra["annotations"][0]["url_citation"]["url"] == "leave.md" for _, extra in pieces if extra)


def test_responses_get_annotations(client: openai.OpenAI) -> None:
    response: Any = client.responses.create(model="honest/x", input=QUESTION, extra_body={"loam": {"collection": "hr"}})
    content = response.output[0].content[0]
    assert content.text.startswith(EARNED)
    assert content.annotations[0].url == "leave.md"
    assert response.model_extra["loam"]["citations"][0]["quote"] == EARNED


def test_anthropics_client_gets_citations(grounded: Running) -> None:
    with anthropic.Anthropic(base_url=grounded.url, api_key="-", max_retries=0) as claude:
        message: Any = claude.messages.create(
            model="honest/x",
            max_tokens=200,
            messages=[{"role": "user", "content": QUESTION}],
            extra_body={"loam": {"collection": "hr"}},
        )
        (cited, *_) = message.content[0].citations
        assert (cited.type, cited.cited_text, cited.document_title) == ("char_location", EARNED, "Leave policy")
        start = LEAVE.replace("# ", "").replace("#", "").find(EARNED)
        assert cited.end_char_index - cited.start_char_index == len(EARNED)
        assert start > 0
        with claude.messages.stream(
            model="rag:hr", max_tokens=200, messages=[{"role": "user", "content": QUESTION}]
        ) as stream:
            final: Any = stream.get_final_message()
        assert final.content[0].citations[0].cited_text == EARNED


def test_strict_removes_what_has_no_support_and_declines_where_nothing_is_left(client: openai.OpenAI) -> None:
    half = ask(client, "half/x")
    assert half.choices[0].message.content == EARNED
    assert half.model_extra["loam"]["grounding"] == "partial"
    assert INVENTED not in half.to_json()
    nothing = ask(client, "liar/x")
    assert nothing.choices[0].message.content == DECLINED
    assert nothing.model_extra["loam"]["grounding"] == "abstained"
    assert INVENTED not in nothing.to_json()


def test_mark_flags_and_off_checks_nothing(client: openai.OpenAI) -> None:
    marked = ask(client, "liar/x", grounding="mark")
    assert marked.choices[0].message.content == f"{INVENTED} [unsupported]"
    assert not marked.choices[0].message.annotations
    off = ask(client, "liar/x", grounding="off")
    assert off.choices[0].message.content == INVENTED
    assert "checks" not in off.model_extra["loam"]


def test_one_repair_is_tried(client: openai.OpenAI) -> None:
    mended = ask(client, "mender/x")
    assert mended.choices[0].message.content == f"{EARNED} Managers approve sick leave of more than three days."
    checks = mended.model_extra["loam"]["checks"]
    assert [check.get("repaired", False) for check in checks if check["released"]] == [False, True]
    assert mended.model_extra["loam"]["attempts"] == 2


def test_the_reader_answers_where_the_model_fails(client: openai.OpenAI) -> None:
    completion = ask(client, "down/x", metadata=True)
    assert completion.choices[0].message.content == EARNED
    assert "fell back from down/x to loam/reader" in " ".join(completion.model_extra["loam"]["warnings"])


def test_a_json_answer_is_taken_only_where_nothing_is_checked(client: openai.OpenAI) -> None:
    messages: Any = [{"role": "user", "content": QUESTION}]
    shape: Any = {"type": "json_object"}
    off = {"loam": {"collection": "hr", "grounding": "off"}}
    answer = client.chat.completions.create(model="plain/x", messages=messages, response_format=shape, extra_body=off)
    assert answer.choices[0].message.content == '{"hours": 4}'
    with pytest.raises(openai.BadRequestError, match="cannot be checked"):
        client.chat.completions.create(
            model="plain/x", messages=messages, response_format=shape, extra_body={"loam": {"collection": "hr"}}
        )


def test_every_verdict_is_on_record_with_what_it_was_judged_by(grounded: Running, client: openai.OpenAI) -> None:
    call = ask(client, "liar/x").model_extra["loam"]["call_id"]
    record = Gateway(grounded.url).get(f"/loam/v1/calls/{call}")
    (check,) = record["response"]["content"]["choices"][0]["checks"]
    assert (check["text"], check["released"]) == (INVENTED, False)
    assert check["verdict"] in ("unsupported", "contradicted")
    assert check["checker"].startswith("words-")


def test_changed_documents_are_answered_anew(grounded: Running, client: openai.OpenAI) -> None:
    native = Gateway(grounded.url)
    question: Any = [{"role": "user", "content": "When does the library open?"}]
    path = "/loam/v1/collections/new/documents"
    for hour in ("nine", "ten"):
        native.send("POST", path, {"documents": [{"name": "l.md", "text": f"The library opens at {hour}."}]})
        answer = client.chat.completions.create(model="rag:new", messages=question, temperature=0)
        assert answer.choices[0].message.content == f"The library opens at {hour}."


def test_collections_are_among_the_models(client: openai.OpenAI) -> None:
    assert "rag:hr" in [model.id for model in client.models.list()]
    assert client.models.retrieve("rag:hr").id == "rag:hr"
