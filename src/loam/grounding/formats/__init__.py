"""Readers of document formats, one module a family; `loam.grounding.documents` says which module reads what."""
