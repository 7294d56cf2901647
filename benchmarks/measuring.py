"""What the benchmarks share: sides that take turns in processes of their own, medians, targets, tables and files.

A side is one of the things compared. It runs in a process that measures once for each line it is sent, so that it has its
own settings of threads and memory, and that its imports are not counted. The sides take turns: what slows the machine for
a while slows all of them. A ratio is the median of the rounds' ratios, each of two figures from the same round.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "data" / "results"
ROUNDS = 5
REPLY = "MEASURED "  # begins the line by which a side's process answers
# What the course sets for its own processes, and what must not reach the others by way of the environment.
THREAD_SETTINGS = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")


class MeasuringError(RuntimeError):
    """A side's process ended, or answered with something else than figures."""


# --- Sides that take turns ------------------------------------------------------------------------------------------


class Side:
    """A process that runs `script --side name ...` and measures when it is asked.

    environment: set for this process. THREAD_SETTINGS are taken away first, whoever set them.
    """

    def __init__(
        self, script: str, name: str, *arguments: object, environment: Mapping[str, str] | None = None
    ) -> None:
        self.name = name
        self.seconds_to_ready = float("nan")
        self._started = time.perf_counter()
        self._process = subprocess.Popen(
            [sys.executable, script, "--side", name, *map(str, arguments)],
            env={**plain_environment(), **(environment or {})},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            encoding="utf-8",
        )
        self._ready = False

    def wait_until_ready(self) -> None:
        """Wait for the end of its imports and of what it prepares; then `seconds_to_ready` counts from its start."""
        if not self._ready:
            self._read()
            self._ready = True
            self.seconds_to_ready = time.perf_counter() - self._started

    def measure(self) -> dict[str, float]:
        """Let it measure once, and return its figures by name."""
        self.wait_until_ready()
        try:
            self._process.stdin.write("\n")
            self._process.stdin.flush()
        except OSError as error:
            raise MeasuringError(f"The process of {self.name!r} has ended.") from error
        return self._read()

    def _read(self) -> dict[str, float]:
        for line in self._process.stdout:
            if line.startswith(REPLY):
                return json.loads(line.removeprefix(REPLY))
        raise MeasuringError(f"The process of {self.name!r} ended with code {self._process.wait()} and no figures.")

    def close(self) -> None:
        """End the process."""
        self._process.stdin.close()
        try:
            self._process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()


def serve(measure: Callable[[], Mapping[str, float]]) -> None:
    """In a side's process: say that it is ready, then measure once for each line that comes in."""
    print(f"{REPLY}{{}}", flush=True)
    for _ in sys.stdin:
        print(REPLY + json.dumps(measure()), flush=True)


def plain_environment() -> dict[str, str]:
    """Return the environment without the course's settings of threads."""
    return {name: value for name, value in os.environ.items() if name not in THREAD_SETTINGS}


def alternate(
    sides: Mapping[str, Callable[[], Mapping[str, float]]],
    rounds: int,
    report: Callable[[int, dict[str, Mapping[str, float]]], None] = lambda number, figures: None,
) -> dict[str, dict[str, list[float]]]:
    """Call each side once a round, in their order, and return {side: {figure: its values, one a round}}.

    report: called after each round with its number, from 1, and its figures.
    """
    found: dict[str, dict[str, list[float]]] = {name: {} for name in sides}
    for number in range(1, rounds + 1):
        figures = {name: side() for name, side in sides.items()}
        for name, values in figures.items():
            for figure, value in values.items():
                found[name].setdefault(figure, []).append(value)
        report(number, figures)
    return found


def alternate_processes(sides: Sequence[Side], rounds: int, unit: str = "s") -> dict[str, dict[str, list[float]]]:
    """Let processes take turns, print a line a round, and end them. Each prepares before the next one starts."""
    with ExitStack() as stack:
        for side in sides:
            stack.callback(side.close)
            side.wait_until_ready()

        def report(number: int, figures: dict[str, Mapping[str, float]]) -> None:
            parts = [f"{name} {next(iter(values.values())):.3g} {unit}" for name, values in figures.items()]
            print(f"round {number}: {', '.join(parts)}", flush=True)

        return alternate({side.name: side.measure for side in sides}, rounds, report)


# --- Figures and targets --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Target:
    """What a figure should be: `at most` or `at least` a limit."""

    limit: float
    at_least: bool = False

    def __str__(self) -> str:
        return f"at {'least' if self.at_least else 'most'} {self.limit:g}"

    def met_by(self, value: float) -> bool:
        return value >= self.limit if self.at_least else value <= self.limit


def at_most(limit: float) -> Target:
    return Target(limit)


def at_least(limit: float) -> Target:
    return Target(limit, at_least=True)


@dataclass(frozen=True)
class Figure:
    """One line of a table. median, lowest and highest of the rounds are in `unit`.

    kind: "measured", or "computed" from something measured, which `note` then says.
    ratio: median over the rounds of this figure by that of `against`; None where nothing is compared.
    target: for the ratio where there is one, for the median otherwise; "" where there is none. met: "yes", "no" or "".
    """

    measured: str
    median: float
    unit: str
    lowest: float
    highest: float
    rounds: int
    kind: str = "measured"
    against: str = ""
    ratio: float | None = None
    target: str = ""
    met: str = ""
    note: str = ""


def figure(
    measured: str,
    values: Sequence[float],
    unit: str,
    *,
    against: str = "",
    others: Sequence[float] | None = None,
    target: Target | None = None,
    kind: str = "measured",
    note: str = "",
) -> Figure:
    """Return the line for these values, one a round.

    others: the values of `against` in the same rounds, to compare with. Raises ValueError if they are not as many.
    """
    ratio = None
    if others is not None:
        ratio = statistics.median(value / other for value, other in zip(values, others, strict=True))
    median = statistics.median(values)
    met = ""
    if target:
        met = "yes" if target.met_by(median if ratio is None else ratio) else "no"
    return Figure(
        measured,
        _rounded(median),
        unit,
        _rounded(min(values)),
        _rounded(max(values)),
        len(values),
        kind,
        against,
        None if ratio is None else _rounded(ratio),
        str(target or ""),
        met,
        note,
    )


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")


# --- Tables and files -----------------------------------------------------------------------------------------------


def table(title: str, figures: Iterable[Figure]) -> str:
    """Return the figures as text: what was measured, median and spread, ratio, target."""
    rows = []
    for line in figures:
        spread = f"{_short(line.lowest)} to {_short(line.highest)}" if line.rounds > 1 else ""
        ratio = "" if line.ratio is None else f"{_short(line.ratio)} x {line.against}"
        target = f"{line.target}: {'met' if line.met == 'yes' else 'MISSED'}" if line.target else ""
        computed = " (computed)" if line.kind == "computed" else ""
        rows.append((line.measured + computed, f"{_short(line.median)} {line.unit}", spread, ratio, target))
    header = (title, "median", "lowest, highest", "ratio", "target")
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in [header, *rows]]
    return "\n".join(line.rstrip() for line in [lines[0], "-" * sum([*widths, 2 * len(widths) - 2]), *lines[1:]])


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def machine() -> dict[str, object]:
    """Return what decides how fast things are here, and nothing that tells whose machine it is."""
    import torch

    return {
        "processor": processor(),
        "cores": usable_cores(),
        "threads": torch.get_num_threads(),
    }


def processor() -> str:
    """Return the processor's name as the system has it, or its architecture."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        names = [line for line in cpuinfo.read_text(encoding="utf-8").splitlines() if line.startswith("model name")]
        if names:
            return names[0].partition(":")[2].strip()
    if sys.platform == "darwin":
        command = ["sysctl", "-n", "machdep.cpu.brand_string"]
        name = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
        if name:
            return name
    return platform.processor() or platform.machine()


def usable_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def write(name: str, rows: Iterable[Figure | Mapping[str, object]], folder: Path = RESULTS) -> Path:
    """Write speed_<name>.csv, each row with the kind of machine, and return its path."""
    from lenet_course.reproduce.tables import write_table

    path = folder / f"speed_{name}.csv"
    plain = [asdict(row) if isinstance(row, Figure) else dict(row) for row in rows]
    here = machine()
    write_table(path, [{**row, **here} for row in plain])
    return path


def read(path: Path) -> list[dict[str, str]]:
    """Return the rows of a CSV file, all values as text; [] where there is no file."""
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def finish(name: str, title: str, figures: Sequence[Figure], folder: Path) -> None:
    """Print the table and keep it."""
    print(f"\n{table(title, figures)}\n", flush=True)
    write(name, figures, folder)


# --- What every benchmark takes -------------------------------------------------------------------------------------


def arguments(description: str, rounds: int = ROUNDS) -> argparse.ArgumentParser:
    """Return a parser with --rounds, --results and, for the processes that a benchmark starts, --side."""
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("--rounds", type=positive, default=rounds, help=f"measurements of each side (default {rounds})")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder for the table (default data/results)")
    parser.add_argument("--side", help=argparse.SUPPRESS)
    return parser


def positive(text: str) -> int:
    if not (text.isdecimal() and int(text) >= 1):
        raise argparse.ArgumentTypeError(f"a whole number from 1; got {text!r}")
    return int(text)


# --- Memory ---------------------------------------------------------------------------------------------------------


def peak_megabytes() -> float:
    """Return the most memory that this process has had at once: resident, in 10^6 bytes. Not a number on Windows."""
    status = Path("/proc/self/status")
    if status.is_file():
        peak = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(peak.split()[1]) * 1024 / 1e6
    try:
        import resource
    except ImportError:
        return float("nan")
    # macOS counts in bytes, other systems in units of 1,024.
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6
