from hypothesis import given
from hypothesis import strategies as st

from loam.core.errors import DocumentError
from loam.grounding.documents import read_document
from loam.grounding.ingest import HANDBOOK
from loam.grounding.markdown import read_markdown
from loam.grounding.passages import LONGEST, cut
from loam.grounding.sentences import sentences
from loam.grounding.terms import words

WORDS = st.sampled_from(
    ["#", "##", "-", "1.", "|", "```", "leave", "days,", "HR.", "Why?", "\n", "\n\n", "漢字。", "ünï"]
)


def test_a_short_section_stays_whole_and_carries_its_headings() -> None:
    document = read_markdown("# Guide\n\n## Leave\n\nOne. Two.\n\n### Sick\n\n- a\n- b", "t")
    assert [(piece.section, document.text[piece.start : piece.end]) for piece in cut(document)] == [
        ("Leave", "One. Two."),
        ("Leave > Sick", "- a\n- b"),
    ]


def test_a_long_section_is_cut_evenly_between_sentences() -> None:
    sentence = "Ten words make this sentence that is repeated many times. "
    document = read_markdown(sentence * 25, "t")
    pieces = list(cut(document))
    assert [len(words(document.text[piece.start : piece.end])) for piece in pieces] == [130, 120]
    assert all(document.text[piece.start : piece.end].endswith("times.") for piece in pieces)


def test_text_without_stops_or_spaces_is_cut_all_the_same() -> None:
    for text in ("x" * 10_000, "word " * 5_000, "漢" * 3_000):
        document = read_document("a.txt", text.encode())
        pieces = [document.text[piece.start : piece.end] for piece in cut(document)]
        assert len(pieces) > 5
        assert all(len(piece) <= LONGEST * 8 for piece in pieces)
        assert "".join("".join(pieces).split()) == "".join(text.split())


def test_every_passage_of_the_handbook_is_of_a_decent_length() -> None:
    for path in HANDBOOK.rglob("*.md"):
        document = read_document(path.name, path.read_bytes())
        for piece in cut(document):
            assert len(words(document.text[piece.start : piece.end])) <= 1.1 * LONGEST


@given(st.lists(WORDS, max_size=60).map(" ".join), st.integers(3, 20))
def test_passages_hold_every_sentence_once_and_never_a_heading(text: str, longest: int) -> None:
    try:
        document = read_document("a.md", text.encode())
    except DocumentError:
        return
    pieces = list(cut(document, longest))
    end = 0
    for piece in pieces:
        assert end <= piece.start < piece.end <= len(document.text)
        assert any(s.start <= piece.start and piece.end <= s.end for s in document.sections)
        end = piece.end
    covered = {place for piece in pieces for place in range(piece.start, piece.end)}
    for section in document.sections:
        for sentence in sentences(document.text, section.start, section.end):
            said = range(sentence.start, sentence.end)
            assert all(place in covered for place in said if not document.text[place].isspace())
