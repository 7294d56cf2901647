"""Processes that work beside this one, and end with it."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from typing import Any


class WorkerPool:
    """Hands calls to a number of fresh processes. Use it as `with WorkerPool(2) as pool: pool.submit(function, argument)`.

    The processes are deaf to Ctrl-C, which in a terminal reaches them all. If the body of the `with` ends by an exception,
    Ctrl-C included, calls that wait are dropped and processes are terminated: whatever they write must be whole at any moment.
    """

    def __init__(self, workers: int) -> None:
        # Fresh processes, since torch's threads do not survive a fork.
        context = multiprocessing.get_context("spawn")
        self._pool = ProcessPoolExecutor(workers, context, _watch_parent)
        self._processes: set[multiprocessing.process.BaseProcess] = set()

    def __enter__(self) -> WorkerPool:
        return self

    def __exit__(self, kind: type | None, error: object, trace: object) -> None:
        if kind is None:
            self._pool.shutdown()
            return
        self._pool.shutdown(wait=False, cancel_futures=True)
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            process.join()

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Future:
        """Call function(*arguments) in one of the processes, as soon as one is free."""
        before = set(multiprocessing.active_children())
        with _deaf_to_ctrl_c():  # a process started here stays so
            future = self._pool.submit(function, *arguments)
        self._processes |= set(multiprocessing.active_children()) - before
        return future


def _watch_parent() -> None:
    # Killed, this process's parent could not end it: it would wait for the next call for ever.
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)


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
