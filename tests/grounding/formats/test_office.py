"""Word, PowerPoint and Excel, as their users see them."""

import io
from datetime import date, datetime, timedelta

import docx
import openpyxl
import pytest
from docx.oxml import parse_xml
from pptx import Presentation

from loam.core.errors import DocumentError
from loam.grounding.canonical import page_of
from loam.grounding.documents import read_document
from tests.grounding.formats import made

_WHEN = datetime.fromisoformat("2026-03-02T09:30")
_W = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'


def test_word_gives_headings_lists_and_tables_in_the_order_of_the_body() -> None:
    document = docx.Document()
    document.add_heading("Handbook", 0)
    document.add_heading("Leave", 1)
    document.add_paragraph("You may take leave.")
    document.add_paragraph("Ask first", style="List Bullet")
    document.add_paragraph("Then go", style="List Number")
    document.add_paragraph("Then return", style="List Number")
    table = document.add_table(2, 2)
    for one, text in zip([*table.rows[0].cells, *table.rows[1].cells], ["Grade", "Days", "A|B", "30"], strict=True):
        one.text = text
    document.add_heading("Pay", 2)
    document.add_paragraph("Pay comes monthly.")
    read = read_document("x.docx", made.saved(document))
    assert read.title == "Handbook"
    assert read.text == (
        "Handbook\n\nLeave\n\nYou may take leave.\n\n- Ask first\n1. Then go\n2. Then return\n\n"
        "| Grade | Days |\n| A/B | 30 |\n\nPay\n\nPay comes monthly."
    )
    assert [section.path for section in read.sections] == [("Leave",), ("Leave", "Pay")]


def test_word_reads_what_reviewers_inserted_and_forms_hold_but_nothing_deleted() -> None:
    document = docx.Document()
    inserted = (
        '<w:p {}><w:r><w:t>Kept </w:t></w:r><w:ins w:id="1" w:author="a"><w:r><w:t>and new.</w:t></w:r></w:ins>{}</w:p>'
    )
    gone = '<w:del w:id="2" w:author="a"><w:r><w:delText>Gone.</w:delText></w:r></w:del>'
    document.element.body.insert(0, parse_xml(inserted.format(_W, gone)))
    form = "<w:sdt {}><w:sdtContent><w:p><w:r><w:t>In a form.</w:t></w:r></w:p></w:sdtContent></w:sdt>"
    document.element.body.insert(1, parse_xml(form.format(_W)))
    assert read_document("x.docx", made.saved(document)).text == "Kept and new.\n\nIn a form."


def test_a_box_made_of_a_table_of_one_cell_is_paragraphs() -> None:
    document = docx.Document()
    cell = document.add_table(1, 1).rows[0].cells[0]
    cell.text = "First."
    cell.add_paragraph("Second.")
    assert read_document("x.docx", made.saved(document)).text == "First.\n\nSecond."


def test_each_slide_is_a_section_and_a_page_with_its_notes() -> None:
    data = made.deck([("Goals", ["Grow", "Last"], "Say why."), ("", ["Only this."], ""), ("End", ["Thanks."], "")])
    document = read_document("plan.pptx", data)
    assert document.text == ("Goals\n\n- Grow\n- Last\n\nNotes: Say why.\n\nSlide 2\n\nOnly this.\n\nEnd\n\nThanks.")
    assert [section.path for section in document.sections] == [("Goals",), ("Slide 2",), ("End",)]
    assert [page_of(document.pages, section.start) for section in document.sections] == [1, 2, 3]


def test_a_hidden_slide_keeps_its_number_and_its_secrets() -> None:
    deck = Presentation(
        io.BytesIO(made.deck([("One", ["First."], ""), ("Two", ["Secret."], ""), ("Three", ["Third."], "")]))
    )
    deck.slides[1].element.set("show", "0")
    document = read_document("x.pptx", made.saved(deck))
    assert "Secret" not in document.text
    assert page_of(document.pages, document.text.index("Third.")) == 3
    assert document.remarks == ("hidden slides are passed over",)


def test_a_slide_s_table_is_rows() -> None:
    text = read_document("x.pptx", made.deck_with_table("Team", [["Name", "Role"], ["Ada", "Lead"]])).text
    assert text == "Team\n\n| Name | Role |\n| Ada | Lead |"


def test_each_row_of_a_sheet_names_its_columns() -> None:
    sheets = {
        "Staff": [
            ["Staff of the year"],
            [None],
            ["Name", "Born", "Share", "Hours"],
            ["Ada", date(1815, 12, 10), 0.25, 7.5],
        ],
        "Log": [["When", "What"], [_WHEN, True], [timedelta(hours=30), "="]],
    }
    book = openpyxl.load_workbook(io.BytesIO(made.workbook(sheets)))
    book["Staff"]["C4"].number_format = "0%"
    document = read_document("people.xlsx", made.saved(book))
    assert "Staff of the year\n\n| Name: Ada | Born: 1815-12-10 | Share: 25% | Hours: 7.5 |" in document.text
    assert "| When: 2026-03-02 09:30 | What: TRUE |" in document.text
    assert [section.path for section in document.sections] == [("Staff",), ("Log",)]


def test_hidden_sheets_are_passed_over_and_it_is_said() -> None:
    book = openpyxl.load_workbook(
        io.BytesIO(made.workbook({"Open": [["Seen", "Too"], ["a", "b"]], "Closed": [["Secret"]]}))
    )
    book["Closed"].sheet_state = "hidden"
    document = read_document("x.xlsx", made.saved(book))
    assert "Secret" not in document.text
    assert document.remarks == ("hidden sheets are passed over",)


def test_a_million_blank_rows_cost_nothing() -> None:
    book = openpyxl.Workbook()
    sheet = book.worksheets[0]
    sheet["A1"], sheet["B1"] = "Name", "Place"
    sheet["A1048576"], sheet["XFD1048576"] = "The last", "row"
    sheet["B1048576"] = "of all"
    document = read_document("x.xlsx", made.saved(book))
    assert "| Name: The last | Place: of all |" in document.text


@pytest.mark.parametrize("ending", ["docx", "pptx", "xlsx", "epub"])
def test_an_archive_of_another_kind_is_told_by_name(ending: str) -> None:
    kinds = {"docx": made.word(headings=[("A", "b")]), "xlsx": made.workbook({"A": [["x", "y"]]})}
    data = kinds["xlsx"] if ending == "docx" else kinds["docx"]
    with pytest.raises(DocumentError, match=r"it is not .* but (an Excel workbook|a Word document)"):
        read_document(f"x.{ending}", data)
