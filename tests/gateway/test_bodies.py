"""Bodies come back as they were kept, small ones get smaller, and what was not kept cannot be read."""

import hashlib
import json

import msgspec
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from loam.core.answers import Collector
from loam.core.calls import Answer, Delta
from loam.gateway.bodies import Bodies, Packed, as_json

BODIES = Bodies(1024 * 1024)
FRAME = "28b52ffd272cedbe6946d50000507b48656c6c6f227d5d7d04fc8e009f5eeab82fbccfb6c6e060cd810edf"
PROSE = (
    "Please read the report that the team sent last week and tell me which of the proposals we should follow, "
    "and what each of them would cost us over the next three years. Keep it short. "
) * 3


@given(st.binary(max_size=5000))
def test_what_is_packed_comes_back(body: bytes) -> None:
    assert BODIES.unpack(BODIES.pack(body, "none")) == body


def test_a_small_request_becomes_much_smaller_than_plain_zstd_makes_it() -> None:
    body = b'{"model":"gpt-4o-mini","messages":[{"role":"user","content":"Hello there"}],"stream":true}'
    assert len(BODIES.pack(body, "none").data) < 0.6 * len(zstandard.compress(body, 3))


def test_a_frame_of_today_can_be_read_for_ever() -> None:
    """Made on the day on which the first dictionary shipped; if this fails, kept bodies cannot be read any more."""
    frame = bytes.fromhex(FRAME)
    assert (
        BODIES.unpack(Packed("zstd-1", frame))
        == b'{"model":"gpt-4o-mini","messages":[{"role":"user","content":"Hello"}]}'
    )


def test_damage_is_found() -> None:
    """A flipped bit is an error, or one that carries nothing; it is never another text."""
    packed = BODIES.pack(PROSE.encode(), "none")
    found = 0
    for index in range(len(packed.data)):
        broken = bytearray(packed.data)
        broken[index] ^= 1
        try:
            assert BODIES.unpack(Packed("zstd-1", bytes(broken))) == PROSE.encode()
        except zstandard.ZstdError:
            found += 1
    assert found > 0.9 * len(packed.data)


@pytest.mark.parametrize(("largest", "redaction"), [(10, "none"), (1000, "full")])
def test_only_length_and_digest_of_what_is_too_large_or_private(largest: int, redaction) -> None:
    packed = Bodies(largest).pack(b"what nobody may read", redaction)
    assert packed.codec == "digest"
    assert b"nobody" not in packed.data
    digest = msgspec.json.decode(BODIES.unpack(packed))
    assert digest == {"bytes": 20, "sha256": hashlib.sha256(b"what nobody may read").hexdigest()}


def test_redacted_bodies_are_redacted_before_they_are_packed() -> None:
    packed = BODIES.pack(b'{"content":"call +49 30 1234567"}', "redacted")
    assert BODIES.unpack(packed) == b'{"content":"call [phone]"}'


@given(st.lists(st.text(st.characters(codec=None), max_size=8), max_size=4))
def test_an_answer_is_kept_whatever_characters_it_has(pieces: list[str]) -> None:
    said = Collector()
    for piece in pieces:
        said.add(Delta(text=piece))
    kept = json.loads(as_json(said.answer()))
    assert "".join(part["text"] for choice in kept["choices"] for part in choice["parts"]) == "".join(pieces)


def test_a_kept_answer_is_an_answer_again() -> None:
    said = Collector()
    said.add(Delta(text=PROSE, finish="stop"))
    packed = BODIES.pack(as_json(said.answer()), "none")
    assert msgspec.json.decode(BODIES.unpack(packed), type=Answer) == said.answer()
