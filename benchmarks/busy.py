"""How much longer does `fit` take while another process keeps one core busy? And without the course's thread settings?

    python benchmarks/busy.py [--rounds 5] [--digits 6400]

The other process counts in Python without end and is pinned to no core. Measured quiet and busy, in turns:
- fit: as the course sets it. OpenMP threads that wait look a thousand times, then sleep.
- fit, no settings: torch is imported before the course, so that OpenMP's own settings hold.
- fit, spinning: OMP_WAIT_POLICY=ACTIVE, threads never sleep. These would keep spinning between two measurements as well, so
  each round has a new process.
The last two get a fifth of the digits, since on a busy machine they may take many times as long.
"""

from __future__ import annotations

import math
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from measuring import Side, alternate, arguments, at_most, figure, finish, positive, serve

SPINNING = {"OMP_WAIT_POLICY": "ACTIVE", "GOMP_SPINCOUNT": "INFINITE"}
# It ends by itself when whoever started it is gone, however that ended.
COUNTING = """
import os
parent = os.getppid()
print(flush=True)
while os.getppid() == parent:
    for _ in range(1_000_000):
        pass
"""
SIDES = ("fit", "fit, no settings", "fit, spinning")
TARGETS = {"fit": at_most(2.5)}


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--digits", type=positive, default=6_400, help="of the training digits (default 6,400)")
    given = parser.parse_args()
    if given.side:
        serve(fit_side(given.side, given.digits))
        return
    counts = {name: given.digits if name == "fit" else math.ceil(given.digits / 5) for name in SIDES}
    with ExitStack() as stack:
        lasting = {name: Side(__file__, name, "--digits", counts[name]) for name in SIDES[:2]}
        for side in lasting.values():
            stack.callback(side.close)
            side.wait_until_ready()

        def both(name: str) -> dict[str, float]:
            if name in lasting:
                return quiet_and_busy(lasting[name])
            side = Side(__file__, name, "--digits", counts[name], environment=SPINNING)
            try:
                return quiet_and_busy(side)
            finally:
                side.close()

        def report(number: int, figures) -> None:
            parts = [f"{name} {values['busy'] / values['quiet']:.2f}x" for name, values in figures.items()]
            print(f"round {number}, busy by quiet: {', '.join(parts)}", flush=True)

        found = alternate({name: lambda name=name: both(name) for name in SIDES}, given.rounds, report)
    figures = []
    for name, values in found.items():
        what = f"{name}, {counts[name]:,} digits"
        figures += [
            figure(f"{what}, quiet", values["quiet"], "s"),
            figure(
                f"{what}, one core busy",
                values["busy"],
                "s",
                against="quiet",
                others=values["quiet"],
                target=TARGETS.get(name),
            ),
        ]
    finish("busy", "While another process works", figures, given.results)


def quiet_and_busy(side: Side) -> dict[str, float]:
    quiet = side.measure()["seconds"]
    with one_core_busy():
        return {"quiet": quiet, "busy": side.measure()["seconds"]}


@contextmanager
def one_core_busy() -> Iterator[None]:
    """Keep as much of one core busy as the system gives to a process."""
    process = subprocess.Popen([sys.executable, "-c", COUNTING], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)
    try:
        process.stdout.readline()
        yield
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def fit_side(name: str, count: int):
    if name == "fit, no settings":
        import torch  # noqa: F401 - before the course: too late for what it sets

    # isort: split
    from lenet_course.data import load_mnist
    from lenet_course.lenet import LeNet
    from lenet_course.training import fit

    digits = load_mnist("train")[:count]
    # The first steps of a process prepare what the others use.
    fit(LeNet(), digits[:640], epochs=1, device="cpu", report=False)

    def measure() -> dict[str, float]:
        history = fit(LeNet(), digits, epochs=1, device="cpu", report=False)
        return {"seconds": statistics.fsum(history.seconds)}

    return measure


if __name__ == "__main__":
    main()
