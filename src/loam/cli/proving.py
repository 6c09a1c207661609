"""What `loam lint --prove` does: two prompts on the same cases through the gateway, and how sure the difference is."""

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path
from statistics import fmean
from typing import Any

import click
import msgspec
from msgspec import Struct

from loam.cli.holding import checks_in
from loam.cli.reach import Gateway, Refused, gateway
from loam.core.calls import Call, Delta
from loam.core.clock import SystemClock, new_id
from loam.core.errors import fail
from loam.evaluation.intervals import Interval, bootstrap
from loam.prompting.lint.checks import Check
from loam.prompting.lint.proof import Case, Trial, prove, sign_test
from loam.prompting.lint.requirements import requirements

_SURE = 0.05
"""The interval of a few cases is too narrow (of one it is a point), so the signs must tell as well."""


class Comparison(Struct, frozen=True):
    """Shares of checks passed over `cases` that both prompts answered; `difference` is the second's minus the first's.

    `within` is where the difference lies with 95 % confidence: cases drawn anew, each with both its answers. `chance`
    is the exact test of signs.
    """

    cases: int
    failed: int
    checks: list[Check]
    first: float
    second: float
    difference: float
    within: Interval
    better: int
    worse: int
    chance: float
    trials: list[Trial]


def compared(first: str, second: str, *, cases: str, checks: str | None, model: str) -> Comparison:
    """Asks both prompts every case. Raises LoamError, click.UsageError."""
    asked = _lines(cases)
    held = checks_in(checks) if checks else requirements(second)
    runs = [check for check in held if check.kind != "judge"]
    clock = SystemClock()
    with gateway() as reached:
        trials = asyncio.run(
            prove(
                _Reached(reached),
                first,
                second,
                asked,
                asked=model,
                checks=runs,
                ids=lambda: new_id("call", clock.now()),
            )
        )
    return weighed(trials, runs)


def weighed(trials: list[Trial], checks: list[Check]) -> Comparison:
    """What the trials come to. Raises click.UsageError where none was answered."""
    whole = [trial for trial in trials if not trial.failure]
    if not whole:
        raise click.UsageError(f"no case was answered: {trials[0].failure if trials else 'the set is empty'}")
    differences = [trial.difference for trial in whole]
    return Comparison(
        cases=len(whole),
        failed=len(trials) - len(whole),
        checks=checks,
        first=fmean(trial.first for trial in whole),
        second=fmean(trial.second for trial in whole),
        difference=fmean(differences),
        within=bootstrap(differences),
        better=sum(one > 0 for one in differences),
        worse=sum(one < 0 for one in differences),
        chance=sign_test(differences),
        trials=trials,
    )


def tell(comparison: Comparison) -> str:
    """The comparison as a person reads it."""
    one = comparison
    lines = [
        f"{one.cases} cases, {len(one.checks)} checks on each answer"
        + (f", {one.failed} cases failed" * bool(one.failed)),
        f"first prompt   {one.first:6.1%} of checks passed",
        f"second prompt  {one.second:6.1%}",
        f"difference     {one.difference:+6.1%}  (95 %: {one.within.low:+.1%} to {one.within.high:+.1%})",
        f"the second is better on {one.better} cases and worse on {one.worse}; "
        f"by chance alone so uneven with p = {one.chance:.3g}",
    ]
    word = "better" if one.within.low > 0 else "worse" if one.within.high < 0 else ""
    if word and one.chance < _SURE:
        lines.append(f"The second prompt is {word}.")
    elif word:
        lines.append(f"The second prompt looks {word}, but on so few cases that may be chance; ask more of them.")
    else:
        lines.append("This set does not tell them apart; more cases, or checks that matter more, might.")
    return "\n".join(lines)


class _Reached:
    """A gateway as a Model. Its whole answer comes as one delta."""

    def __init__(self, reached: Gateway) -> None:
        self._reached = reached

    async def answer(self, call: Call) -> AsyncGenerator[Delta, None]:
        body: dict[str, Any] = {
            "model": call.model,
            "messages": [{"role": message.role, "content": message.text} for message in call.messages],
        }
        for name in ("temperature", "max_tokens", "top_p", "seed"):
            if (value := getattr(call.sampling, name)) is not None:
                body[name] = value
        if call.output is not None:
            body["response_format"] = {
                "type": "json_schema",
                "json_schema": {"name": call.output.name, "schema": call.output.schema},
            }
        try:
            answer = await asyncio.to_thread(self._reached.send, "POST", "/v1/chat/completions", body)
        except Refused as error:
            raise fail("server", "gateway", str(error)) from error
        yield Delta(text=answer["choices"][0]["message"]["content"] or "", finish="stop")


def _lines(path: str) -> list[Case]:
    try:
        lines = Path(path).read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise click.UsageError(f"cannot read {path}: {error}") from error
    cases: list[Case] = []
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                cases.append(msgspec.json.decode(line, type=Case))
            except msgspec.DecodeError as error:
                raise click.UsageError(f"{path}, line {number}: {error}") from error
    return cases
