"""Do many runs, one a core."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import as_completed
from pathlib import Path

from lenet_course.parallel import WorkerPool
from lenet_course.reproduce.runs import Run, Settings, run


def run_all(settings: Sequence[Settings], folder: Path, workers: int, *, report: bool = True) -> list[Run]:
    """Do all runs, `workers` at a time, and return them in the order of their settings. report: print a line a pass."""
    finished = {}
    with WorkerPool(workers) as pool:  # stopped at any moment, nothing is lost: a checkpoint is always whole
        started = {pool.submit(run, one, folder, print_pass if report else _say_nothing): one for one in settings}
        for future in as_completed(started):
            finished[started[future]] = future.result()
    return [finished[one] for one in settings]


def _say_nothing(current: Run) -> None:
    pass


def print_pass(current: Run) -> None:
    """Print how the last pass went."""
    if current.stopped:
        print(f"  {current.settings.name}: {current.stopped}", flush=True)
        return
    where = "validation" if current.settings.validation else "test"
    last = current.rows[-1]
    print(
        f"  {current.settings.name}, pass {last.number:>2}: training error {last.training_error:.2%}, "
        f"{where} error {last.error:.2%}, {last.seconds:.1f} s",
        flush=True,
    )
