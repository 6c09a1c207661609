"""Tokenizers of every format: ids as their own libraries give them, and text that never breaks while it streams."""

import gzip
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
import tiktoken
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer as Library
from tokenizers import decoders, models, pre_tokenizers

from loam.core.errors import EngineError, ModelFailure
from loam.engine.tiktoken_vocabulary import GPT4
from loam.engine.tokenizer import Tokenizer
from tests.engine import vocabularies

SHARED = Path(__file__).parents[3] / "shared" / "data" / "small"
MORE = ["", " ", "  two  spaces ", "\n\n", "a\tb", "👍🏽👩\u200d👩\u200d👧", "日本", "x" * 300, "ﬁ\u0301"]
MORE += ["<|im_start|>user\nhi<|im_end|>\n"]


def _pieces(folder: Path) -> Path:
    vocabularies.trained_pieces(folder)
    return folder


def _unigram(folder: Path) -> Path:
    vocabularies.trained_pieces(folder, "unigram")
    return folder


MAKERS: dict[str, Callable[[Path], Path]] = {
    "byte_level": vocabularies.byte_level,
    "spaced": vocabularies.spaced,
    "gemma_like": lambda folder: vocabularies.spaced(folder, strip=False),
    "sentencepiece": _pieces,
    "unigram": _unigram,
    "tiktoken": vocabularies.ranks,
    "gguf_ranked": vocabularies.gguf_ranked,
    "gguf_scored": vocabularies.gguf_scored,
}


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Tokenizer]:
    made: dict[str, Tokenizer] = {}

    def tokenizer(name: str) -> Tokenizer:
        if name not in made:
            folder = tmp_path_factory.mktemp(name)
            made[name] = Tokenizer.open(MAKERS[name](folder))
        return made[name]

    return tokenizer


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("text", [*vocabularies.TEXTS, *MORE])
def test_a_text_survives(opened: Callable[[str], Tokenizer], name: str, text: str) -> None:
    tokenizer = opened(name)
    assert tokenizer.decode(tokenizer.encode(text), special=True) == text
    assert all(0 <= token < tokenizer.vocabulary for token in tokenizer.encode(text, special=True))


@pytest.mark.parametrize("name", MAKERS)
@given(data=st.data())
def test_a_stream_says_what_the_whole_says(opened: Callable[[str], Tokenizer], name: str, data: Any) -> None:
    tokenizer = opened(name)
    tokens = data.draw(st.lists(st.integers(0, tokenizer.vocabulary - 1), max_size=40))
    special = data.draw(st.booleans())
    stream = tokenizer.stream(special=special)
    pieces = [stream.add(token) for token in tokens]
    whole = "".join([*pieces, stream.end()])
    assert whole == tokenizer.decode(tokens, special=special)
    # what one piece shows is never taken back: it is how the text of all the tokens begins
    shown = b"".join(tokenizer.token_bytes(t) for t in tokens if special or t not in tokenizer.special)
    assert whole in (shown.decode("utf-8", "replace"), shown.removeprefix(b" ").decode("utf-8", "replace"))


@pytest.mark.parametrize("name", MAKERS)
@given(text=st.text(max_size=40))
def test_no_piece_of_a_stream_holds_half_a_letter(opened: Callable[[str], Tokenizer], name: str, text: str) -> None:
    tokenizer = opened(name)
    text = text.replace("\ufffd", "").encode("utf-8", "ignore").decode()
    stream = tokenizer.stream(special=True)
    pieces = [stream.add(token) for token in tokenizer.encode(text)]
    assert "\ufffd" not in "".join(pieces)
    assert "".join(pieces) == text
    assert stream.end() == ""


@pytest.mark.parametrize("name", ["byte_level", "spaced", "gemma_like"])
@given(data=st.data())
def test_text_is_as_the_library_decodes_it(opened: Callable[[str], Tokenizer], name: str, data: Any) -> None:
    tokenizer = opened(name)
    library = Library.from_file(str(tokenizer.source / "tokenizer.json"))
    tokens = data.draw(st.lists(st.integers(0, tokenizer.vocabulary - 1), max_size=30))
    for hidden in (True, False):
        expected = library.decode(tokens, skip_special_tokens=hidden)
        ours = tokenizer.decode(tokens, special=not hidden)
        # a run of bytes with a broken letter in it: the library gives up all of the run, Python the letter
        if "\ufffd" not in expected:
            assert ours == expected


@given(text=st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=60))
def test_gguf_and_sentencepiece_give_the_same_ids(opened: Callable[[str], Tokenizer], text: str) -> None:
    assert opened("gguf_scored").encode(text) == opened("sentencepiece").encode(text)


@given(text=st.text(max_size=60))
def test_sentencepiece_is_the_librarys(opened: Callable[[str], Tokenizer], text: str) -> None:
    tokenizer = opened("sentencepiece")
    library = sentencepiece.SentencePieceProcessor(model_file=str(tokenizer.source / "tokenizer.model"))
    text = text.encode("utf-8", "ignore").decode()
    if not any(control in text for control in ("<s>", "</s>")):
        assert tokenizer.encode(text) == library.encode(text)
        assert tokenizer.encode(text, special=True) == [library.bos_id(), *library.encode(text)]
        assert tokenizer.decode(library.encode(text)) == library.decode(library.encode(text))


@given(text=st.text(max_size=60))
def test_gguf_gives_the_ids_of_the_tokenizer_that_it_was_made_from(
    opened: Callable[[str], Tokenizer], text: str
) -> None:
    text = text.encode("utf-8", "ignore").decode()
    assert opened("gguf_ranked").encode(text, special=True) == opened("byte_level").encode(text, special=True)


def test_control_tokens_in_a_text_count_as_such(opened: Callable[[str], Tokenizer]) -> None:
    for name in ("byte_level", "tiktoken", "gguf_ranked"):
        tokenizer = opened(name)
        token = tokenizer.id_of("<|im_end|>")
        assert token is not None
        assert tokenizer.encode("a<|im_end|>b").count(token) == 1
        assert tokenizer.decode(tokenizer.encode("a<|im_end|>b")) == "ab"
        assert token in tokenizer.stop_tokens
    assert opened("sentencepiece").encode("<s>a</s>")[0] == 1


def test_behind_other_text_a_first_space_is_meant(opened: Callable[[str], Tokenizer]) -> None:
    tokenizer = opened("spaced")
    tokens = tokenizer.encode("the fox")
    fresh, begun = tokenizer.stream(), tokenizer.stream(begun=True)
    assert "".join(map(fresh.add, tokens)) == "the fox"
    assert "".join(map(begun.add, tokens)) == " the fox"


def test_tiktoken_is_the_librarys(opened: Callable[[str], Tokenizer]) -> None:
    tokenizer = opened("tiktoken")
    lines = (tokenizer.source / "small.tiktoken").read_bytes().splitlines()
    import base64

    ranks = {base64.b64decode(word): int(rank) for word, rank in (line.split() for line in lines)}
    library = tiktoken.Encoding("x", pat_str=GPT4, mergeable_ranks=ranks, special_tokens={})
    for text in vocabularies.TEXTS:
        assert tokenizer.encode(text) == library.encode(text)
        assert tokenizer.encode(text, special=True)[0] == tokenizer.id_of("<|begin|>")


def test_llama_3_ships_ranks_under_sentencepieces_name(tmp_path: Path) -> None:
    folder = vocabularies.ranks(tmp_path)
    (folder / "small.tiktoken").rename(folder / "tokenizer.model")
    assert Tokenizer.open(folder).decode(Tokenizer.open(folder).encode("the fox")) == "the fox"


def _gpt2(folder: Path, ids: str, merges: str) -> Path:
    (folder / "encoder.json").write_text(ids)
    (folder / "vocab.bpe").write_text(merges)
    return folder


def test_gpt2s_pair_of_files_is_read(tmp_path: Path) -> None:
    source = json.loads((vocabularies.byte_level(tmp_path / "source") / "tokenizer.json").read_text())
    merges = "\n".join(["#version: 0.2", *(" ".join(merge) for merge in source["model"]["merges"])])
    tokenizer = Tokenizer.open(_gpt2(tmp_path, json.dumps(source["model"]["vocab"]), merges))
    library = Tokenizer.open(tmp_path / "source")
    for text in vocabularies.TEXTS:
        assert tokenizer.encode(text) == library.encode(text)


@pytest.mark.skipif(not (SHARED / "gpt2-encoder.json.gz").exists(), reason="GPT-2's own files are not here")
def test_gpt2s_ids(tmp_path: Path) -> None:
    read = {
        name: gzip.decompress((SHARED / f"gpt2-{name}.gz").read_bytes()).decode()
        for name in ("encoder.json", "vocab.bpe")
    }
    tokenizer = Tokenizer.open(_gpt2(tmp_path, read["encoder.json"], read["vocab.bpe"]))
    assert tokenizer.encode("Hello world") == [15496, 995]
    assert tokenizer.decode([15496, 995]) == "Hello world"
    assert tokenizer.encode("<|endoftext|>") == [50256]
    assert tokenizer.vocabulary == 50257


def test_word_pieces_stream_slowly_but_rightly(tmp_path: Path) -> None:
    words = {word: place for place, word in enumerate(["[UNK]", "the", "fox", "##es", "run", ".", ","])}
    library = Library(models.WordPiece(words, unk_token="[UNK]"))
    library.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    library.decoder = decoders.WordPiece()
    library.save(str(tmp_path / "tokenizer.json"))
    tokenizer = Tokenizer.open(tmp_path)
    tokens = tokenizer.encode("the foxes run, the fox.")
    stream = tokenizer.stream()
    assert "".join([*map(stream.add, tokens), stream.end()]) == "the foxes run, the fox."


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({}, "has no tokenizer: put tokenizer.json"),
        ({"tokenizer.json": b"{"}, r"tokenizer\.json is no tokenizer that can be read"),
        ({"tokenizer.model": b"\x0a\xff\xff\xff garbage"}, r"tokenizer\.model is no SentencePiece model"),
        ({"x.tiktoken": b"!!! 1\n"}, r"x\.tiktoken is no tiktoken file"),
        ({"vocab.json": b"[]", "merges.txt": b""}, "no vocabulary"),
        ({"tokenizer_config.json": b"[1]"}, r"tokenizer_config\.json holds no JSON object"),
        ({"tokenizer_config.json": b"{"}, r"tokenizer_config\.json is no JSON"),
    ],
)
def test_what_cannot_be_read_is_named_with_a_remedy(tmp_path: Path, files: dict[str, bytes], said: str) -> None:
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    with pytest.raises(EngineError, match=said):
        Tokenizer.open(tmp_path)


def test_a_file_that_is_no_checkpoint_is_named(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="neither a checkpoint's folder nor"):
        Tokenizer.open(tmp_path / "nothing")
    (tmp_path / "x.gguf").write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 1 << 40, 1 << 40))
    with pytest.raises(EngineError, match=r"x\.gguf is no GGUF file"):
        Tokenizer.open(tmp_path / "x.gguf")


def test_an_unknown_cut_is_refused_and_not_guessed(tmp_path: Path) -> None:
    file = vocabularies.gguf_ranked(tmp_path, pre="a-cut-of-tomorrow")
    with pytest.raises(EngineError, match="a-cut-of-tomorrow"):
        Tokenizer.open(file)


def test_half_a_surrogate_pair_is_a_bad_request(opened: Callable[[str], Tokenizer]) -> None:
    for name in ("byte_level", "sentencepiece", "tiktoken"):
        with pytest.raises(ModelFailure):
            opened(name).encode("\ud83d")
