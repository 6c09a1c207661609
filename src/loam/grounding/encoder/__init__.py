"""Texts to vectors, and pairs of texts to judgements, by one small encoder with heads."""
