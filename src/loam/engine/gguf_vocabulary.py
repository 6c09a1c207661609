"""The tokenizer inside a GGUF file, run by the `tokenizers` library.

Knows the two kinds that decoders use: `gpt2` (byte-level BPE with merges) and `llama` (SentencePiece's BPE, whose
merges follow from its pieces' scores), and how llama.cpp cuts a text for each name that `tokenizer.ggml.pre` may say.
Invariant: a file whose cut is unknown is refused; a wrong one would give other ids without anybody noticing.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gguf import GGUFReader
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from loam.core.errors import EngineError
from loam.engine.hugging_vocabulary import HuggingVocabulary, add, byte_level
from loam.engine.tiktoken_vocabulary import GPT4, QWEN

_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_ENDINGS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
_REST = r" ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_TEKKEN = rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*|\p{{N}}|{_REST}"
_GPT4O = (
    rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+{_ENDINGS}|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*{_ENDINGS}"
    rf"|\p{{N}}{{1,3}}|{_REST}"
)

_CUTS: dict[str, tuple[str, ...]] = {
    "default": (_GPT2,),
    "gpt-2": (_GPT2,),
    "phi-2": (_GPT2,),
    "olmo": (_GPT2,),
    "mpt": (_GPT2,),
    "smollm": (r"\p{N}", _GPT2),
    "starcoder": (r"\p{N}", _GPT2),
    "refact": (r"\p{N}", _GPT2),
    "command-r": (r"\p{N}", _GPT2),
    "llama-bpe": (GPT4,),
    "llama3": (GPT4,),
    "llama-v3": (GPT4,),
    "falcon3": (GPT4,),
    "smaug-bpe": (GPT4,),
    "dbrx": (GPT4,),
    "olmo2": (GPT4,),
    "qwen2": (QWEN,),
    "stablelm2": (QWEN,),
    "deepseek-r1-qwen": (QWEN,),
    "tekken": (_TEKKEN,),
    "gpt-4o": (_GPT4O,),
    "llama4": (_GPT4O,),
}
"""Patterns by the name of the cut, applied one after the other (llama.cpp, src/llama-vocab.cpp)."""

_CONTROL, _SHOWN = 3, 4  # token types: control, user-defined


class Inside:
    """What a GGUF file says of its tokenizer, read once. Raises EngineError."""

    def __init__(self, file: Path) -> None:
        self.file = file
        try:
            self._reader = GGUFReader(str(file))
        except (OSError, ValueError, KeyError, IndexError, OverflowError) as error:
            raise EngineError(f"{file} is no GGUF file that can be read ({error}); fetch it again") from error
        self.tokens: list[str] = self.get("tokens") or []
        if not self.tokens:
            raise EngineError(f"{file} holds no tokenizer; put the model's tokenizer.json beside it")

    def get(self, name: str, prefix: str = "tokenizer.ggml.") -> Any:
        """A value by its name, None where the file does not say."""
        field = self._reader.get_field(prefix + name)
        return None if field is None else field.contents()

    @property
    def template(self) -> str:
        return self.get("chat_template", "tokenizer.") or ""

    def named(self, name: str) -> str:
        """The piece of a token that the file names by its id: bos, eos, unknown, padding; empty for none."""
        token = self.get(f"{name}_token_id")
        return self.tokens[token] if isinstance(token, int) and 0 <= token < len(self.tokens) else ""


def read_inside(inside: Inside) -> HuggingVocabulary:
    """Raises EngineError for a kind of tokenizer, or a cut, that is not known here."""
    kind = inside.get("model")
    if kind == "gpt2":
        return _begun(inside, _ranked(inside), adds=False)
    if kind == "llama":
        return _begun(inside, _scored(inside), adds=True)
    raise EngineError(
        f"{inside.file} has a tokenizer of the kind {kind!r}, which Loam does not read; "
        "put the model's tokenizer.json beside the file"
    )


def _of_types(inside: Inside, kind: int) -> list[str]:
    types: Sequence[int] = inside.get("token_type") or ()
    return [piece for piece, its in zip(inside.tokens, types, strict=False) if its == kind]


def _ranked(inside: Inside) -> Tokenizer:
    cut = inside.get("pre") or "default"
    if cut not in _CUTS:
        raise EngineError(
            f"{inside.file} cuts texts the way of {cut!r}, which Loam does not know; "
            "put the model's tokenizer.json beside the file"
        )
    ids = {piece: token for token, piece in enumerate(inside.tokens)}
    merges = [tuple(merge.split(" ", 1)) for merge in inside.get("merges") or ()]
    splits = [pre_tokenizers.Split(Regex(pattern), "isolated") for pattern in _CUTS[cut]]
    vocabulary = byte_level(
        ids,
        merges,
        source=str(inside.file),
        splits=splits,
        specials=_of_types(inside, _CONTROL),
        shown=_of_types(inside, _SHOWN),
    )
    return vocabulary.tokenizer


def _scored(inside: Inside) -> Tokenizer:
    """SentencePiece's BPE merges the pair whose whole has the best score; so each way to halve a piece is a merge."""
    ids = {piece: token for token, piece in enumerate(inside.tokens)}
    scores: Sequence[float] = inside.get("scores") or [0.0] * len(inside.tokens)
    merges: list[tuple[float, int, int, str, str]] = []
    for token, piece in enumerate(inside.tokens):
        for place in range(1, len(piece)):
            left, right = piece[:place], piece[place:]
            if left in ids and right in ids:
                merges.append((-scores[token], ids[left], ids[right], left, right))
    merges.sort()
    unknown = inside.named("unknown") or None
    pairs = [(left, right) for *_, left, right in merges]
    tokenizer = Tokenizer(models.BPE(ids, pairs, unk_token=unknown, fuse_unk=True, byte_fallback=True))
    prefix = inside.get("add_space_prefix") is not False
    steps = [normalizers.Prepend("\u2581")] if prefix else []
    tokenizer.normalizer = normalizers.Sequence([*steps, normalizers.Replace(" ", "\u2581")])  # pyright: ignore
    spaces = decoders.Replace("\u2581", " ")
    strip = [decoders.Strip(" ", 1, 0)] if prefix else []
    tokenizer.decoder = decoders.Sequence([spaces, decoders.ByteFallback(), decoders.Fuse(), *strip])  # pyright: ignore
    add(tokenizer, ids, _of_types(inside, _CONTROL), _of_types(inside, _SHOWN))
    return tokenizer


def _begun(inside: Inside, tokenizer: Tokenizer, *, adds: bool) -> HuggingVocabulary:
    """With the tokens that begin and end a text, where the file asks for them; `adds`: whether it does by default."""
    wanted = inside.get("add_bos_token")
    begin = inside.named("bos") if (adds if wanted is None else wanted) else ""
    end = inside.named("eos") if inside.get("add_eos_token") else ""
    specials = [piece for piece in (begin, end) if piece]
    if specials:
        pairs = [(piece, inside.tokens.index(piece)) for piece in dict.fromkeys(specials)]
        single = [piece for piece in (begin, "$A", end) if piece]
        tokenizer.post_processor = processors.TemplateProcessing(single=single, special_tokens=pairs)  # pyright: ignore
    return HuggingVocabulary(tokenizer)
