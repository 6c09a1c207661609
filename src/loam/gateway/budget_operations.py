"""What the native API can do with budgets."""

from msgspec import Struct

from loam.core.operations import Asked, Operation
from loam.gateway.allowances import Allowance, Allowances, NewAllowance, Standing

_PATH = "/loam/v1/budgets"


class BudgetState(Struct, frozen=True):
    """A budget, and where each of those whom it limits stands in the current window."""

    budget: Allowance
    standing: list[Standing]


class Budgets(Struct, frozen=True):
    budgets: list[BudgetState]


def budget_operations(allowances: Allowances) -> tuple[Operation, ...]:
    """Making, listing and deleting budgets."""

    def state(budget: Allowance) -> BudgetState:
        return BudgetState(budget, allowances.standing(budget.id))

    async def create(asked: Asked) -> Allowance:
        return await allowances.create(asked.body)

    async def every(asked: Asked) -> Budgets:
        return Budgets([state(budget) for budget in allowances.all()])

    async def one(asked: Asked) -> BudgetState:
        return state(allowances.get(asked.path["id"]))

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
        Operation(method="DELETE", path=path, summary="Delete a budget; what was spent stays on record", run=delete),
    )  # fmt: skip
