"""Train a row of the comparison now, seeds beside each other, with a progress display."""

from __future__ import annotations

import math
import tempfile
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import torch

from lenet_course.comparison import runs
from lenet_course.comparison.rows import ROWS
from lenet_course.data import HELD_OUT, load_mnist
from lenet_course.progress import progress


def train_seeds(row: str, rate: float, seeds: Sequence[int], *, digits: int = 60_000 - HELD_OUT) -> list[float]:
    """Train the row with each seed, side by side, and return their test errors (fractions) in the order of the seeds.

    With all 55,000 digits it is what the table did: the same seed gives the same network. digits: fewer, the first ones,
    for a quick look. Each seed has a thread of this process, and torch one thread a seed: processes would need as much
    memory again for each. Stopped by Ctrl-C, it leaves nothing behind.
    Raises ValueError for a row that there is not, or a number of digits that there are not; ArithmeticError if
    weights ran away.
    """
    if row not in ROWS:
        raise ValueError(f"There is no row {row!r}. There are: {', '.join(ROWS)}.")
    if not 1 <= digits <= 60_000 - HELD_OUT or not seeds or len(set(seeds)) != len(seeds):
        raise ValueError(
            f"digits are 1 to {60_000 - HELD_OUT:,}, and seeds at least one, each once; got {digits} and {seeds}."
        )
    counter, threads_before = _Counter(), torch.get_num_threads()
    steps = len(seeds) * runs.steps_of(ROWS[row], digits)
    with tempfile.TemporaryDirectory() as folder, closing(progress(row, steps)) as display:
        pool = ThreadPoolExecutor(len(seeds))
        try:
            waiting = [pool.submit(_train, runs.Run(row, rate, seed), Path(folder), digits, counter) for seed in seeds]
            shown, finished = 0, False
            while not finished:
                time.sleep(0.1)
                finished = all(future.done() for future in waiting)  # looked at first: the last steps are shown too
                for _ in range(counter.steps - shown):
                    display.advance()
                    shown += 1
            errors = [future.result() for future in waiting]
        finally:
            counter.stop = True
            pool.shutdown()
            torch.set_num_threads(threads_before)
    if any(math.isnan(error) for error in errors):
        raise ArithmeticError(
            f"{row} ran away at the rate {rate:g}: its weights are no numbers any more. Try a smaller rate."
        )
    return errors


class _Stopped(Exception):
    """The one who waits for the runs waits no longer."""


class _Counter:
    def __init__(self) -> None:
        self.steps, self.stop = 0, False
        self._lock = threading.Lock()

    def add(self, steps: int) -> None:
        with self._lock:
            self.steps += steps
        if self.stop:
            raise _Stopped


def _train(wanted: runs.Run, folder: Path, digits: int, counter: _Counter) -> float:
    if runs.run(wanted, folder, digits=digits, after_steps=counter.add).diverged:
        return math.nan
    return runs.test_error(wanted, folder, load_mnist("test"))
