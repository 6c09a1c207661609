"""Modules that need the libraries of an extra such as `loam[grounding]`, loaded when they are first used.

Invariant: `loam` alone starts, and searches by words; what needs more says what to install.
"""

from importlib import import_module
from types import ModuleType

from loam.core.errors import SettingsError

_EXTRAS = {"psycopg": "postgres"}
"""What brings a library, where that is not `grounding`."""


def extra(module: str) -> ModuleType:
    """The module, by its full name. Raises SettingsError where a library that it imports is not installed."""
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        name = error.name or module
        raise SettingsError(
            f"this needs {name}, which is not installed; pip install 'loam[{_EXTRAS.get(name, 'grounding')}]'"
        ) from error
    except ImportError as error:  # psycopg is there, the C library that it stands on is not
        raise SettingsError(f"a library that this needs cannot be loaded: {error}") from error
