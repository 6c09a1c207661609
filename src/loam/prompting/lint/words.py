"""The words that the rules know, from words.toml. Invariant: every list is small letters but the languages' names."""

import tomllib
from importlib.resources import files

from msgspec import Struct, convert


class Words(Struct, frozen=True, forbid_unknown_fields=True):
    """One field a list of the file."""

    vague: tuple[str, ...]
    untrusted: frozenset[str]
    parameters: frozenset[str]
    changing: frozenset[str]
    answers: frozenset[str]
    units: tuple[str, ...]
    english: frozenset[str]
    foreign: frozenset[str]
    numbers: tuple[str, ...]
    languages: tuple[str, ...]


WORDS = convert(tomllib.loads(files("loam.prompting.lint").joinpath("words.toml").read_text("utf-8")), Words)
