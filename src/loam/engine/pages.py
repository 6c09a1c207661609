"""Who may use which page of the cache: counting holders, and finding pages that another sequence has filled already.

Knows tokens and page numbers, no tensors. Invariant: a page is found only by all tokens before it and on it, compared
one by one, and the adapter that they were read with. A key holds the page's tokens themselves and the number of the
filled page before it; such numbers are never used twice, so no two beginnings can be taken for each other.
"""

from collections.abc import Sequence

from loam.engine.kvcache import PAGE

Node = int | str
"""What a filled page hangs on: the number of the filled page before it, or the adapter's name for a first page."""


class Pages:
    """`count` pages. Filled ones whose last holder has gone stay findable until their room is needed, oldest use first.

    A page hangs on one that was used at least as lately, since who holds it holds that one too; and the last pages of a
    sequence are let go before its first. So what is forgotten first is never the middle of a beginning.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._empty = list(range(count - 1, -1, -1))
        self._holders = [0] * count
        self._keys: list[tuple[Node, tuple[int, ...]] | None] = [None] * count
        self._nodes = [0] * count
        self._found: dict[tuple[Node, tuple[int, ...]], int] = {}
        self._idle: dict[int, None] = {}  # in the order in which they were let go
        self._last = 0

    @property
    def free(self) -> int:
        """Pages that could be taken now: those that are empty and those that are only remembered."""
        return len(self._empty) + len(self._idle)

    def take(self) -> int | None:
        """A page to write on, held once; None where all are held."""
        if self._empty:
            page = self._empty.pop()
        elif self._idle:
            page = next(iter(self._idle))
            del self._idle[page]
            self._forget(page)
        else:
            return None
        self._holders[page] = 1
        return page

    def drop(self, pages: Sequence[int]) -> None:
        """One holder less for each of the pages of a sequence, which are given in their order."""
        for page in reversed(pages):
            self._holders[page] -= 1
            if not self._holders[page]:
                if self._keys[page] is None:
                    self._empty.append(page)
                else:
                    self._idle[page] = None

    def find(self, tokens: Sequence[int], most: int, adapter: str = "") -> list[int]:
        """The filled pages of the longest known beginning of `tokens`, at most `most` pages; each is now held."""
        node: Node = adapter
        pages: list[int] = []
        for start in range(0, most * PAGE, PAGE):
            page = self._found.get((node, tuple(tokens[start : start + PAGE])))
            if page is None:
                break
            self._hold(page)
            pages.append(page)
            node = self._nodes[page]
        return pages

    def node(self, page: int) -> int:
        """The number that the page after this filled one hangs on."""
        return self._nodes[page]

    def fill(self, page: int, before: Node, tokens: tuple[int, ...]) -> int:
        """Say that `page`, held by the caller alone, holds these `PAGE` tokens after `before`.

        Returns the page to go on with: another one, held now in this one's stead, where the same tokens were filled in
        before; two sequences that read the same at the same time end up with one copy.
        """
        key = before, tokens
        known = self._found.get(key)
        if known is not None:
            self._hold(known)
            self.drop([page])
            return known
        self._last += 1
        self._keys[page], self._nodes[page], self._found[key] = key, self._last, page
        return page

    def forget_all(self) -> None:
        """Nothing is found any more (an adapter was replaced, the cache was moved); holders keep what they hold."""
        for page in list(self._found.values()):
            self._forget(page)
        self._empty.extend(self._idle)
        self._idle.clear()

    def _hold(self, page: int) -> None:
        self._idle.pop(page, None)
        self._holders[page] += 1

    def _forget(self, page: int) -> None:
        key = self._keys[page]
        if key is not None:
            del self._found[key]
            self._keys[page] = None
