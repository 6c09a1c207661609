"""What transformers makes of some texts, as the tests hold Loam's own encoder against it.

Needs torch, transformers and tokenizers, which Loam does not: run it by hand where they are, from the repository's
root, and commit what it writes.

    python -m recipes.encoder_reference FOLDER_OF_ALL_MINILM_L6_V2 tests/grounding/encoder
"""

import json
import random
import sys
import unicodedata
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer
from transformers import BertModel

from tests.grounding.encoder.made import PASSAGES, QUESTION, random_adapter

PLAIN = (
    "",
    " ",
    "hello",
    "Hello, World!",
    "don't won't can't it's",
    "The quick brown fox jumps over the lazy dog.",
    "unbelievably antidisestablishmentarianism",
    "state-of-the-art e-mail: a.b-c_d@example.org, see https://example.org/x?y=1&z=%20#frag",
    "$1,234.56 on 2021-03-04 at 10:30pm (±5%)",
    "C++ and C# and F# -> => != <= >= && || ~~ `code` {a: [1, 2]}",
    "tabs\tand\nnew\r\nlines\vand\fmore\x85next\u2028line\u2029end",
    "zero\u200bwidth and so\u00adft and bom\ufeff and nul\x00 and re\ufffdplaced",
    "café CAFÉ cafe\u0301 naïve Ångström A\u030angstro\u0308m Ἀθῆναι ΣΊΣΥΦΟΣ ΟΔΟΣ",
    "İstanbul ISTANBUL ıspanak Straße STRASSE ẞ ſ ﬁnance ﬀ ǅ ŉ",
    "naïve “quotes” ‘single’ «guillemets» – en — em … ellipsis • bullet · dot",
    "北京是中国的首都。東京タワー 한국어 조선 คนไทย हिन्दी العربية עברית",
    "mixed北京text 12京34",
    "ハンバーガー ｶﾀｶﾅ ＦＵＬＬ　ｗｉｄｔｈ",
    "𠀀𠀁 𝒜𝓁𝓅𝒽𝒶 🙂👍🏽👨\u200d👩\u200d👧 flags🇩🇪",
    "x" * 99 + " " + "x" * 100 + " " + "x" * 101,
    "a" * 300 + "b",
    "é" * 100 + " " + "é" * 101,
    "##ing ##s # ## ### hash",
    "≠ ≮ ﷺ ½ ² ™ © № ℃ Ⅷ ㈱",
    "1st 2nd 3rd 10th 1990s 90's 3.14159 1e-10 0x1F",
    "\u0301leading mark and \u0301\u0302\u0303 alone",
    "\u200bzero first",
    "Ｉ ａｍ　wide",
    "Ω≈ç√∫˜µ≤≥÷",
    "ÅÄÖåäöÆØæøßÐðÞþ",
    "vi\u1ec7t nam Vi\u1ec6T NAM tiếng",
    "a\u0300\u0323b q\u0307\u0323",
)
SENTENCES = (
    "What is the vacation policy?",
    "Employees accrue four weeks of annual leave, which they take by arrangement with their supervisor.",
    "SELECT name, count(*) FROM people GROUP BY name HAVING count(*) > 1;",
    "Der Hund ist müde und schläft unter dem Tisch.",
    "x",
    "The revenue rose by 12.5 % to €3.4 million in 2021, against €3.0 million the year before.",
    "It did not rain in Spain.",
    "It rained in Spain.",
    "",
    "def add(a, b):\n    return a + b\n",
    "北京是中国的首都。",
    "🙂 thanks!!!",
)


def main(folder: Path, target: Path) -> None:
    words = Tokenizer.from_file(str(folder / "tokenizer.json"))
    words.no_padding()
    words.no_truncation()
    pieces: list[list[object]] = []
    for text in hard_texts():
        cut = words.encode(text, add_special_tokens=False)
        pieces.append([text, cut.ids, [place for span in cut.offsets for place in span]])
    (target / "pieces.json").write_text(json.dumps(pieces, separators=(",", ":")) + "\n", "ascii")
    words.enable_truncation(256)
    model = BertModel.from_pretrained(folder, attn_implementation="eager").eval()
    texts = vector_texts()
    with torch.no_grad():
        vectors = np.stack([pooled(model, words.encode(text).ids) for text in texts])
        heads = judged(folder, words)
    np.savez_compressed(target / "vectors.npz", texts=np.array(texts), vectors=vectors, **heads)


def hard_texts() -> list[str]:
    """The plain ones, and random strings of characters as old as the tables of every Unicode library in use."""
    rng = random.Random(11)
    ranges = ((0x20, 0x7F), (0xA0, 0x250), (0x300, 0x370), (0x370, 0x530), (0x590, 0x6FF), (0x900, 0x980))
    ranges += ((0x1E00, 0x2070), (0x2070, 0x2400), (0x3000, 0x3100), (0x4E00, 0x4F00), (0xAC00, 0xAD00))
    texts = list(PLAIN + SENTENCES)
    while len(texts) < 300:
        text = ""
        for _ in range(rng.randrange(1, 8)):
            low, high = rng.choice(ranges)
            text += "".join(chr(rng.randrange(low, high)) for _ in range(rng.randrange(1, 6)))
            text += rng.choice(("", " ", "the", "Running"))
        if all(unicodedata.ucd_3_2_0.category(char) != "Cn" for char in text):
            texts.append(text)
    return texts


def vector_texts() -> list[str]:
    rng = random.Random(5)
    vocabulary = " ".join(SENTENCES + PASSAGES).split()
    return [
        *SENTENCES,
        QUESTION,
        *PASSAGES,
        *(" ".join(rng.choices(vocabulary, k=size)) for size in (3, 9, 17, 33, 60, 90, 120, 150, 180, 220, 300, 400)),
    ]


def pooled(model: BertModel, ids: list[int]) -> np.ndarray:
    """Mean of the last states, to unit length: what sentence-transformers makes of this model."""
    states = model(input_ids=torch.tensor([ids])).last_hidden_state[0]
    return torch.nn.functional.normalize(states.mean(0), dim=0).numpy()


def judged(folder: Path, words: Tokenizer) -> dict[str, np.ndarray]:
    """The scores of the random adapter's heads on the made pairs, its changes added by hooks, not merged."""
    model = BertModel.from_pretrained(folder, attn_implementation="eager").eval()
    arrays = {name: torch.tensor(array.astype(np.float32)) for name, array in random_adapter().items()}
    modules = dict(model.named_modules())
    for name, low in arrays.items():
        if name.startswith("tuned."):
            model.get_parameter(name.removeprefix("tuned.")).data.copy_(low)
        elif name.endswith(".A"):
            stem = name.removesuffix(".A")
            layer, _, module = stem.removeprefix("lora.").partition(".")
            high = arrays[f"{stem}.B"]
            modules[f"encoder.layer.{layer}.{module}"].register_forward_hook(
                lambda _, given, out, low=low, high=high: out + given[0] @ low.T @ high.T
            )
    words.no_truncation()
    found: dict[str, np.ndarray] = {}
    first = [101, *words.encode(QUESTION, add_special_tokens=False).ids[:96], 102]
    for place, passage in enumerate(PASSAGES):
        second = [*words.encode(passage, add_special_tokens=False).ids[: 384 - len(first) - 1], 102]
        ids = torch.tensor([first + second])
        types = torch.tensor([[0] * len(first) + [1] * len(second)])
        states = model(input_ids=ids, token_type_ids=types).last_hidden_state[0]
        for head, given in (("span", states), ("rank", states[0]), ("verify", states[0])):
            scores = given @ arrays[f"{head}.weight"].T + arrays[f"{head}.bias"]
            found[f"{head}{place}"] = scores.numpy()
    return found


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
