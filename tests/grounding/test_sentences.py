from hypothesis import given
from hypothesis import strategies as st

from loam.grounding.sentences import sentences

SHAPED = st.text(alphabet="ab A.!?。\n -|`1)\"'é漢\t", max_size=200)


def said(text: str) -> list[str]:
    return [text[sentence.start : sentence.end] for sentence in sentences(text)]


def test_prose_is_cut_after_stops_but_not_inside_abbreviations_numbers_and_addresses() -> None:
    text = (
        'Ask Dr. Lee, e.g. by mail (a.b@c.gov). It costs $5.25! "Why?" she said. The U.S. office opens at 9 a.m. daily.'
    )
    assert said(text) == [
        "Ask Dr. Lee, e.g. by mail (a.b@c.gov).",
        "It costs $5.25!",
        '"Why?" she said.',
        "The U.S. office opens at 9 a.m. daily.",
    ]


def test_scripts_without_spaces_are_cut_at_their_own_stops() -> None:
    assert said("休暇は十日です。申請してください！はい") == ["休暇は十日です。", "申請してください！", "はい"]
    assert said("یہ ہے۔ وہ ہے؟ ہاں") == ["یہ ہے۔", "وہ ہے؟", "ہاں"]


def test_items_rows_and_code_are_told_apart_and_keep_their_outside() -> None:
    text = "You can:\n\n- walk. Slowly.\n  - ride\n2. fly\n\n| a | b |\n| c | d |\n\n```\nx = 1.\n\ny = 2.\n```\n\nDone"
    found = list(sentences(text))
    assert [(s.kind, text[s.start : s.end]) for s in found] == [
        ("prose", "You can:"),
        ("item", "walk."),
        ("item", "Slowly."),
        ("item", "ride"),
        ("item", "fly"),
        ("row", "a | b"),
        ("row", "c | d"),
        ("code", "x = 1.\n\ny = 2."),
        ("prose", "Done"),
    ]
    assert text[found[1].outer_start : found[1].outer_end] == "- walk."
    assert text[found[5].outer_start : found[5].outer_end] == "| a | b |"
    assert text[found[7].outer_start : found[7].outer_end] == "```\nx = 1.\n\ny = 2.\n```"


def test_a_wrapped_paragraph_is_not_cut_at_its_line_ends() -> None:
    assert said("One sentence over\ntwo lines. Another.") == ["One sentence over\ntwo lines.", "Another."]


def test_a_range_of_the_text_gives_what_the_range_alone_gives() -> None:
    text = "Before. One. Two. After."
    assert [(s.start, s.end) for s in sentences(text, 8, 17)] == [(8, 12), (13, 17)]


@given(SHAPED)
def test_spans_are_in_order_and_lose_only_space_markers_and_fences(text: str) -> None:
    found = list(sentences(text))
    end = 0
    lost = ""
    for sentence in found:
        assert end <= sentence.outer_start <= sentence.start < sentence.end <= sentence.outer_end <= len(text)
        assert text[sentence.start : sentence.end].strip() == text[sentence.start : sentence.end]
        lost += text[end : sentence.outer_start]
        end = sentence.outer_end
    lost += text[end:]
    assert not any(letter.isalpha() for letter in lost)
