"""The tokenizer of a checkpoint: text to ids and back, and a conversation to the ids that its model expects.

Knows where a checkpoint keeps its tokenizer and what its configuration says of control tokens; each format has a module
of its own. Loads neither torch nor a model. Invariant: what `stream` gives token by token is what `decode` gives whole.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from loam.core.errors import EngineError, refuse
from loam.engine.detokenizer import ByteDetokenizer, Detokenizer, WholeDetokenizer
from loam.engine.gguf_vocabulary import Inside, read_inside
from loam.engine.hugging_vocabulary import read_json, read_pair
from loam.engine.rendering import Renderer
from loam.engine.sentencepiece_vocabulary import read_pieces
from loam.engine.templates import Rendering, template_of
from loam.engine.tiktoken_vocabulary import GPT4, QWEN, is_ranks, read_ranks
from loam.engine.vocabulary import Vocabulary

_PAIRS = (("encoder.json", "vocab.bpe"), ("vocab.json", "merges.txt"))
_ENDERS = ("<|im_end|>", "<|eot_id|>", "<|eom_id|>", "<|end|>", "<end_of_turn>", "<|end_of_text|>")
"""Control tokens that end a turn, whatever else a configuration says of them."""


class Tokenizer:
    """One checkpoint's tokenizer.

    ```python
    tokenizer = Tokenizer.open(Path("models/smollm"))
    tokenizer.decode(tokenizer.encode("Hello world"))
    tokenizer.chat([{"role": "user", "content": "Hello"}])
    ```
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        *,
        source: Path,
        configuration: Mapping[str, Any] | None = None,
        template: Callable[[bool], str] = lambda tools: "",
        stop_tokens: Sequence[int] = (),
    ) -> None:
        self._vocabulary = vocabulary
        self.source = source
        self.configuration = dict(configuration or {})
        self._template = template
        self._renderer = Renderer()
        self.special_tokens = _specials(self.configuration)
        """bos_token, eos_token and so on, by these names: what templates call them."""
        self.stop_tokens = frozenset(stop_tokens) | frozenset(self._ends())

    @classmethod
    def open(cls, folder: Path) -> "Tokenizer":
        """Reads the tokenizer of a checkpoint's folder, or of a .gguf file. Raises EngineError."""
        if folder.is_file() and folder.suffix == ".gguf":
            return _inside(folder)
        if not folder.is_dir():
            raise EngineError(f"{folder} is neither a checkpoint's folder nor a .gguf file; look at the path")
        configuration = read_object(folder / "tokenizer_config.json")
        if not configuration:
            configuration = read_object(folder / "special_tokens_map.json")
        return cls(
            _found(folder, configuration),
            source=folder,
            configuration=configuration,
            template=lambda tools: template_of(folder, configuration, tools=tools),
            stop_tokens=_stops(folder),
        )

    @property
    def vocabulary(self) -> int:
        """How many ids there are."""
        return self._vocabulary.size

    @property
    def special(self) -> frozenset[int]:
        """Control tokens, which `decode` does not show."""
        return self._vocabulary.special

    def encode(self, text: str, special: bool = False) -> list[int]:
        """Ids of a text. Control tokens that are written out in it count as such; `special` adds what begins a text."""
        if not text.isascii():
            try:
                text.encode()
            except UnicodeEncodeError as error:
                raise refuse("bad_request", f"the text holds half of a surrogate pair: {error}") from error
        return self._vocabulary.encode(text, special=special)

    def decode(self, tokens: Sequence[int], *, special: bool = False) -> str:
        """The text of ids; `special` shows control tokens too. What is no UTF-8 in it becomes U+FFFD."""
        stream = self.stream(special=special)
        return "".join([*map(stream.add, tokens), stream.end()])

    def stream(self, *, special: bool = False, begun: bool = False) -> Detokenizer:
        """Text as tokens come. `begun`: other text stands before, so that a first space is meant."""
        hidden = frozenset[int]() if special else self.special
        vocabulary = self._vocabulary
        if vocabulary.decode(()) is not None:
            return WholeDetokenizer(lambda tokens: vocabulary.decode(tokens) or "", hidden=hidden)
        return ByteDetokenizer(vocabulary.bytes_of, hidden=hidden, strip=vocabulary.strips and not begun)

    def token_bytes(self, token: int) -> bytes:
        """What a token adds to a text, part of a letter perhaps; empty for an id that the vocabulary has not."""
        return self._vocabulary.bytes_of(token)

    def piece(self, token: int) -> str:
        """The token as the vocabulary writes it, as in `Ġworld` or `▁world`."""
        return self._vocabulary.piece(token)

    def id_of(self, piece: str) -> int | None:
        """The id of a token as the vocabulary writes it."""
        return self._vocabulary.id_of(piece)

    def template(self, *, tools: bool = False) -> str:
        """The chat template, empty where the checkpoint has none. Raises EngineError."""
        return self._template(tools)

    def prompt(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]] | None = None,
        *,
        chat_template: str = "",
        add_generation_prompt: bool = True,
        continue_final_message: bool = False,
        **extras: Any,
    ) -> str:
        """The text of a conversation, messages and tools as in `apply_chat_template`; `extras` are the template's.

        Raises ModelFailure where there is no template or it refuses the messages, EngineError for a broken one.
        """
        template = chat_template or self.template(tools=tools is not None)
        if not template:
            raise refuse(
                "unsupported",
                f"{self.source.name} has no chat template, as models that only continue a text have none; "
                "ask it through /v1/completions, or put a chat_template.jinja into its folder",
                param="messages",
            )
        return self._renderer.render(
            Rendering(
                template,
                [dict(message) for message in messages],
                None if tools is None else [dict(tool) for tool in tools],
                {**self.special_tokens, **extras},
                add_generation_prompt,
                continue_final_message,
            )
        )

    def chat(
        self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]] | None = None, **extras: Any
    ) -> list[int]:
        """The ids of a conversation; see `prompt`."""
        return self.encode(self.prompt(messages, tools, **extras))

    def as_json(self) -> str | None:
        """The tokenizer as a tokenizer.json, which grammars are checked by; None for a format that has none."""
        return self._vocabulary.as_json()

    def close(self) -> None:
        """Ends the process that renders templates, where one was started."""
        self._renderer.close()

    def _ends(self) -> list[int]:
        """The end of a text, and those ends of a turn that are control tokens here."""
        end = self.id_of(_text(self.special_tokens.get("eos_token")) or "\0")
        turns = [token for token in map(self.id_of, _ENDERS) if token in self.special]
        return [token for token in (end, *turns) if token is not None]


def read_object(file: Path) -> dict[str, Any]:
    """A JSON object, empty where the file is not there. Raises EngineError."""
    if not file.is_file():
        return {}
    try:
        value = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise EngineError(f"{file} is no JSON that can be read ({error}); fetch the file again") from error
    if not isinstance(value, dict):
        raise EngineError(f"{file} holds no JSON object; fetch the file again")
    return cast("dict[str, Any]", value)


def _found(folder: Path, configuration: Mapping[str, Any]) -> Vocabulary:
    """The vocabulary of a folder, from the first of the files that it has. Raises EngineError."""
    if (folder / "tokenizer.json").is_file():
        return read_json(folder / "tokenizer.json")
    pieces = folder / "tokenizer.model"
    if pieces.is_file() and not is_ranks(pieces):
        begins, ends = configuration.get("add_bos_token", True), configuration.get("add_eos_token", False)
        legacy = configuration.get("legacy", True)
        return read_pieces(pieces, begins=bool(begins), ends=bool(ends), prefix_after=legacy is not False)
    ranks = next(iter(sorted(folder.glob("*.tiktoken"))), pieces)
    if ranks.is_file():
        begin = _text(configuration.get("bos_token")) if configuration.get("add_bos_token", True) else ""
        pattern = QWEN if ranks.name == "qwen.tiktoken" else GPT4
        return read_ranks(ranks, _controls(configuration), pattern=pattern, begin=begin or None)
    for ids, merges in _PAIRS:
        if (folder / ids).is_file() and (folder / merges).is_file():
            return read_pair(folder / ids, folder / merges)
    raise EngineError(
        f"{folder} has no tokenizer: put tokenizer.json, tokenizer.model, a .tiktoken file, or vocab.json with "
        "merges.txt there (the checkpoint's page on the hub has them)"
    )


def _inside(file: Path) -> Tokenizer:
    inside = Inside(file)
    names = {"bos_token": "bos", "eos_token": "eos", "unk_token": "unknown", "pad_token": "padding"}
    named = {name: inside.named(word) for name, word in names.items()}
    ends = [token for token in (inside.get("eos_token_id"), inside.get("eot_token_id")) if isinstance(token, int)]
    return Tokenizer(
        read_inside(inside),
        source=file,
        configuration={name: piece for name, piece in named.items() if piece},
        template=lambda tools: inside.template,
        stop_tokens=ends,
    )


def _text(value: Any) -> str:
    """A token as configurations write it: its text, or an object that holds it."""
    if isinstance(value, dict):
        value = cast("dict[str, Any]", value).get("content")
    return value if isinstance(value, str) else ""


def _specials(configuration: Mapping[str, Any]) -> dict[str, Any]:
    """Special tokens by name, as transformers hands them to templates."""
    found: dict[str, Any] = {
        name: _text(value)
        for name, value in configuration.items()
        if name.endswith("_token") and not name.startswith(("add_", "use_")) and _text(value)
    }
    more = configuration.get("additional_special_tokens") or ()
    return {**found, **({"additional_special_tokens": [_text(piece) for piece in more]} if more else {})}


def _controls(configuration: Mapping[str, Any]) -> dict[str, int]:
    """Ids by control token, from `added_tokens_decoder`."""
    entries: dict[str, Any] = configuration.get("added_tokens_decoder") or {}
    return {_text(entry): int(token) for token, entry in entries.items() if token.isdigit() and _text(entry)}


def _stops(folder: Path) -> list[int]:
    """`eos_token_id` of generation_config.json and config.json: one id, several or none."""
    stops: list[int] = []
    for name in ("generation_config.json", "config.json"):
        value = read_object(folder / name).get("eos_token_id")
        several = cast("list[Any]", value) if isinstance(value, list) else [value]
        stops += [token for token in several if isinstance(token, int)]
    return stops
