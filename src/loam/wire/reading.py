"""A client's JSON, read strictly: whatever is wrong becomes a refusal that names the field.

Knows JSON and Loam's own controls; knows no wire format. Invariant: whatever the bytes, the only exception that leaves
here is ModelFailure (bad_request), its `param` the path of what is wrong (`messages[0].content[1].text`).
"""

from typing import Any, TypeVar

import msgspec
from msgspec import Raw
from msgspec.json import Decoder

from loam.core.calls import Controls
from loam.core.errors import ModelFailure, refuse

T = TypeVar("T")

_fields = Decoder(dict[str, Raw])
_anything = Decoder(Any)
_controls = Decoder(Controls | None)


def read(data: bytes | Raw, decoder: Decoder[T], path: str = "") -> T:
    """Decodes a piece of the body that stands at `path`. Raises ModelFailure (bad_request)."""
    try:
        return decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _refusal(error, path) from error


def convert(value: Any, kind: type[T], path: str) -> T:
    """Checks decoded JSON that stands at `path` against `kind`. Raises ModelFailure (bad_request)."""
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise _refusal(error, path) from error


class Fields:
    """The top-level fields of a body, each read when it is asked for; `rest` is what nobody asked for."""

    def __init__(self, body: bytes) -> None:
        self._raw = read(body, _fields)

    def take(self, name: str, decoder: Decoder[T]) -> T | None:
        raw = self._raw.pop(name, None)
        return None if raw is None else read(raw, decoder, name)

    def look(self, name: str, decoder: Decoder[T]) -> T | None:
        """Reads a field and leaves it in the rest."""
        raw = self._raw.get(name)
        return None if raw is None else read(raw, decoder, name)

    def need(self, name: str, decoder: Decoder[T]) -> T:
        raw = self._raw.pop(name, None)
        if raw is None:
            raise refuse("bad_request", f"{name}: this field is required", param=name)
        return read(raw, decoder, name)

    def raw(self, name: str) -> Raw | None:
        return self._raw.pop(name, None)

    def controls(self) -> Controls:
        """Loam's own object in the body."""
        return self.take("loam", _controls) or Controls()

    def rest(self) -> dict[str, Any]:
        return {name: read(raw, _anything, name) for name, raw in self._raw.items()}


def _refusal(error: Exception, path: str) -> ModelFailure:
    if isinstance(error, RecursionError):
        return refuse("bad_request", f"{path or 'the body'}: the JSON is nested too deeply", param=path)
    text, _, place = str(error).partition(" - at `$")
    param = f"{path}{place.rstrip('`')}".lstrip(".")
    return refuse("bad_request", f"{param or 'the body'}: {text}", param=param)
