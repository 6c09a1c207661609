"""`loam ask --technique`, run as a person runs it."""

import json
from pathlib import Path

from tests.cli.program import Program

SCRIPT = [{"text": "Six and one. <answer>7</answer>"}]


def program(folder: Path) -> Program:
    return Program(folder, LOAM_PROVIDERS__FAKE__KIND="scripted", LOAM_PROVIDERS__FAKE__SCRIPT=json.dumps(SCRIPT))


def test_a_question_is_asked_with_techniques_and_they_say_what_they_did(tmp_path: Path) -> None:
    vote = json.dumps({"name": "self_consistency", "n": 3})
    words = ("ask", "6 + 1?", "--model", "fake/m", "--technique", vote, "--technique", "chain_of_thought")
    done = program(tmp_path).run(*words)
    assert done.status == 0, done.err
    assert done.out.splitlines()[0] == "7"
    assert "self_consistency: votes" in done.out
    listed = json.dumps([json.loads(vote), "chain_of_thought"])
    for more in (words, (*words[:4], "--technique", listed)):
        answer = program(tmp_path).run(*more, "--json").report
        assert answer["choices"][0]["message"]["content"] == "7"
        assert answer["loam"]["techniques"][0]["samples_used"] == 2


def test_what_cannot_be_read_is_said(tmp_path: Path) -> None:
    done = program(tmp_path).run("ask", "hi", "--model", "fake/m", "--technique", "magic")
    assert done.status != 0
    assert "no technique is called 'magic'" in done.err
    assert program(tmp_path).run("ask", "hi", "--model", "fake/m", "--technique", "{").status == 2
