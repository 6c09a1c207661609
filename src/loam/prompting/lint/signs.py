"""The signs by which a prompt says something, from signs.toml, ready to be looked for."""

import re
import tomllib
from importlib.resources import files

from loam.prompting.lint.sentences import NUMBER, UNIT


def _read() -> dict[str, "re.Pattern[str]"]:
    table: dict[str, list[str]] = tomllib.loads(files("loam.prompting.lint").joinpath("signs.toml").read_text("utf-8"))
    return {
        name: re.compile("|".join(signs).replace("NUMBER", NUMBER).replace("UNIT", UNIT), re.IGNORECASE)
        for name, signs in table.items()
    }


SIGNS = _read()
