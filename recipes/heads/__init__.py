"""How the reader, reranker and verifier heads of `loam.grounding` are made: data, training, measuring, export."""
