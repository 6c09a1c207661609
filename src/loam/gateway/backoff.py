"""Whether a failed attempt is made again, and after how long. Pure: chance and the time left are handed in.

Invariant: no wait ends after the deadline, none follows the last attempt, and none is shorter than a Retry-After.
"""

from typing import Annotated

from msgspec import Meta, Struct

from loam.core.errors import Failure

_SPREAD = 0.1  # callers told the same Retry-After come back over a tenth of it, not all in one moment


class RetrySettings(Struct, frozen=True, forbid_unknown_fields=True):
    attempts: Annotated[int, Meta(ge=1, le=20, description="Attempts at one target in all; 1 means no retry.")] = 3
    first_wait: Annotated[
        float,
        Meta(gt=0, description="Longest pause in seconds before the second attempt; doubled for each next one."),
    ] = 0.5
    longest_wait: Annotated[float, Meta(gt=0, description="No pause that Loam chooses is longer, in seconds.")] = 8.0
    longest_retry_after: Annotated[
        float, Meta(ge=0, description="A provider that asks for a longer pause, in seconds, is not asked again.")
    ] = 60.0
    first_token: Annotated[
        float,
        Meta(gt=0, description="Seconds until the first content; raise it for slow models asked without streaming."),
    ] = 120.0
    between_tokens: Annotated[
        float, Meta(gt=0, description="Seconds of silence after which an answer that had begun is given up.")
    ] = 60.0


def next_wait(
    failure: Failure, settings: RetrySettings, *, tried: int, chance: float, room: float | None
) -> float | None:
    """Seconds to wait before the attempt after `tried` failed ones; None: make no other.

    `chance` is drawn evenly from 0 to 1 (full jitter), `room` is the time left until the deadline.
    """
    if not failure.retryable or tried >= settings.attempts:
        return None
    if failure.retry_after is None:
        wait = chance * min(settings.longest_wait, settings.first_wait * 2 ** (tried - 1))
    elif failure.retry_after <= settings.longest_retry_after:
        wait = failure.retry_after * (1 + chance * _SPREAD)
    else:
        return None
    return wait if room is None or wait < room else None
