"""The end of the road: hands a call to the provider that its target names. Knows no provider."""

from collections.abc import AsyncGenerator, Mapping

from loam.core.answers import refused
from loam.core.calls import Call, Delta
from loam.core.errors import refuse
from loam.core.ports import Model


class Dispatch:
    """Answers with `models[call.target.provider]`."""

    def __init__(self, models: Mapping[str, Model]) -> None:
        self._models = models

    def answer(self, call: Call) -> AsyncGenerator[Delta, None]:
        model = None if call.target is None else self._models.get(call.target.provider)
        if model is None:
            known = ", ".join(self._models) or "none"
            return refused(refuse("not_found", f"no provider for {call.target or call.model}; there are: {known}"))
        return model.answer(call)
