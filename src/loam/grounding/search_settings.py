"""How searches are bounded, and where exactness is given up for speed."""

from typing import Annotated, Literal

from msgspec import Meta, Struct


class SearchSettings(Struct, frozen=True, forbid_unknown_fields=True):
    candidates: Annotated[
        int, Meta(ge=10, le=1000, description="Passages that words and vectors each propose, at least.")
    ] = 50
    fusion: Annotated[
        Literal["scores", "ranks"],
        Meta(
            description="How words and vectors come together: by the mean of their `scores`, or by `ranks` "
            "(reciprocal rank fusion)."
        ),
    ] = "scores"
    phrases: Annotated[
        float,
        Meta(ge=0, le=1, description="Of a hybrid search: the weight of word pairs that a passage has as asked, to 1."),
    ] = 0.15
    heads: Annotated[
        float,
        Meta(
            ge=0,
            le=10,
            description="Of a rerank: how much it weighs that the heads find an answer, to the search's 1.",
        ),
    ] = 0.2
    matrix_bytes: Annotated[
        int, Meta(ge=0, description="Memory for vectors; the collections that were searched last stay.")
    ] = 512 * 2**20
    exact_passages: Annotated[
        int,
        Meta(ge=0, description="Collections beyond this size are searched through a graph, then compared exactly."),
    ] = 200_000


SEARCH = SearchSettings()
