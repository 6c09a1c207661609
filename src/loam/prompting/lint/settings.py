"""What a team decides about the linter's rules. Apart from them, so that reading settings loads no rule."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

Level = Literal["off", "note", "warning", "error"]


class LintSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """What a team decides about the rules."""

    rules: Annotated[dict[str, Level], Meta(description="Severity of a rule by its name, or off.")] = {}
    vague: Annotated[
        tuple[str, ...], Meta(description="Further words that say too little, for the rule vague-word.")
    ] = ()
    untrusted: Annotated[
        tuple[str, ...], Meta(description="Further names of variables that hold what others wrote.")
    ] = ()
    thorough: Annotated[
        bool,
        Meta(
            description="Tell of a missing format, bound or edge case also where the prompt says the others: finds "
            "more, and is wrong more often."
        ),
    ] = False
    prefix: Annotated[
        int, Meta(ge=1, description="Characters of unchanging text after a changing one that are worth a cache.")
    ] = 500
