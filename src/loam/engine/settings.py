"""What loam.toml may say of the local engine. Knows no torch. Invariant: an empty section serves what is there."""

from typing import Annotated

from msgspec import Meta, Struct

from loam.engine.protocol import Weights

Bytes = Annotated[int, Meta(ge=1)]


class LocalSettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One `[providers.NAME.engine]`."""

    folder: Annotated[
        str,
        Meta(description="Where checkpoints lie, one folder or .gguf file each; empty: `models` in the data folder."),
    ] = ""
    paths: Annotated[
        dict[str, str], Meta(description="Checkpoints elsewhere: their paths by the name to ask for.")
    ] = {}
    adapters: Annotated[
        dict[str, dict[str, str]],
        Meta(description="LoRA adapters: by model, their folders by name; ask for MODEL:ADAPTER."),
    ] = {}
    drafts: Annotated[
        dict[str, str],
        Meta(description="By model, a smaller checkpoint of the same vocabulary that guesses ahead: its name or path."),
    ] = {}
    weights: Annotated[
        Weights,
        Meta(description="How weights are computed with; `auto`: int8 by the compiled kernel, else as in the file."),
    ] = "auto"
    exact: Annotated[
        bool,
        Meta(
            description="Temperature 0 gives the same tokens alone and in any batch (P9), also where torch computes; "
            "the compiled kernel always does."
        ),
    ] = True
    device: Annotated[str, Meta(description="Where it computes: `cpu`, `cuda`, `cuda:1`.")] = "cpu"
    threads: Annotated[int, Meta(description="Threads that compute; 0: one a core.", ge=0, le=1024)] = 0
    memory: Annotated[
        Bytes | None, Meta(description="Most bytes of weights in memory, over all models; unset: what is free.")
    ] = None
    cache: Annotated[
        Bytes | None,
        Meta(
            description="Bytes for keys and values of a model; unset: what its batch needs, a quarter of what is free."
        ),
    ] = None
    context: Annotated[
        Annotated[int, Meta(ge=1)] | None,
        Meta(description="Longest prompt and answer in tokens, where less than the model's own."),
    ] = None
    batch: Annotated[int, Meta(description="Answers that a model writes at the same time.", ge=1, le=1024)] = 8
    queue: Annotated[
        int, Meta(description="Answers that may wait for a model; more are refused with 429 and Retry-After.", ge=0)
    ] = 64
    loaded: Annotated[
        int, Meta(description="Models in memory at once; for one more, the one that is idle longest goes.", ge=1)
    ] = 2
    at_start: Annotated[
        tuple[str, ...], Meta(description="Models to load when the gateway starts, not when asked.")
    ] = ()
    grace: Annotated[float, Meta(description="Seconds that answers get to finish when a model is unloaded.", ge=0)] = (
        30.0
    )
