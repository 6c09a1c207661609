"""LlamaIndex and Chroma as they come, on Loam's encoder: what they take in, and what they find.

Their defaults stand, with one exception: LlamaIndex gives 2 hits where no number is named, and is asked for as many as
everybody. Chroma cuts no text; it is given Loam's passages, once as they are and once under their headings.
"""

import asyncio
import threading
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any, TypeVar

import chromadb
import numpy as np
from chromadb.config import Settings as ChromaSettings
from llama_index.core import SimpleDirectoryReader, VectorStoreIndex
from llama_index.core.embeddings import BaseEmbedding
from llama_index.core.schema import TextNode

from bench.retrieval_data import Heading, Hit, folded, headings, over
from loam.core.calls import Passage
from loam.grounding.encoder.port import Encoder

T = TypeVar("T")


class Waiting:
    """The encoder for callers that cannot await: it runs in a thread of its own."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        return self._run(self._encoder.embed(texts))

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()


class LlamaEmbedding(BaseEmbedding):
    """LlamaIndex's own door for encoders."""

    waiting: Any = None

    def _get_query_embedding(self, query: str) -> list[float]:
        return self.waiting.embed([query])[0].tolist()

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return self._get_query_embedding(query)

    def _get_text_embedding(self, text: str) -> list[float]:
        return self._get_query_embedding(text)

    def _get_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        return self.waiting.embed(texts).tolist()


class LlamaIndex:
    """`VectorStoreIndex.from_documents` over what `SimpleDirectoryReader` reads: chunks of 1,024 tokens, in memory."""

    name = "LlamaIndex, defaults"

    def __init__(self, folder: Path, waiting: Waiting) -> None:
        documents = SimpleDirectoryReader(str(folder), recursive=True).load_data()
        self._folder = folder
        self._texts = {document.metadata["file_path"]: document.text for document in documents}
        self._headings = {path: headings(text) for path, text in self._texts.items()}
        self._index = VectorStoreIndex.from_documents(documents, embed_model=LlamaEmbedding(waiting=waiting))

    async def search(self, question: str, limit: int) -> list[Hit]:
        found = self._index.as_retriever(similarity_top_k=limit).retrieve(question)
        return [self._hit(one.node) for one in found]

    def _hit(self, node: Any) -> Hit:
        assert isinstance(node, TextNode)
        path = node.metadata["file_path"]
        under: list[Heading] = self._headings[path]
        start, end = node.start_char_idx or 0, node.end_char_idx or 0
        return Hit(str(Path(path).relative_to(self._folder.resolve())), over(under, start, end))


class _ChromaEmbedding(chromadb.EmbeddingFunction[list[str]]):
    """Chroma's own door for encoders."""

    def __init__(self, waiting: Waiting) -> None:
        self._waiting = waiting

    def __call__(self, input: list[str]) -> list[Any]:
        return list(self._waiting.embed(input))

    @staticmethod
    def name() -> str:
        return "loam"

    def get_config(self) -> dict[str, Any]:
        return {}

    @staticmethod
    def build_from_config(config: dict[str, Any]) -> "_ChromaEmbedding":
        raise NotImplementedError("this one is never read back from a disk")


class Chroma:
    """A collection as `create_collection` makes it: HNSW with its own parameters."""

    def __init__(self, passages: Sequence[Passage], waiting: Waiting, *, with_headings: bool) -> None:
        self.name = f"Chroma, Loam's passages{' with headings' if with_headings else ''}"
        client = chromadb.EphemeralClient(ChromaSettings(anonymized_telemetry=False))
        embedding = _ChromaEmbedding(waiting)
        self._collection = client.create_collection(f"c{id(self)}", embedding_function=embedding)
        for start in range(0, len(passages), 1000):
            some = passages[start : start + 1000]
            self._collection.add(
                ids=[str(start + place) for place in range(len(some))],
                documents=[_headed(one) if with_headings else one.text for one in some],
                metadatas=[{"path": one.url, "title": one.title, "section": one.section} for one in some],
            )

    async def search(self, question: str, limit: int) -> list[Hit]:
        found = self._collection.query(query_texts=[question], n_results=limit)
        return [hit(one["path"], one["title"], one["section"]) for one in (found["metadatas"] or [[]])[0]]


def hit(path: str, title: str, section: str) -> Hit:
    """A passage that Loam cut."""
    return Hit(path, frozenset(folded(part) for part in (title, *section.split(" > "))))


def _headed(passage: Passage) -> str:
    return "\n".join(part for part in (passage.title, passage.section, passage.text) if part)
