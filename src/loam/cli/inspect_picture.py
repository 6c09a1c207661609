"""Draws an inspection in a terminal: 80 to 100 columns, and nothing is said by colour alone.

Knows `Inspection`, and no engine. Invariant: every number drawn stands in the inspection; none is computed here but
bars and rounding.
"""

import json
import math
import textwrap

from rich.console import Console
from rich.table import Table
from rich.text import Text

from loam.engine.inspection import Candidate, Drawn, Inspection, Layer, Piece, Step

WIDTH = 100
_TOKEN = 18  # characters of a token shown
_SHORT = 12  # and where the terminal is narrower than `WIDTH`
_BAR = 16
_LINE = 60
_LENS = 62  # characters of a layer's line beside the lens's guesses
_REST = 11  # characters for "rest 12.3%"
_SETTINGS = {
    "top_k": 0,
    "top_p": 1.0,
    "min_p": 0.0,
    "repetition_penalty": 1.0,
    "frequency_penalty": 0.0,
    "presence_penalty": 0.0,
}
"""What is told where it is not off."""
LEGEND = (
    ("logit", "the model's score of a token; only differences count"),
    ("p", "softmax(logits): the model's own probability, no settings"),
    ("T …", "the same at that temperature: low is sure, high is daring"),
    ("chance", "with which it was drawn, after all settings; also the bar"),
    ("entropy", "how open the choice was, in bits: 0 settled, 1 a coin"),
    ("draw", "a number from seed and position; it falls on one in 0 to 1"),
)
LAYER_LEGEND = (
    ("enters, leaves", "length of the stream's vector before and after the layer"),
    ("+attention, +MLP", "the length of what each of them added"),
    ("lens", "what the model would say if it ended after this layer"),
    ("1.3", "head 3 of layer 1: the length it added, where it looked (@)"),
)
"""Each fits a line of 80 columns beside its name, also two further in, as the help shows it."""


def draw(found: Inspection, out: Console, *, legend: bool = True) -> None:
    """The whole inspection: the prompt's tokens, each step, then what the words mean."""
    out.print(Text(f"{found.model}  {_settings(found)}", "dim"))
    out.print(_prompt(found), soft_wrap=False)
    written = found.prompt
    for number, step in enumerate(found.steps, 1):
        out.print()
        _step(number, step, written, found, out)
        written = (*written, step.drawn.token)
    out.print()
    out.print(Text.assemble(("written  ", "bold"), json.dumps(found.text, ensure_ascii=False)))
    for note in found.notes:
        _wrapped(note, "", out)
    if legend and found.steps:
        _legend(LEGEND + (LAYER_LEGEND if found.steps[0].layers else ()), out)


def quoted(piece: Piece, most: int = _TOKEN) -> str:
    """A token in quotes, blanks and line ends visible; a part of a character as its bytes."""
    if "\ufffd" in piece.text:
        shown = "‹" + " ".join(piece.bytes[at : at + 2] for at in range(0, len(piece.bytes), 2)) + "›"
        return shown if len(shown) <= most else shown[: most - 2] + "…›"
    shown = json.dumps(piece.text, ensure_ascii=False)
    return shown if len(shown) <= most else shown[: most - 2] + '…"'


def percent(share: float) -> str:
    """Three digits that tell: 43.1%, 0.27%, <0.01%."""
    if share == 0.0:
        return "0%"
    if share < 1e-4:
        return "<0.01%"
    return f"{100 * share:.1f}%" if share >= 0.1 else f"{100 * share:.2f}%"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def bar(share: float, width: int = _BAR) -> str:
    """`share` of `width` blocks; what is not nothing gets at least a sliver."""
    eighths = max(round(share * width * 8), 1 if share > 0 else 0)
    return "█" * (eighths // 8) + " ▏▎▍▌▋▊▉"[eighths % 8].strip()


def _settings(found: Inspection) -> str:
    draw = found.draw
    said = [f"temperature {draw.temperature:g}" + (" (takes the likeliest)" if draw.temperature == 0 else "")]
    said += [f"{name} {getattr(draw, name):g}" for name, off in _SETTINGS.items() if getattr(draw, name) != off]
    if draw.bias:
        said.append(f"{len(draw.bias)} logits biased")
    return " · ".join([*said, f"seed {draw.seed}"])


def _prompt(found: Inspection) -> Text:
    text = Text.assemble(("prompt   ", "bold"))
    for piece in found.prompt:
        text.append(f"{quoted(piece)} ")
        text.append(f"{piece.id}  ", "dim")
    text.rstrip()
    return text


def _step(number: int, step: Step, written: tuple[Piece, ...], found: Inspection, out: Console) -> None:
    room = max(12, min(30, out.width - 66))
    before = json.dumps("".join(piece.text for piece in written)[-room:], ensure_ascii=False)
    before = before if len(before) <= room else f'"…{before[2 - room :]}'
    head = Text.assemble((f"{number}  ", "bold"), ("after ", "dim"), before)
    head.append(
        f"   entropy {step.entropy:.2f} bits, {step.entropy_left:.2f} left; drawn from {_count(step.kept, 'token')}",
        "dim",
    )
    out.print(head)
    wide = out.width >= WIDTH
    table = Table(box=None, header_style="dim", pad_edge=False, padding=(0, 1, 0, 1) if wide else (0, 1, 0, 0))
    table.add_column("")
    table.add_column("token", no_wrap=True)
    heated = [f"T {temperature:g}" for temperature in found.temperatures]
    for name in ("id", "logit", "p", *heated, "chance"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for candidate in step.candidates:
        is_drawn = candidate.token.id == step.drawn.token.id
        row = _row(candidate, is_drawn, _TOKEN if wide else _SHORT)
        table.add_row(*row, style="bold" if is_drawn else "")
    _without_ends(table, out)
    _stages(step, out)
    for line in _draw(step.drawn, _TOKEN if wide else 9):
        out.print(line)
    if step.layers:
        _layers(step, out)


def _row(candidate: Candidate, is_drawn: bool, most: int) -> list[str]:
    logit = f"{candidate.logit:.2f}"
    if candidate.adjusted is not None and candidate.adjusted != candidate.logit:
        logit += f" → {candidate.adjusted:.2f}"
    tail = f"taken by {candidate.removed_by}" if candidate.removed_by else bar(candidate.chance)
    heated = [percent(share) for share in candidate.at]
    return [
        "▸" if is_drawn else " ",
        quoted(candidate.token, most),
        str(candidate.token.id),
        logit,
        percent(candidate.probability),
        *heated,
        percent(candidate.chance),
        tail,
    ]


def _stages(step: Step, out: Console) -> None:
    if step.moved:
        out.print(Text(f"   penalties and bias changed {_count(step.moved, 'logit')}", "dim"))
    for removal in step.removed:
        taken = f"{_count(removal.tokens, 'token')}, {percent(removal.probability)} of what was left"
        said = f"   {removal.filter} took {taken}"
        if removal.likeliest:
            said += "; likeliest " + ", ".join(quoted(piece) for piece in removal.likeliest)
        _wrapped(said, "     ", out)


def _draw(drawn: Drawn, most: int) -> list[Text]:
    said = f"rank {drawn.rank:,}, logprob {drawn.logprob:.3f}"
    if drawn.number is None:
        return [Text.assemble("   takes ", (quoted(drawn.token), "bold"), f", the largest; {said}")]
    first = math.floor(drawn.low * _LINE)
    last = max(first + 1, math.ceil(drawn.high * _LINE))
    at = min(math.floor(drawn.number * _LINE), _LINE - 1)
    line = "".join("▲" if place == at else "━" if first <= place < last else "─" for place in range(_LINE))
    return [
        Text.assemble(
            f"   draws {drawn.number:.4f}, between {drawn.low:.4f} and {drawn.high:.4f}: ",
            (quoted(drawn.token, most), "bold"),
            f"; {said}",
        ),
        Text(f"   0 {line} 1"),
    ]


def _layers(step: Step, out: Console) -> None:
    table = Table(box=None, header_style="dim", pad_edge=False, padding=(0, 1, 0, 1))
    for name in ("layer", "enters", "+attention", "+MLP", "leaves"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("lens", no_wrap=False)
    table.add_column(f"rank of {quoted(step.drawn.token, 12)}", justify="right", no_wrap=True)
    for layer in step.layers:
        norms = (f"{norm:.2f}" for norm in (layer.entering, layer.attention, layer.mlp, layer.leaving))
        lens = _fitting(
            [f"{quoted(guess.token, 12)} {percent(guess.probability)}" for guess in layer.lens], out.width - _LENS
        )
        rank = f"{layer.drawn_rank:,} ({percent(layer.drawn_probability)})"
        table.add_row(str(layer.layer), *norms, lens, rank)
    _without_ends(table, out)
    for layer in step.layers:
        if layer.layer and layer.heads:
            out.print()
        for line in _heads(layer, out.width):
            out.print(line)


def _fitting(parts: list[str], room: int) -> str:
    """As many of the parts as there is room for, the first in any case."""
    text = parts[0] if parts else ""
    for part in parts[1:]:
        if len(text) + len(part) + 2 > room:
            break
        text += f"  {part}"
    return text


def _heads(layer: Layer, width: int) -> list[Text]:
    """A line for each head; as many of its looks as there is room for, then what is left of its attention."""
    lines: list[Text] = []
    for head in layer.heads:
        line = f"   {layer.layer}.{head.head:<3} norm {head.norm:6.2f}  "
        rest = 1.0
        for look in head.looks:
            said = f"{quoted(look.token, 12)}@{look.position} {percent(look.weight)}  "
            if len(line) + len(said) > width - _REST:
                break
            line += said
            rest -= look.weight
        lines.append(Text(f"{line}rest {percent(max(rest, 0.0))}"))
    return lines


def _legend(rows: tuple[tuple[str, str], ...], out: Console) -> None:
    out.print()
    for name, meaning in rows:
        _wrapped(f"{name:<16} {meaning}", " " * 17, out)


def _wrapped(text: str, indent: str, out: Console) -> None:
    """A line, or as many as it needs, those after the first further in."""
    for line in textwrap.wrap(text, out.width, subsequent_indent=indent, break_on_hyphens=False):
        out.print(Text(line, "dim"))


def _without_ends(table: Table, out: Console) -> None:
    """A table without the blanks that fill up its lines, which a narrow terminal would wrap."""
    for line in out.render_lines(table, out.options.update_width(out.width), pad=False):
        text = Text.assemble(*((part.text, part.style or "") for part in line if part.text != "\n"))
        text.rstrip()
        out.print(text)
