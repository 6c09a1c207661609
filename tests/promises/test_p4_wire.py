"""P4 at the wire: the attacks of test_p4_grounded.py through a running gateway, in every client format.

A scripted provider says a true sentence of the handbook and a spoilt one. Asked as OpenAI chat, as responses and as
Anthropic messages, streaming and whole, no letter of the spoilt one may be in what comes back, and each quote must be
what the gateway itself gives out as the stored text, at the offsets of the citation.
"""

import http.client
import json
import unicodedata
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from bench.grounded_cases import Case, cases, pages
from loam.cli.reach import Gateway
from loam.config import parse
from loam.grounding.checks.coverage import Line
from loam.grounding.checks.words_only import weigh
from loam.serving import running

DECLINED = "The documents do not say."
FORMATS = ("chat", "responses", "messages")
LENT = "Overtime and comp time: Yes - Can be approved for working more than 8 days in a day."
CASES = [case for case in cases(per_kind=14) if not case.supported and case.kind != "foreign sentence"]
TRUE = [case for case in cases(per_kind=60) if case.kind == "verbatim"]
UNICODE = {
    "astral": "The 𝔘niversity 🎓 closes at noon. The 🐕 park 👩‍👩‍👧 opens at dawn.",
    "combining": "The cafe\u0301 sells cre\u0300me bru\u0302le\u0301e on Mondays. Nai\u0308ve guests pay twice.",
    "composed": "The caf\u00e9 sells cr\u00e8me br\u00fbl\u00e9e on Tuesdays. Na\u00efve guests pay once.",
    "right to left": "המשרד נסגר בצהריים ביום שישי. الإجازة السنوية عشرون يوما في السنة.",
    "line ends": "The office opens at nine.\r\nThe office closes at five.\r\n\r\nVisitors sign the book at the door.",
    "wide": "休暇は年間二十日です。申請は上司に提出します。",
    "zero width": "The\u200b key\u2060 hangs behind the door\ufeff. The lamp\u00ad is on the left.",
}


def spoken(number: int, case: Case) -> tuple[Case, str]:
    """A true sentence of another page, then the spoilt one, or the other way round."""
    true = next(one for one in TRUE[number % len(TRUE) :] + TRUE if one.passages[0] not in case.passages)
    both = (f"{true.source} [1.1]", f"{case.said} [1.1]")
    return true, " ".join(both if number % 2 else reversed(both))


SPOKEN = [spoken(number, case) for number, case in enumerate(CASES)]


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Generator[Gateway, None, None]:
    data: Path = tmp_path_factory.mktemp("wire")
    script = [{"text": said} for _, said in SPOKEN]
    provider = {"kind": "scripted", "script": script}
    settings = {"data": str(data), "server": {"port": 0}, "providers": {"says": provider}}
    with running(parse({**settings, "grounding": {"repair": False, "encoder": {"name": "none"}}})) as started:
        gateway = Gateway(started.url)
        documents = [{"name": page.id, "text": page.text} for page in pages()]
        gateway.send("POST", "/loam/v1/collections/handbook/documents", {"documents": documents})
        scripts = [{"name": f"{name}.txt", "text": text} for name, text in UNICODE.items()]
        gateway.send("POST", "/loam/v1/collections/scripts/documents", {"documents": scripts})
        yield gateway


class Heard:
    """What a client has of an answer: all bytes, the text, the citations of its own format and of Loam's."""

    def __init__(self, kind: str, raw: bytes, stream: bool) -> None:
        self.raw = raw.decode()
        events = [
            json.loads(line[5:]) for line in raw.splitlines() if line.startswith(b"data:") and b"[DONE]" not in line
        ]
        self.all = json.dumps(events if stream else json.loads(raw), ensure_ascii=False)
        self.text, self.own, self.loam = getattr(self, f"_{kind}")(events if stream else [json.loads(raw)], stream)

    def _chat(self, bodies: list[Any], stream: bool) -> tuple[str, list[Any], Any]:
        said = [choice["delta" if stream else "message"] for body in bodies for choice in body.get("choices", ())]
        notes = [note["url_citation"] for one in said for note in one.get("annotations") or ()]
        return "".join(one.get("content") or "" for one in said), notes, _loam(bodies)

    def _responses(self, bodies: list[Any], stream: bool) -> tuple[str, list[Any], Any]:
        whole = next(body["response"] for body in reversed(bodies) if "response" in body) if stream else bodies[0]
        parts = [part for item in whole["output"] for part in item.get("content", ())]
        text = "".join(part["text"] for part in parts)
        if stream:
            assert text == "".join(body["delta"] for body in bodies if body["type"] == "response.output_text.delta")
        return text, [note for part in parts for note in part["annotations"]], whole.get("loam") or _loam(bodies)

    def _messages(self, bodies: list[Any], stream: bool) -> tuple[str, list[Any], Any]:
        if not stream:
            (body,) = bodies
            text = "".join(block["text"] for block in body["content"])
            return text, [one for block in body["content"] for one in block.get("citations") or ()], body["loam"]
        deltas = [body["delta"] for body in bodies if body["type"] == "content_block_delta"]
        text = "".join(delta.get("text", "") for delta in deltas)
        return text, [delta["citation"] for delta in deltas if delta["type"] == "citations_delta"], _loam(bodies)


def _loam(bodies: list[Any]) -> Any:
    return next(body["loam"] for body in reversed(bodies) if "loam" in body)


def ask(gateway: Gateway, kind: str, question: str, *, stream: bool, collection: str, model: str = "says/x") -> Heard:
    body: dict[str, Any] = {"model": model, "stream": stream, "loam": {"collection": collection, "metadata": True}}
    if kind == "responses":
        path, more = "/v1/responses", {"input": question}
    else:
        path = "/v1/chat/completions" if kind == "chat" else "/v1/messages"
        more = {"messages": [{"role": "user", "content": question}], "max_tokens": 500}
    address = urlsplit(gateway.url)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=60)
    connection.request("POST", path, json.dumps({**body, **more}), {"content-type": "application/json"})
    response = connection.getresponse()
    raw = response.read()
    connection.close()
    assert response.status == 200, raw
    return Heard(kind, raw, stream)


def stands(gateway: Gateway, collection: str, heard: Heard, known: dict[str, str]) -> int:
    """Holds every citation against what is stored, and gives how many there were."""
    for citation in heard.loam.get("citations", ()):
        id = citation["document_id"]
        if id not in known:
            known[id] = gateway.get(f"/loam/v1/collections/{collection}/documents/{id}")["text"]
        assert known[id][citation["start"] : citation["end"]] == citation["quote"]
    for own in heard.own:  # Anthropic's carry the quote; OpenAI's the place in the answer
        if "cited_text" in own:
            start, end = own["start_char_index"], own["end_char_index"]
            assert any(text[start:end] == own["cited_text"] for text in known.values())
        elif "start_index" in own:
            assert heard.text[own["start_index"] : own["end_index"]].strip()
    return len(heard.own)


def test_no_spoilt_sentence_is_in_what_any_client_gets(gateway: Gateway) -> None:
    """One gateway answers all in turn, for the script goes on from call to call."""
    known: dict[str, str] = {}
    delivered = dict.fromkeys(FORMATS, 0)
    for number, (case, (true, _)) in enumerate(zip(CASES, SPOKEN, strict=True)):
        kind, stream = FORMATS[number % 3], bool(number // 3 % 2)
        question = f"{true.source} {case.source}"
        heard = ask(gateway, kind, question, stream=stream, collection="handbook")
        assert case.said not in heard.all, (case.kind, case.said)
        assert heard.text in (true.source, DECLINED), (case.kind, heard.text)
        cited = stands(gateway, "handbook", heard, known)
        assert bool(cited) == (heard.text != DECLINED)
        delivered[kind] += heard.text != DECLINED
    asked = len(CASES) // 3
    print(f"{len(CASES)} answers at the wire; of {asked} a format, the true sentence left in {delivered}")
    assert len(CASES) >= 150
    assert all(count >= 0.9 * asked for count in delivered.values()), delivered


def each() -> Iterator[tuple[str, str, bool]]:
    for number, name in enumerate(UNICODE):
        for place, kind in enumerate(FORMATS):
            yield name, kind, bool((number + place) % 2)


@pytest.mark.parametrize(("name", "kind", "stream"), list(each()))
def test_a_quote_is_the_stored_text_in_every_script(gateway: Gateway, name: str, kind: str, stream: bool) -> None:
    """Offsets count code points of the stored text, which keeps the writer's own form: NFC stays NFC, NFD stays NFD."""
    entries = gateway.get("/loam/v1/collections/scripts/documents")["documents"]
    (entry,) = [one for one in entries if one["path"] == f"{name}.txt"]
    stored = gateway.get(f"/loam/v1/collections/scripts/documents/{entry['id']}")["text"]
    if name in ("combining", "composed"):
        assert unicodedata.is_normalized("NFD" if name == "combining" else "NFC", stored)
    question = stored.splitlines()[0]
    heard = ask(gateway, kind, question, stream=stream, collection="scripts", model="loam/reader")
    assert heard.text != DECLINED
    assert heard.text in stored
    assert stands(gateway, "scripts", heard, {entry["id"]: stored}) > 0


FOUND = [
    pytest.param(
        LENT,
        "Overtime and comp time: Yes - Can only be approved for any hours that are in excess of what is normally "
        "scheduled for that work day (i.e., over the 8, 9, 10, 12 you were scheduled).",
        id="a number without a unit stood for one with any unit",
    ),
    pytest.param(
        "There are some things that you might have been used to doing outside of government that you can do now.",
        "In addition to those steps, there are a couple important things to keep in mind when hosting speakers from "
        "outside government.",
        id="a sentence of few telling words was covered by one that only shares them",
    ),
    pytest.param(
        "Providing this level of access can only share your public or private email address, but it can also grant the "
        "ability to access TTS private repositories.",
        "Providing this level of access can not only share your public or private email address, but it can also grant "
        "the ability to access TTS private repositories.",
        id="only stood for not only",
    ),
]


@pytest.mark.parametrize(("said", "evidence"), FOUND)
def test_what_once_got_through(said: str, evidence: str) -> None:
    assert weigh(said, [Line(evidence)], {}).band != "supported"
