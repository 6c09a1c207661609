"""`loam rag` and `loam ask` on a gateway of their own: questions from the documents, scores, numbered sources."""

import json
from collections.abc import Generator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from loam.cli.main import program
from loam.config import parse
from loam.grounding.ingest import HANDBOOK
from loam.serving import running


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Generator[dict[str, str], None, None]:
    data = tmp_path_factory.mktemp("rag")
    writes = {"text": '{"question": "When is the office open?", "quote": "The office opens at nine."}'}
    judges = [{"text": "SUPPORTED"}, {"text": "UNSAID"}, {"text": "Hm."}]
    providers = {"writer": {"kind": "scripted", "script": [writes]}, "judge": {"kind": "scripted", "script": judges}}
    with running(parse({"data": str(data), "server": {"port": 0}, "providers": providers})) as gateway:
        environment = {"LOAM_URL": gateway.url}
        page = data / "pages"
        page.mkdir()
        (page / "office.md").write_text("# Office\n\nThe office opens at nine. Ann manages the keys of the office.\n")
        (page / "picture.exe").write_text("MZ")
        said = invoke(environment, "ingest", str(page), "--into", "office").output
        assert "1 added" in said
        assert "1 of other formats left out" in said
        yield environment


def invoke(environment: dict[str, str], *words: str, code: int = 0) -> Result:
    result = CliRunner().invoke(program, words, env=environment, catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result


def test_questions_are_made_from_the_documents(environment: dict[str, str]) -> None:
    lines = invoke(environment, "rag", "questions", "--in", "office").stdout.splitlines()
    assert "Who manages the keys of the office?" in [json.loads(line)["question"] for line in lines]
    (line,) = invoke(environment, "rag", "questions", "--in", "office", "--write-with", "writer/x").stdout.splitlines()
    found = json.loads(line)
    assert (found["question"], found["kind"], found["maker"]) == ("When is the office open?", "model", "writer/x")
    assert (found["path"], found["answer"]) == ("office.md", "The office opens at nine.")


def test_a_collection_is_examined(environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    invoke(environment, "ingest", str(HANDBOOK / "travel-and-leave"), "--into", "leave")
    result = json.loads(invoke(environment, "rag", "eval", "--in", "leave", "--number", "12", "--json").stdout)
    ways = {one["way"]: one for one in result["search"]}
    assert set(ways) == {"hybrid", "lexical", "dense", "reranked"}
    assert ways["lexical"]["recall"] > 0.7
    scores = result["answers"]
    assert scores["right"] + scores["wrong"] + scores["declined"] == pytest.approx(1)
    assert scores["right"] > 0.3
    assert scores["refused"] > 0.9
    assert scores["citations"]["recall"] == 1
    assert scores["within"]["right"]["low"] < scores["right"] < scores["within"]["right"]["high"]
    assert ways["lexical"]["within"]["ndcg"]["low"] <= ways["lexical"]["ndcg"]

    words = ("rag", "eval", "--in", "leave", "--number", "4", "--json", "--judge", "judge/x")
    judged = invoke(environment, *words)
    assert json.loads(judged.stdout)["answers"]["faithfulness"] < 1
    assert "judge/x gave no verdict" in judged.stderr

    own = tmp_path / "own.jsonl"
    own.write_text('{"question":"When does it open?","kind":"when","path":"office.md","start":8,"end":33,"answer":""}')
    table = invoke(environment, "rag", "eval", "--in", "office", "--questions", str(own)).stdout
    assert "recall@10" in table
    own.write_text("no json")
    monkeypatch.setenv("LOAM_URL", environment["LOAM_URL"])
    with pytest.raises(click.UsageError, match="no list of questions"):
        program.main(["rag", "eval", "--in", "office", "--questions", str(own)], standalone_mode=False)


def test_an_answer_has_numbered_sources(environment: dict[str, str]) -> None:
    said = invoke(environment, "ask", "Who manages the keys of the office?", "--in", "office").stdout
    assert "Ann manages the keys of the office. [1]" in said
    assert "“Ann manages the keys of the office.”" in said
    assert "grounded, confidence" in said
    declined = invoke(environment, "ask", "Who won the chess olympiad?", "--in", "office").stdout
    assert declined.startswith("The documents do not say.")
    assert "[1]" not in declined


def test_a_text_is_held_against_the_documents(environment: dict[str, str]) -> None:
    invoke(environment, "rag", "check", "The office opens at nine.", "--in", "office")
    text = "The office opens at ten. Ann manages the keys."
    found = json.loads(invoke(environment, "rag", "check", text, "--in", "office", "--json", code=1).stdout)
    assert [one["verdict"] == "supported" for one in found] == [False, True]
    rows = json.loads(invoke(environment, "rag", "check", "Ann manages the keys.", "--in", "office", "--json").stdout)
    assert rows[0]["evidence"][0]["quote"] == "Ann manages the keys of the office."


def test_verdicts_are_made_again(environment: dict[str, str]) -> None:
    answer = json.loads(invoke(environment, "ask", "When does the office open?", "--in", "office", "--json").stdout)
    call = answer["loam"]["call_id"]
    (row,) = json.loads(invoke(environment, "rag", "replay", call, "--in", "office", "--json").stdout)
    assert (row["then"], row["now"]) == ("supported", "supported")
