"""A small model that ships with Loam, for demonstrations and tests: its folder, and nothing else (see CARD.md)."""

from pathlib import Path

FOLDER = Path(__file__).parent
