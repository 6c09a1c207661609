"""A shared drive as people have one: files of every kind that Loam reads, and what is broken, odd or made to harm.

`GOOD` says of each file a phrase that must be found in it (and, where it has pages, on which); `BROKEN` what must be
told of each that cannot go in. `write` puts them all into a folder.
"""

import json
import os
import random
import unicodedata
import zipfile
from collections.abc import Callable, Mapping
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

from tests.grounding.formats import made
from tests.grounding.formats.made import Text


class Good(NamedTuple):
    """A file, a phrase that its passages must hold together, and the phrase's page."""

    data: Callable[[], bytes]
    phrase: str
    page: int | None = None


def _text(text: str, encoding: str = "utf-8") -> Callable[[], bytes]:
    return lambda: text.encode(encoding)


def _report() -> bytes:
    """Four pages: prose under headings, a table, a sentence that goes on overleaf."""
    rows = [("Region", "Staff", "Budget"), ("North", "14", "120,000"), ("South", "9", "87,500")]
    table = [Text(72 + 150 * at, 640 - 20 * n, value) for n, row in enumerate(rows) for at, value in enumerate(row)]
    pages = [
        [
            Text(72, 740, "Annual report", 24),
            Text(72, 700, "Summary", 16),
            *made.paragraph_lines("The year went well. " * 12 + "Turnover rose by 12.5 percent.", top=670),
        ],
        [Text(72, 740, "Regions", 16), *made.paragraph_lines("Two regions report their figures.", top=700), *table],
        [
            Text(72, 740, "Outlook", 16),
            *made.paragraph_lines("More of the same. " * 10 + "The warehouse moves to", top=120),
        ],
        made.paragraph_lines("the harbour district in September. " + "Nothing else changes. " * 10, top=740),
    ]
    return made.pdf(pages, title="Annual report")


def _two_columns() -> bytes:
    left = made.paragraph_lines("The left column tells how the tide is measured, hour by hour. " * 4, width=36)
    right = made.paragraph_lines("The right column tells what the harbour master signs. " * 4, width=36, left=340)
    return made.pdf([[], [line for pair in zip(left, right, strict=False) for line in pair]])


def _manual() -> bytes:
    pages = [
        [
            Text(72, 770, "Pump manual"),
            *made.paragraph_lines(f"Step {number} uses valve V-{number * 7} only. " * 4, top=700),
            Text(300, 30, f"Page {number}"),
        ]
        for number in range(1, 13)
    ]
    return made.pdf(pages, outline=[("Filling", 0), ("Draining", 6)])


def _many() -> bytes:
    rows = (f"{n}\tname {n}\trole {n % 7}\ttown {n % 11}\n" for n in range(2000))
    return ("id\tname\trole\ttown\n" + "".join(rows)).encode()


_TABLE = (("Grade", "Days"), ("Junior", "25"), ("Senior", "30"))
_DEEP = 15_000  # levels; more take the parser longer than tests should

GOOD: Mapping[str, Good] = {
    "handbook/README.md": Good(_text("# Handbook\n\nEverything that staff should know.\n"), "staff should know"),
    "handbook/leave.md": Good(
        _text(
            "---\nowner: people team\n---\n# Leave\n\n## Sick leave\n\nTell your lead before 9:30.\n\n"
            "| Grade | Days |\n| --- | --- |\n| Junior | 25 |\n\n- Keep the note.\n  - Scan it.\n\n"
            "```sh\nleave --sick\n```\n"
        ),
        "Tell your lead before 9:30.",
    ),
    "handbook/setext.markdown": Good(_text("Visitors\n========\n\nVisitors wear a *green* badge.\n"), "a green badge"),
    "handbook/dos.md": Good(_text("# Parking\r\n\r\nPark in bay seven.\r\n"), "Park in bay seven."),
    "notes/minutes.txt": Good(_text("Minutes\n\nThe vote was 7 to 2.\n"), "The vote was 7 to 2."),
    "notes/windows.txt": Good(_text("Grüße aus Köln, für alle.", "utf-16"), "Grüße aus Köln"),
    "notes/latin.txt": Good(_text("Die Gebühr beträgt 30 Euro für Gäste.", "cp1252"), "Gebühr beträgt 30 Euro"),
    "notes/server.log": Good(_text("2026-01-02 03:04:05 disk sdb1 at 91 percent\n" * 30), "sdb1 at 91 percent"),
    "notes/guide.rst": Good(_text("Guide\n=====\n\nInstall\n-------\n\nRun the installer twice.\n"), "installer twice"),
    "notes/paper.tex": Good(
        _text("\\section{Method}\nWe weighed 412 samples.\n\\section{Results}\nNone failed.\n"), "weighed 412 samples"
    ),
    "notes/spec.adoc": Good(_text("= Spec\n\n== Limits\n\nAt most 64 sockets.\n"), "At most 64 sockets."),
    "notes/todo.org": Good(_text("* Todo\n** Roof\nMend the roof by May.\n"), "Mend the roof by May."),
    "web/page.html": Good(
        _text(
            "<!doctype html><html><head><title>Canteen</title><script>x()</script></head><body><nav>Home</nav>"
            "<main><h1>Canteen</h1><p>Lunch is from <b>noon</b> to two.</p><table><tr><th>Day</th><th>Soup</th></tr>"
            "<tr><td>Monday</td><td>Leek</td></tr></table></main></body></html>"
        ),
        "Lunch is from noon to two.",
    ),
    "web/old.htm": Good(
        lambda: (
            '<meta charset="windows-1252"><body><h2>Öffnung</h2><p>Geöffnet bis 18 Uhr — täglich.</p></body>'.encode(
                "cp1252"
            )
        ),
        "Geöffnet bis 18 Uhr — täglich.",
    ),
    "web/rules.xhtml": Good(
        _text('<html xmlns="http://www.w3.org/1999/xhtml"><body><p>No dogs &amp; no drones.</p></body></html>'),
        "No dogs & no drones.",
    ),
    "web/deep.html": Good(lambda: b"<div>" * _DEEP + b"At the bottom.", "At the bottom."),
    "pdf/report.pdf": Good(_report, "Turnover rose by 12.5 percent.", 1),
    "pdf/regions.pdf": Good(_report, "| South | 9 | 87,500 |", 2),
    "pdf/overleaf.pdf": Good(_report, "The warehouse moves to the harbour district in September.", 3),
    "pdf/two-columns.pdf": Good(_two_columns, "The right column tells what the harbour master signs.", 2),
    "pdf/manual.pdf": Good(_manual, "Step 9 uses valve V-63 only.", 9),
    "office/policy.docx": Good(
        lambda: made.word(title="Policy", headings=[("Leave", "Leave is 25 days.")], table=_TABLE), "Leave is 25 days."
    ),
    "office/letter.docx": Good(
        lambda: made.word(headings=[("Offer", "We offer the post from 1 March.")]), "post from 1 March"
    ),
    "office/kickoff.pptx": Good(
        lambda: made.deck([("Kick-off", ["Three teams", "Two sites"], "Say that Oslo joins later.")]),
        "Say that Oslo joins later.",
        1,
    ),
    "office/figures.pptx": Good(
        lambda: made.deck_with_table("Figures", [list(row) for row in _TABLE]), "| Senior | 30 |", 1
    ),
    "office/budget.xlsx": Good(
        lambda: made.workbook({"2026": [["Item", "Cost"], ["Crane", 91500]], "Notes": [["Prices are net."]]}),
        "Item: Crane | Cost: 91500",
    ),
    "office/stock.xlsm": Good(
        lambda: made.workbook({"Stock": [["Part", "Left"], ["Gasket", 12]]}), "Part: Gasket | Left: 12"
    ),
    "tables/people.csv": Good(_text("name,town\nAda,London\nGrace,New York\n"), "name: Grace | town: New York"),
    "tables/semicolons.csv": Good(_text("Stück;Preis\n4;3,50\n9;7,25\n", "cp1252"), "Stück: 9 | Preis: 7,25"),
    "tables/many.tsv": Good(
        _many,
        "id: 1777 | name: name 1777",
    ),
    "books/book.epub": Good(
        lambda: made.epub("Tides", {"2.xhtml": "<h1>Moon</h1><p>The moon pulls twice.</p>", "1.xhtml": "<p>End.</p>"}),
        "The moon pulls twice.",
    ),
    "mail/plan.eml": Good(
        lambda: made.mail("Plan", "We meet on Tuesday at ten.", attachments={"plan.pdf": _report(), "a.txt": b"x"}),
        "Attachments: plan.pdf, a.txt",
    ),
    "mail/news.eml": Good(
        lambda: made.mail("News", "", html="<h1>News</h1><p>The lift is mended.</p>"), "The lift is mended."
    ),
    "code/main.py": Good(
        _text('def area(r: float) -> float:\n    """The area."""\n    return 3.14 * r * r\n'), "3.14 * r"
    ),
    "code/App.ts": Good(_text("export class App {\n  start(port = 4100) {}\n}\n"), "start(port = 4100)"),
    "code/Main.java": Good(_text("public class Main {\n  static int answer() { return 42; }\n}\n"), "return 42;"),
    "code/lib.rs": Good(_text("pub fn half(x: u32) -> u32 {\n    x / 2\n}\n"), "x / 2"),
    "code/list.c": Good(_text("/* Frees. */\nvoid list_free(struct list *l) {\n  free(l);\n}\n"), "free(l);"),
    "code/schema.sql": Good(_text("CREATE TABLE boats (\n  berth INTEGER NOT NULL\n);\n"), "berth INTEGER"),
    "code/settings.yaml": Good(_text("retries: 5\nhosts:\n  - alpha\n"), "retries: 5"),
    "code/tool.toml": Good(_text("[tool]\nstrict = true\n"), "strict = true"),
    "code/data.json": Good(
        lambda: json.dumps({"boat": {"name": "Maud", "crew": 6}}, indent=2).encode(), "boat.name: Maud"
    ),
    "code/events.jsonl": Good(
        lambda: "".join(json.dumps({"n": n, "what": f"event {n}"}) + "\n" for n in range(50)).encode(), "what: event 31"
    ),
    "odd/日本語 👩‍💻 – Ünïcode.md": Good(_text("Named in three scripts."), "Named in three scripts."),
    f"odd/{unicodedata.normalize('NFD', 'Café')}.md": Good(_text("Named in parts."), "Named in parts."),
    "odd/no\u00a0break\u3000wide.txt": Good(_text("Named with rare spaces."), "Named with rare spaces."),
    "odd/UPPER.TXT": Good(_text("Named in capitals."), "Named in capitals."),
    f"odd/{'a' * 240}.md": Good(_text("Named at length."), "Named at length."),
}


def bomb(inner: str, archive: bytes, megabytes: int = 300) -> bytes:
    """An archive with one file more, of zeros, a thousandth as large as it unpacks to."""
    out = BytesIO(archive)
    with (
        zipfile.ZipFile(out, "a", zipfile.ZIP_DEFLATED, compresslevel=1) as opened,
        opened.open(inner, "w", force_zip64=True) as file,
    ):
        for _ in range(megabytes):
            file.write(b"\0" * 2**20)
    return out.getvalue()


def _word() -> bytes:
    return made.word(headings=[("Leave", "You may take leave. " * 40)])


def _book() -> bytes:
    return made.epub("Book", {"1.xhtml": "<p>Words.</p>"})


BROKEN: Mapping[str, tuple[Callable[[], bytes], str]] = {
    "broken/cut-off.pdf": (lambda: _report()[:900], "damaged PDF"),
    "broken/locked.pdf": (made.locked_pdf, "locked with a password"),
    "broken/scanned.pdf": (lambda: made.pdf([[], []]), "looks scanned (2 pages)"),
    "broken/letter.pdf": (_word, "by its first bytes it is a zip archive"),
    "broken/cut-off.docx": (lambda: _word()[:-400], "damaged archive"),
    "broken/bomb.docx": (lambda: bomb("word/media/image.xml", _word()), "as bombs do"),
    "broken/bomb.epub": (lambda: bomb("OEBPS/2.xhtml", _book()), "as bombs do"),
    "broken/sheet.xlsx": (_word, "it is not an Excel workbook but a Word document"),
    "broken/old.xlsx": (lambda: b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 512, "take off its password"),
    "broken/empty.md": (lambda: b"", "no text in it"),
    "broken/blank.txt": (lambda: b" \n\n\t\n", "no text in it"),
    "broken/program.txt": (lambda: b"\x7fELF" + random.Random(1).randbytes(5000), "it is a program"),
    "broken/random.txt": (lambda: b"\x02" + random.Random(2).randbytes(5000), "save it as UTF-8"),
    "broken/russian.txt": (lambda: "Привет всем, собрание завтра.".encode("koi8-r"), "not valid UTF-8"),
    "broken/japanese.csv": (lambda: "名前,町\n花子,東京\n".encode("shift-jis"), "not valid UTF-8"),
    "broken/half.json": (lambda: b'{"boat": {"name": ', "JSON"),
    "broken/quote.csv": (lambda: b'a,b\n"never closed,' + b"x" * 200_000, "never closed"),
    "broken/note.eml": (lambda: b"just words\n\nno message", "does not begin as a message does"),
    "broken/picture.md": (lambda: b"\x89PNG\r\n\x1a\n\x00\x00", "it is a picture"),
}
HUGE = "broken/huge.txt"
HUGE_BYTES = 200 * 10**6


def write(folder: Path) -> dict[str, str]:
    """Writes it all; gives what must be told of each file that cannot go in."""
    for name, good in GOOD.items():
        _put(folder / name, good.data())
    for name, (data, _) in BROKEN.items():
        _put(folder / name, data())
    told = {name: words for name, (_, words) in BROKEN.items()}
    line = b"The quick brown fox carries 40 hours of leave over the lazy dog.\n" * 10_000
    with (folder / HUGE).open("wb") as file:
        while file.tell() < HUGE_BYTES:
            file.write(line)
    told[HUGE] = "larger than 20971520 bytes; split it, or raise grounding.ingest.max_document_bytes"
    return told | _write_odd(folder)


def _write_odd(folder: Path) -> dict[str, str]:
    """What only a file system can have."""
    outside = folder.parent / "outside.md"
    outside.write_text("The secret word is xyzzy.")
    (folder / "odd" / "way-out.md").symlink_to(outside)
    (folder / "odd" / "round").symlink_to(folder)
    os.mkfifo(folder / "odd" / "pipe.md")
    (folder / "odd" / "secret.md").write_text("Nobody may read this.")
    (folder / "odd" / "secret.md").chmod(0)
    (folder / "odd" / "two\nlines.md").write_text("Named in two lines.")
    (folder / "odd" / "turned\u202edm.txt").write_text("Named to mislead.")
    (folder / "odd" / os.fsdecode(b"latin-\xfc.md")).write_text("Named in Latin-1.")
    (folder / "odd" / ".hidden.md").write_text("Hidden.")
    (folder / "odd" / "tool.exe").write_bytes(b"MZ")
    return {
        "odd/way-out.md": "links are not followed",
        "odd/round": "links are not followed",
        "odd/pipe.md": "no regular file",
        "odd/secret.md": "Permission denied",
        "odd/two\\nlines.md": "control characters or line breaks",
        "odd/turned\\u202edm.txt": "control characters or line breaks",
        "odd/latin-\\udcfc.md": "not UTF-8",
    }


def _put(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
