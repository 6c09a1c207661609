"""The store of answers: bounded, fresh, the least used leave first."""

from hypothesis import given
from hypothesis import strategies as st

from loam.gateway.cache_store import MemoryStore


def get(store: MemoryStore, key: bytes, now: float = 0.0, *, max_age: float = 1e9) -> bytes | None:
    return store.get(key, now, max_age=max_age)


def test_what_is_put_is_found_until_its_ttl_is_over() -> None:
    store = MemoryStore(10_000)
    store.put(b"k", b"value", 100.0, ttl=10.0)
    assert get(store, b"k", 109.9) == b"value"
    assert get(store, b"other", 100.0) is None
    assert get(store, b"k", 110.0) is None
    assert (len(store), store.size) == (0, 0)


def test_a_reader_may_ask_for_fresher_without_driving_it_out() -> None:
    store = MemoryStore(10_000)
    store.put(b"k", b"value", 0.0, ttl=100.0)
    assert get(store, b"k", 5.0, max_age=5.0) is None
    assert get(store, b"k", 5.0, max_age=6.0) == b"value"


def test_the_least_recently_used_leaves_first() -> None:
    store = MemoryStore(1_000)
    store.put(b"a", b"x" * 100, 0.0, ttl=1e9)
    store.put(b"b", b"x" * 100, 0.0, ttl=1e9)
    assert get(store, b"a") is not None
    store.put(b"c", b"x" * 100, 0.0, ttl=1e9)
    assert [get(store, key) is not None for key in (b"a", b"b", b"c")] == [True, False, True]


def test_what_is_too_large_is_not_kept_and_drives_nobody_out() -> None:
    store = MemoryStore(1_000)
    store.put(b"a", b"small", 0.0, ttl=1e9)
    store.put(b"b", b"x" * 1_000, 0.0, ttl=1e9)
    assert (get(store, b"a"), get(store, b"b")) == (b"small", None)


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 900), st.booleans()), max_size=80))
def test_its_weight_is_that_of_what_it_holds_and_within_the_bound(steps: list[tuple[int, int, bool]]) -> None:
    store, held = MemoryStore(3_000), dict[bytes, bytes]()
    for number, length, writes in steps:
        key = bytes([number])
        if writes:
            held[key] = b"%d" % number * length
            store.put(key, held[key], 0.0, ttl=1e9)
        found = get(store, key)
        assert found in (None, held.get(key))
        assert store.size <= 3_000
    assert store.size == sum(len(value) + 300 for key in held if (value := get(store, key)) is not None)
