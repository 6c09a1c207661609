from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw
from msgspec.json import Decoder

from loam.core.calls import CacheControl, Controls
from loam.core.errors import ModelFailure
from loam.wire.reading import Fields, convert, read


def param_of(error: pytest.ExceptionInfo[ModelFailure]) -> str:
    assert error.value.failure.kind == "bad_request"
    return error.value.failure.param


@given(st.binary())
def test_bytes_that_are_no_json_are_refused_and_nothing_else_happens(body: bytes) -> None:
    with suppress(ModelFailure):
        assert isinstance(Fields(body).rest(), dict)


@pytest.mark.parametrize(
    "body", [b'{"a":' * 100_000, b'{"a":' + b"[" * 100_000, b'{"a": "\xff"}', b'{"a": 1e999}', b'{"a": "\\ud800x"}']
)
def test_hostile_json_is_a_refusal(body: bytes) -> None:
    with pytest.raises(ModelFailure) as error:
        Fields(body).rest()
    assert error.value.failure.kind == "bad_request"


def test_a_refusal_names_the_field() -> None:
    with pytest.raises(ModelFailure) as error:
        read(b'{"a": [1, "x"]}', Decoder(dict[str, list[int]]), "tools[3]")
    assert param_of(error) == "tools[3][...][1]"
    assert error.value.failure.message == "tools[3][...][1]: Expected `int`, got `str`"
    with pytest.raises(ModelFailure) as error:
        convert({"mode": "never"}, CacheControl, "cache")
    assert param_of(error) == "cache.mode"


def test_fields_are_taken_once_and_the_rest_stays() -> None:
    fields = Fields(b'{"a": 1, "b": [2], "c": {"d": null}}')
    assert fields.look("a", Decoder(int)) == 1
    assert fields.need("a", Decoder(int)) == 1
    assert fields.look("a", Decoder(int)) is None
    assert fields.take("a", Decoder(int)) is None
    raw = fields.raw("b")
    assert isinstance(raw, Raw)
    assert bytes(raw) == b"[2]"
    assert fields.rest() == {"c": {"d": None}}


def test_a_missing_field_is_named() -> None:
    with pytest.raises(ModelFailure) as error:
        Fields(b"{}").need("model", Decoder(str))
    assert param_of(error) == "model"


def test_controls_are_strict() -> None:
    assert Fields(b'{"loam": {"user": "ann"}}').controls() == Controls(user="ann")
    assert Fields(b'{"loam": null}').controls() == Controls()
    with pytest.raises(ModelFailure) as error:
        Fields(b'{"loam": {"usr": "ann"}}').controls()
    assert param_of(error) == "loam"
