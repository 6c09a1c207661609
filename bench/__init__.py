"""Benches: every speed figure in the docs is printed by a program of this folder."""
