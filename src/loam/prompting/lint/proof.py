"""Two prompts over the same cases, so that "specific beats vague" is a number.

Knows a Model and what answers are checked against; not where cases come from, and no statistics but the exact test of
signs. Invariants: both prompts get the same case, model and settings; a case that either could not answer counts for
neither, and is reported.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import aclosing
from math import comb
from typing import Any

from msgspec import Struct

from loam.core.answers import Collector
from loam.core.calls import Call, Output, Sampling
from loam.core.errors import ModelFailure, refuse
from loam.core.messages import Message, Role, say
from loam.core.ports import Model
from loam.prompting.lint.checks import Check, problem_of
from loam.prompting.lint.sheet import Passage, sheet
from loam.prompting.prompts import parsed

_AT_ONCE = 8


class Case(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One line of a set. `input` is said by the user after the prompt; `checks` stand beside those of the whole set."""

    variables: dict[str, Any] = {}
    input: str = ""
    expected: str = ""
    checks: tuple[Check, ...] = ()


class Trial(Struct, frozen=True):
    """The share of its checks that each prompt's answer passed on one case; `failure` where there is no such share."""

    first: float = 0.0
    second: float = 0.0
    failure: str = ""

    @property
    def difference(self) -> float:
        return self.second - self.first


async def prove(
    model: Model,
    first: str,
    second: str,
    cases: Sequence[Case],
    *,
    asked: str,
    checks: Sequence[Check],
    ids: Callable[[], str],
) -> list[Trial]:
    """Asks `model` both prompts' texts on every case.

    Raises ModelFailure (bad_request) where a case lacks a variable, or has nothing to be checked by.
    """
    gate = asyncio.Semaphore(_AT_ONCE)

    async def score(prompt: str, case: Case) -> float:
        async with gate:
            answer = await _said(model, call_of(prompt, case, asked=asked, call_id=ids()))
        return passed([*checks, *case.checks, *_expected(case)], answer)

    async def trial(case: Case) -> Trial:
        scored = await asyncio.gather(score(first, case), score(second, case), return_exceptions=True)
        failures = [one for one in scored if isinstance(one, BaseException)]
        for failure in failures:
            if not isinstance(failure, ModelFailure) or failure.failure.kind == "bad_request":
                raise failure
        if failures:
            return Trial(failure=str(failures[0]))
        one, other = (share for share in scored if isinstance(share, float))
        return Trial(one, other)

    return list(await asyncio.gather(*map(trial, cases)))


def call_of(prompt: str, case: Case, *, asked: str, call_id: str) -> Call:
    """The call that a prompt's text makes of a case: a Loam prompt as the gateway fills it, a template as it stands."""
    said: tuple[Message, ...] = (say("user", case.input),) if case.input else ()
    if prompt.startswith("+++"):
        made = parsed(prompt)[1]
        shape = Output("schema", made.schema, name="answer") if made.schema is not None else None
        messages = (*made.messages(case.variables, question=case.input), *(() if made.takes_input else said))
        return Call(
            id=call_id, model=asked or made.model, messages=messages, sampling=made.sampling(Sampling()), output=shape
        )
    messages = tuple(say(_role(passage), _filled(passage, case.variables)) for passage in sheet(prompt).passages)
    if not said and all(message.role == "system" for message in messages):
        messages = tuple(say("user", message.text) for message in messages)
    return Call(id=call_id, model=asked, messages=(*messages, *said))


def _role(passage: Passage) -> Role:
    return "assistant" if passage.role == "assistant" else "user" if passage.role == "user" else "system"


def _filled(passage: Passage, values: dict[str, Any]) -> str:
    text = passage.text
    for slot in reversed(passage.slots):
        if slot.name in values:
            text = f"{text[: slot.start]}{values[slot.name]}{text[slot.end :]}"
    return text


async def _said(model: Model, call: Call) -> str:
    collector = Collector()
    async with aclosing(model.answer(call)) as deltas:
        async for delta in deltas:
            collector.add(delta)
    return collector.answer().text


def passed(checks: Sequence[Check], answer: str) -> float:
    """The share of the checks that an answer passes, of those that a program can carry out. Raises ModelFailure."""
    problems = [problem for check in checks if (problem := problem_of(check, answer)) is not None]
    if not problems:
        raise refuse("bad_request", "nothing to check by: give checks, or cases with `expected` or `checks`")
    return sum(not problem for problem in problems) / len(problems)


def _expected(case: Case) -> list[Check]:
    return [Check(id="expected", kind="equals", texts=(case.expected,))] if case.expected else []


def sign_test(differences: Sequence[float]) -> float:
    """The chance of wins and losses at least so uneven if neither prompt were better; exact and two-sided."""
    wins, losses = sum(one > 0 for one in differences), sum(one < 0 for one in differences)
    trials, fewer = wins + losses, min(wins, losses)
    return min(1.0, 2 * sum(comb(trials, k) for k in range(fewer + 1)) / 2**trials) if trials else 1.0
