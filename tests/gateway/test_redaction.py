"""What redaction finds, what it leaves alone, and that no text makes it slow."""

import json
import time

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loam.gateway.redaction import redact, redact_json, redact_message, redact_secrets, strictest

FOUND = [
    ("mail ann.lee+x@mail.example.org, please", "mail [email], please"),
    ("<mailto:jörg@exämple.de>", "<mailto:[email]>"),
    ("call +49 (0)30 1234-5678 now", "call [phone] now"),
    ("or 0171 2345678.", "or [phone]."),
    ("tel 01 23 45 67 89", "tel [phone]"),
    ("(415) 555-0123 and 415-555-0123", "[phone] and [phone]"),
    ("card 4111 1111 1111 1111 exp 12/26", "card [card] exp 12/26"),
    ("4111111111111111", "[card]"),
    ("3782-822463-10005", "[card]"),
    ("in 2024 4111 1111 1111 1111 12/26", "in 2024 [card] 12/26"),
    ("5555555555554444 4111111111111111", "[card] [card]"),
    ("DE89 3704 0044 0532 0130 00 IST MEINE", "[iban] IST MEINE"),
    ("IBAN:GB82WEST12345698765432.", "IBAN:[iban]."),
    ("from 192.168.10.254.", "from [ip]."),
    ("at 2001:db8::8a2e:370:7334 or fe80::1", "at [ip] or [ip]"),
    ("Authorization: Bearer abcDEF123456789012", "Authorization: Bearer [secret]"),
    ("sk-proj-abcDEF1234567890abcd", "[secret]"),
    ("key AKIAIOSFODNN7EXAMPLE1", "key [secret]"),
    ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.dozjgNryP4J3jVmNHl0w", "[secret]"),
    ("OPENAI_API_KEY=hunter2hunter2 x", "OPENAI_API_KEY=[secret] x"),
    ('{"password": "correct horse"}', '{"password": "[secret] horse"}'),
    ("postgres://loam:hunter2@db.internal/x", "postgres://[secret]@db.internal/x"),
    ("-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIBAAKCAQEA\n-----END RSA PRIVATE KEY-----", "[secret]"),
    ("data:image/png;base64," + "iVBORw0KGgo" * 60 + "==", "[data]"),
]
KEPT = [
    "On 2024-01-02T03:04:05+00:00 and 01-02-2024 at 12:34:56",
    "1234 5678 9012 3456 is no card",
    "the time is 1700000000000 ms, or 1700000000000000 us",
    "version 1.2.3 of std::vector<int> and a :: b",
    "SELECT * FROM t WHERE a = 1 AND b = 2000000",
    "@decorator, user@localhost",
    "basic responsibilities and a bearer of news",
    "pi is 3.14159265358979",
    "AB12 CDEF is no account",
    "00:1a:2b:3c:4d:5e is a network card",
    "1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16",
    "the token count of a password policy",
]


@pytest.mark.parametrize(("text", "redacted"), FOUND)
def test_it_finds(text: str, redacted: str) -> None:
    assert redact(text) == redacted


@pytest.mark.parametrize("text", KEPT)
def test_it_leaves_alone(text: str) -> None:
    assert redact(text) == text


@pytest.mark.parametrize(("_", "redacted"), FOUND)
def test_what_is_redacted_stays_as_it_is(_: str, redacted: str) -> None:
    assert redact(redacted) == redacted


def test_every_string_of_a_document_is_redacted_names_of_fields_too() -> None:
    body = {"a@b.example": [{"text": "ann@example.org"}, 4111111111111111, 1700000000000000, True, None, 1.5]}
    assert json.loads(redact_json(json.dumps(body).encode())) == {
        "[email]": [{"text": "[email]"}, "[card]", 1700000000000000, True, None, 1.5]
    }


def test_a_field_that_is_called_a_secret_is_one() -> None:
    body = b'{"api_key":"abc","db_password":"x","Authorization":"y","password":{"type":"string"},"tokens":"z"}'
    assert json.loads(redact_json(body)) == {
        "api_key": "[secret]",
        "db_password": "[secret]",
        "Authorization": "[secret]",
        "password": {"type": "string"},
        "tokens": "z",
    }


def test_what_is_no_json_is_redacted_as_text() -> None:
    assert redact_json(b"\xff ann@example.org {") == "\ufffd [email] {".encode()
    assert redact_json(b"[" * 5000 + b"ann@example.org").endswith(b"[email]")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(JSON)
def test_redacted_json_is_json_of_the_same_shape(value: object) -> None:
    redacted = msgspec.json.decode(redact_json(json.dumps(value).encode()))
    assert type(redacted) is type(value) or redacted == "[card]" or isinstance(value, float)
    if isinstance(value, list):
        assert len(redacted) == len(value)


@given(st.text(), st.sampled_from([text for text, _ in FOUND if "@" in text and "://" not in text]))
def test_an_address_is_found_wherever_it_stands(around: str, text: str) -> None:
    assert "example" not in redact(f"{around} {text} {around}").replace(around, "")


EVIL = {
    "at signs": "a" * 64 + "@",
    "dots": "a.",
    "digits": "1",
    "digits and spaces": "1 ",
    "groups": "4111 ",
    "plus": "+1",
    "colons": "a1:",
    "dashes": "sk-",
    "begin": "-----BEGIN PRIVATE KEY-----",
    "jwt": "eyJabcdefgh.",
    "quotes": "password'",
    "iban": "DE12 ",
    "slashes": "://a",
    "octets": "1.1.1.",
    "zeros": "01 ",
}


@pytest.mark.parametrize("piece", EVIL.values(), ids=EVIL.keys())
def test_no_text_makes_it_slow(piece: str) -> None:
    def seconds(length: int) -> float:
        text = (piece * (length // len(piece) + 1))[:length] + "!"
        started = time.process_time()
        redact(text)
        return time.process_time() - started

    redact("warm")
    small, large = (min(seconds(length) for _ in range(5)) for length in (10_000, 100_000))
    assert large < 0.2 + 50 * small  # ten times where it is linear, a hundred times where it is quadratic


def test_a_message_is_redacted_as_its_key_asks() -> None:
    message = "bad key sk-proj-abcDEF1234567890abcd of ann@example.org"
    assert redact_message(message, "none") == "bad key [secret] of ann@example.org"
    assert redact_message(message, "redacted") == "bad key [secret] of [email]"
    assert redact_message(message, "full") == f"[{len(message)} characters withheld]"
    assert redact_message("", "full") == ""
    assert redact_secrets("nothing here") == "nothing here"


def test_the_stricter_redaction_wins() -> None:
    assert strictest("none", "redacted") == strictest("redacted", "none") == "redacted"
    assert strictest("full", "redacted") == strictest("none", "full") == "full"
