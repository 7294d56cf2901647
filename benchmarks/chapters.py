"""How long does each chapter run, and how much memory does it take?

    python benchmarks/chapters.py [--chapters 03_training ...] [--seconds 240]

Each chapter is run from top to bottom by nbclient, with a kernel of its own and no weights of a learner's; nothing is
written back. The time is that of starting the kernel and running all cells, once. Memory is that of the kernel and of all
that it starts, at the moment when it was most, looked at ten times a second; what processes share counts once. On systems
without /proc it is the most that one process had.
"""

from __future__ import annotations

import os
import sys
import tempfile
import threading
import time
from pathlib import Path

from measuring import RESULTS, ROOT, MeasuringError, Side, arguments, at_most, figure, finish, read, serve

CHAPTERS = ROOT / "chapters"
UNKNOWN = 90.0  # seconds, for a chapter that has not been measured yet: none should take longer
LONGEST, MOST_MEMORY = at_most(90), at_most(1500)


def main() -> None:
    parser = arguments(__doc__, rounds=1)
    parser.add_argument("--chapters", nargs="+", metavar="NAME", help="only these (default: all)")
    parser.add_argument("--seconds", type=float, help="leave out chapters that would not be done in this time")
    given = parser.parse_args()
    if given.side:
        serve(lambda: run_chapter(CHAPTERS / f"{given.side}.ipynb"))
        return
    names = given.chapters or [path.stem for path in sorted(CHAPTERS.glob("*.ipynb"))]
    began, figures, left_out = time.monotonic(), [], []
    for name in names:
        used = time.monotonic() - began
        if given.seconds is not None and used + expected(name) > given.seconds:
            left_out.append(name)
            continue
        found = [measure(name) for _ in range(given.rounds)]
        if not all(found):
            continue
        seconds, megabytes = ([values[key] for values in found] for key in ("seconds", "megabytes"))
        figures.append(figure(f"{name}, time", seconds, "s", target=LONGEST))
        figures.append(figure(f"{name}, memory", megabytes, "MB", target=MOST_MEMORY))
        print(f"{name}: {seconds[-1]:.1f} s, {megabytes[-1]:,.0f} MB", flush=True)
    if left_out:
        print(f"Left out, since time was short: {', '.join(left_out)}. python {__file__} runs them all.")
    if figures:
        finish("chapters", "Chapters", figures, given.results)


def expected(name: str) -> float:
    """Return how many seconds the chapter took when it was measured last."""
    for row in read(RESULTS / "speed_chapters.csv"):
        if row["measured"] == f"{name}, time":
            return float(row["median"])
    return UNKNOWN


def measure(name: str) -> dict[str, float]:
    """Run one chapter in a process of its own; {} if it does not run, which is said."""
    side = Side(__file__, name)
    try:
        return side.measure()
    except MeasuringError as error:
        print(f"{name} did not run to its end: {error}", flush=True)
        return {}
    finally:
        side.close()


def run_chapter(path: Path) -> dict[str, float]:
    """Run a notebook and return its seconds and its megabytes (10^6 bytes)."""
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(path, as_version=4)
    with tempfile.TemporaryDirectory(prefix="lenet-course-weights-") as weights, MemoryOfChildren() as memory:
        os.environ["LENET_COURSE_WEIGHTS"] = weights
        client = NotebookClient(
            notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(path.parent)}}
        )
        start = time.perf_counter()
        client.execute()
        seconds = time.perf_counter() - start
    return {"seconds": seconds, "megabytes": memory.megabytes}


class MemoryOfChildren:
    """Watches how much memory the processes started from here have, until the end of the block; then `megabytes` is the peak."""

    def __init__(self) -> None:
        self.megabytes = float("nan")
        self._peak, self._end = 0.0, threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> MemoryOfChildren:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._end.set()
        self._thread.join()
        self.megabytes = (self._peak or peak_of_ended_children()) / 1e6

    def _watch(self) -> None:
        while not self._end.wait(0.1):
            self._peak = max(self._peak, sum(memory_of(pid) for pid in descendants(os.getpid())))


def descendants(pid: int) -> list[int]:
    """Return the processes that this one started, and those that they started; [] on systems without /proc."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            # The name, in brackets, may hold anything.
            parent = int(stat.read_text(errors="replace").rpartition(")")[2].split()[1])
        except (OSError, IndexError, ValueError):
            continue  # it has just ended
        children.setdefault(parent, []).append(int(stat.parent.name))
    found, to_see = [], [pid]
    while to_see:
        more = children.get(to_see.pop(), [])
        found += more
        to_see += more
    return found


def memory_of(pid: int) -> int:
    """Return the bytes that a process has in memory, of pages that it shares its part only; 0 if it has ended."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text(errors="replace").splitlines()
    except OSError:
        return 0
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)


def peak_of_ended_children() -> float:
    """Return the most bytes that one ended child had; not a number where the system does not say."""
    try:
        import resource
    except ImportError:
        return float("nan")
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


if __name__ == "__main__":
    main()
