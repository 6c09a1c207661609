"""The process in which one call of a Python tool runs: `python -m loam.agents.child describe|call FUNCTION`.

Knows how to find a function, describe it and call it, after it has given up what the tool was not granted. Stands on
the standard library alone. Invariant: limits are set before the tool's module is imported; what the tool prints goes to
stderr, so that stdout holds one JSON object.
"""

import contextlib
import ctypes
import importlib
import importlib.util
import inspect
import json
import os
import resource
import sys
import types
import typing
from collections.abc import Callable
from typing import Any

_NEW_USER, _NEW_NET = 0x10000000, 0x40000000
_TYPES: dict[Any, str] = {
    str: "string",
    int: "integer",
    float: "number",
    bool: "boolean",
    list: "array",
    dict: "object",
}


def found(named: str) -> Callable[..., Any]:
    """The function of `module:function` or `file.py:function`."""
    place, _, name = named.rpartition(":")
    if not place or not name:
        raise ValueError("the function is written as module:function or file.py:function")
    if place.endswith(".py"):
        spec = importlib.util.spec_from_file_location("loam_tool", place)
        if spec is None or spec.loader is None:
            raise ImportError(f"{place} is no Python file")
        module = importlib.util.module_from_spec(spec)
        sys.modules["loam_tool"] = module
        spec.loader.exec_module(module)
    else:
        module = importlib.import_module(place)
    function = getattr(module, name)
    if not callable(function):
        raise TypeError(f"{named} is no function")
    return function


def described(function: Callable[..., Any]) -> dict[str, Any]:
    """The function as a tool: the first paragraph of its docstring and the JSON Schema of its signature."""
    hints = typing.get_type_hints(function)
    properties: dict[str, Any] = {}
    required: list[str] = []
    more = False
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):  # nothing is called by their names
            more = more or parameter.kind is parameter.VAR_KEYWORD
            continue
        properties[name] = _schema(hints.get(name, Any))
        if parameter.default is parameter.empty:
            required.append(name)
        elif isinstance(parameter.default, str | int | float | bool):
            properties[name]["default"] = parameter.default
    schema = {"type": "object", "properties": properties, "required": required, "additionalProperties": more}
    return {"description": (inspect.getdoc(function) or "").split("\n\n")[0], "parameters": schema}


def _schema(hint: Any) -> dict[str, Any]:
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        return {"enum": list(inner)}
    if origin in (typing.Union, types.UnionType):
        return {"anyOf": [{"type": "null"} if one is type(None) else _schema(one) for one in inner]}
    if origin is list:
        return {"type": "array", "items": _schema(inner[0])}
    kind = _TYPES.get(origin or hint)
    return {"type": kind} if kind else {}


def confine(memory_mb: int, seconds: float, *, network: bool) -> str:
    """Gives up memory, time and the network; says how the network was cut: kernel, python, or granted."""
    memory, time = memory_mb * 2**20, int(seconds) + 1
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CPU, (time, time))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if network:
        return "granted"
    if sys.platform == "linux" and ctypes.CDLL(None).unshare(_NEW_USER | _NEW_NET) == 0:
        return "kernel"
    sys.addaudithook(_no_sockets)
    return "python"


def _no_sockets(event: str, _: tuple[Any, ...]) -> None:
    if event in ("socket.__new__", "subprocess.Popen", "os.exec", "os.posix_spawn", "os.system", "os.fork"):
        raise PermissionError("this tool was not granted the network (its setting `network`)")


def main(what: str, named: str, memory_mb: str, seconds: str, network: str) -> None:
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    cut = confine(int(memory_mb), float(seconds), network=network == "yes")
    try:
        function = found(named)
        said = described(function) if what == "describe" else _called(function)
    except BaseException as error:  # noqa: BLE001 - whatever the tool raises is its result, told to the model
        said = {"error": f"{type(error).__name__}: {error}"}
    with contextlib.suppress(BrokenPipeError):
        out.write(json.dumps({**said, "network": cut}, default=str, ensure_ascii=False))
        out.close()


def _called(function: Callable[..., Any]) -> dict[str, Any]:
    result = function(**json.loads(sys.stdin.read()))
    return {"result": result if isinstance(result, str) else json.dumps(result, default=str, ensure_ascii=False)}


if __name__ == "__main__":
    main(*sys.argv[1:])
