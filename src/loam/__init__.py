"""Loam: own the whole path of an LLM answer, from tokens to production."""

__version__ = "0.1.0"
