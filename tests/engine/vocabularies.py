"""Small tokenizers of every format, trained here in a moment: no file of anybody else's is needed."""

import base64
import io
import json
from collections.abc import Sequence
from pathlib import Path

import gguf
import sentencepiece
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from loam.engine.vocabulary import byte_letters

TEXTS = [
    "Loam is ground to stand on and ground to grow in.",
    "The quick brown fox jumps over the lazy dog, 1,234 times a day!",
    "Grüße aus Köln: naïve café, señor, œuvre, 12.5 € am Tag.",
    "日本語のテキストも、少しだけ入れておきます。",
    "Привет, мир! Как дела сегодня?",
    "def add(a, b):\n    return a + b  # sums 👍🏽\n",
    "To be, or not to be, that is the question: whether 'tis nobler in the mind to suffer",
]
CONTROLS = ("<|begin|>", "<|end|>", "<|im_start|>", "<|im_end|>")


def byte_level(folder: Path, size: int = 400) -> Path:
    """tokenizer.json as Llama 3, Qwen and GPT-2 have it."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=size, initial_alphabet=alphabet, special_tokens=list(CONTROLS))
    tokenizer.train_from_iterator(TEXTS, trainer)
    tokenizer.add_tokens([AddedToken("<tool_call>", normalized=False), AddedToken("</tool_call>", normalized=False)])
    tokenizer.post_processor = processors.TemplateProcessing(single="<|begin|> $A", special_tokens=[("<|begin|>", 0)])
    return _written(tokenizer, folder)


def spaced(folder: Path, *, strip: bool = True) -> Path:
    """tokenizer.json as Llama 2 (with `strip`) and Gemma (without) have it: marks for spaces, bytes as `<0x0A>`."""
    model = trained_pieces(folder)
    processor = sentencepiece.SentencePieceProcessor(model_file=str(model))
    size = processor.vocab_size()
    pieces = [processor.IdToPiece(token) for token in range(size)]
    scores = [processor.GetScore(token) for token in range(size)]
    merges = merges_of(pieces, scores)
    tokenizer = Tokenizer(
        models.BPE({p: i for i, p in enumerate(pieces)}, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    )
    prefix = [normalizers.Prepend("▁")] if strip else []
    tokenizer.normalizer = normalizers.Sequence([*prefix, normalizers.Replace(" ", "▁")])
    tail = [decoders.Strip(" ", 1, 0)] if strip else []
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), *tail])
    tokenizer.add_special_tokens(["<s>", "</s>"])
    (folder / "tokenizer.model").unlink()
    return _written(tokenizer, folder)


def merges_of(pieces: Sequence[str], scores: Sequence[float]) -> list[tuple[str, str]]:
    """As transformers converts SentencePiece's BPE."""
    ids = {piece: place for place, piece in enumerate(pieces)}
    found = []
    for piece, score in zip(pieces, scores, strict=True):
        local = [(piece[:n], piece[n:], score) for n in range(1, len(piece))]
        local = [merge for merge in local if merge[0] in ids and merge[1] in ids]
        found += sorted(local, key=lambda merge: (ids[merge[0]], ids[merge[1]]))
    found.sort(key=lambda merge: (merge[2], len(merge[0]), len(merge[1])), reverse=True)
    return [(left, right) for left, right, _ in found]


def trained_pieces(folder: Path, kind: str = "bpe") -> Path:
    """tokenizer.model."""
    folder.mkdir(parents=True, exist_ok=True)
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([line for text in TEXTS for line in text.splitlines()] * 3),
        model_writer=model,
        vocab_size=420,
        model_type=kind,
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        minloglevel=2,
        hard_vocab_limit=False,
    )
    file = folder / "tokenizer.model"
    file.write_bytes(model.getvalue())
    return file


def ranks(folder: Path) -> Path:
    """A tiktoken file with the tokens of `byte_level`."""
    source = Tokenizer.from_file(str(byte_level(folder / "source") / "tokenizer.json"))
    letters = byte_letters()
    kept = [(token, piece) for piece, token in source.get_vocab().items() if all(letter in letters for letter in piece)]
    # tiktoken wants every byte, in the order of merging; control tokens come behind
    words = [bytes(letters[letter] for letter in piece) for _, piece in sorted(kept) if piece not in CONTROLS]
    lines = [b"%b %d" % (base64.b64encode(word), rank) for rank, word in enumerate(dict.fromkeys(words))]
    (folder / "small.tiktoken").write_bytes(b"\n".join(lines) + b"\n")
    controls = {str(len(lines) + place): {"content": piece, "special": True} for place, piece in enumerate(CONTROLS)}
    configuration = {"added_tokens_decoder": controls, "bos_token": "<|begin|>", "eos_token": "<|end|>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(configuration))
    return folder


def gguf_ranked(folder: Path, pre: str = "gpt-2") -> Path:
    """A .gguf file that holds the tokenizer of `byte_level`, and no tensor."""
    source = json.loads((byte_level(folder / "source") / "tokenizer.json").read_text())
    ids = {**source["model"]["vocab"], **{entry["content"]: entry["id"] for entry in source["added_tokens"]}}
    tokens = sorted(ids, key=lambda piece: ids[piece])
    special = {entry["content"]: 3 if entry["special"] else 4 for entry in source["added_tokens"]}
    writer = _writer(folder / "ranked.gguf", "gpt2", tokens, [special.get(piece, 1) for piece in tokens])
    writer.add_tokenizer_pre(pre)
    writer.add_token_merges([" ".join(merge) for merge in source["model"]["merges"]])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)
    writer.add_add_bos_token(True)
    writer.add_chat_template("{% for m in messages %}{{ bos_token }}{{ m.content }}{{ eos_token }}{% endfor %}")
    return _closed(writer, folder / "ranked.gguf")


def gguf_scored(folder: Path) -> Path:
    """A .gguf file that holds the tokenizer of `trained_pieces`."""
    processor = sentencepiece.SentencePieceProcessor(model_file=str(trained_pieces(folder)))
    every = range(processor.vocab_size())
    kinds = [
        6 if processor.IsByte(t) else 3 if processor.IsControl(t) else 2 if processor.IsUnknown(t) else 1 for t in every
    ]
    writer = _writer(folder / "scored.gguf", "llama", [processor.IdToPiece(t) for t in every], kinds)
    writer.add_token_scores([processor.GetScore(t) for t in every])
    writer.add_bos_token_id(processor.bos_id())
    writer.add_eos_token_id(processor.eos_id())
    writer.add_unk_token_id(processor.unk_id())
    return _closed(writer, folder / "scored.gguf")


def _writer(file: Path, model: str, tokens: Sequence[str], kinds: Sequence[int]) -> gguf.GGUFWriter:
    writer = gguf.GGUFWriter(str(file), "llama")
    writer.add_tokenizer_model(model)
    writer.add_token_list([piece.encode() for piece in tokens])
    writer.add_token_types(kinds)
    return writer


def _closed(writer: gguf.GGUFWriter, file: Path) -> Path:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def _written(tokenizer: Tokenizer, folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder
