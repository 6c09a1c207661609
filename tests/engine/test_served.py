"""Checkpoints of every kind through the whole way: an official client, the gateway, the engine's own process."""

import json
import threading
import time
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import gguf
import openai
import pytest
import torch
import transformers
from safetensors.torch import save_file

from loam.config import parse
from loam.serving import Running, running
from tests.engine import checkpoints
from tests.engine.gguf_checkpoints import write_gguf
from tests.grounding.encoder.conftest import write_tiny

KINDS = gguf.GGMLQuantizationType
PROMPT = "The quick brown fox asked which word"
MESSAGES: Any = [{"role": "user", "content": "Hello there, what comes next?"}]


def write_adapter(folder: Path, seed: int) -> Path:
    """A LoRA as PEFT saves it, of the queries and what goes down in the layers of `checkpoints.make`."""
    folder.mkdir()
    settings = {"peft_type": "LORA", "r": 4, "lora_alpha": 16, "target_modules": ["q_proj", "down_proj"]}
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    chance = torch.Generator().manual_seed(seed)
    weights: dict[str, torch.Tensor] = {}
    for layer in range(3):
        for name, width in (("self_attn.q_proj", 64), ("mlp.down_proj", 96)):
            at = f"base_model.model.model.layers.{layer}.{name}"
            weights[f"{at}.lora_A.weight"] = torch.randn(4, width, generator=chance) / width**0.5
            weights[f"{at}.lora_B.weight"] = torch.randn(64, 4, generator=chance) * 0.3
    save_file(weights, folder / "adapter_model.safetensors")
    return folder


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    shelf = tmp_path_factory.mktemp("shelf")
    plain = checkpoints.make(shelf / "plain", context=2048)
    checkpoints.make(shelf / "other", context=2048, seed=2)
    half = checkpoints.make(shelf / "half", dtype=torch.float16)
    write_gguf(plain, shelf / "plain-f32.gguf")
    write_gguf(half, shelf / "half-f16.gguf", KINDS.F16)
    write_gguf(plain, shelf / "plain-q8.gguf", KINDS.Q8_0)
    write_tiny(shelf / "encoder")
    for seed, name in enumerate(("law", "verse")):
        write_adapter(shelf / f"adapter-{name}", seed)
    return shelf


@pytest.fixture(scope="module")
def here(shelf: Path, tmp_path_factory: pytest.TempPathFactory) -> Generator[Running, None, None]:
    engine = {
        "folder": str(shelf),
        "paths": {name: str(shelf / "plain") for name in ("tuned", "drafted", "misled")},
        "adapters": {"tuned": {name: str(shelf / f"adapter-{name}") for name in ("law", "verse")}},
        "drafts": {"drafted": str(shelf / "plain"), "misled": str(shelf / "other")},
        "weights": "fp32",
        "threads": 1,
        "loaded": 16,
        "grace": 1.0,
    }
    data = str(tmp_path_factory.mktemp("data"))
    grounding = {"encoder": {"name": "none", "backend": "fp32"}}
    given = {"data": data, "server": {"port": 0}, "grounding": grounding, "providers": {"local": {"engine": engine}}}
    with running(parse(given)) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def client(here: Running) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{here.url}/v1", api_key="-", max_retries=0)


def continued(client: openai.OpenAI, model: str, **more: Any) -> str:
    asked = {"prompt": PROMPT, "max_tokens": 48, "temperature": 0, **more}
    return client.completions.create(model=f"local/{model}", **asked).choices[0].text


def state(here: Running, name: str) -> Any:
    with urlopen(f"{here.url}/loam/v1/engine") as answer:
        return next(one for one in json.load(answer)["models"] if one["name"] == name)


@pytest.mark.parametrize(
    ("folder", "file"), [("plain", "plain-f32"), pytest.param("half", "half-f16", marks=pytest.mark.slow)]
)
def test_a_gguf_file_says_what_its_folder_says(client: openai.OpenAI, folder: str, file: str) -> None:
    said = continued(client, folder)
    assert continued(client, file) == said
    assert len(said) > 20
    chats = [
        client.chat.completions.create(model=f"local/{name}", messages=MESSAGES, max_tokens=24, temperature=0)
        for name in (folder, file)
    ]
    assert chats[0].choices[0].message.content == chats[1].choices[0].message.content
    assert chats[0].usage == chats[1].usage


@pytest.mark.slow
def test_a_quantised_file_is_as_near_as_its_eight_bits(client: openai.OpenAI) -> None:
    scored = [
        client.completions.create(model=f"local/{name}", prompt=PROMPT, echo=True, logprobs=0, max_tokens=0)
        for name in ("plain", "plain-q8")
    ]
    exact, near = (done.choices[0].logprobs.token_logprobs[1:] for done in scored)  # type: ignore[union-attr]
    apart = max(abs(one - other) for one, other in zip(exact, near, strict=True))
    assert 1e-4 < apart < 0.3, "eight bits a weight move a logprob of this model by some hundredths"


def test_adapters_by_request_share_a_batch_and_stay_themselves(here: Running, client: openai.OpenAI) -> None:
    names = ("tuned", "tuned:law", "tuned:verse")
    asked: dict[str, Any] = {"max_tokens": 300, "extra_body": {"ignore_eos": True}}
    alone = {name: continued(client, name, **asked) for name in names}
    assert len(set(alone.values())) == 3
    assert alone["tuned"].startswith(continued(client, "plain"))
    seen, done = [0], threading.Event()

    def watch() -> None:
        while not done.is_set():
            seen.append(state(here, "tuned")["running"])
            time.sleep(0.01)

    watching = threading.Thread(target=watch)
    watching.start()
    with ThreadPoolExecutor(3) as pool:
        together = dict(zip(names, pool.map(lambda name: continued(client, name, **asked), names), strict=True))
    done.set()
    watching.join()
    assert together == alone
    assert max(seen) == 3, "they were to be answered at the same time"
    with pytest.raises(openai.NotFoundError, match=r"no adapter 'nobody'.*law, verse"):
        continued(client, "tuned:nobody")


@pytest.mark.parametrize("how", [{"temperature": 0}, {"temperature": 1.0, "seed": 11}])
def test_a_draft_changes_no_token_and_what_it_was_worth_is_told(
    here: Running, client: openai.OpenAI, how: dict[str, Any]
) -> None:
    asked = {"max_tokens": 400, "extra_body": {"ignore_eos": True}, **how}
    plain = continued(client, "plain", **asked)
    told: dict[str, tuple[int, int]] = {}
    for name in ("drafted", "misled"):
        before = state(here, name)
        assert continued(client, name, **asked) == plain
        after = state(here, name)
        told[name] = (after["guessed"] - before["guessed"], after["accepted"] - before["accepted"])
        assert 0 <= told[name][1] <= told[name][0]
        assert told[name][0] > 0
    if how["temperature"]:  # nothing repeats, so next to nothing is copied: the guesses are the draft's
        assert told["drafted"][1] >= 0.8 * told["drafted"][0], "the draft is the model itself"
        assert told["misled"][1] <= 0.5 * told["misled"][0], "the draft is a stranger"


def test_an_encoder_embeds_as_transformers_does(client: openai.OpenAI, shelf: Path) -> None:
    texts = ["the cat sat on the mat", "where is a dog?"]
    made = client.embeddings.create(model="local/encoder", input=texts)
    assert [one.index for one in made.data] == [0, 1]
    words = (shelf / "encoder" / "vocab.txt").read_text().split("\n")
    pieces = [["[CLS]", *text.replace("?", " ?").split(), "[SEP]"] for text in texts]
    config = transformers.BertConfig(
        vocab_size=len(words) - 1, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64,
        max_position_embeddings=64,
    )  # fmt: skip
    model = transformers.BertModel.from_pretrained(shelf / "encoder", config=config, add_pooling_layer=False).eval()
    for one, cut in zip(made.data, pieces, strict=True):
        with torch.no_grad():
            hidden = model(torch.tensor([[words.index(piece) for piece in cut]])).last_hidden_state[0, 0]
        assert torch.allclose(torch.tensor(one.embedding), hidden / hidden.norm(), atol=1e-4)
    with pytest.raises(openai.BadRequestError, match="makes no embeddings"):
        client.embeddings.create(model="local/plain", input=texts)
