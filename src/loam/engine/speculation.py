"""Guessing the next tokens, so that one step can check several: by copying from prompt and answer, as often as it pays.

Knows tokens and seconds, no model. Invariant: a guess never decides a token. The engine draws every token from the
target's own logits, by seed and position; where the draw and the guess agree, the next row of logits is good as well.
So the answer is token for token that of plain decoding, at any temperature, under penalties and grammars too.

Copying is prompt lookup (Saxena 2023; Yang et al. 2023, arXiv 2304.04487): grounded answers repeat their passages.
"""

SIZES = (4, 2)
"""How many last tokens are looked up, the longest first."""
LONGEST_MATCH = 16
"""Tokens by which a match is measured; what is longer is as good."""
LONGEST_READ = 1024
"""Tokens noted at a time: a long prompt that was found in the cache must not hold up a step."""
_CLASSES = (3, 5, 9)
"""Matches of 2, of 3 and 4, of 5 to 8, and longer ones come true at very different rates."""
_MEMORY = 0.97
"""How much of the past stays with each new observation."""


class Lookup:
    """Where each run of tokens stood last, in one sequence; told the tokens as they come."""

    def __init__(self) -> None:
        # by hash: two runs taken for each other cost a wrong guess, a tuple kept for each costs memory and collection
        self._next: dict[int, int] = {}
        self._read = 0

    def read(self, tokens: list[int], length: int) -> bool:
        """Note what followed each run in the first `length` tokens, a `LONGEST_READ` a call; whether all is noted."""
        end = min(length, self._read + LONGEST_READ)
        for at in range(self._read, end):
            for size in SIZES:
                if at >= size:
                    self._next[hash(tuple(tokens[at - size : at]))] = at
        self._read = max(self._read, end)
        return self._read >= length

    def find(self, tokens: list[int]) -> tuple[int, int]:
        """Where the last tokens stood before: the place of what followed, and the length of the match, 0 if nowhere."""
        end = len(tokens)
        for size in SIZES:
            at = self._next.get(hash(tuple(tokens[end - size :]))) if end >= size else None
            if at is not None:
                match = size
                while match < min(at, LONGEST_MATCH) and tokens[at - match - 1] == tokens[end - match - 1]:
                    match += 1
                return at, match
        return 0, 0


def copied(tokens: list[int], at: int, count: int) -> list[int]:
    """`count` tokens from place `at` on; past the end it goes on with itself, as a repetition does."""
    period, out = len(tokens) - at, tokens[at : at + count]
    while len(out) < count:
        out.append(out[len(out) - period])
    return out


class Rates:
    """How often a guess comes true, by the length of its match. Starts from another's rates, or from one in three."""

    def __init__(self, before: "Rates | None" = None) -> None:
        self._before = before
        self._right = [0.0] * (len(_CLASSES) + 1)
        self._tried = [0.0] * (len(_CLASSES) + 1)

    def note(self, match: int, right: bool) -> None:
        """A guess on a match of this length was right or wrong."""
        at = sum(match >= bound for bound in _CLASSES)
        self._right[at] = self._right[at] * _MEMORY + right
        self._tried[at] = self._tried[at] * _MEMORY + 1.0
        if self._before is not None:
            self._before.note(match, right)

    def of(self, match: int) -> float:
        """The chance that the next guess is right: what was seen, and three guesses' worth of what was before."""
        at = sum(match >= bound for bound in _CLASSES)
        before = self._before.of(match) if self._before is not None else 1.0 / 3.0
        return (self._right[at] + 3.0 * before) / (self._tried[at] + 3.0)


class Costs:
    """What a step takes as a function of its rows: base + each * rows, fitted to the steps seen lately."""

    def __init__(self) -> None:
        self._sums = [0.0] * 5  # weight, rows, seconds, rows * rows, rows * seconds

    def note(self, rows: int, seconds: float) -> None:
        """A step of so many rows took so long."""
        if not self._sums[0]:
            self._add(1, seconds)  # until more is known: eight rows more cost as much again
            self._add(9, 2.0 * seconds)
        self._sums = [each * _MEMORY for each in self._sums]
        self._add(rows, seconds)

    def _add(self, rows: int, seconds: float) -> None:
        for at, value in enumerate((1.0, rows, seconds, rows * rows, rows * seconds)):
            self._sums[at] += value

    def line(self) -> tuple[float, float]:
        """Seconds of a step without rows, and of each row; both above 0."""
        weight, rows, seconds, squares, products = self._sums
        if not weight:
            return 1.0, 0.125
        spread = squares - rows * rows / weight
        mean = seconds / weight
        each = (products - rows * seconds / weight) / spread if spread > 1e-9 * squares else mean / 9.0
        each = min(max(each, 1e-3 * mean), mean * weight / rows)
        return max(mean - each * rows / weight, 1e-3 * mean), each


def worth(rates: list[float], base: float, each: float, guess: float = 0.0) -> int:
    """How many guesses give the most tokens a second; none where they do not pay.

    Args:
        rates: the chance of each guess, given that those before it were right.
        base: seconds that the sequence's step costs without any row.
        each: what a row adds.
        guess: what making a guess adds.
    """
    best, length, tokens, chance = 1.0 / (base + each), 0, 1.0, 1.0
    for count, rate in enumerate(rates, 1):
        chance *= rate
        tokens += chance
        speed = tokens / (base + each + (each + guess) * count)
        if speed > best:
            best, length = speed, count
        elif chance < 0.05:
            break
    return length


class Guesses:
    """What one sequence guesses, and how well it did."""

    def __init__(self, engine_wide: Rates) -> None:
        self.lookup = Lookup()
        self.rates = Rates(engine_wide)
        self._match = 0
        self._likely: int | None = None

    def next(self, tokens: list[int], most: int, *, base: float, each: float) -> list[int]:
        """The guesses that pay: `base` is the sequence's share of what a step costs anyway, `each` what a row adds.

        The likeliest next token is remembered though nothing is computed, so rates are learnt while nothing is guessed.
        """
        self._likely = None
        if not self.lookup.read(tokens, len(tokens)):
            return []
        at, self._match = self.lookup.find(tokens)
        self._likely = tokens[at] if self._match else None
        if not self._match or most <= 0:
            return []
        rates = [self.rates.of(self._match + place) for place in range(most)]
        return copied(tokens, at, worth(rates, base, each))

    def tell(self, guessed: list[int], written: list[int]) -> None:
        """What came of it: `written` are the step's tokens; the guesses, or the one remembered, were right or not."""
        guessed = guessed or ([] if self._likely is None else [self._likely])
        for place, (guess, token) in enumerate(zip(guessed, written, strict=False)):
            self.rates.note(self._match + place, guess == token)
        self._match, self._likely = 0, None
