"""What is taken out of a body before it is kept: addresses, numbers and secrets that name or betray somebody.

Knows patterns and check digits; knows no table. Pure. It finds what has a recognizable form, not names in prose, and
would rather take out too much than too little.
Invariants: redacted JSON is still JSON of the same shape; every pattern runs in time linear in the text.
"""

import ipaddress
import re
from collections.abc import Callable, Sequence
from typing import Any, Literal, cast

import msgspec

Redaction = Literal["none", "redacted", "full"]
"""none: kept as it is. redacted: recognizable personal data replaced by marks. full: only length and digest kept."""

_STRICTNESS: tuple[Redaction, ...] = ("none", "redacted", "full")


def strictest(one: Redaction, other: Redaction) -> Redaction:
    """Whichever of the two keeps less."""
    return one if _STRICTNESS.index(one) > _STRICTNESS.index(other) else other


def redact(text: str) -> str:
    """Replaces what has a recognizable form: `redact("write to ann@example.org") == "write to [email]"`."""
    if len(text) >= _BLOB_LENGTH:
        text = _BLOB.sub("[data]", text)
    text = redact_secrets(text)
    if "@" in text:
        text = _EMAIL.sub("[email]", text)
    if _DIGIT.search(text):
        for pattern, replacement in _NUMBERS:
            text = pattern.sub(replacement, text)
    return text


def redact_secrets(text: str) -> str:
    """Replaces only what would let somebody in: keys, tokens, passwords."""
    for pattern, replacement in _SECRETS:
        text = pattern.sub(replacement, text)
    return text


def redact_message(message: str, redaction: Redaction) -> str:
    """An error's text as it may be kept: providers quote the prompt in it, and now and then a key."""
    if redaction == "full":
        return f"[{len(message)} characters withheld]" if message else ""
    return redact(message) if redaction == "redacted" else redact_secrets(message)


def redact_json(body: bytes) -> bytes:
    """Redacts every string of a JSON document, and card numbers written as numbers; other bytes are taken as text."""
    try:
        return msgspec.json.encode(_walk(msgspec.json.decode(body)))
    except (msgspec.DecodeError, UnicodeError, RecursionError, OverflowError):
        return redact(body.decode("utf-8", "replace")).encode()


def _walk(value: Any) -> Any:
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, list):
        return [_walk(item) for item in cast("list[Any]", value)]
    if isinstance(value, dict):
        return {redact(name): _field(name, inner) for name, inner in cast("dict[str, Any]", value).items()}
    if isinstance(value, int) and 10**12 <= value < 10**19:
        digits = str(value)
        return value if _cards(digits) == digits else "[card]"
    return value


def _field(name: str, value: Any) -> Any:
    return "[secret]" if isinstance(value, str) and value and _SECRET_NAME.search(name) else _walk(value)


_BLOB_LENGTH = 512
_BLOB = re.compile(rf"(?:data:[\w/+.-]{{1,64}};base64,)?[A-Za-z0-9+/_-]{{{_BLOB_LENGTH},}}={{0,2}}")
_DIGIT = re.compile(r"[0-9]")
_EMAIL = re.compile(r"(?<![\w.+%-])[\w.+%-]{1,64}@(?:[\w-]{1,63}\.){1,8}[^\W\d_]{2,24}")

_NAMES = r"(?:api[_-]?key|(?:access|auth|refresh)[_-]?token|client[_-]?secret|secret(?:[_-]?key)?|passw(?:or)?d|pwd)"
_SECRET_NAME = re.compile(rf"(?i)(?:^|[_-])(?:{_NAMES}|authorization)$")
_SECRETS: tuple[tuple[re.Pattern[str], str], ...] = (
    (
        re.compile(r"-----BEGIN [A-Z ]{0,30}PRIVATE KEY-----[^-]{0,20000}(?:-----END [A-Z ]{0,30}PRIVATE KEY-----)?"),
        "[secret]",
    ),
    (re.compile(r"(?<![\w-])eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]{8,}"), "[secret]"),
    (re.compile(r"(?i)(?<![\w-])(bearer|basic)\s{1,3}(?=[\w.~+/-]*[0-9])[\w.~+/-]{16,}={0,2}"), r"\1 [secret]"),
    (
        re.compile(
            r"(?<![\w-])(?:(?:sk|pk|rk|gsk|xai|hf|gh[opsu]|github_pat|glpat|xox[abprs]|npm|pypi|tgp|r8|loam)[-_]"
            r"|AKIA|ASIA|AIza)(?=[\w-]*[0-9])[\w-]{16,}"
        ),
        "[secret]",
    ),
    (re.compile(r"(?<=://)[^\s/:@]{1,64}:[^\s/@]{1,128}(?=@)"), "[secret]"),
    (
        re.compile(rf"(?i)(?<![a-z])({_NAMES}[\"'\\]{{0,3}}\s{{0,3}}[:=]\s{{0,3}}[\"'\\]{{0,3}})[^\s\"'\\,;&]{{6,}}"),
        r"\1[secret]",
    ),
)


def _ibans(text: str) -> str:
    """Marks the longest beginning of `text` that passes the check of ISO 13616."""
    for end in range(len(text), 14, -1):
        if text[end - 1] == " " or text[end : end + 1].isalnum():
            continue
        compact = text[:end].replace(" ", "")
        if 15 <= len(compact) <= 34 and int("".join(str(int(c, 36)) for c in compact[4:] + compact[:4])) % 97 == 1:
            return "[iban]" + text[end:]
    return text


def _cards(run: str) -> str:
    """Marks every stretch of whole groups of digits that is a card number by length, first digit and Luhn's check."""
    groups = list(_GROUP.finditer(run))
    pieces: list[str] = []
    done = index = 0
    while index < len(groups):
        size = _card_size(groups[index : index + 6])
        if size:
            pieces += (run[done : groups[index].start()], "[card]")
            done = groups[index + size - 1].end()
        index += size or 1
    return "".join(pieces) + run[done:]


def _card_size(groups: Sequence[re.Match[str]]) -> int:
    """How many of the groups, from the first on, make up a card number; 0 for none."""
    digits = ""
    for size, group in enumerate(groups, 1):
        digits += group[0]
        if len(digits) > 19:
            return 0
        if len(digits) >= 13 and digits[0] in "23456" and _luhn(digits):
            return size
    return 0


def _luhn(digits: str) -> bool:
    odd, even = digits[-1::-2], digits[-2::-2]
    return (sum(map(int, odd)) + sum(sum(divmod(2 * int(digit), 10)) for digit in even)) % 10 == 0


def _phone(text: str) -> str:
    return "[phone]" if sum(map(str.isdigit, text)) >= 9 else text


def _ip6(text: str) -> str:
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return text
    return "[ip]" if _DIGIT.search(text) else text


def _whole(change: Callable[[str], str]) -> Callable[[re.Match[str]], str]:
    return lambda match: change(match[0])


_GROUP = re.compile(r"[0-9]+")
_OCTET = r"(?:25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])"
_NUMBERS: tuple[tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]], ...] = (
    (re.compile(r"(?<![A-Za-z0-9])[A-Z]{2}[0-9]{2}(?: ?[A-Z0-9]){11,40}"), _whole(_ibans)),
    (re.compile(r"(?<![0-9])[0-9](?:[ -]?[0-9]){12,}"), _whole(_cards)),
    (re.compile(r"(?<![\w.+])(?:\+|00)[1-9](?:[ ./()-]{0,3}[0-9]){6,14}(?!\w)"), _whole(_phone)),
    (re.compile(r"(?<![\w.])(?:\([0-9]{3}\) ?|[0-9]{3}[ .-])[0-9]{3}[ .-][0-9]{4}(?!\w)"), "[phone]"),
    (re.compile(r"(?<![\w.,+])0[0-9]{1,4}[ /-]{1,3}[0-9]{2,4}(?:[ /-]?[0-9]{2,4}){1,3}(?!\w)"), _whole(_phone)),
    (re.compile(rf"(?<![\w.])(?:{_OCTET}\.){{3}}{_OCTET}(?!\.?\w)"), "[ip]"),
    (re.compile(r"(?<![\w:.])(?:[0-9A-Fa-f]{0,4}:){2,7}[0-9A-Fa-f]{0,4}(?![\w:])"), _whole(_ip6)),
)
