"""Techniques of asking: each a Model that holds a Model; prompts as versions; the linter. Imports the core alone."""
