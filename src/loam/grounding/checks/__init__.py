"""Judgements on a sentence and its evidence that need no model: pure functions of two texts."""
