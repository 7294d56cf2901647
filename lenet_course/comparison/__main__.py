"""LeNet-5 and its variants, each trained with ten seeds and the same budget.

Every row's rate is chosen on the last 5,000 training digits, with three seeds; ten seeds then train with it, and the test
digits are looked at once. Runs are shared out over processes, one core each, and leave their weights in a folder: stopped
at any moment, the same command goes on with the runs that are missing.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from pathlib import Path

import lenet_course  # noqa: F401 - before torch: it says how OpenMP threads wait

# isort: split
from lenet_course.comparison.rows import ROWS
from lenet_course.comparison.runs import Result, Run, chosen_rate, finished, next_runs, run
from lenet_course.comparison.tables import write_tables
from lenet_course.parallel import WorkerPool
from lenet_course.reproduce.__main__ import RUNS_FOLDER, positive
from lenet_course.reproduce.tables import RESULTS_FOLDER


def main(arguments: Sequence[str] | None = None) -> None:
    given = _parser().parse_args(arguments)
    names = list(dict.fromkeys(given.rows)) or list(ROWS)
    try:
        results = run_rows(names, given.folder, given.workers)
    except KeyboardInterrupt:
        raise SystemExit("\nStopped. The same command goes on with the runs that are missing.") from None
    if given.rows:
        print("The tables are written when all rows are run together.")
        return
    for path in write_tables(results, given.folder, given.results):
        print(path)


def run_rows(names: Sequence[str], folder: Path, workers: int, report: bool = True) -> dict[Run, Result]:
    """Do all runs that the rows need, `workers` at a time, and return all results of these rows. report: a line a run."""
    results = finished(folder, names)
    pending: dict[Future, Run] = {}
    with WorkerPool(workers) as pool:
        while True:
            wanted = [one for name in names for one in next_runs(ROWS[name], results)]
            under_way = set(pending.values())
            pending |= {pool.submit(run, one, folder): one for one in wanted if one not in under_way}
            if not pending:
                return results
            done, _ = wait(pending, return_when=FIRST_COMPLETED)
            for future in done:
                made = pending.pop(future)
                results[made] = future.result()
                if report:
                    _print_line(made, results)


def _print_line(made: Run, results: dict[Run, Result]) -> None:
    result = results[made]
    outcome = "ran away" if result.diverged else f"validation error {result.validation_error:.2%}"
    print(f"  {made.row}, rate {made.rate:g}, seed {made.seed}: {outcome}, {result.seconds:.1f} s", flush=True)
    if (rate := chosen_rate(ROWS[made.row], results)) is not None and not next_runs(ROWS[made.row], results):
        print(f"{made.row}: all seeds, rate {rate:g}", flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m lenet_course.comparison",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="rows:\n" + "\n".join(f"  {name}" for name in ROWS),
    )
    parser.add_argument("rows", nargs="*", type=_row, metavar="row", help="only these (default: all)")
    parser.add_argument(
        "--workers", type=positive, default=os.cpu_count() or 1, help="runs at a time (default: one a core)"
    )
    parser.add_argument("--folder", type=Path, default=RUNS_FOLDER, help="where weights are (default: my_runs)")
    parser.add_argument("--results", type=Path, default=RESULTS_FOLDER, help="where the table goes (data/results)")
    return parser


def _row(text: str) -> str:
    if text not in ROWS:
        raise argparse.ArgumentTypeError(f"there is no row {text!r}; --help lists them")
    return text


if __name__ == "__main__":
    main()
