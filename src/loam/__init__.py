"""Loam: own the whole path of an LLM answer, from tokens to production.

What Python programs use stands here, and each name is loaded when it is first asked for, so that importing `loam` is
light:

```python
answer = loam.ask(loam.self_consistency(model, n=5), "What is 6 + 1?")
city = loam.extract(City, "Lima has ten million people.", model="gpt-5-mini")
ran = loam.agent(model, tools=[order], steps=5).run_sync("Where is order 7?")
```
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from loam.agents.door import agent as agent
    from loam.agents.door import tool as tool
    from loam.doors import aask as aask
    from loam.doors import ask as ask
    from loam.doors import chain_of_thought as chain_of_thought
    from loam.doors import few_shot as few_shot
    from loam.doors import react as react
    from loam.doors import self_consistency as self_consistency
    from loam.doors import structured as structured
    from loam.doors import zero_shot as zero_shot
    from loam.extracting import aextract as aextract
    from loam.extracting import extract as extract
    from loam.extracting import partials as partials

__version__ = "0.1.0"

_TECHNIQUES = ("zero_shot", "few_shot", "chain_of_thought", "self_consistency", "structured", "react")
_DOORS = {
    **dict.fromkeys(("ask", "aask", *_TECHNIQUES), "loam.doors"),
    **dict.fromkeys(("agent", "tool"), "loam.agents.door"),
    **dict.fromkeys(("extract", "aextract", "partials"), "loam.extracting"),
}


def __dir__() -> list[str]:
    return sorted({*globals(), *_DOORS})


def __getattr__(name: str) -> Any:
    if name in _DOORS:
        return getattr(import_module(_DOORS[name]), name)
    raise AttributeError(f"module 'loam' has no attribute {name!r}")
