"""Draws docs/pictures/demo.svg: what `make demo` prints, as it prints it, with most of its answers left out.

Run `python docs/pictures/draw.py` after a change of the demo or of the answers; a test holds the picture against both.
"""

import runpy
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.panel import Panel
from rich.terminal_theme import MONOKAI

HERE = Path(__file__).parent
SHOWN = (0, 5, 8, 10)
"""Which of the demo's questions are in the picture, beside the last answer."""


class Cut(Console):
    """A console that keeps what it prints, but for the panels of questions that are not shown."""

    def __init__(self, shown: set[str], **options: Any) -> None:
        super().__init__(record=True, **options)
        self._shown = shown
        self._left_out = 0

    def print(self, *objects: Any, **options: Any) -> None:
        panel = objects[0] if objects and isinstance(objects[0], Panel) else None
        if panel is not None and str(panel.title).removeprefix("[bold]") not in self._shown:
            self._left_out += 1
            return
        if self._left_out:
            super().print(f"  ⋮  {self._left_out} more", style="dim")
            self._left_out = 0
        super().print(*objects, **options)


def main() -> int:
    demo = runpy.run_path(str(HERE.parents[1] / "examples" / "demo.py"))
    questions = [question for question, _ in demo["QUESTIONS"]]
    console = Cut({questions[place] for place in SHOWN}, width=110, force_terminal=True)
    status = demo["main"](console)
    svg = console.export_svg(title="make demo", theme=MONOKAI)
    (HERE / "demo.svg").write_text(svg, "utf-8")
    return status


if __name__ == "__main__":
    sys.exit(main())
