"""The providers' contract, over every kind that asks a server."""

import pytest

pytest.register_assert_rewrite("tests.contracts.provider")

from loam.providers import anthropic, compatible, groq, openai, together  # noqa: E402
from loam.providers.provider import ProviderKind  # noqa: E402
from tests.contracts.provider import ProviderContract  # noqa: E402

pytestmark = pytest.mark.anyio
KINDS = (openai.KIND, anthropic.KIND, groq.KIND, together.KIND, compatible.KIND)


@pytest.fixture(scope="module")
def anyio_backend() -> tuple[str, dict[str, bool]]:
    """As in production; the transport's own tests run on asyncio's loop too."""
    return "asyncio", {"use_uvloop": True}


class TestProviders(ProviderContract):
    @pytest.fixture(params=KINDS, ids=lambda kind: kind.name)
    def kind(self, request: pytest.FixtureRequest) -> ProviderKind:
        return request.param
