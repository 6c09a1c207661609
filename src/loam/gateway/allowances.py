"""Budgets on record: the accounts that apply to a call, and the tables that outlive the process.

Knows the tables `budgets`, `spending` and `reservations`; the counting is `loam.gateway.accounts`'. One process owns
them (the data folder's lock), so memory decides and the disk remembers.
Invariant: a reservation is on disk before its request leaves, and is taken off in the transaction that adds what was
spent. So a killed process forgets nothing: what it left reserved counts as spent, the worst case, at the next start.
"""

import asyncio
import logging
import sqlite3
from collections.abc import Awaitable, Callable
from itertools import count
from typing import Annotated, Any

from msgspec import Meta, Struct, structs

from loam.core.calls import Call
from loam.core.clock import Clock, new_id
from loam.core.errors import refuse
from loam.core.money import Money
from loam.gateway.accounts import (
    Account,
    Allowance,
    Period,
    Reservation,
    Scope,
    exhausted,
    window_of,
    without_room,
)
from loam.storage.database import Database
from loam.storage.migrations import Migration

_log = logging.getLogger("loam.gateway")
_KEPT = 400 * 86_400  # seconds that the spending of past windows stays on record
_SWEEP = 100_000  # accounts in memory before those of past windows are forgotten

MIGRATIONS = (
    Migration(
        "allowances-001-budgets",
        """
        CREATE TABLE budgets (
            id TEXT PRIMARY KEY,
            scope TEXT NOT NULL,
            subject TEXT NOT NULL,
            period TEXT NOT NULL,
            money INTEGER,
            tokens INTEGER,
            created REAL NOT NULL
        );
        CREATE TABLE spending (
            budget TEXT NOT NULL,
            subject TEXT NOT NULL,
            starts INTEGER NOT NULL,
            money INTEGER NOT NULL,
            tokens INTEGER NOT NULL,
            PRIMARY KEY (budget, subject, starts)
        ) WITHOUT ROWID;
        CREATE TABLE reservations (
            number INTEGER NOT NULL,
            budget TEXT NOT NULL,
            subject TEXT NOT NULL,
            starts INTEGER NOT NULL,
            money INTEGER NOT NULL,
            tokens INTEGER NOT NULL,
            PRIMARY KEY (number, budget)
        ) WITHOUT ROWID;
        """,
    ),
)

Amount = Annotated[int, Meta(ge=0, le=10**15)]


class NewAllowance(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a budget is made with; it counts what is spent from then on."""

    scope: Scope
    period: Period
    subject: Annotated[str, Meta(description='A key\'s id, a user or a team; "*" for one each.', max_length=200)] = ""
    money: Annotated[Amount | None, Meta(description="Limit in micro-dollars.")] = None
    tokens: Annotated[Amount | None, Meta(description="Limit in tokens, prompt and answer.")] = None


class Standing(Struct, frozen=True, kw_only=True):
    """How one budget stands for one subject in the current window; `window_end` is None where it never ends."""

    budget: Allowance
    subject: str
    spent: Money
    spent_tokens: int
    reserved: Money
    reserved_tokens: int
    window_start: int
    window_end: float | None


class Allowances:
    """Use `Allowances.open`. `recovered` is how many reservations a killed process had left, now counted as spent."""

    def __init__(
        self, database: Database, clock: Clock, allowances: list[Allowance], accounts: list[Account], recovered: int
    ) -> None:
        self.recovered = recovered
        self._database = database
        self._clock = clock
        self._allowances = {allowance.id: allowance for allowance in allowances}
        self._accounts = {(account.allowance.id, account.subject): account for account in accounts}
        self._applying: dict[tuple[str, str, str], tuple[tuple[Allowance, str], ...]] = {}
        self._numbers = count(1)

    @classmethod
    async def open(cls, database: Database, clock: Clock) -> "Allowances":
        """Loads budgets and spending, and counts what a killed process had reserved as spent."""
        recovered, budgets, spending = await database.write(lambda connection: _recover(connection, clock.now()))
        allowances = [
            Allowance(
                id=row[0], scope=row[1], subject=row[2], period=row[3], money=row[4], tokens=row[5], created=row[6]
            )
            for row in budgets
        ]
        by_id = {allowance.id: allowance for allowance in allowances}
        accounts: list[Account] = []
        for budget, subject, starts, money, tokens in spending:
            allowance = by_id.get(budget)
            if allowance is not None:  # a window that a clock put back has not reached yet stays open until it has
                window = window_of(allowance.period, starts)
                accounts.append(Account(allowance, subject, window, spent=money, spent_tokens=tokens))
        return cls(database, clock, allowances, accounts, recovered)

    def applying(self, call: Call) -> tuple[Account, ...]:
        """The accounts that a call draws on, in their window of now."""
        if not self._allowances:
            return ()
        principal = call.principal
        who = (principal.key_id, principal.user or call.controls.user, principal.team)
        applying = self._applying.get(who)
        if applying is None:
            if len(self._applying) >= _SWEEP:
                self._applying.clear()
            applying = self._applying[who] = self._apply(*who)
        now = self._clock.now()
        return tuple([self._account(allowance, subject, now) for allowance, subject in applying])

    def reserve(
        self, accounts: tuple[Account, ...], money: Money, tokens: int, pending: list[Awaitable[Any]]
    ) -> Reservation:
        """Holds so much of every account; the write that records it joins `pending`.

        Raises ModelFailure (budget) when one of them has no room; then nothing is held.
        """
        full = without_room(accounts, money, tokens)
        if full is not None:
            raise exhausted(full, money, tokens, self._clock.now())
        reservation = Reservation(next(self._numbers), accounts, money, tokens)
        rows = [
            (reservation.number, account.allowance.id, account.subject, account.window.start, money, tokens)
            for account in accounts
        ]
        pending.append(self._submit(lambda connection: connection.executemany(_RESERVE, rows)))
        return reservation

    def extend(self, reservation: Reservation, money: Money, tokens: int, pending: list[Awaitable[Any]]) -> bool:
        """Holds more for the same call, where there is room; the write that records it joins `pending`."""
        if without_room(reservation.accounts, money, tokens) is not None:
            return False
        reservation.extend(money, tokens)
        row = (reservation.money, reservation.tokens, reservation.number)
        pending.append(self._submit(lambda connection: connection.execute(_EXTEND, row)))
        return True

    def settle(self, reservation: Reservation, money: Money, tokens: int) -> None:
        """Ends a reservation with what was really spent; the record of it is queued, in order."""
        number = reservation.number
        rows = [
            (account.allowance.id, account.subject, account.window.start, money, tokens)
            for account in reservation.accounts
            if money or tokens
        ]
        for account in reservation.accounts:
            account.settle(reservation, money, tokens)

        def record(connection: sqlite3.Connection) -> None:
            connection.execute("DELETE FROM reservations WHERE number = ?", (number,))
            connection.executemany(_SPEND, rows)

        self._submit(record)

    async def create(self, new: NewAllowance) -> Allowance:
        """Makes a budget. Raises ModelFailure (bad_request) for one that says nothing or is about nobody."""
        if new.money is None and new.tokens is None:
            raise refuse("bad_request", "a budget needs a limit: `money` in micro-dollars, or `tokens`", param="money")
        subject = "" if new.scope == "all" and new.subject == "*" else new.subject
        if (new.scope == "all") == bool(subject):
            need = "takes no `subject`" if subject else f'needs a `subject`: a {new.scope}, or "*" for one each'
            raise refuse("bad_request", f"a budget of scope {new.scope!r} {need}", param="subject")
        now = self._clock.now()
        allowance = Allowance(
            id=new_id("budget", now),
            scope=new.scope,
            subject=subject,
            period=new.period,
            money=new.money,
            tokens=new.tokens,
            created=now,
        )
        row = structs.astuple(allowance)
        await self._database.write(lambda c: c.execute("INSERT INTO budgets VALUES (?, ?, ?, ?, ?, ?, ?)", row))
        self._allowances[allowance.id] = allowance
        self._applying.clear()
        return allowance

    async def change(self, budget_id: str, *, money: Money | None, tokens: int | None) -> Allowance:
        """Sets another limit and keeps what is spent. Raises ModelFailure (not_found, bad_request)."""
        old = self.get(budget_id)
        if money is None and tokens is None:
            raise refuse("bad_request", "a budget needs a limit: `money` in micro-dollars, or `tokens`", param="money")
        allowance = self._allowances[budget_id] = structs.replace(old, money=money, tokens=tokens)
        for account in self._accounts.values():
            if account.allowance.id == budget_id:
                account.allowance = allowance
        self._applying.clear()
        row = (money, tokens, budget_id)
        await self._database.write(lambda c: c.execute("UPDATE budgets SET money = ?, tokens = ? WHERE id = ?", row))
        return allowance

    async def delete(self, budget_id: str) -> None:
        """Forgets a budget and its spending. Raises ModelFailure (not_found)."""
        self.get(budget_id)
        del self._allowances[budget_id]
        self._accounts = {key: account for key, account in self._accounts.items() if key[0] != budget_id}
        self._applying.clear()

        def forget(connection: sqlite3.Connection) -> None:
            connection.execute("DELETE FROM budgets WHERE id = ?", (budget_id,))
            connection.execute("DELETE FROM spending WHERE budget = ?", (budget_id,))

        await self._database.write(forget)

    def get(self, budget_id: str) -> Allowance:
        """One budget. Raises ModelFailure (not_found)."""
        allowance = self._allowances.get(budget_id)
        if allowance is None:
            raise refuse("not_found", f"there is no budget {budget_id!r}; `loam budgets list` shows them")
        return allowance

    def all(self) -> list[Allowance]:
        """Every budget, the oldest first."""
        return sorted(self._allowances.values(), key=lambda allowance: allowance.created)

    def standing(self, budget_id: str) -> list[Standing]:
        """How a budget stands now, for every subject that has drawn on it. Raises ModelFailure (not_found)."""
        allowance = self.get(budget_id)
        now = self._clock.now()
        subjects = {account.subject for account in self._accounts.values() if account.allowance.id == budget_id}
        if allowance.subject != "*":
            subjects.add(allowance.subject)
        return [_standing(self._account(allowance, subject, now)) for subject in sorted(subjects)]

    def _apply(self, key_id: str, user: str, team: str) -> tuple[tuple[Allowance, str], ...]:
        names = {"key": key_id, "user": user, "team": team, "all": ""}
        return tuple(
            (allowance, names[allowance.scope])
            for allowance in self._allowances.values()
            if allowance.subject == names[allowance.scope] or (allowance.subject == "*" and names[allowance.scope])
        )

    def _account(self, allowance: Allowance, subject: str, now: float) -> Account:
        """The account of the window of now; where the clock was put back, the later window stays."""
        key = (allowance.id, subject)
        account = self._accounts.get(key)
        if account is None or now >= account.window.end:
            if len(self._accounts) >= _SWEEP:
                self._accounts = {k: kept for k, kept in self._accounts.items() if now < kept.window.end}
            account = self._accounts[key] = Account(allowance, subject, window_of(allowance.period, now))
        return account

    def _submit(self, work: Callable[[sqlite3.Connection], Any]) -> "asyncio.Future[Any]":
        write = self._database.submit(work)
        write.add_done_callback(_note_failure)
        return write


_RESERVE = "INSERT INTO reservations VALUES (?, ?, ?, ?, ?, ?)"
_EXTEND = "UPDATE reservations SET money = ?, tokens = ? WHERE number = ?"
_SPEND = """
    INSERT INTO spending SELECT id, ?2, ?3, ?4, ?5 FROM budgets WHERE id = ?1
    ON CONFLICT DO UPDATE SET money = money + excluded.money, tokens = tokens + excluded.tokens
"""


def _recover(connection: sqlite3.Connection, now: float) -> tuple[int, list[Any], list[Any]]:
    connection.execute(
        """
        INSERT INTO spending
        SELECT budget, subject, starts, sum(money), sum(tokens) FROM reservations
        WHERE budget IN (SELECT id FROM budgets) GROUP BY budget, subject, starts
        ON CONFLICT DO UPDATE SET money = money + excluded.money, tokens = tokens + excluded.tokens
        """
    )
    recovered = connection.execute("SELECT count(DISTINCT number) FROM reservations").fetchone()[0]
    connection.execute("DELETE FROM reservations")
    connection.execute("DELETE FROM spending WHERE starts BETWEEN 1 AND ?", (now - _KEPT,))
    latest = "SELECT budget, subject, max(starts), money, tokens FROM spending GROUP BY budget, subject"
    return (
        recovered,
        connection.execute("SELECT id, scope, subject, period, money, tokens, created FROM budgets").fetchall(),
        connection.execute(latest).fetchall(),
    )


def _standing(account: Account) -> Standing:
    window = account.window
    return Standing(
        budget=account.allowance,
        subject=account.subject,
        spent=account.spent,
        spent_tokens=account.spent_tokens,
        reserved=account.held,
        reserved_tokens=account.held_tokens,
        window_start=window.start,
        window_end=None if window.end == float("inf") else window.end,
    )


def _note_failure(write: "asyncio.Future[Any]") -> None:
    error = None if write.cancelled() else write.exception()
    if error is not None:
        _log.error(
            "a budget's record could not be written (%s); what is reserved on disk counts as spent at the next start",
            error,
        )
