"""The way from the settings to an encoder, that loads nothing of it before there is something to open.

Invariant: Loam starts without numpy.
"""

from collections.abc import Collection
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from loam.grounding.encoder.settings import EncoderSettings, Opened


def open_encoder(settings: EncoderSettings, data: Path, providers: Collection[str] = ()) -> Opened:
    """The encoder of the settings, opened when it is first asked; `providers` are the names of those there are.

    Raises SettingsError for a name that stands for nothing, EncoderError for a folder that is no encoder Loam can run.
    """
    if settings.name == "none":
        return Opened(notice="search is by words only: the settings ask for no encoder")
    if find_spec("numpy") is None:
        return Opened(notice="search is by words only: numpy is not installed; install loam[grounding]")
    opened = import_module("loam.grounding.encoder.opening").open_encoder(settings, data, providers)
    assert isinstance(opened, Opened)
    return opened
