"""The embedded store keeps to what every store must."""

import pytest

from loam.grounding.index import Index
from tests.contracts.store import StoreContract

pytestmark = pytest.mark.anyio


class TestIndex(StoreContract):
    @pytest.fixture
    def store(self, index: Index) -> Index:
        return index
