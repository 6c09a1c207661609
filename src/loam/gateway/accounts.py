"""Budgets as counters: what a window of time still allows, what is held for running calls, what is spent.

Pure: integers, and the time it is told. How it is kept on disk `loam.gateway.allowances` knows.
Invariant (P2): no reservation lifts spent + held above a limit. Check and reservation have no await between them, so on
one event loop they are one step; `settle` alone may exceed a limit, when a provider charged more than the worst case.
"""

from datetime import UTC, datetime, timedelta
from typing import Literal

from msgspec import Struct

from loam.core.errors import ModelFailure, refuse
from loam.core.money import Money, dollars

Scope = Literal["key", "user", "team", "all"]
Period = Literal["day", "week", "month", "ever"]


class Allowance(Struct, frozen=True, kw_only=True):
    """A budget: so much money (micro-dollars), so many tokens, or both, for each window of the period.

    `subject` is the id of a key, a user or a team; "*" gives each of them an allowance of its own; a scope of "all" has
    none and counts every call.
    """

    id: str
    scope: Scope
    subject: str
    period: Period
    money: Money | None
    tokens: int | None
    created: float

    @property
    def limit(self) -> str:
        """The limit in words: `$10.000000 and 5000 tokens a month`."""
        limits: list[str] = []
        if self.money is not None:
            limits.append(f"${dollars(self.money)}")
        if self.tokens is not None:
            limits.append(f"{self.tokens} tokens")
        return " and ".join(limits) + ("" if self.period == "ever" else f" a {self.period}")


class Window(Struct, frozen=True):
    """From `start` up to `end`, seconds since 1970; a window that never ends has an `end` of infinity."""

    start: int
    end: float


def window_of(period: Period, now: float) -> Window:
    """The calendar day, week (from Monday) or month in UTC that `now` is in."""
    if period == "ever":
        return Window(0, float("inf"))
    midnight = datetime.fromtimestamp(now, UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    if period == "day":
        start, end = midnight, midnight + timedelta(days=1)
    elif period == "week":
        start = midnight - timedelta(days=midnight.weekday())
        end = start + timedelta(days=7)
    else:
        start = midnight.replace(day=1)
        end = (start + timedelta(days=31)).replace(day=1)
    return Window(int(start.timestamp()), end.timestamp())


class Account:
    """One allowance of one subject in one window."""

    __slots__ = ("allowance", "held", "held_tokens", "spent", "spent_tokens", "subject", "window")

    def __init__(
        self, allowance: Allowance, subject: str, window: Window, *, spent: Money = 0, spent_tokens: int = 0
    ) -> None:
        self.allowance = allowance
        self.subject = subject
        self.window = window
        self.spent = spent
        self.spent_tokens = spent_tokens
        self.held: Money = 0
        self.held_tokens = 0

    def has_room(self, money: Money, tokens: int) -> bool:
        """Whether so much can be held on top of everything that is spent and held."""
        allowance = self.allowance
        return (allowance.money is None or self.spent + self.held + money <= allowance.money) and (
            allowance.tokens is None or self.spent_tokens + self.held_tokens + tokens <= allowance.tokens
        )

    def hold(self, money: Money, tokens: int) -> None:
        self.held += money
        self.held_tokens += tokens

    def settle(self, reservation: "Reservation", money: Money, tokens: int) -> None:
        self.held -= reservation.money
        self.held_tokens -= reservation.tokens
        self.spent += money
        self.spent_tokens += tokens


class Reservation:
    """What one call holds of every account that applies to it. `number` is its name on disk."""

    __slots__ = ("accounts", "money", "number", "tokens")

    def __init__(self, number: int, accounts: tuple[Account, ...], money: Money, tokens: int) -> None:
        self.number = number
        self.accounts = accounts
        self.money: Money = 0
        self.tokens = 0
        self.extend(money, tokens)

    def extend(self, money: Money, tokens: int) -> None:
        """Holds more, of every account; the caller has seen that there is room."""
        for account in self.accounts:
            account.hold(money, tokens)
        self.money += money
        self.tokens += tokens


def without_room(accounts: tuple[Account, ...], money: Money, tokens: int) -> Account | None:
    """The first account in which so much cannot be held."""
    for account in accounts:
        if not account.has_room(money, tokens):
            return account
    return None


def exhausted(account: Account, money: Money, tokens: int, now: float) -> ModelFailure:
    """Why a call that may cost so much is refused, how things stand, and when they change."""
    allowance = account.allowance
    left: list[str] = []
    if allowance.money is not None:
        rest = max(allowance.money - account.spent - account.held, 0)
        left.append(f"${dollars(rest)} is left and this call may cost ${dollars(money)}")
    if allowance.tokens is not None:
        rest = max(allowance.tokens - account.spent_tokens - account.held_tokens, 0)
        left.append(f"{rest} tokens are left and this call may take {tokens}")
    whose = "of all calls" if allowance.scope == "all" else f"of {allowance.scope} {account.subject}"
    advice, wait = _advice(account, money, tokens, now)
    message = f"the budget {allowance.id} {whose} ({allowance.limit}) has no room: {'; '.join(left)}. {advice}"
    return refuse("budget", message, code="budget_exceeded", retry_after=wait)


_IN_FLIGHT_WAIT = 1.0  # seconds; running calls give back what they do not use, and nobody knows when


def _advice(account: Account, money: Money, tokens: int, now: float) -> tuple[str, float | None]:
    allowance, end = account.allowance, account.window.end
    if not Account(allowance, account.subject, account.window).has_room(money, tokens):
        return "It never allows so much at once: ask for a smaller max_tokens, or have the budget raised.", None
    settled = Account(
        allowance, account.subject, account.window, spent=account.spent, spent_tokens=account.spent_tokens
    )
    if settled.has_room(money, tokens):
        return "Running calls hold the rest and give back what they do not use: try again.", _IN_FLIGHT_WAIT
    if end == float("inf"):
        return "It does not begin anew: have the budget raised, or ask for a smaller max_tokens.", None
    when = datetime.fromtimestamp(end, UTC).strftime("%Y-%m-%d %H:%M UTC")
    return f"It begins anew on {when}; wait, or have the budget raised.", max(end - now, 0.0)
