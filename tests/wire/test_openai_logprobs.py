import msgspec
from hypothesis import given
from hypothesis import strategies as st

from loam.wire.openai_logprobs import LogprobsObject, decode_logprobs, encode_old_logprobs

OLD = {
    "tokens": ["Hel", "lo"],
    "token_logprobs": [None, -0.5],
    "top_logprobs": [{"Hel": -0.1}, {"lo": -0.5, "p": -2.0}],
    "text_offset": [7, 10],
}


def decode(raw: dict[str, object]) -> list[dict[str, object]] | None:
    return decode_logprobs(msgspec.convert(raw, LogprobsObject), raw)


def test_the_old_shape_survives() -> None:
    content = decode(OLD)
    assert content is not None
    assert content[1] == {
        "token": "lo",
        "logprob": -0.5,
        "bytes": [108, 111],
        "top_logprobs": [
            {"token": "lo", "logprob": -0.5, "bytes": [108, 111]},
            {"token": "p", "logprob": -2.0, "bytes": [112]},
        ],
        "text_offset": 10,
    }
    assert encode_old_logprobs(content, 0) == OLD


def test_the_new_shape_is_kept_as_it_came() -> None:
    content = [{"token": "a", "logprob": -1.0, "vendor": 1}]
    assert decode({"content": content}) == content
    assert decode({"content": None}) is None
    assert decode({"content": []}) is None


def test_offsets_are_counted_where_none_were_given() -> None:
    content = [{"token": token, "logprob": -1.0} for token in ("ab", "", "c")]
    assert encode_old_logprobs(content, 5) == {
        "tokens": ["ab", "", "c"],
        "token_logprobs": [-1.0, -1.0, -1.0],
        "top_logprobs": None,
        "text_offset": [5, 7, 7],
    }


@given(st.lists(st.text(max_size=3), min_size=1), st.integers(0, 3))
def test_lists_of_unequal_length_do_no_harm(tokens: list[str], shorter: int) -> None:
    content = decode({"tokens": tokens, "token_logprobs": [-1.0] * shorter})
    assert content is not None
    assert encode_old_logprobs(content, 0)["tokens"] == tokens
