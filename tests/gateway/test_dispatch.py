"""The end of the road picks the provider that the target names."""

import pytest

from loam.core.calls import Target
from loam.gateway.dispatch import Dispatch
from tests.gateway.virtual import Scripted, call, hear, text, virtual_time

anyio_backend = virtual_time
pytestmark = pytest.mark.anyio


async def test_the_targets_provider_answers() -> None:
    dispatch = Dispatch({"a": Scripted(text("from a")), "b": Scripted(text("from b"))})
    assert (await hear(dispatch, call(target=Target("b", "m")))).text == "from b"


async def test_an_unknown_provider_is_a_typed_failure_when_it_is_read() -> None:
    stream = Dispatch({"a": Scripted(text("from a"))}).answer(call(target=Target("c", "m")))
    await stream.aclose()  # nothing was raised so far
    heard = await hear(Dispatch({"a": Scripted(text("from a"))}), call(target=Target("c", "m")))
    assert heard.failure is not None
    assert heard.failure.kind == "not_found"
    assert "c/m" in heard.failure.message
    assert "a" in heard.failure.message


async def test_a_call_that_was_never_routed_is_one_too() -> None:
    heard = await hear(Dispatch({}), call(target=None, model="gpt"))
    assert heard.failure is not None
    assert heard.failure.message == "no provider for gpt; there are: none"
