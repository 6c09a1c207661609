"""Grammars on a model that wants to write noise: `python -m bench.grammar [--schemas 200] [--words 32768]`.

A random-weight Llama, a byte-level BPE of `words` tokens learned from this repository's own text, and schemas of every
kind. Told: how many of the completions are valid (all of them must be), what compiling a grammar, a mask and a step of
steering cost, how many tokens were forced and jumped over, and what grammars cost a batch in all.
"""

import argparse
import json
import random
import statistics
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import jsonschema_rs
import numpy as np
import torch
from llguidance import LLTokenizer
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from bench.batching import random_model
from loam.engine.asks import Ask, Draw, Said
from loam.engine.constrain import Constraint, grammar_of, grammar_tokens
from loam.engine.engine import Engine, EngineSettings
from loam.engine.kernel import compiled
from loam.engine.kvcache import PagedCache
from loam.engine.rows import Forward
from tests.engine.schemas import Schema, varied

STOP, MOST = 0, 256
ROOT = Path(__file__).parents[1]


def repository() -> Iterator[str]:
    for folder in ("src", "docs", "tests"):
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in {".py", ".md", ".json", ".jsonl"} and path.stat().st_size < 1_000_000:
                yield path.read_text(errors="replace")


def tokenizer(words: int) -> Tokenizer:
    made = Tokenizer(models.BPE())
    made.pre_tokenizer, made.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    made.train_from_iterator(
        repository(),
        trainers.BpeTrainer(
            vocab_size=words, special_tokens=["<|end|>"], initial_alphabet=alphabet, show_progress=False
        ),
    )
    return made


def asks(schemas: Sequence[Schema], *, grammar: bool) -> list[Ask]:
    stop = frozenset([STOP] if grammar else [])
    return [
        Ask(
            id=str(n), prompt=(5, 6, n % 100), max_tokens=MOST, draw=Draw(temperature=1.0, seed=n), stop_tokens=stop,
            grammar=grammar_of(schema=schema) if grammar else "", close_grammar=grammar,
        )
        for n, schema in enumerate(schemas)
    ]  # fmt: skip


def run(forward: Forward, tokens: LLTokenizer, every: list[Ask], guesses: int) -> tuple[dict[str, list[Said]], float]:
    made = Engine(
        forward, PagedCache(forward.architecture, 400), EngineSettings(queue=len(every), guesses=guesses), tokens=tokens
    )
    told: dict[str, list[Said]] = {ask.id: [] for ask in every}
    for ask in every:
        made.add(ask)
    started = time.perf_counter()
    while not made.idle:
        for said in made.step():
            told[said.ask].append(said)
    return told, time.perf_counter() - started


def bounded(digits: str) -> float:
    """JSON's numbers have no bound, the checker's have."""
    return max(min(float(digits), 1e300), -1e300)


def valid(schema: Schema, answer: str) -> bool:
    answer = answer.replace(":60", ":59")  # llguidance allows a leap second at any time, the checker at few
    try:
        value = json.loads(answer, parse_float=bounded)
        jsonschema_rs.validator_for(schema, validate_formats=True).validate(value)
    except ValueError as error:
        print("not valid:", json.dumps(schema)[:300], answer[:300], str(error).partition("\n")[0])
        return False
    return True


def costs(schemas: Sequence[Schema], tokens: LLTokenizer) -> dict[str, list[float]]:
    """Microseconds of each piece, along random walks through the grammars."""
    found: dict[str, list[float]] = {"compile": [], "mask": [], "advance": [], "steer": []}
    chance = random.Random(0)

    def timed(name, call, *arguments):
        started = time.perf_counter()
        result = call(*arguments)
        found[name].append(1e6 * (time.perf_counter() - started))
        return result

    for schema in schemas:
        at = timed("compile", lambda schema=schema: Constraint(grammar_of(schema=schema), tokens))
        at.close_within(MOST)
        for left in range(MOST, 0, -1):
            token = int(chance.choice(np.flatnonzero(timed("mask", at.mask))))
            token = timed("steer", at.steer, token, left)
            timed("advance", at.advance, token)
            if at.ended:
                break
    return found


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    asked.add_argument("--schemas", type=int, default=200)
    asked.add_argument("--words", type=int, default=32768)
    asked.add_argument("--size", default="3M")
    asked.add_argument("--threads", type=int, default=2)
    options = asked.parse_args()
    torch.set_num_threads(options.threads)
    words = tokenizer(options.words)
    model = random_model(options.size, options.words)
    forward: Forward = compiled(model, threads=options.threads, tell=print) or model
    tokens = grammar_tokens(words.to_str(), vocabulary=options.words, stop_tokens=[STOP])
    schemas = varied(options.schemas)
    print(f"{len(schemas)} schemas, {words.get_vocab_size()} tokens learned, {options.words} logits, {options.size}")
    every = asks(schemas, grammar=True)
    told, seconds = run(forward, tokens, every, guesses=12)
    _, plainly = run(forward, tokens, every, guesses=0)
    answers = {name: [said.token for said in each if said.token >= 0] for name, each in told.items()}
    right = sum(valid(schema, tokens.decode_str(answers[str(n)])) for n, schema in enumerate(schemas))
    written = sum(len(answer) for answer in answers.values())
    closed = sum(each[-1].closed for each in told.values())
    print(f"valid: {right} of {len(schemas)}; {closed} had to be closed before their {MOST} tokens ran out")
    free = [Ask(id=a.id, prompt=a.prompt, max_tokens=len(answers[a.id]), draw=a.draw) for a in every if answers[a.id]]
    _, unbound = run(forward, tokens, free, guesses=0)
    for name, took in (("held to grammars", seconds), ("without jumping over forced tokens", plainly)):
        print(f"{name:36} {written / took:7.0f} tokens/s, {took / unbound:4.2f} times the time of free text")
    for name, each in costs(schemas, tokens).items():
        ranked = sorted(each)
        p50, p99, most = statistics.median(ranked), ranked[-len(ranked) // 100], ranked[-1]
        print(f"{name:8} {len(each):6} times: p50 {p50:7.1f} us, p99 {p99:7.0f} us, most {most:7.0f} us")


if __name__ == "__main__":
    main()
