"""Self-consistency: the same question several times, and the answer that most of the drawn solutions agree on.

Knows how to draw, compare and count; not how the answers come about. Invariants: with the exact stop the answer is the
one that all n samples would have given; no sample is drawn that can't change it or that the cap has no room for; every
sample is on the call's bill, those that failed and those that could not be read too.
"""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated, Any

from msgspec import Meta, Struct, structs

from loam.core.answers import deltas_of
from loam.core.branches import Branches
from loam.core.calls import Answer, Call, Delta, Step
from loam.core.errors import Failure, ModelFailure, refuse
from loam.core.money import dollars
from loam.core.ports import Model
from loam.prompting.around import NOTHING, Around
from loam.prompting.forms import Form, form_of
from loam.prompting.purse import CAP, capped
from loam.prompting.samples import Sample, Sampler, split
from loam.prompting.votes import Stop, Tally

NAME = "self_consistency"


class Options(Struct, frozen=True, forbid_unknown_fields=True, tag=NAME, tag_field="name"):
    n: Annotated[int, Meta(ge=1, le=100, description="Most answers to draw.")] = 5
    stop: Annotated[
        Stop,
        Meta(
            description="When to stop drawing: `exact` (the leader can't be overtaken), `beta` (it leads with "
            "`confidence`; for large n), `none` (draw all)."
        ),
    ] = "exact"
    confidence: Annotated[float, Meta(gt=0.5, lt=1, description="For `beta`: how sure the lead must be.")] = 0.95
    normalise: Annotated[
        str,
        Meta(
            pattern="^(auto|number|choice|text|cluster|json:(/.*)?)$",
            description="The form that votes are compared in: `number`, `choice`, `text`, `json:/pointer`, `cluster` "
            "(by meaning), or `auto`.",
        ),
    ] = "auto"
    temperature: Annotated[
        float, Meta(gt=0, le=2, description="How varied the answers are, unless the call says more than 0.")
    ] = 0.7
    max_cost_usd: Annotated[float, Meta(gt=0, description="Most that the answers may cost together.")] | None = None
    min_agree: Annotated[
        float, Meta(ge=0, le=1, description="Share of the votes from which the answer counts as agreed on.")
    ] = 0.5


USUAL = Options()


class SelfConsistency:
    """Answers with the first sample of the class that wins: `SelfConsistency(model, Options(n=5))`."""

    def __init__(self, inner: Model, options: Options = USUAL, around: Around = NOTHING) -> None:
        self._inner = inner
        self._options = options
        self._around = around

    def answer(self, call: Call) -> AsyncGenerator[Delta, None]:
        return self._run(call)

    async def _run(self, call: Call) -> AsyncGenerator[Delta, None]:
        options = self._options
        if call.sampling.n != 1:
            raise refuse("unsupported", "self-consistency gives one answer; ask with n = 1", param="n")
        form = form_of(options.normalise, self._around.embed, self._around.same)
        tally, samples = Tally(options.n, options.stop, options.confidence), list[Sample]()
        branches = Branches(call)
        sampler = Sampler(capped(self._inner, options.max_cost_usd, None, self._around.quote), branches)
        try:
            async with aclosing(self._vote(self._varied(call), sampler, tally, form)) as drawn:
                async for sample in drawn:
                    samples.append(sample)
                    yield Delta(step=Step(NAME, "sample", _told(sample, tally, options.n)))
            best = _best(samples, tally)
            branches.name()
            report = self._report(samples, tally, branches)
        finally:
            branches.settle()
        if best.choice is not None:
            for delta in deltas_of(Answer((best.choice,), head=best.head)):
                yield delta
        yield Delta(step=Step(NAME, "done", report), usage=branches.usage)

    async def _vote(self, call: Call, sampler: Sampler, tally: Tally, form: Form) -> AsyncGenerator[Sample, None]:
        """Draws in rounds, each of the fewest samples that can decide, until it is decided or a sample failed."""
        failed = False
        while not failed and (wanted := tally.wanted()):
            most = max(1, self._around.draws(call))
            async with aclosing(sampler.draw(split(call, wanted, most=most, first=sampler.drawn))) as drawn:
                async for sample in drawn:
                    if sample.choice is None:
                        failed = True
                    else:
                        tally.add(sample.index, await form.of(sample.choice.text))
                    yield sample

    def _varied(self, call: Call) -> Call:
        temperature = call.sampling.temperature or self._options.temperature
        return structs.replace(call, sampling=structs.replace(call.sampling, temperature=temperature))

    def _report(self, samples: list[Sample], tally: Tally, branches: Branches) -> dict[str, Any]:
        failures = [sample.failure for sample in samples if sample.failure is not None]
        cost = branches.cost
        return {
            "votes": [
                {"answer": vote.answer, "count": len(vote.samples), "samples": vote.samples} for vote in tally.ranked()
            ],
            "share": round(tally.share, 4),
            "agreed": tally.share >= self._options.min_agree and bool(tally.ranked()),
            "tie": tally.tie,
            "n": self._options.n,
            "samples_used": tally.used,
            "unparseable": tally.unparseable,
            "failed": len(failures),
            "stopped": _why(failures, tally, self._options.n),
            "cost_usd": None if cost is None else dollars(cost),
        }


def _best(samples: list[Sample], tally: Tally) -> Sample:
    """The first sample of the winning class; without any class the first that said anything. Raises ModelFailure."""
    said = sorted((sample for sample in samples if sample.choice is not None), key=lambda sample: sample.index)
    if not said:
        raise ModelFailure(next(sample.failure for sample in samples if sample.failure is not None))
    votes = tally.ranked()
    return next(sample for sample in said if sample.index == votes[0].samples[0]) if votes else said[0]


def _told(sample: Sample, tally: Tally, n: int) -> dict[str, Any]:
    ranked = tally.ranked()
    told = {"sample": sample.index, "used": tally.used, "of": n, "leads": ranked[0].answer if ranked else None}
    return told if sample.failure is None else {**told, "failure": sample.failure.kind}


def _why(failures: list[Failure], tally: Tally, n: int) -> str:
    if failures:
        return "cap" if failures[0].code == CAP else "failure"
    return "all" if tally.used >= n else "decided"
