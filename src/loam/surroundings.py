"""What the techniques on the road have beside their model: prices, what providers can do, vectors, sets of examples.

Knows the route table, the price list and the encoder; asks no model. Invariant: a quote is never below what a call can
cost at any target of its chain, or there is none.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from msgspec import structs

from loam.core.calls import Call, Target
from loam.core.clock import Clock
from loam.core.errors import ModelFailure, SettingsError
from loam.core.money import Money
from loam.core.ports import Prices
from loam.core.tokens import upper_bound
from loam.gateway.route import RouteTable
from loam.gateway.tab import draws, longest_answers
from loam.grounding.encoder.port import Encoder
from loam.prompting.around import Around
from loam.prompting.capabilities import Capabilities, Capability
from loam.prompting.examples import Embed, ExampleSet, read_examples
from loam.prompting.lint.linter import lint
from loam.prompting.lint.settings import LintSettings

LINTED = 20_000
"""Characters of a prompt that are linted within a call: up to a second, beside the loop."""


class Surroundings:
    """`kinds` says of which kind each configured provider is."""

    def __init__(
        self,
        table: RouteTable,
        prices: Prices,
        clock: Clock,
        *,
        kinds: Mapping[str, str],
        capabilities: Capabilities,
        rules: LintSettings,
    ) -> None:
        self._table = table
        self._prices = prices
        self._clock = clock
        self._kinds = kinds
        self._capabilities = capabilities
        self._rules = rules

    def around(self, embed: Embed | None, datasets: Mapping[str, ExampleSet]) -> Around:
        return Around(
            quote=self.quote,
            draws=self.draws,
            reasons=self.reasons,
            calls=self.calls,
            embed=embed,
            lint=self.lint,
            datasets=datasets,
        )

    def quote(self, call: Call) -> Money | None:
        """The worst case at every target of the chain together, for each may be tried in turn."""
        total = 0
        prompt, answers = upper_bound(call) * draws(call), longest_answers(call)
        for target in self._chain(call):
            price = self._prices.find(target.provider, target.model)
            if price is None or not answers:
                return None
            total += price.worst(prompt, answers, tier=call.sampling.service_tier or "", now=self._clock.now())
        return total

    def lint(self, call: Call) -> list[dict[str, Any]]:
        """What the linter says of the call's instructions; without any, of its question."""
        spoken = [message for message in call.messages if message.role == "system"] or call.messages[-1:]
        if sum(len(message.text) for message in spoken) > LINTED:
            call.trace.warn(f"the prompt is over {LINTED} characters and was not looked at; use `loam lint`")
            return []
        return [
            structs.asdict(finding)
            for message in spoken
            for finding in lint(message.text, file=message.role, settings=self._rules)
        ]

    def draws(self, call: Call) -> int:
        """Answers that one request may ask for; grounded answers are checked one at a time."""
        chain = self._chain(call)
        several = bool(chain) and all(self._of(target).choices for target in chain)
        return 8 if several and not call.controls.collection else 1

    def reasons(self, call: Call) -> bool:
        return any(self._of(target).reasons(target.model) for target in self._chain(call)[:1])

    def calls(self, call: Call) -> bool:
        """Whether tools are called by the model itself, as far as can be said before it is asked."""
        return self.calling(call.model) != "no"

    def calling(self, model: str) -> Literal["yes", "no", "template"]:
        """The same of a model by its name, with what only a checkpoint's own chat template says."""
        chain = self._chain(Call(id="", model=model))
        return self._of(chain[0]).calling if chain else "yes"

    def _of(self, target: Target) -> Capability:
        return self._capabilities.find(self._kinds.get(target.provider, ""), target.model)

    def _chain(self, call: Call) -> tuple[Target, ...]:
        """Where the call may go; nowhere where its name is unknown, which the route says better."""
        try:
            names = (call.model, *call.controls.fallbacks)
            return tuple(dict.fromkeys(target for name in names for target in self._table.resolve(name).chain))
        except ModelFailure:
            return ()


def embedding(encoder: Encoder | None) -> Embed | None:
    """The encoder of collections, for short texts of techniques."""
    if encoder is None:
        return None

    async def embed(texts: Sequence[str]) -> Sequence[Sequence[float]]:
        return (await encoder.embed(texts)).tolist()

    return embed


def datasets_of(files: Mapping[str, str], embed: Embed | None) -> dict[str, ExampleSet]:
    """The sets of examples that the settings name. Raises SettingsError for a file that can't be read as one."""
    found: dict[str, ExampleSet] = {}
    for name, file in files.items():
        try:
            found[name] = ExampleSet(read_examples(Path(file).read_text("utf-8")), embed)
        except (OSError, ValueError, RecursionError) as error:
            raise SettingsError(f"[techniques.datasets] {name}: {file}: {error}") from error
    return found
