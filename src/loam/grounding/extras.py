"""Modules that need the libraries of `loam[grounding]`, loaded when they are first used.

Invariant: `loam` alone starts, and searches by words; what needs more says what to install.
"""

from importlib import import_module
from types import ModuleType

from loam.core.errors import SettingsError


def extra(module: str) -> ModuleType:
    """The module, by its full name. Raises SettingsError where a library that it imports is not installed."""
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        raise SettingsError(
            f"this needs {error.name}, which is not installed; pip install 'loam[grounding]'"
        ) from error
