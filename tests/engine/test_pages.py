"""Pages against a model that keeps whole beginnings as tuples: what is found, what is freed, what is never mixed up."""

import random

import pytest

from loam.engine.kvcache import PAGE
from loam.engine.pages import Pages


def filled(pages: Pages, tokens: list[int], adapter: str = "") -> list[int]:
    """As a sequence does: find what is known, take the rest, fill every whole page."""
    held = pages.find(tokens, len(tokens) // PAGE, adapter)
    node = pages.node(held[-1]) if held else adapter
    for at in range(len(held), len(tokens) // PAGE):
        page = pages.take()
        assert page is not None
        held.append(pages.fill(page, node, tuple(tokens[at * PAGE : (at + 1) * PAGE])))
        node = pages.node(held[-1])
    return held


def test_a_beginning_is_found_again_and_its_end_is_forgotten_first():
    pages, tokens = Pages(4), list(range(4 * PAGE))
    first = filled(pages, tokens)
    pages.drop(first)
    assert pages.free == 4
    assert pages.find(tokens, 4) == first
    pages.drop(first)
    other = pages.take()
    assert other == first[3], "the last page of the sequence goes first"
    assert pages.find(tokens, 4) == first[:3]


def test_only_the_same_tokens_before_it_and_the_same_adapter_find_a_page():
    pages = Pages(8)
    a, b = [1] * PAGE + [3] * PAGE, [2] * PAGE + [3] * PAGE
    held = filled(pages, a)
    assert pages.find(b, 2) == []
    assert pages.find(a, 2, "french") == []
    assert pages.find([1] * PAGE + [4] * PAGE, 2) == held[:1]
    other = filled(pages, b)
    assert not {*held} & {*other}, "the same page of tokens after another beginning is another page"


def test_two_that_fill_the_same_end_with_one_copy():
    pages = Pages(4)
    mine, theirs = pages.take(), pages.take()
    assert mine is not None
    assert theirs is not None
    tokens = tuple(range(PAGE))
    assert pages.fill(mine, "", tokens) == mine
    assert pages.fill(theirs, "", tokens) == mine
    assert pages.free == 3
    pages.drop([mine])
    assert pages.free == 3, "one still holds it"
    pages.drop([mine])
    assert pages.free == 4


def test_nothing_is_taken_from_a_holder():
    pages = Pages(2)
    held = [pages.take(), pages.take()]
    assert pages.take() is None
    assert held == [0, 1]


def test_forgetting_all_leaves_holders_alone():
    pages, tokens = Pages(4), list(range(2 * PAGE))
    held = filled(pages, tokens)
    idle = filled(pages, [9] * PAGE)
    pages.drop(idle)
    pages.forget_all()
    assert pages.find(tokens, 2) == []
    assert pages.free == 2
    pages.drop(held)
    assert pages.free == 4
    assert {pages.take() for _ in range(4)} == {0, 1, 2, 3}


@pytest.mark.parametrize("case", range(30))
def test_at_random_no_page_is_lost_or_lent_wrongly(case):
    """`written` says what each physical page holds; whatever is found must hold exactly the tokens asked for."""
    chance = random.Random(case)
    pages, running, written = Pages(24), [], {}
    for _ in range(300):
        if running and (chance.random() < 0.45 or pages.free < 6):
            pages.drop(running.pop(chance.randrange(len(running))))
            continue
        tokens = [t for _ in range(chance.randint(1, 6)) for t in [chance.randrange(2)] * PAGE]
        held = pages.find(tokens, len(tokens) // PAGE)
        for at, page in enumerate(held):
            assert written[page] == tokens[: (at + 1) * PAGE]
        node = pages.node(held[-1]) if held else ""
        while len(held) < len(tokens) // PAGE:
            page = pages.take()
            assert page is not None
            assert all(page not in others for others in running)
            start = len(held) * PAGE
            written[page] = tokens[: start + PAGE]
            held.append(pages.fill(page, node, tuple(tokens[start : start + PAGE])))
            node = pages.node(held[-1])
        running.append(held)
        assert pages.free == 24 - len({page for held in running for page in held})
