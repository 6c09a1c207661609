"""Thins the curves of training so that they can be kept: the mean of every stretch of steps.

python -m recipes.heads.curves .training/human.csv .training/read.csv --out recipes/heads/curves
"""

import argparse
import csv
from pathlib import Path
from statistics import mean

COLUMNS = ("step", "start", "end", "rank", "verify", "pieces", "seconds")
STRETCH = 25


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("curves", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    for curve in arguments.curves:
        with curve.open(newline="") as file:
            rows = list(csv.reader(file))
        with (arguments.out / curve.name).open("w", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(COLUMNS)
            writer.writerows(thinned(rows[start : start + STRETCH]) for start in range(0, len(rows), STRETCH))


def thinned(rows: list[list[str]]) -> list[str | float]:
    """The last step of the rows and the mean of every column, empty where no row has it."""
    found: list[str | float] = [rows[-1][0]]
    for place in range(1, len(COLUMNS)):
        values = [float(row[place]) for row in rows if row[place]]
        found.append(round(mean(values), 3) if values else "")
    return found


if __name__ == "__main__":
    main()
