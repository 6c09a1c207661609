"""Makes src/loam/gateway/bodies-1.dict, the zstd dictionary of the ledger's bodies.

    python recipes/ledger_dictionary.py OUT.dict [TEST.jsonl]

The samples are made here, from a fixed seed: requests as the known clients write them and answers as Loam keeps them,
filled with paragraphs of the handbook that ships with the package. The same zstandard gives the same file. With
TEST.jsonl (a "prompt" and a "response" a line) it prints what the dictionary saves on texts that it has not seen.
A dictionary that shipped is never changed, or kept bodies could not be read any more: a better one gets the next number
and a codec of its own.
"""

import json
import random
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import zstandard

from loam.core.calls import Answer, Choice, Finish, Head, Usage
from loam.core.messages import Text, ToolCall

SIZE = 16 * 1024
SAMPLES = 4000

HANDBOOK = Path(__file__).parents[1] / "src/loam/grounding/handbook"
PROMPTS = (
    "You are a helpful assistant.",
    "You are a helpful assistant that answers questions about the following text:",
    "You are an expert software engineer. Answer briefly and with working code.",
    "Use only the information in the context below. If the answer is not in the context, say that you do not know.",
    "Summarize the following text in three sentences:",
    "Translate the following sentence into German:",
    "Classify the sentiment of the following review as positive, negative or neutral.",
    "Can you give me an example of how this works?",
)
CODE = (
    "```python\ndef main() -> None:\n    for item in items:\n        if item is None:\n            continue\n"
    '        print(f"{item.name}: {item.value}")\n\n\nif __name__ == "__main__":\n    main()\n```',
    "```python\nimport json\n\nwith open(path) as file:\n    data = json.load(file)\n\nreturn list(data)\n```",
    "```sql\nSELECT name, COUNT(*) FROM orders WHERE created_at > '2024-01-01'\nGROUP BY name LIMIT 10;\n```",
    "```javascript\nconst result = await fetch(url);\nif (!result.ok) {\n  throw new Error(result.status);\n}\n```",
    "1. **First**: \n2. **Second**: \n3. **Third**: \n\n## Summary\n\n- \n- \n\n| name | value |\n| --- | --- |\n",
)
MODELS = (
    "gpt-4o-mini",
    "gpt-4.1",
    "gpt-5-mini",
    "claude-sonnet-4-5",
    "claude-haiku-4-5",
    "llama-3.3-70b",
    "fast",
    "strong",
)
TOOL: dict[str, Any] = {
    "name": "search",
    "description": "Search the documents.",
    "parameters": {
        "type": "object",
        "properties": {
            "query": {"type": "string", "description": "What to search for"},
            "limit": {"type": "integer", "description": "The maximum number of results", "default": 10},
            "unit": {"type": "string", "enum": ["celsius", "fahrenheit"]},
            "items": {"type": "array", "items": {"type": "string"}},
        },
        "required": ["query"],
        "additionalProperties": False,
    },
}


@cache
def paragraphs() -> list[str]:
    """Plain English, a paragraph each: the handbook that ships with the package."""
    pages = (path.read_text("utf-8") for path in sorted(HANDBOOK.rglob("*.md")))
    return [piece.strip() for page in pages for piece in page.split("\n\n") if len(piece) > 80]


def text(chance: random.Random) -> str:
    """Some prose, now and then after an instruction or before some code."""
    said = "\n\n".join(chance.choices(paragraphs(), k=chance.randint(1, 3)))
    said = f"{chance.choice(PROMPTS)}\n\n{said}" if chance.random() < 0.3 else said
    return f"{said}\n\n{chance.choice(CODE)}" if chance.random() < 0.1 else said


def request(chance: random.Random) -> bytes:
    """A request in one of the formats that clients send, spaced as their JSON libraries do it."""
    turns = [{"role": "user", "content": text(chance)}]
    for _ in range(chance.choice((0, 0, 0, 1, 2))):
        turns += [{"role": "assistant", "content": text(chance)}, {"role": "user", "content": text(chance)}]
    body: dict[str, Any] = {"model": chance.choice(MODELS)}
    kind = chance.choice(("openai", "openai", "openai", "anthropic", "responses", "embeddings"))
    if kind == "openai":
        body = {"messages": [{"role": "system", "content": text(chance)}, *turns], **body}
        body |= chance.choice(({}, {"tools": [{"type": "function", "function": TOOL}], "tool_choice": "auto"}))
        body |= chance.choice(({}, {"stream": True, "stream_options": {"include_usage": True}}))
        body |= chance.choice(({}, {"temperature": chance.choice((0, 0.2, 0.7, 1.0)), "max_tokens": 1024, "top_p": 1}))
        body |= chance.choice(({}, {}, {"response_format": {"type": "json_object"}, "user": "user-1"}))
    elif kind == "anthropic":
        blocks = [{"role": turn["role"], "content": [{"type": "text", "text": turn["content"]}]} for turn in turns]
        tool = {"name": "search", "description": "Search the documents.", "input_schema": TOOL["parameters"]}
        cached = [{"type": "text", "text": text(chance), "cache_control": {"type": "ephemeral"}}]
        body = {
            "max_tokens": 1024,
            "messages": chance.choice((turns, blocks)),
            **body,
            "system": cached,
            "stream": True,
        }
        body |= chance.choice(({}, {"tools": [tool]}))
    elif kind == "responses":
        body |= {"input": chance.choice((turns, turns[0]["content"])), "instructions": text(chance), "store": False}
    else:
        body |= {"input": [text(chance), text(chance)], "encoding_format": "float"}
    body |= chance.choice(({}, {}, {"loam": {"user": "ann", "tags": {"team": "research"}, "collection": "handbook"}}))
    separators = chance.choice(((",", ":"), (",", ":"), (", ", ": ")))
    return json.dumps(body, ensure_ascii=False, separators=separators).encode()


def answer(chance: random.Random) -> bytes:
    """An answer in Loam's own words, as the ledger keeps it."""
    tool = ToolCall(
        f"call_{chance.randbytes(12).hex()}", "search", json.dumps({"query": text(chance)[:30], "limit": 5})
    )
    says_tool = chance.random() < 0.2
    finish: Finish = "tool_calls" if says_tool else "stop"
    choice = Choice((tool,) if says_tool else (Text(text(chance)),), finish)
    head = Head(
        f"chatcmpl-{chance.randbytes(12).hex()}",
        chance.choice(MODELS),
        1_700_000_000 + chance.randrange(10**8),
        f"fp_{chance.randbytes(5).hex()}",
        chance.choice(("", "default")),
        family=chance.choice(("openai", "anthropic")),
    )
    usage = Usage(chance.randrange(20, 2000), chance.randrange(1, 800), chance.choice((0, 0, 1024)))
    return msgspec.json.encode(Answer((choice,), usage, head))


def samples(seed: int, count: int) -> list[bytes]:
    chance = random.Random(seed)
    return [make(chance) for _ in range(count // 2) for make in (request, answer)]


def unseen(path: Path) -> Iterator[bytes]:
    for line in path.read_text("utf-8").splitlines():
        row = json.loads(line)
        body = {"messages": [{"role": "user", "content": row["prompt"]}], "model": "gpt-4o-mini"}
        yield json.dumps(body, separators=(",", ":")).encode()
        said = Choice((Text(row["response"]),), "stop")
        yield msgspec.json.encode(Answer((said,), Usage(70, 90), Head("chatcmpl-8a7c", "gpt-4o-mini", 1764000000)))


def main() -> None:
    """Trains, writes, and tells the gain."""
    dictionary = zstandard.train_dictionary(SIZE, samples(1, SAMPLES), level=3)
    Path(sys.argv[1]).write_bytes(dictionary.as_bytes())
    tests = list(unseen(Path(sys.argv[2]))) if len(sys.argv) > 2 else samples(2, 400)
    plain = zstandard.ZstdCompressor(3)
    better = zstandard.ZstdCompressor(3, dict_data=zstandard.ZstdCompressionDict(dictionary.as_bytes()))
    for name, compressor in (("plain", plain), ("with dictionary", better)):
        ratio = sum(map(len, tests)) / sum(len(compressor.compress(body)) for body in tests)
        print(f"{name}: {ratio:.2f} to 1")


if __name__ == "__main__":
    main()
