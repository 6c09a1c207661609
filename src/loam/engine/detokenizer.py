"""Text from tokens as they come: a letter may take several tokens, and no half of it may be shown.

Knows bytes and UTF-8. Invariant: what `add` and `end` give, one after the other, is the text of all the tokens at once.
"""

import codecs
from collections.abc import Callable, Collection, Sequence
from typing import Protocol


class Detokenizer(Protocol):
    def add(self, token: int) -> str:
        """The text that is certain now; empty while a letter is incomplete."""
        ...

    def end(self) -> str:
        """What is left: a letter that was never completed, as U+FFFD."""
        ...


class ByteDetokenizer:
    """For vocabularies whose text is their tokens' bytes.

    `hidden` tokens add nothing. `strip` drops one space at the very beginning, which SentencePiece puts there.
    """

    def __init__(self, bytes_of: Callable[[int], bytes], *, hidden: Collection[int] = (), strip: bool = False) -> None:
        self._bytes_of = bytes_of
        self._hidden = hidden
        self._strip = strip
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def add(self, token: int) -> str:
        if token in self._hidden:
            return ""
        data = self._bytes_of(token)
        if self._strip and data:
            self._strip = False
            data = data.removeprefix(b" ")
        return self._decoder.decode(data)

    def end(self) -> str:
        return self._decoder.decode(b"", final=True)


class WholeDetokenizer:
    """For any other vocabulary: decodes all tokens anew each time, and gives what is new.

    Slow, and meant for WordPiece, whose decoder may take back a space that it gave: what is not an addition to what was
    said already waits until it is one.
    """

    def __init__(self, decode: Callable[[Sequence[int]], str], *, hidden: Collection[int] = ()) -> None:
        self._decode = decode
        self._hidden = hidden
        self._tokens: list[int] = []
        self._said = ""

    def add(self, token: int) -> str:
        if token in self._hidden:
            return ""
        self._tokens.append(token)
        text = self._decode(self._tokens)
        return "" if text.endswith("\ufffd") else self._new(text)

    def end(self) -> str:
        return self._new(self._decode(self._tokens)) if self._tokens else ""

    def _new(self, text: str) -> str:
        if not text.startswith(self._said):
            return ""
        new, self._said = text[len(self._said) :], text
        return new
