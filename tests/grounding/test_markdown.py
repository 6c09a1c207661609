import pytest
from hypothesis import given
from hypothesis import strategies as st

from loam.grounding.canonical import Section
from loam.grounding.markdown import html_paragraphs, read_markdown

PAGE = """---
title: "Leave: types"
redirect_from: /leave/
---
{% include "nav.html" steps: a
b: c %}

Ask [your *HR* specialist](https://example.gov/a_b) or write to {% slack_channel "people-ops" %} at
<hr@example.gov>.{% comment %} Never shown. {% endcomment %}

## Annual leave

You may carry over 240&nbsp;hours[^1], see [the page]({% page "/leave/#over" %}):

* up to **3** years: `4 hours`
  1. full time
  2. part time
* more

| Day | Hours |
| --- | ----- |
| Monday | 8 <br> or 9 |

### Code

```yaml
# not a heading
hours: 240
```

<div class="box"><p>Boxed <b>te</b>xt</p><script>var x = "no";</script><!-- nor this --></div>

Sick leave
----------
![picture](x.png)See the [table][t].

[t]: https://example.gov/t
"""


def test_a_page_becomes_readable_text_with_its_sections() -> None:
    document = read_markdown(PAGE, "unused")
    assert document.title == "Leave: types"
    assert (
        document.text
        == """\
Ask your HR specialist or write to people-ops at hr@example.gov.

Annual leave

You may carry over 240 hours[^1], see the page:

- up to 3 years: 4 hours
  1. full time
  2. part time
- more

| Day | Hours |
| Monday | 8 or 9 |

Code

```
# not a heading
hours: 240
```

Boxed text

Sick leave

See the table."""
    )
    assert [section.path for section in document.sections] == [
        (),
        ("Annual leave",),
        ("Annual leave", "Code"),
        ("Sick leave",),
    ]
    last = document.sections[-1]
    assert document.text[last.start : last.end].strip() == "See the table."


def test_the_first_heading_names_a_page_without_front_matter_and_is_not_repeated_in_paths() -> None:
    document = read_markdown("# Guide\n\nOne.\n\n## Part\n\nTwo.", "file name")
    assert document.title == "Guide"
    assert [section.path for section in document.sections] == [(), ("Part",)]


def test_the_file_name_is_the_last_resort_for_a_title() -> None:
    assert read_markdown("Only text.", "File name").title == "File name"


def test_toml_front_matter_gives_a_title_too() -> None:
    assert read_markdown("+++\ntitle = 'Rules'\n+++\nText.", "x").title == "Rules"


def test_headings_items_and_cells_without_text_leave_nothing_behind() -> None:
    document = read_markdown("#\n\nNo heading.\n\n-\n\nNo item.\n\n- ```\n  x\n  ```\n\nNo item either.", "t")
    assert document.text == "No heading.\n\nNo item.\n\n```\nx\n```\n\nNo item either."
    assert document.sections == (Section((), 0, len(document.text)),)


def test_code_keeps_its_tags_and_its_fences() -> None:
    text = read_markdown('Write `{% page "x" %}` or:\n\n````\n```\n{% raw %}\n```\n````', "t").text
    assert text == 'Write `{% page "x" %}` or:'.replace("`", "") + "\n\n````\n```\n{% raw %}\n```\n````"


def test_a_link_defined_in_another_slice_of_a_long_document_is_still_a_link() -> None:
    filler = "\n\n".join(f"# Part {number}\n\nSome words of part {number}." for number in range(8000))
    document = read_markdown(f"See [the end][end].\n\n{filler}\n\n[end]: https://example.gov", "t")
    assert document.text.startswith("See the end.")
    assert len(document.sections) == 8001
    assert document.text.endswith("Some words of part 7999.")


def test_html_gives_its_words_by_block() -> None:
    html = "<table><tr><td>a &amp; b</td><td>c</td></tr><tr><td>d</td></tr></table><style>p {}</style>e<br>f"
    assert html_paragraphs(html) == ["a & b c", "d", "e", "f"]


HOSTILE = {
    "brackets": "[" * 100_000,
    "paragraphs of brackets": ("[" * 390 + "\n\n") * 250,
    "links": "[a](" * 25_000,
    "emphasis": "*a _b " * 16_000,
    "quotes": "> " * 50_000,
    "tags": "{% a" * 25_000,
    "comments": "{% comment %}" * 8_000,
    "html": "<a " * 33_000,
    "html block": "<div>\n" + "<!" * 50_000,
    "title": "---\ntitle: a" + " " * 100_000 + "b\n---\n",
    "references": "".join(f"[a{number}]: /x\n" for number in range(10_000)),
}


@pytest.mark.timeout(60)  # each takes well under a second, and minutes where the time grows with the square
@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_no_text_takes_long(text: str) -> None:
    read_markdown(text, "t")


@given(st.text(alphabet="ab #*_`[]()<>{%}|-1.\n\"'&;!\\~", max_size=300))
def test_sections_are_in_order_and_inside_the_text(text: str) -> None:
    document = read_markdown(text, "t")
    end = 0
    for section in document.sections:
        assert end <= section.start < section.end <= len(document.text)
        end = section.end
