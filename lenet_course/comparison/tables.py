"""What the comparison leaves in data/results: variants.csv, a line a run, and variants_rates.csv, how rates were chosen."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from lenet_course.arithmetic import count_parameters
from lenet_course.comparison.rows import ROWS
from lenet_course.comparison.runs import PASSES, SEEDS, Result, Run, chosen_rate, test_error
from lenet_course.data import HELD_OUT, load_mnist
from lenet_course.reproduce.tables import write_table


def write_tables(results: Mapping[Run, Result], folder: Path, results_folder: Path) -> tuple[Path, Path]:
    """Measure the test error of the ten runs of each row with its chosen rate, and write both tables.

    folder: where the weights of the runs are. Raises ValueError if a row is not complete.
    """
    rates = {name: chosen_rate(row, dict(results)) for name, row in ROWS.items()}
    for name, rate in rates.items():
        if rate is None or any(Run(name, rate, seed) not in results for seed in range(SEEDS)):
            raise ValueError(f"The row {name!r} is not complete. `python -m lenet_course.comparison` completes it.")
    test = load_mnist("test")
    lines = []
    for row in ROWS.values():
        rate = rates[row.name]
        runs = [Run(row.name, rate, seed) for seed in range(SEEDS)]
        settings = {
            "parameters": count_parameters(row.build()),
            "network": row.network,
            "parts": "; ".join(f"{part}={choice}" for part, choice in row.parts.items()),
            "method": row.method,
            "rate": rate,
            "distorted": row.distorted,
            "passes": PASSES,
            "digits": 60_000 - HELD_OUT,
            "batch_size": row.batch_size,
        }
        for run in runs:
            measured = {
                "validation_error": results[run].validation_error,
                "test_error": test_error(run, folder, test),
            }
            lines.append({"row": row.name, "exchanged": row.exchanged, "seed": run.seed, **measured, **settings})
    write_table(results_folder / "variants.csv", lines)
    write_rates(results, results_folder / "variants_rates.csv")
    return results_folder / "variants.csv", results_folder / "variants_rates.csv"


def write_rates(results: Mapping[Run, Result], path: Path) -> None:
    """A line for each rate and seed that was tried; the error is empty where the weights ran away."""
    tried = sorted(results, key=lambda run: (list(ROWS).index(run.row), run.rate, run.seed))
    lines = [
        {
            "row": run.row,
            "rate": run.rate,
            "seed": run.seed,
            "validation_error": "" if results[run].diverged else results[run].validation_error,
        }
        for run in tried
    ]
    write_table(path, lines)
