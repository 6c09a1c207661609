"""How much work a JSON Schema can make of one value, before a validator is let loose on it.

Pure. Knows which words of a schema look at the same value again and which at what is inside it. Invariant: the figures
are never too low for schemas whose references are pointers into themselves; what refers in a circle at one place counts
once, as validators stop there.

```python
effort({"allOf": [{"$ref": "#/$defs/a"}] * 2, "$defs": {"a": {"type": "string"}}}).here  # 5
```
"""

from collections import Counter
from typing import Any, cast
from urllib.parse import unquote

from msgspec import Struct

_SAME_LISTS = ("allOf", "anyOf", "oneOf")
_SAME = ("not", "if", "then", "else")
_INNER = ("items", "additionalProperties", "contains", "unevaluatedItems", "unevaluatedProperties", "additionalItems")
_ANY = "*"
_MOST = 10**9


class Effort(Struct, frozen=True):
    """`here`: how many schemas may be held against one place. `growth`: by what that multiplies a level deeper."""

    here: int
    growth: int

    def of(self, value: Any) -> int:
        """An upper bound of the steps for a value, capped."""
        depth = _depth(value) if self.growth > 1 else 0
        return min(_MOST, self.here * self.growth ** min(depth, 64))


def effort(schema: Any) -> Effort:
    """Raises RecursionError for a schema nested beyond what can be looked at."""
    if not isinstance(schema, dict) or not _refers(schema):
        return Effort(1, 1)  # each of its parts is looked at once a place
    walk = _Walk(cast("dict[str, Any]", schema))
    walk.visit(schema)
    return Effort(walk.most, walk.growth)


class _Walk:
    """Each schema is expanded once; what it expands to is kept as how often each inner place is looked at."""

    def __init__(self, root: dict[str, Any]) -> None:
        self._root = root
        self._known: dict[int, tuple[int, Counter[str]]] = {}
        self._open: set[int] = set()
        self.most = 1
        self.growth = 1

    def visit(self, node: Any) -> tuple[int, Counter[str]]:
        """How many schemas stand behind one, and how often it looks at each inner place with a schema that refers."""
        if not isinstance(node, dict) or id(cast("object", node)) in self._open:
            return 1, Counter()
        said = cast("dict[str, Any]", node)
        known = self._known.get(id(said))
        if known is None:
            self._open.add(id(said))
            known = self._known[id(said)] = self._expanded(said)
            self._open.discard(id(said))
            for inner in self._inside(said):
                self.visit(inner)
            self.most = max(self.most, known[0])
            common = known[1][_ANY]
            self.growth = max(self.growth, common, *(count + common for key, count in known[1].items() if key != _ANY))
        return known

    def _expanded(self, said: dict[str, Any]) -> tuple[int, Counter[str]]:
        count, looks = 1, self._looks(said)
        for other in self._same(said):
            more, deeper = self.visit(other)
            count = min(_MOST, count + more)
            looks.update(deeper)
        return count, Counter({key: min(_MOST, many) for key, many in looks.items()})

    def _same(self, said: dict[str, Any]) -> list[Any]:
        found = [one for word in _SAME_LISTS for one in _list(said.get(word))]
        found += [said[word] for word in _SAME if word in said]
        found += _dict(said.get("dependentSchemas")).values()
        for word in ("$ref", "$dynamicRef", "$recursiveRef"):
            if isinstance(said.get(word), str):
                found.append(self._target(said[word]))
        return found

    def _looks(self, said: dict[str, Any]) -> Counter[str]:
        looks: Counter[str] = Counter()
        for name, one in _dict(said.get("properties")).items():
            looks[name] += _refers(one)
        others = [said[word] for word in _INNER if word in said]
        others += [*_dict(said.get("patternProperties")).values(), *_list(said.get("prefixItems"))]
        looks[_ANY] += any(map(_refers, others))
        return looks

    def _inside(self, said: dict[str, Any]) -> list[Any]:
        found = [said[word] for word in _INNER if word in said]
        for word in ("properties", "patternProperties", "$defs", "definitions"):
            found += _dict(said.get(word)).values()
        return [*found, *_list(said.get("prefixItems"))]

    def _target(self, ref: str) -> Any:
        """What a pointer into the same schema points to; the whole schema for any other reference."""
        found: Any = self._root
        for step in ref.partition("#")[2].split("/")[1:]:
            name = unquote(step).replace("~1", "/").replace("~0", "~")
            items = dict(enumerate(_list(found)))
            found = items.get(int(name)) if items and name.isdecimal() else _dict(found).get(name)
        return self._root if found is None else found


def _refers(node: Any) -> bool:
    """Whether a schema leads on to a reference, and so may have more in it than it shows."""
    pending = [node]
    while pending:
        one = pending.pop()
        if isinstance(one, dict):
            said = cast("dict[str, Any]", one)
            if any(word in said for word in ("$ref", "$dynamicRef", "$recursiveRef")):
                return True
            pending += said.values()
        elif isinstance(one, list):
            pending += cast("list[Any]", one)
    return False


def _depth(value: Any) -> int:
    """How deep a value is nested."""
    level, depth = [value], 0
    while level := [inner for one in level for inner in _parts(one)]:
        depth += 1
    return depth


def _parts(value: Any) -> list[Any]:
    return list(_dict(value).values()) if isinstance(value, dict) else _list(value)


def _dict(value: Any) -> dict[str, Any]:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return cast("list[Any]", value) if isinstance(value, list) else []
