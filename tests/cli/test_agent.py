"""`loam agent`, run as a person runs it: in processes of its own, beside a gateway that stays."""

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.program import Done, Program, Served

TOOLBOX = Path(__file__).parents[1] / "agents" / "toolbox.py"
CLERKS = ("approves", "edits", "denies", "detached", "cancelled", "forked", "hidden", "json")


def written(folder: Path, name: str) -> Path:
    return folder / f"{name}.txt"


def settings(folder: Path) -> str:
    lines = [
        '[providers.talk]\nkind = "scripted"\nscript = [{text = "It is fine."}]',
        '[providers.slow]\nkind = "scripted"\nscript = [{text = "late", first_pause = 60}]',
        '[agents.talk]\nmodel = "talk/any"\n[agents.slow]\nmodel = "slow/any"',
        '[agents.lost]\nmodel = "nowhere/any"',
    ]
    for name in CLERKS:
        text = "\u202eevil" if name == "hidden" else "asked"
        arguments = f"{{file = {json.dumps(str(written(folder, name)))}, text = {json.dumps(text)}}}"
        call = f"{{tools = [{{name = 'write', arguments = {arguments}}}]}}"
        lines += [
            f'[providers.{name}]\nkind = "scripted"\nscript = [{call}, {{text = "done"}}]',
            f'[agents.{name}]\nmodel = "{name}/any"',
            f'[agents.{name}.tools.write]\nkind = "python"\nfunction = "{TOOLBOX}:write"',
        ]
    return "\n".join(lines)


@pytest.fixture(scope="module")
def loam(tmp_path_factory: pytest.TempPathFactory) -> Program:
    folder = tmp_path_factory.mktemp("agents")
    (folder / "loam.toml").write_text(settings(folder))
    return Program(folder)


@pytest.fixture(scope="module")
def served(loam: Program) -> Iterator[Served]:
    with loam.serving() as served:
        loam.environment["LOAM_URL"] = served.url
        yield served


def waiting(loam: Program, agent: str) -> tuple[Done, str]:
    """A run that waits for a decision, and its id."""
    done = loam.run("agent", "run", agent, "write it")
    assert done.status == 0, done.err
    return done, done.err.strip().splitlines()[-1].split()[0]


def test_a_run_tells_its_steps_on_stderr_and_its_answer_on_stdout(loam: Program, served: Served) -> None:
    done = loam.run("agent", "run", "talk", "How is it?")
    assert (done.status, done.out) == (0, "It is fine.\n")
    steps = done.err.splitlines()
    assert steps[0] == "thinking …"
    assert steps[1].startswith("  wants no tool; $0.0000")
    assert steps[2].startswith("run_")
    assert "ended (answered); 1 steps" in steps[2]


def test_a_run_that_fails_fails_its_command(loam: Program, served: Served) -> None:
    done = loam.run("agent", "run", "lost", "How is it?")
    assert (done.status, done.out) == (1, "")
    assert "ended (failed): no model is called 'nowhere/any'" in done.err


def test_a_call_is_approved_by_its_key_and_the_run_goes_on(loam: Program, served: Served) -> None:
    done, run = waiting(loam, "approves")
    assert done.out == ""
    assert "waits for your decision (approval) until 2" in done.err
    assert f"loam agent approve approves {run} --key 1.1" in done.err
    inbox = json.loads(loam.run("agent", "waiting", "--json").out)
    assert [(one["agent"], one["question"]) for one in inbox if one["run"] == run] == [("approves", "write it")]
    table = loam.run("agent", "waiting").out
    assert run in table
    assert "approves" in table
    other = loam.run("agent", "approve", "approves", run, "--key", "9.9")  # a call that somebody else has decided on
    assert other.status == 2
    assert "does not wait for a decision on '9.9'" in other.err
    done = loam.run("agent", "approve", "approves", run, "--key", "1.1")
    assert (done.status, done.out) == (0, "done\n")
    assert "approve by local" in done.err
    assert "  a result of " in done.err
    assert written(loam.folder, "approves").read_text() == "asked"
    again = loam.run("agent", "approve", "approves", run)
    assert again.status == 2
    assert "waits for no decision: it is ended (answered)" in again.err


def test_a_call_is_approved_with_other_arguments(loam: Program, served: Served) -> None:
    _, run = waiting(loam, "edits")
    edit = json.dumps({"file": str(written(loam.folder, "edits")), "text": "edited"})
    assert loam.run("agent", "approve", "edits", run, "--edit", edit, "--deny").status == 2
    assert "JSON object" in loam.run("agent", "approve", "edits", run, "--edit", "nonsense").err
    assert loam.run("agent", "approve", "edits", run, "--edit", edit).out == "done\n"
    assert written(loam.folder, "edits").read_text() == "edited"


def test_a_call_is_denied_with_its_reason(loam: Program, served: Served) -> None:
    _, run = waiting(loam, "denies")
    forgotten = loam.run("agent", "approve", "denies", run, "--reason", "not on a Friday")
    assert forgotten.status == 2
    assert "add --deny" in forgotten.err
    done = loam.run("agent", "approve", "denies", run, "--deny", "--reason", "not on a Friday")
    assert (done.status, done.out) == (0, "done\n")
    assert ": not on a Friday" in done.err
    events = [json.loads(line) for line in loam.run("agent", "show", "denies", run, "--events").out.splitlines()]
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert "not on a Friday" in next(e["event"]["result"] for e in events if e["event"]["type"] == "returned")
    assert not written(loam.folder, "denies").exists()


def test_a_detached_run_is_shown_listed_and_cancelled(loam: Program, served: Served) -> None:
    run = loam.run("agent", "run", "slow", "wait", "--detach").out.strip()
    assert run.startswith("run_")
    assert "running" in loam.run("agent", "list", "slow").out
    listed = json.loads(loam.run("agent", "list", "slow", "--json").out)
    assert (listed[0]["id"], listed[0]["status"]) == (run, "running")
    done = loam.run("agent", "cancel", "slow", run)
    assert "ended (cancelled): by local" in done.err
    assert json.loads(loam.run("agent", "show", "slow", run, "--json").out)["reason"] == "cancelled"
    begun = json.loads(loam.run("agent", "run", "detached", "write", "--detach", "--json").out)
    assert begun["status"] == "running"


def test_a_run_is_forked_before_its_decision(loam: Program, served: Served) -> None:
    _, run = waiting(loam, "forked")
    loam.run("agent", "approve", "forked", run, "--deny")
    done = loam.run("agent", "fork", "forked", run, "3", "--json")
    assert (done.report["status"], done.report["steps"]) == ("waiting", 1)
    assert done.report["id"] != run
    refused = loam.run("agent", "fork", "forked", run, "99")
    assert refused.status == 2
    assert "cannot be forked after event 99: it has " in refused.err


def test_signs_that_a_terminal_does_not_show_are_written_out(loam: Program, served: Served) -> None:
    done, _ = waiting(loam, "hidden")
    assert "\\u202eevil" in done.err
    assert "\u202e" not in done.err + loam.run("agent", "waiting").out


def test_json_is_one_object(loam: Program, served: Served) -> None:
    view = loam.run("agent", "run", "json", "ä€𝄞", "--json").report
    assert view["status"] == "waiting"
    assert view["waiting"][0]["tool"] == "write"
    resumed = loam.run("agent", "resume", "json", view["id"], "--json").report
    assert resumed == view


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("run", "nobody", "q"), "there is no agent 'nobody'; there are: talk, slow"),
        (("show", "talk", "run_unknown"), "there is no run 'run_unknown' of talk that this key began"),
        (("approve", "talk", "run_unknown"), "there is no run"),
        (("fork", "talk", "run_unknown", "1"), "there is no run"),
        (("run", "a/../b", "q"), "there is n"),
    ],
)
def test_what_is_not_there_is_said_in_a_line(loam: Program, served: Served, words: tuple[str, ...], said: str) -> None:
    done = loam.run("agent", *words)
    assert done.status == 2
    assert said in done.err
    assert "Traceback" not in done.err


def test_who_stops_following_leaves_the_run_at_work(loam: Program, served: Served) -> None:
    process = loam.start("agent", "run", "slow", "wait")
    assert process.stderr is not None
    assert process.stderr.readline() == "thinking …\n"
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (130, "")
    assert "no longer followed: the run goes on" in err
    hint = err.strip().split("loam ")[-1].split()
    run = hint[-1]
    assert hint[:3] == ["agent", "resume", "slow"]
    assert json.loads(loam.run("agent", "show", "slow", run, "--json").out)["status"] == "running"
    following = loam.start(*hint)
    loam.run("agent", "cancel", "slow", run)
    out, err = following.communicate(timeout=30)
    assert "ended (cancelled)" in err


def test_without_a_gateway_that_stays_a_run_is_followed_or_refused(tmp_path: Path) -> None:
    (tmp_path / "loam.toml").write_text(settings(tmp_path))
    loam = Program(tmp_path)
    done = loam.run("agent", "run", "talk", "q", "--detach")
    assert done.status == 2
    assert "loam serve" in done.err
    assert loam.run("agent", "run", "talk", "q").out == "It is fine.\n"
    run = waiting(loam, "approves")[1]
    view: dict[str, Any] = loam.run("agent", "approve", "approves", run, "--json").report
    assert (view["tool_calls"], written(tmp_path, "approves").read_text()) == (1, "asked")
