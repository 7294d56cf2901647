"""LeNet-5's results of 1998, measured again.

Runs are shared out over processes, one core each. A run leaves a checkpoint after each pass: stopped at any moment,
the same command goes on and ends with the same numbers. Each experiment writes data/results/lenet5_<experiment>.csv.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

import lenet_course  # noqa: F401 - before torch: it says how OpenMP threads wait

# isort: split
from lenet_course.data import DATA_FOLDER
from lenet_course.reproduce.experiments import EXPERIMENTS
from lenet_course.reproduce.side_by_side import run_all
from lenet_course.reproduce.tables import RESULTS_FOLDER

RUNS_FOLDER = DATA_FOLDER.parent / "my_runs"


def main(arguments: Sequence[str] | None = None) -> None:
    given = _parser().parse_args(arguments)
    names = list(EXPERIMENTS) if "all" in given.experiments else given.experiments
    try:
        for name in names:
            experiment = EXPERIMENTS[name]
            print(f"{name}: {experiment.title}", flush=True)
            finished = run_all(experiment.runs(given.seeds), given.folder, given.workers)
            path = given.results / f"lenet5_{name}.csv"
            experiment.table(finished, path)
            print(f"{name}: {path}", flush=True)
    except KeyboardInterrupt:
        raise SystemExit("\nStopped. The same command goes on from the last pass of each run.") from None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m lenet_course.reproduce",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="experiments:\n" + "\n".join(f"  {name:<16}{made.title}" for name, made in EXPERIMENTS.items()),
    )
    parser.add_argument("experiments", nargs="+", choices=[*EXPERIMENTS, "all"], metavar="experiment")
    parser.add_argument("--seeds", type=positive, help="seeds 0 to SEEDS - 1 (default: 10 for figure5, else 3)")
    parser.add_argument(
        "--workers", type=positive, default=os.cpu_count() or 1, help="runs at a time (default: one for each core)"
    )
    parser.add_argument("--folder", type=Path, default=RUNS_FOLDER, help="where checkpoints are (default: my_runs)")
    parser.add_argument("--results", type=Path, default=RESULTS_FOLDER, help="where tables go (default: data/results)")
    return parser


def positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is not 1 or more")
    return number


if __name__ == "__main__":
    main()
