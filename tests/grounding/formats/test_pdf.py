"""PDFs as they come: columns, tables, hyphens, running heads, pictures of text, damage."""

import pytest

from loam.core.errors import DocumentError
from loam.grounding.canonical import page_of
from loam.grounding.documents import read_document
from tests.grounding.formats import made
from tests.grounding.formats.made import Text


def test_a_paragraph_is_joined_and_a_word_parted_at_a_line_end_is_whole() -> None:
    page = [Text(72, 720, "Everyone who works here has an alloca-"), Text(72, 706, "tion of leave, and may take it.")]
    document = read_document("leave.pdf", made.pdf([page]))
    assert document.text == "Everyone who works here has an allocation of leave, and may take it."


def test_a_hyphen_that_the_word_has_elsewhere_stays() -> None:
    page = [Text(72, 720, "A well-known rule is a good one. Ours is well-"), Text(72, 706, "known and simple.")]
    assert "Ours is well-known and simple." in read_document("a.pdf", made.pdf([page])).text


def test_passages_know_their_page_also_where_a_sentence_goes_on_overleaf() -> None:
    first = made.paragraph_lines("One. " * 30 + "This sentence begins on the first page and", top=200)
    second = made.paragraph_lines("goes on overleaf until it ends. " + "Two. " * 30)
    document = read_document("a.pdf", made.pdf([first, [], second]))
    assert "begins on the first page and goes on overleaf" in document.text
    assert page_of(document.pages, document.text.index("begins on")) == 1
    assert page_of(document.pages, document.text.index("goes on overleaf")) == 3
    assert len(document.pages) == 3
    assert document.remarks == ("no text on 1 of 3 pages (2): blank, or scanned",)


def test_large_lines_are_headings_and_the_largest_names_the_document() -> None:
    page = [
        Text(72, 740, "Travel policy", 24),
        Text(72, 700, "Booking", 16),
        *made.paragraph_lines("Book your travel two weeks ahead. " * 6, top=670),
        Text(72, 560, "Refunds", 16),
        *made.paragraph_lines("Refunds are paid within ten days. " * 6, top=530),
    ]
    document = read_document("x.pdf", made.pdf([page]))
    assert document.title == "Travel policy"
    assert [section.path for section in document.sections] == [("Booking",), ("Refunds",)]


def test_the_outline_says_what_is_a_heading_where_there_is_one() -> None:
    page = [
        Text(72, 740, "1. Booking"),
        *made.paragraph_lines("Book your travel two weeks ahead. " * 3, top=700),
        Text(72, 600, "This is large but no heading.", 20),
    ]
    document = read_document("x.pdf", made.pdf([page], title="Travel", outline=[("Booking", 0)]))
    assert document.title == "Travel"
    assert [section.path for section in document.sections] == [("1. Booking",)]
    assert "large but no heading" in document.text


def test_a_table_is_rows_and_two_columns_are_read_one_after_the_other() -> None:
    rows = [("Grade", "Days", "Notice"), ("Junior", "25", "1 month"), ("Senior", "30", "3 months")]
    table = [Text(72 + 150 * at, 720 - 20 * n, value) for n, row in enumerate(rows) for at, value in enumerate(row)]
    text = read_document("x.pdf", made.pdf([table])).text
    assert "| Grade | Days | Notice |\n| Junior | 25 | 1 month |\n| Senior | 30 | 3 months |" in text

    left = made.paragraph_lines("The left column is read first, from its top to its very end. " * 3, width=36)
    right = made.paragraph_lines(
        "The right column follows when the left one has come to its end. " * 3, width=36, left=340
    )
    both = [line for pair in zip(left, right, strict=False) for line in pair]
    text = read_document("x.pdf", made.pdf([both])).text
    assert text.startswith("The left column is read first, from its top to its very end. The left")
    assert "|" not in text


def test_running_heads_and_page_numbers_are_left_out_but_no_sentence() -> None:
    pages = [
        [
            Text(72, 770, "Acme handbook"),
            *made.paragraph_lines(f"Rule {number * number} is the rule of this page. " * 4, top=700),
            Text(300, 30, f"Page {number}"),
        ]
        for number in range(1, 6)
    ]
    document = read_document("x.pdf", made.pdf(pages))
    assert "Acme handbook" not in document.text
    assert "Page 3" not in document.text
    for number in range(1, 6):
        assert document.text.count(f"Rule {number * number} is the rule") == 4
        assert page_of(document.pages, document.text.index(f"Rule {number * number} is")) == number


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (made.pdf([[], []]), "it looks scanned (2 pages)"),
        (made.locked_pdf(), "locked with a password"),
        (made.pdf([[Text(72, 700, "Cut off.")]])[:300], "damaged PDF"),
        (b"%PDF-1.7\n" + b"\x00\xff" * 500, "damaged PDF"),
        (b"Dear all, this is no PDF.", "does not begin as such files do"),
        (b"", "there is no text in it"),
    ],
)
def test_what_is_no_readable_pdf_is_told(data: bytes, told: str) -> None:
    with pytest.raises(DocumentError, match=r"^x\.pdf: ") as caught:
        read_document("x.pdf", data)
    assert told in str(caught.value)
