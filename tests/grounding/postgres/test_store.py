import pytest

from tests.contracts.store import StoreContract

pytestmark = pytest.mark.anyio


class TestPostgres(StoreContract):
    """The fixture `store` is the one in Postgres."""
