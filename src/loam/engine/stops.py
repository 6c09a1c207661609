"""Stop strings: where an answer ends, though the string that ends it may come in pieces of several tokens.

Knows text only. Invariant: what was given out never holds the beginning of a stop string that then came about.
"""

from collections.abc import Sequence


class StopStrings:
    """Takes text piece by piece and gives out what is certain not to belong to a stop string.

    ```python
    stops = StopStrings(["END"])
    stops.add("the E")   # "the "
    stops.add("ND is")   # ""; stops.hit == "END"
    ```
    """

    def __init__(self, stops: Sequence[str], *, keep: bool = False) -> None:
        self._stops = tuple(stops)
        self._keep = keep
        self._held: str = ""
        self.hit = ""
        """The stop string that came about, empty until then."""

    def add(self, text: str) -> str:
        if not self._stops:
            return text
        if self.hit:
            return ""
        whole = self._held + text
        found = [(place, stop) for stop in self._stops if (place := whole.find(stop)) >= 0]
        if found:
            # of several, the one that is whole first, as it would be if the text came letter by letter
            place, stop = min(found, key=lambda each: (each[0] + len(each[1]), each[0]))
            self._held, self.hit = "", stop
            return whole[: place + len(stop)] if self._keep else whole[:place]
        held = max((overlap(whole, stop) for stop in self._stops), default=0)
        self._held = whole[len(whole) - held :]
        return whole[: len(whole) - held]

    def end(self) -> str:
        """What was held back, once nothing more comes."""
        held, self._held = self._held, ""
        return held


def overlap(text: str, stop: str) -> int:
    """How many letters at the end of `text` are a beginning of `stop`."""
    for length in range(min(len(text), len(stop) - 1), 0, -1):
        if text.endswith(stop[:length]):
            return length
    return 0
