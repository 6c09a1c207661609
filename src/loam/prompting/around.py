"""What techniques may need beside the model that they hold, as shapes: whoever builds the road fills them.

Knows no provider, price list or encoder. Invariant: a technique works without any of them, or says which one it lacks.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from msgspec import Struct, field

from loam.core.calls import Call
from loam.core.money import Money
from loam.prompting.examples import Embed, ExampleSet
from loam.prompting.schemas import Schemas

Lint = Callable[[Call], Sequence[dict[str, Any]]]
"""What is to be said of a call's prompt, one object a finding."""


Same = Callable[[str, str], Awaitable[bool]]
"""Whether two answers mean the same, as a judge sees it."""


def _alone(_: Call) -> int:
    return 1


def _never(_: Call) -> bool:
    return False


def _always(_: Call) -> bool:
    return True


class Around(Struct, frozen=True, kw_only=True):
    """`quote`: the most that a call can cost, None where that can't be known; without it no cap in money can be kept.

    `draws`: how many answers the model gives to one prompt. `reasons`, `calls`: whether it reasons, or calls tools, by
    itself. `same`, or else `embed`, tells answers of one meaning. `datasets`: sets of examples by name. `schemas`:
    those compiled before.
    """

    quote: Callable[[Call], Money | None] | None = None
    draws: Callable[[Call], int] = _alone
    reasons: Callable[[Call], bool] = _never
    calls: Callable[[Call], bool] = _always
    embed: Embed | None = None
    same: Same | None = None
    lint: Lint | None = None
    datasets: Mapping[str, ExampleSet] = {}
    schemas: Schemas = field(default_factory=Schemas)


NOTHING = Around()
