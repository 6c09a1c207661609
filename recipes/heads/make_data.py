"""Writes the training pairs and claims, the same for the same seed.

    PYTHONPATH=src python -m recipes.heads.make_data --data DATA/qa --out .training

Needs no torch. DATA/qa holds squad-train, squad-val, other-train and wiki-synthetic-train-0..1 as packed JSON lines.
"""

import argparse
import random
import tomllib
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
from recipes.heads.claims import Question
from recipes.heads.corpus import human, rows, synthetic
from recipes.heads.questions import changed_pairs, cloze_pairs, cropped, other_pairs, own_pairs
from recipes.heads.verdicts import asked, labelled, places, trained

SETTINGS = Path(__file__).parent / "settings.toml"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    settings = tomllib.loads(SETTINGS.read_text("utf-8"))
    arguments.out.mkdir(parents=True, exist_ok=True)
    make(arguments.data, arguments.out, settings["data"], settings["seed"])


def make(data: Path, out: Path, chosen: dict[str, Any], seed: int) -> None:
    """Writes the pairs and claims of training into `out`.

    Beside them `weighing`, what the verdict's weights are fitted on (passages that no claim was made from), and
    `labelled`, what the verifier is judged on.
    """
    rng = random.Random(seed)
    people = human([*rows(data / "squad-train.jsonl.xz"), *rows(data / "other-train.jsonl.xz")])
    people = [question for question in people if len(question.passage) < 2500]
    pairs = [*own_pairs(people, rng), *changed_pairs(people, rng, chosen["changed_questions"])]
    pairs += other_pairs(rng.sample(people, int(chosen["other_passages"] * len(people))), rng)
    write(out / "human-pairs.jsonl", [cropped(pair, rng, chosen["cropped"], chosen["cropped_words"]) for pair in pairs])
    made = synthetic(row for part in (0, 1) for row in rows(data / f"wiki-synthetic-train-{part}.jsonl.xz"))
    articles = list(dict.fromkeys((question.title, question.passage) for question in made))
    rng.shuffle(articles)
    rng.shuffle(made)
    clozes = cloze_pairs(articles[: chosen["cloze_passages"]], rng)
    pairs = [*own_pairs(made[: chosen["synthetic_questions"]], rng), *clozes]
    unranked = [msgspec.structs.replace(pair, relevant=None) for pair in pairs]  # no wrong passages to tell them from
    write(out / "synthetic-pairs.jsonl", [cropped(pair, rng, 1.0, chosen["cropped_words"]) for pair in unranked])
    turned = [*changed_pairs(people, random.Random(seed + 2), 1.0)]
    crop = random.Random(seed + 3)
    write(
        out / "changed-pairs.jsonl",
        [cropped(pair, crop, chosen["cropped"], chosen["cropped_words"]) for pair in turned],
    )
    write(out / "claims.jsonl", [*_claims(people, articles, rng, chosen)])
    rest = {passage for _, passage in articles[chosen["claim_passages"] :][: chosen["weighing_passages"]]}
    weighing = labelled([question for question in made if question.passage in rest], seed=seed + 1, most=300)
    write(out / "weighing.jsonl", weighing)
    write(out / "labelled.jsonl", labelled(human(rows(data / "squad-val.jsonl.xz")), seed=seed))


def _claims(
    people: list[Question], articles: list[tuple[str, str]], rng: random.Random, chosen: dict[str, Any]
) -> Iterable[Any]:
    whole = chosen["whole_passage"]
    own = places(list(dict.fromkeys((question.title, question.passage) for question in people)))
    rng.shuffle(own)
    yield from trained(own[: chosen["claims_a_passage"] * 1200], rng, whole=whole, origin="people")
    yield from asked(people, rng, whole=whole)
    found = places(articles[: chosen["claim_passages"]])
    one_each = {place.passage: place for place in rng.sample(found, len(found))}
    yield from trained(list(one_each.values()), rng, whole=whole, origin="wiki")


def write(path: Path, items: list[Any]) -> None:
    """One JSON object a line."""
    path.write_bytes(b"".join(msgspec.json.encode(item) + b"\n" for item in items))
    kinds = Counter(getattr(item, "kind", None) or item.origin for item in items)
    print(path.name, len(items), dict(kinds.most_common(12)))


if __name__ == "__main__":
    main()
