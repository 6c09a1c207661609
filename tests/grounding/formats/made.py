"""Files as people have them, made from scratch: PDFs by hand, the rest by the Office libraries themselves."""

import io
import zipfile
from collections.abc import Sequence
from email.message import EmailMessage
from typing import NamedTuple

import docx
import openpyxl
from pptx import Presentation
from pptx.util import Inches


class Text(NamedTuple):
    """A line of text on a page."""

    x: float
    y: float
    text: str
    size: float = 11


def pdf(pages: Sequence[Sequence[Text]], *, title: str = "", outline: Sequence[tuple[str, int]] = ()) -> bytes:
    """A PDF with these lines; `outline` names the page, from 0, of each entry."""
    objects = ["", "", "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>"]
    kids: list[int] = []
    for lines in pages:
        drawn = "\n".join(f"BT /F1 {one.size} Tf {one.x} {one.y} Td ({_escaped(one.text)}) Tj ET" for one in lines)
        objects.append(f"<< /Length {len(drawn)} >>\nstream\n{drawn}\nendstream")
        objects.append(
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents {len(objects)} 0 R "
            "/Resources << /Font << /F1 3 0 R >> >> >>"
        )
        kids.append(len(objects))
    root = "/Type /Catalog /Pages 2 0 R"
    if outline:
        first = len(objects) + 2
        entries = range(first, first + len(outline))
        objects.append(f"<< /Type /Outlines /First {first} 0 R /Last {entries[-1]} 0 R /Count {len(outline)} >>")
        root += f" /Outlines {len(objects)} 0 R"
        for number, (name, page) in zip(entries, outline, strict=True):
            after = f"/Next {number + 1} 0 R " if number < entries[-1] else ""
            objects.append(f"<< /Title ({name}) /Parent {first - 1} 0 R {after}/Dest [{kids[page]} 0 R /Fit] >>")
    objects.append(f"<< /Title ({_escaped(title)}) >>")
    objects[0] = f"<< {root} >>"
    objects[1] = f"<< /Type /Pages /Kids [{' '.join(f'{kid} 0 R' for kid in kids)}] /Count {len(kids)} >>"
    return _assembled(objects)


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("(", "\\(").replace(")", "\\)")


def _assembled(objects: Sequence[str], trailer: str = "") -> bytes:
    out = io.BytesIO(b"%PDF-1.7\n")
    out.seek(0, io.SEEK_END)
    places: list[int] = []
    for number, body in enumerate(objects, 1):
        places.append(out.tell())
        out.write(f"{number} 0 obj\n{body}\nendobj\n".encode("cp1252"))
    start = out.tell()
    out.write(f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n".encode())
    out.writelines(f"{place:010} 00000 n \n".encode() for place in places)
    out.write(
        f"trailer\n<< /Size {len(objects) + 1} /Root 1 0 R /Info {len(objects)} 0 R {trailer}>>\n"
        f"startxref\n{start}\n%%EOF\n".encode()
    )
    return out.getvalue()


def locked_pdf() -> bytes:
    """A PDF whose encryption dictionary no empty password opens."""
    key = "00" * 32
    lock = f"/Encrypt << /Filter /Standard /V 1 /R 2 /O <{key}> /U <{key}> /P -4 >> /ID [<{key}> <{key}>] "
    pages = ["<< /Type /Catalog /Pages 2 0 R >>", "<< /Type /Pages /Kids [] /Count 0 >>", "<< >>"]
    return _assembled(pages, lock)


def paragraph_lines(text: str, *, top: float = 720, left: float = 72, width: int = 80) -> list[Text]:
    """A paragraph set in lines of so many letters."""
    lines: list[str] = [""]
    for word in text.split():
        if len(lines[-1]) + len(word) > width:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return [Text(left, top - 14 * number, line) for number, line in enumerate(lines)]


def word(*, title: str = "", headings: Sequence[tuple[str, str]] = (), table: Sequence[Sequence[str]] = ()) -> bytes:
    """A Word document of headings, each with its paragraph, and a table at the end."""
    document = docx.Document()
    if title:
        document.add_heading(title, 0)
    for heading, text in headings:
        document.add_heading(heading, 1)
        document.add_paragraph(text)
    if table:
        made = document.add_table(len(table), len(table[0]))
        for row, values in zip(made.rows, table, strict=True):
            for one, value in zip(row.cells, values, strict=True):
                one.text = value
    return saved(document)


def deck(slides: Sequence[tuple[str, Sequence[str], str]]) -> bytes:
    """A presentation; each slide has a title, points and notes."""
    made = Presentation()
    for title, points, notes in slides:
        slide = made.slides.add_slide(made.slide_layouts[1])
        assert slide.shapes.title is not None
        slide.shapes.title.text = title
        slide.placeholders[1].text_frame.text = "\n".join(points)
        if notes:
            frame = slide.notes_slide.notes_text_frame
            assert frame is not None
            frame.text = notes
    return saved(made)


def deck_with_table(title: str, rows: Sequence[Sequence[str]]) -> bytes:
    made = Presentation()
    slide = made.slides.add_slide(made.slide_layouts[5])
    assert slide.shapes.title is not None
    slide.shapes.title.text = title
    table = slide.shapes.add_table(len(rows), len(rows[0]), Inches(1), Inches(2), Inches(6), Inches(2)).table
    for at, values in enumerate(rows):
        for column, value in enumerate(values):
            table.cell(at, column).text = value
    return saved(made)


def workbook(sheets: dict[str, Sequence[Sequence[object]]]) -> bytes:
    book = openpyxl.Workbook()
    book.remove(book.worksheets[0])
    for name, rows in sheets.items():
        sheet = book.create_sheet(name)
        for row in rows:
            sheet.append(row)
    return saved(book)


def saved(made: object) -> bytes:
    """What a library's document is when it is saved."""
    out = io.BytesIO()
    made.save(out)  # type: ignore[attr-defined]
    return out.getvalue()


def zipped(members: dict[str, bytes | str]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return out.getvalue()


def changed(archive: bytes, name: str, data: bytes) -> bytes:
    """An archive with one of its files replaced, or added."""
    with zipfile.ZipFile(io.BytesIO(archive)) as old:
        return zipped({**{member: old.read(member) for member in old.namelist()}, name: data})


def epub(title: str, chapters: dict[str, str], *, extra: dict[str, bytes | str] | None = None) -> bytes:
    """A book; the spine has the chapters in reverse order of their file names, as to prove that it counts."""
    names = sorted(chapters, reverse=True)
    items = "".join(
        f'<item id="c{n}" href="{name}" media-type="application/xhtml+xml"/>' for n, name in enumerate(names)
    )
    spine = "".join(f'<itemref idref="c{n}"/>' for n in range(len(names)))
    package = (
        '<?xml version="1.0"?><package xmlns="http://www.idpf.org/2007/opf" version="3.0"><metadata '
        f'xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:title>{title}</dc:title></metadata>'
        f"<manifest>{items}</manifest><spine>{spine}</spine></package>"
    )
    container = (
        '<?xml version="1.0"?><container xmlns="urn:oasis:names:tc:opendocument:xmlns:container" version="1.0">'
        '<rootfiles><rootfile full-path="OEBPS/book.opf" media-type="application/oebps-package+xml"/></rootfiles>'
        "</container>"
    )
    pages = {
        f"OEBPS/{name}": '<?xml version="1.0"?><html xmlns="http://www.w3.org/1999/xhtml"><head><title/></head>'
        f"<body>{body}</body></html>"
        for name, body in chapters.items()
    }
    return zipped(
        {
            "mimetype": "application/epub+zip",
            "META-INF/container.xml": container,
            "OEBPS/book.opf": package,
            **pages,
            **(extra or {}),
        }
    )


def mail(subject: str, text: str, *, html: str = "", attachments: dict[str, bytes] | None = None) -> bytes:
    message = EmailMessage()
    message["Subject"] = subject
    message["From"] = "Ada Lovelace <ada@example.org>"
    message["To"] = "team@example.org"
    message["Date"] = "Mon, 02 Mar 2026 09:00:00 +0000"
    if text:
        message.set_content(text)
    if html and text:
        message.add_alternative(html, subtype="html")
    elif html:
        message.set_content(html, subtype="html")
    for name, data in (attachments or {}).items():
        message.add_attachment(data, maintype="application", subtype="octet-stream", filename=name)
    return message.as_bytes()
