"""CSV, JSON, source code, and markup that is kept as text."""

import pytest

from loam.core.errors import DocumentError
from loam.grounding.documents import read_document

_CODE = '''import os


# Why it is here.
@cache
class Reader:
    """Reads."""

    def read(self):
        return 1


def main() -> None:
    pass
'''


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_each_row_names_its_columns_whatever_parts_them(delimiter: str) -> None:
    lines = [["Name", "Town", "Note"], ["Ada", "London", "one, two; three"], ["Bob", "", '"x"']]
    quoted = [delimiter.join('"' + value.replace('"', '""') + '"' for value in line) for line in lines]
    document = read_document("people.csv", "\r\n".join(quoted).encode())
    assert document.text == '| Name: Ada | Town: London | Note: one, two; three |\n| Name: Bob | Note: "x" |'


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ("Prices 2026\n\nItem,Price\nTea,3\n", "Prices 2026\n\n| Item: Tea | Price: 3 |"),
        ("1,2\n3,4\n", "| 1 | 2 |\n| 3 | 4 |"),
        ("apples\npears\n", "| apples |\n| pears |"),
        ("Name,Town\n", "| Name | Town |"),
        ('1,"two\nlines|x"\n2,c\n', "| 1 | two lines/x |\n| 2 | c |"),
        ("Name,Town\nAda,London,extra\n", "| Name: Ada | Town: London | extra |"),
    ],
)
def test_tables_as_they_come(data: str, text: str) -> None:
    assert read_document("x.csv", data.encode()).text == text


def test_a_quote_that_is_never_closed_is_told() -> None:
    with pytest.raises(DocumentError, match=r"x\.csv: not CSV .* never closed"):
        read_document("x.csv", b'a,"b\n' + b"word " * 40_000)


def test_json_keeps_every_value_with_its_path() -> None:
    data = b'[{"name": "Ada", "age": 36, "tags": ["x", "y"], "town": {"name": "London"}, "gone": null, "ok": true}]'
    assert (
        read_document("x.json", data).text
        == "| name: Ada | age: 36 | ok: true |\n\ntags: x, y\n\n| town.name: London |"
    )
    lines = b'{"question": "Who?", "answer": "' + b"Ada said so. " * 20 + b'"}\n\n{"question": "Why?"}\n'
    text = read_document("x.jsonl", lines).text
    assert text.startswith("| question: Who? |\n\nanswer: Ada said so.")
    assert text.endswith("| question: Why? |")


@pytest.mark.parametrize(
    ("name", "data", "told"),
    [
        ("x.json", b'{"a": 1,}', "not JSON (Expecting"),
        ("x.jsonl", b'{"a": 1}\n{"b"\n', "not JSON in line 2"),
        ("x.json", b"[" * 100_000, "nested too deep"),
        ("x.json", b'{"a":' * 900 + b"1" + b"}" * 900, "nested too deep"),
        ("x.json", b"null", "no text in it"),
    ],
)
def test_what_is_no_json_is_told(name: str, data: bytes, told: str) -> None:
    with pytest.raises(DocumentError) as caught:
        read_document(name, data)
    assert told in str(caught.value)


def test_code_is_kept_line_by_line_under_its_functions() -> None:
    document = read_document("src/app.py", _CODE.encode())
    assert document.title == "app.py"
    assert [section.path for section in document.sections] == [(), ("Reader",), ("Reader", "read"), ("main",)]
    first = document.sections[1]
    assert document.text[first.start : first.end].strip().startswith("```\n# Why it is here.\n@cache\nclass Reader:")
    kept = [line for line in document.text.split("\n") if line.strip() and line != "```"]
    assert kept == [line for line in _CODE.split("\n") if line.strip()]


@pytest.mark.parametrize(
    ("name", "code", "found"),
    [
        ("a.ts", "export async function load(x: string) {\n}\n", "load"),
        ("a.go", "func (s *Server) Serve() error {\n}\n", "Serve"),
        ("a.rs", "pub(crate) fn read(x: u8) -> u8 {\n}\n", "read"),
        ("a.java", "public final class Main {\n}\n", "Main"),
        ("a.c", "static int parse(const char *text)\n{\n}\n", "parse"),
        ("a.cpp", "void Reader::read(int x) {\n}\n", "Reader::read"),
        ("a.sql", "create table if not exists staff (\n  id int\n);\n", "staff"),
        ("a.rb", "class Reader < Base\nend\n", "Reader"),
    ],
)
def test_functions_and_types_of_many_languages_are_sections(name: str, code: str, found: str) -> None:
    assert [section.path for section in read_document(name, code.encode()).sections] == [(found,)]


@pytest.mark.parametrize("name", ["a.yaml", "a.toml", "a.css"])
def test_settings_have_no_functions(name: str) -> None:
    assert [section.path for section in read_document(name, b"type: x\nclass (y): 1\n").sections] == [()]


def test_a_long_function_is_cut_at_lines() -> None:
    code = "def f():\n" + "".join(f"    value_{n} = compute({n})\n" for n in range(500))
    document = read_document("a.py", code.encode())
    fences = document.text.split("```\n")
    assert max(map(len, fences)) < 1400
    assert all(f"    value_{n} = compute({n})" in document.text for n in range(500))


@pytest.mark.parametrize(
    ("name", "text", "paths"),
    [
        (
            "a.rst",
            "=====\nGuide\n=====\n\nIntro.\n\nFirst\n-----\n\nText.\n\nInner\n~~~~~\n\nMore.\n",
            [(), ("First",), ("First", "Inner")],
        ),
        ("a.tex", "\\section{One}\nText.\n\\subsection*{Two}\nMore.\n", [(), ("Two",)]),
        ("a.adoc", "= Guide\n\nIntro.\n\n== First\n\nText.\n", [(), ("First",)]),
        ("a.org", "* One\nText.\n** Two\nMore.\n", [(), ("Two",)]),
        ("a.txt", "Title\n=====\n\nText.\n", [()]),
    ],
)
def test_headings_of_markup_are_found_and_its_text_kept(name: str, text: str, paths: list[tuple[str, ...]]) -> None:
    document = read_document(name, text.encode())
    assert [section.path for section in document.sections] == paths
    assert "Text." in document.text
