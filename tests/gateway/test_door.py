"""Who gets in without a key, and how a request's head and body are bounded."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loam.core.calls import Controls, Principal
from loam.core.errors import ModelFailure, refuse
from loam.gateway.controls import controls_of
from loam.gateway.door import LOCAL, Door, DoorSettings
from loam.gateway.http import Head, read_body, read_head

SCOPE = {"client": ("127.0.0.1", 5000)}
ALICE = Principal(key_id="k1", user="alice")


def identify(secret: str) -> Principal:
    if secret == "sk-loam-alice":
        return ALICE
    raise refuse("authentication", "this key is not known")


def door(*, opened: bool = True, listens_on: str = "127.0.0.1") -> Door:
    return Door(identify, DoorSettings(open_on_loopback=opened), listens_on)


@pytest.mark.parametrize("secret", ["", "whatever-the-sdk-made-me-type"])
def test_loopback_is_open_to_programs_of_this_machine(secret: str) -> None:
    assert door().admit(SCOPE, Head(secret=secret, host="localhost:4100")) == LOCAL


def test_a_loam_key_counts_even_where_none_is_needed() -> None:
    assert door().admit(SCOPE, Head(secret="sk-loam-alice", host="localhost")) == ALICE
    with pytest.raises(ModelFailure, match="not known"):
        door().admit(SCOPE, Head(secret="sk-loam-mallory", host="localhost"))


@pytest.mark.parametrize(
    ("scope", "head"),
    [
        (SCOPE, Head(host="evil.example")),
        (SCOPE, Head(host="")),
        (SCOPE, Head(host="localhost", origin="https://evil.example")),
        (SCOPE, Head(host="localhost", origin="null")),
        (SCOPE, Head(host="[::1", origin="")),
        ({"client": ("10.0.0.9", 1)}, Head(host="localhost")),
        (SCOPE, Head(host="localhost", forwarded=True)),
    ],
)
def test_web_pages_rebound_names_and_other_machines_need_a_key(scope: dict[str, object], head: Head) -> None:
    with pytest.raises(ModelFailure) as caught:
        door().admit(scope, head)
    assert caught.value.failure.kind == "authentication"


@pytest.mark.parametrize("shut", [door(opened=False), door(listens_on="0.0.0.0")])
def test_elsewhere_everyone_needs_a_key(shut: Door) -> None:
    with pytest.raises(ModelFailure, match="no key was sent"):
        shut.admit(SCOPE, Head(host="localhost"))
    assert shut.admit(SCOPE, Head(secret="sk-loam-alice", host="x")) == ALICE


def test_a_head_is_read_in_one_pass() -> None:
    head = read_head(
        [
            (b"host", b"localhost"),
            (b"authorization", b"bearer  abc "),
            (b"content-length", b"12"),
            (b"x-loam-user", b"ann"),
        ]
    )
    assert (head.host, head.secret, head.length, head.loam) == ("localhost", "abc", 12, {"user": "ann"})
    assert read_head([(b"x-api-key", b"k")]).secret == "k"


@given(st.binary(max_size=20))
def test_no_content_length_breaks_it(value: bytes) -> None:
    if value.isdigit() and len(value) <= 15:
        assert read_head([(b"content-length", value)]).length == int(value)
    else:
        with pytest.raises(ModelFailure, match="not a number"):
            read_head([(b"content-length", value)])


class Body:
    def __init__(self, *pieces: bytes) -> None:
        self.pieces = list(pieces)
        self.read = 0

    async def __call__(self) -> dict[str, object]:
        piece = self.pieces[self.read]
        self.read += 1
        return {"type": "http.request", "body": piece, "more_body": self.read < len(self.pieces)}


@pytest.mark.anyio
async def test_a_body_is_read_up_to_its_limit_and_no_further() -> None:
    assert await read_body(Body(b"ab", b"cd"), Head(), limit=4, seconds=1) == b"abcd"
    endless = Body(*[b"x" * 10] * 1000)
    with pytest.raises(ModelFailure, match="more than 25 bytes"):
        await read_body(endless, Head(), limit=25, seconds=1)
    assert endless.read == 3
    with pytest.raises(ModelFailure, match="1000 bytes"):
        await read_body(Body(b""), Head(length=1000), limit=25, seconds=1)


def test_headers_become_controls_and_the_body_outranks_them() -> None:
    headers = {"user": "ann", "tags": "a=1, b=2", "cache": "bypass", "deadline": "2.5", "fallbacks": "x, y"}
    controls = controls_of(headers, Controls(user="bob"))
    assert controls.user == "bob"
    assert controls.tags == {"a": "1", "b": "2"}
    assert controls.cache is not None
    assert controls.cache.mode == "bypass"
    assert controls.deadline == 2.5
    assert controls.fallbacks == ("x", "y")


@pytest.mark.parametrize("headers", [{"cahce": "x"}, {"deadline": "-1"}, {"deadline": "nan"}, {"cache": "maybe"}])
def test_a_header_that_says_nothing_is_refused(headers: dict[str, str]) -> None:
    with pytest.raises(ModelFailure) as caught:
        controls_of(headers, Controls())
    assert caught.value.failure.kind == "bad_request"
