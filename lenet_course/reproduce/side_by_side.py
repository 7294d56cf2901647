"""Do many runs, one a core."""

from __future__ import annotations

import multiprocessing
import signal
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path

from lenet_course.reproduce.runs import Run, Settings, run


def run_all(settings: Sequence[Settings], folder: Path, workers: int, *, report: bool = True) -> list[Run]:
    """Do all runs, `workers` at a time, and return them in the order of their settings. report: print a line a pass."""
    finished = {}
    # Fresh processes, since torch's threads do not survive a fork.
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        with _deaf_to_ctrl_c():  # processes started here stay so; this one stops them
            started = {pool.submit(run, one, folder, print_pass if report else _say_nothing): one for one in settings}
        try:
            for future in as_completed(started):
                finished[started[future]] = future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            # Nothing is lost: a checkpoint is whole at any moment.
            for process in multiprocessing.active_children():
                process.terminate()
            raise
    return [finished[one] for one in settings]


@contextmanager
def _deaf_to_ctrl_c() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():  # only that one may say what happens to signals
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


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
