"""Run all benchmarks one after the other, and say which targets are met.

    python start.py bench
    python benchmarks/all.py [--minutes 10] [--only epoch busy ...]

Each gets the part of the time that its question needs; for larger samples run it alone (README.md says how). The chapters come
last and have what is left of the time. A target that is missed is said and is no failure: the machine may be slow or busy.
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from measuring import RESULTS, ROUNDS, positive, read

HERE = Path(__file__).resolve().parent
# In the order in which they run. What the options leave is enough for a ratio; whole epochs and more are for single runs.
PARTS: dict[str, tuple[str, ...]] = {
    "epoch": ("--digits", "12800"),
    "to_99": ("--steps", "40"),
    "busy": (),
    "sdlm": ("--patterns", "500"),
    "growth": ("--slice", "1024"),
    "imports": (),
    "drawing_pad": (),
    "chapters": (),
}
ONCE = ("chapters",)  # whose parts are not measured in rounds


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=positive, default=ROUNDS, help=f"measurements of each side (default {ROUNDS})")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder for the tables (default data/results)")
    parser.add_argument("--minutes", type=float, default=10, help="chapters that take longer are left out (default 10)")
    parser.add_argument("--only", nargs="+", choices=PARTS, metavar="NAME", help=f"of {', '.join(PARTS)}")
    given = parser.parse_args()
    # Ended like this, it ends the benchmark that runs, whose processes then end too.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    began, ended, wall_clock = time.monotonic(), {}, time.time()
    for name in given.only or PARTS:
        print(f"\n=== {name}\n", flush=True)
        start = time.monotonic()
        left = 60 * given.minutes - (start - began)
        code = subprocess.run(command(name, given.rounds, given.results, left), check=False).returncode
        ended[name] = (code, time.monotonic() - start)
    print(f"\n=== All figures with a target\n\n{summary(rows(ended, given.results, wall_clock))}\n")
    for name, (code, seconds) in ended.items():
        print(f"{'ok' if code == 0 else 'FAILED':8}{name:14}{seconds:8.1f} s")
    print(f"{'':8}{'in all':14}{time.monotonic() - began:8.1f} s", flush=True)
    return int(any(code for code, _ in ended.values()))


def command(name: str, rounds: int, results: Path, seconds_left: float) -> list[str]:
    """Return how to start one benchmark."""
    parts = [sys.executable, "-u", str(HERE / f"{name}.py"), *PARTS[name], "--results", str(results)]
    if name in ONCE:
        return [*parts, "--seconds", f"{seconds_left:.0f}"]
    return [*parts, "--rounds", str(rounds)]


def rows(names: Iterable[str], results: Path, since: float) -> list[dict[str, str]]:
    """Return the lines with a target, in order, of the tables written since a time; each with the benchmark's name."""
    paths = {name: results / f"speed_{name}.csv" for name in names}
    return [
        {"benchmark": name, **row}
        for name, path in paths.items()
        if path.is_file() and path.stat().st_mtime >= since
        for row in read(path)
        if row.get("target")
    ]


def summary(lines: list[Mapping[str, str]]) -> str:
    """Return one line for each figure with a target, and how many are met."""
    if not lines:
        return "No figure with a target was measured."
    told = []
    for line in lines:
        value = f"{line['ratio']} x {line['against']}" if line["ratio"] else f"{line['median']} {line['unit']}"
        computed = " (computed)" if line["kind"] == "computed" else ""
        told.append(
            (
                "met" if line["met"] == "yes" else "MISSED",
                line["benchmark"],
                line["measured"] + computed,
                value,
                line["target"],
            )
        )
    widths = [max(len(cells[column]) for cells in told) for column in range(5)]
    text = ["  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip() for cells in told]
    met = sum(cells[0] == "met" for cells in told)
    missed = "" if met == len(told) else " A slow or busy machine misses some; the ratios should hold on any."
    return "\n".join([*text, "", f"{met} of {len(told)} targets met.{missed}"])


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
