"""How long an upstream asks to wait, read from the headers of its refusal; the same for every format.

Invariant: nonsense is no wish, and no wish is below zero or beyond some thirty years.
"""

from collections.abc import Mapping
from email.utils import parsedate_to_datetime

_LONGEST = 1e9


def retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """The pause in seconds: `retry-after-ms` first, then `retry-after` in seconds or as a date; None without one."""
    milliseconds = _number(headers.get("retry-after-ms", ""))
    if milliseconds is not None:
        return milliseconds / 1000
    asked = headers.get("retry-after", "")
    seconds = _number(asked)
    return seconds if seconds is not None or not asked else _until(asked, now)


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if 0 <= number < _LONGEST else None


def _until(text: str, now: float) -> float | None:
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - now)
    except (ValueError, OverflowError):
        return None
