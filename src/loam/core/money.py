"""Money in integer micro-dollars, and what an answer costs at a given price.

Pure arithmetic: where prices come from is `loam.planners.prices`.
Invariant: no float ever holds money; a cost is rounded up to the next micro-dollar, so sums never fall short.
"""

from decimal import Decimal

Money = int
"""Micro-dollars: 1_000_000 is one US dollar."""

MICRO = 1_000_000


def dollars(amount: Money) -> str:
    """The amount as plain decimal dollars, six places: `dollars(1500) == "0.001500"`."""
    sign = "-" if amount < 0 else ""
    whole, micros = divmod(abs(amount), MICRO)
    return f"{sign}{whole}.{micros:06d}"


def money(amount: str | int | Decimal) -> Money:
    """Dollars to micro-dollars, exact to the micro: `money("1.50") == 1_500_000`.

    Raises ValueError for text that is no number, for fractions of a micro-dollar and for more than 9e12 dollars.
    """
    try:
        micros = Decimal(str(amount)) * MICRO
        rounded = int(micros)
    except (ArithmeticError, ValueError) as error:
        raise ValueError(f"{amount!r} is not an amount of dollars; write it like 12.50") from error
    if abs(rounded) >= 2**63:
        raise ValueError(f"{amount!r} dollars is more than Loam can count")
    if rounded != micros:
        raise ValueError(f"{amount!r} has more than six decimal places; the smallest amount is 0.000001 dollars")
    return rounded
