"""The local engine: tokens in, tokens out, every step open to inspection.

Importing `loam.engine` loads nothing heavy; torch comes with `loam.engine.transformer` and what stands on it.
"""
