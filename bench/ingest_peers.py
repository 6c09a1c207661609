"""LlamaIndex with Chroma, as their guides put them together, on Loam's encoder: what taking the same files in costs.

`IngestionPipeline` with a document store skips what it has seen; Chroma keeps its collection on disk. LlamaIndex cuts
at 1,024 tokens by default, of which this encoder reads 256; a second row has it cut at 256, so that all is read.
"""

from pathlib import Path

import chromadb
from chromadb.config import Settings as ChromaSettings
from llama_index.core import SimpleDirectoryReader
from llama_index.core.ingestion import DocstoreStrategy, IngestionPipeline
from llama_index.core.node_parser import SentenceSplitter
from llama_index.core.storage.docstore import SimpleDocumentStore
from llama_index.vector_stores.chroma import ChromaVectorStore

from bench.retrieval_peers import LlamaEmbedding, Waiting
from loam.grounding.documents import FORMATS
from loam.grounding.encoder.port import Encoder


class LlamaChroma:
    """One pipeline and its collection; `run` takes the folder in, or finds that it has it."""

    def __init__(self, folder: Path, place: Path, waiting: Waiting, *, tokens: int) -> None:
        self._folder = folder
        client = chromadb.PersistentClient(str(place), ChromaSettings(anonymized_telemetry=False))
        self._collection = client.create_collection("all")
        overlap = 200 if tokens >= 1024 else 20  # 200 is the default, and nearly all of 256
        self._pipeline = IngestionPipeline(
            transformations=[
                SentenceSplitter(chunk_size=tokens, chunk_overlap=overlap),
                LlamaEmbedding(waiting=waiting),
            ],
            docstore=SimpleDocumentStore(),
            docstore_strategy=DocstoreStrategy.UPSERTS,
            vector_store=ChromaVectorStore(chroma_collection=self._collection),
        )

    def run(self) -> None:
        reader = SimpleDirectoryReader(
            str(self._folder), recursive=True, filename_as_id=True, required_exts=sorted(FORMATS)
        )
        self._pipeline.run(documents=reader.load_data())

    @property
    def chunks(self) -> int:
        return self._collection.count()


def opened(folder: Path, place: Path, encoder: Encoder, *, tokens: int) -> LlamaChroma:
    """The pipeline with its encoder's weights read."""
    waiting = Waiting(encoder)
    waiting.embed(["open the weights"])
    return LlamaChroma(folder, place, waiting, tokens=tokens)
