"""What the native API can do with budgets."""

from typing import Annotated

from msgspec import UNSET, Meta, Struct, UnsetType

from loam.core.operations import Asked, Operation
from loam.gateway.allowances import Allowance, Allowances, Amount, NewAllowance, Standing

_PATH = "/loam/v1/budgets"


class BudgetState(Struct, frozen=True):
    """A budget, and where each of those whom it limits stands in the current window."""

    budget: Allowance
    standing: list[Standing]


class Limits(Struct, frozen=True, forbid_unknown_fields=True):
    """A budget's limits from now on: what is left out stays, null limits no longer. What is spent stays spent."""

    money: Annotated[Amount | UnsetType | None, Meta(description="Limit in micro-dollars.")] = UNSET
    tokens: Annotated[Amount | UnsetType | None, Meta(description="Limit in tokens, prompt and answer.")] = UNSET


class Budgets(Struct, frozen=True):
    budgets: list[BudgetState]


def budget_operations(allowances: Allowances) -> tuple[Operation, ...]:
    """Making, listing, changing and deleting budgets."""

    def state(budget: Allowance) -> BudgetState:
        return BudgetState(budget, allowances.standing(budget.id))

    async def create(asked: Asked) -> Allowance:
        return await allowances.create(asked.body)

    async def every(asked: Asked) -> Budgets:
        return Budgets([state(budget) for budget in allowances.all()])

    async def one(asked: Asked) -> BudgetState:
        return state(allowances.get(asked.path["id"]))

    async def change(asked: Asked) -> Allowance:
        limits: Limits = asked.body
        old = allowances.get(asked.path["id"])
        money = old.money if limits.money is UNSET else limits.money
        tokens = old.tokens if limits.tokens is UNSET else limits.tokens
        return await allowances.change(old.id, money=money, tokens=tokens)

    async def delete(asked: Asked) -> None:
        await allowances.delete(asked.path["id"])

    path = _PATH + "/{id}"
    return (
        Operation(method="GET", path=_PATH, summary="List budgets and where they stand", run=every, answer=Budgets),
        Operation(
            method="POST", path=_PATH, summary="Make a budget", run=create, body=NewAllowance, answer=Allowance,
            status=201,
        ),
        Operation(method="GET", path=path, summary="Show a budget", run=one, answer=BudgetState),
        Operation(
            method="PATCH", path=path, summary="Change a budget's limits", run=change, body=Limits, answer=Allowance
        ),
        Operation(method="DELETE", path=path, summary="Delete a budget; what was spent stays on record", run=delete),
    )  # fmt: skip
