"""HTML, books and mail."""

import pytest

from loam.core.errors import DocumentError
from loam.grounding.documents import read_document
from tests.grounding.formats import made

_PAGE = """<!doctype html><html><head><title>Leave - Acme</title><style>p {}</style></head><body>
<nav><ul><li>Home</ul></nav><header><div>Acme Corp</div></header>
<main><h1>Leave <a href=#leave>#</a></h1><p>You may take <b>ten</b> days&nbsp;off.<br>Ask&shy;first.</p>
<ul><li>One<ul><li>Inner</li></ul></li><li><p>Two</p></li></ul><ol start=3><li>three<li>four</ol>
<table><tr><th>Name<th>Days</tr><tr><td>Ada|x<td>10</tr><tr><td></td><td>9</td></tr></table>
<pre>def f():
    return 1</pre><div>Loose<div>block</div>tail</div><p hidden>Secret</p></main>
<footer>Imprint</footer><script>var a = "<p>Script</p>";</script></body></html>"""


def test_a_page_is_its_headings_lists_tables_and_code_without_its_furniture() -> None:
    document = read_document("a.html", _PAGE.encode())
    assert document.title == "Leave"
    assert document.text == (
        "Leave\n\nYou may take ten days off. Askfirst.\n\n- One\n  - Inner\n- Two\n3. three\n4. four\n\n"
        "| Name | Days |\n| Ada/x | 10 |\n|  | 9 |\n\n```\ndef f():\n    return 1\n```\n\nLoose\n\nblock\n\ntail"
    )


@pytest.mark.parametrize(
    ("page", "text"),
    [
        ("<footer>Only <i>these</i> words</footer>", "Only these words"),
        ("<main></main><p>Outside.</p>", "Outside."),
        ("<table><tr><td><h2>Left</h2><p>Laid out.</p><td>right</table>", "Left\n\nLaid out.\n\nright"),
        ("<table><tr><td>a<table><tr><td>b<td>c</table></table>", "a\n\n| b | c |"),
        ("One<br><br>Two<hr>Three", "One\n\nTwo\n\nThree"),
        ("<article>Story.</article><aside>Advert.</aside>", "Story."),
        ("<p>a &lt;b&gt; &#xD800; &amp;", "a <b> \ufffd &"),
    ],
)
def test_pages_as_they_come(page: str, text: str) -> None:
    assert read_document("a.html", page.encode()).text == text


def test_a_book_is_read_in_the_order_of_its_spine() -> None:
    chapters = {"1.xhtml": "<h1>The end</h1><p>So it ended.</p>", "2.xhtml": "<h1>The start</h1><p>So it began.</p>"}
    document = read_document("x.epub", made.epub("A short book", chapters))
    assert document.title == "A short book"
    assert document.text == "The start\n\nSo it began.\n\nThe end\n\nSo it ended."


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (made.zipped({"META-INF/container.xml": "<container/>"}), "names no book"),
        (made.epub("Empty", {}), "no chapters are named"),
        (made.zipped({"a.txt": "text"}), "it is not a book but an archive of something else"),
        (
            made.epub(
                "Locked",
                {"1.xhtml": "x"},
                extra={
                    "META-INF/encryption.xml": '<encryption><enc:CipherReference xmlns:enc="e" URI="OEBPS/1.xhtml"/>'
                    "</encryption>"
                },
            ),
            "(DRM)",
        ),
    ],
)
def test_a_book_that_cannot_be_read_is_told(data: bytes, told: str) -> None:
    with pytest.raises(DocumentError, match=r"^x\.epub: ") as caught:
        read_document("x.epub", data)
    assert told in str(caught.value)


def test_a_message_has_its_subject_for_a_title_and_names_its_attachments() -> None:
    data = made.mail(
        "Größe der Räume", "Hello.\n\nThe room is *free*.", html="<p>No</p>", attachments={"plan.pdf": b"%PDF-"}
    )
    document = read_document("x.eml", data)
    assert document.title == "Größe der Räume"
    assert document.text == (
        "From: Ada Lovelace <ada@example.org>\n\nTo: team@example.org\n\nDate: Mon, 02 Mar 2026 09:00:00 +0000\n\n"
        "Hello.\n\nThe room is *free*.\n\nAttachments: plan.pdf"
    )


def test_a_message_in_html_alone_is_read_as_a_page() -> None:
    document = read_document("x.eml", made.mail("News", "", html="<h2>Today</h2><p>It rains.</p>"))
    assert document.text.endswith("Today\n\nIt rains.")


def test_a_message_in_an_old_encoding_is_read_as_it_declares() -> None:
    data = (
        b"Subject: x\nContent-Type: text/plain; charset=koi8-r\nContent-Transfer-Encoding: 8bit\n\n"
        + "Привет".encode("koi8-r")
    )
    assert read_document("x.eml", data).text == "Привет"


def test_an_unreadable_part_is_passed_over_and_it_is_said() -> None:
    data = (
        b'Subject: x\nContent-Type: multipart/mixed; boundary="b"\n\n--b\nContent-Type: text/plain\n\nGood.\n'
        b"--b\nContent-Type: text/plain; charset=utf-8\n\n" + "Привет всем".encode("koi8-r") + b"\n--b--\n"
    )
    document = read_document("x.eml", data)
    assert document.text == "Good."
    assert "a part of it is passed over" in document.remarks[0]


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"Just some text.\n", "does not begin as a message does"),
        (
            b"".join(
                b'Subject: x\nContent-Type: multipart/mixed; boundary="%d"\n\n--%d\n' % (n, n) for n in range(3000)
            ),
            "nested",
        ),
    ],
)
def test_what_is_no_message_is_told(data: bytes, told: str) -> None:
    with pytest.raises(DocumentError, match=told):
        read_document("x.eml", data)
