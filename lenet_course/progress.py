"""A progress display that is live in Jupyter, and a bar in a terminal."""

from __future__ import annotations

import html
import time
from typing import Protocol


class Progress(Protocol):
    """What a training loop says while it runs."""

    def advance(self) -> None:
        """One more step is done."""

    def close(self) -> None:
        """No more steps will follow."""


def progress(title: str, steps: int, *, shown: bool = True) -> Progress:
    """Return a display for `steps` steps: a widget in a notebook, a bar on stderr in a terminal, or none."""
    if not shown:
        return _NoProgress()
    return _NotebookProgress(title, steps) if _in_a_notebook() else _TerminalProgress(title, steps)


class _NoProgress:
    def advance(self) -> None:
        pass

    def close(self) -> None:
        pass


class _TerminalProgress:
    def __init__(self, title: str, steps: int) -> None:
        from tqdm import tqdm

        self._bar = tqdm(desc=title, total=steps, leave=False, unit="step")

    def advance(self) -> None:
        self._bar.update()

    def close(self) -> None:
        self._bar.close()


class _NotebookProgress:
    """An HTML widget whose value changes: nothing is printed, so nothing but the last state stays behind."""

    def __init__(self, title: str, steps: int) -> None:
        import ipywidgets
        from IPython.display import display

        class ProgressView(ipywidgets.HTML):
            def __repr__(self) -> str:  # what a viewer without a kernel shows in the widget's place
                return f"({title}: the progress shows here while it runs.)"

        self._title, self._steps, self._done = title, steps, 0
        self._start = self._last_shown = time.monotonic()
        self._view = ProgressView()
        self._show()
        display(self._view)

    def advance(self) -> None:
        self._done += 1
        if time.monotonic() - self._last_shown > 0.2:  # a browser need not hear of every step
            self._show()

    def close(self) -> None:
        self._show()

    def _show(self) -> None:
        self._last_shown = time.monotonic()
        seconds = self._last_shown - self._start
        started_and_not_done = 0 < self._done < self._steps
        left = f", about {seconds / self._done * (self._steps - self._done):.0f} s left" if started_and_not_done else ""
        text = f"{html.escape(self._title)}: step {self._done:,} of {self._steps:,}, {seconds:.0f} s{left}"
        self._view.value = f'<progress value="{self._done}" max="{self._steps}" aria-label="{text}"></progress> {text}'


def _in_a_notebook() -> bool:
    try:
        from IPython import get_ipython
    except ImportError:
        return False
    return hasattr(get_ipython(), "kernel")
