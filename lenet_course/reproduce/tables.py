"""Measured results as tables: data/results/*.csv."""

from __future__ import annotations

import csv
import datetime
import platform
from collections.abc import Sequence
from pathlib import Path

import torch

from lenet_course import __version__
from lenet_course.data import DATA_FOLDER
from lenet_course.weights import replacing

RESULTS_FOLDER = DATA_FOLDER / "results"


def write_table(path: Path, rows: Sequence[dict[str, object]]) -> None:
    """Write rows as CSV, with the machine, the versions and the date at the end of each; the old file stays until then."""
    made = {
        "machine": f"{platform.system()} {platform.machine()}",
        "torch": torch.__version__,
        "course": __version__,
        "date": datetime.date.today().isoformat(),
    }
    columns = [*dict.fromkeys(key for row in rows for key in row), *made]
    with replacing(path) as unfinished, unfinished.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows({**row, **made} for row in rows)


def read_results(name: str) -> list[dict[str, str | float]]:
    """Return the rows of data/results/<name>.csv in order; what can be read as a number is one.

    Raises FileNotFoundError, naming the tables that there are.
    """
    path = RESULTS_FOLDER / f"{name}.csv"
    if not path.is_file():
        there = ", ".join(sorted(path.stem for path in RESULTS_FOLDER.glob("*.csv")))
        raise FileNotFoundError(f"There is no table {name!r} in {RESULTS_FOLDER}. There are: {there}.")
    with path.open(newline="", encoding="utf-8") as file:
        return [{key: _number(value) for key, value in row.items()} for row in csv.DictReader(file)]


def _number(text: str) -> str | float:
    try:
        return float(text)
    except ValueError:
        return text
