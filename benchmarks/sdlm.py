"""How long is one update by the method of 1998, compiled, beside the plain loop?

    python benchmarks/sdlm.py [--rounds 5] [--patterns 1000]

The plain loop is what PyTorch makes easy: forward, loss.backward(), SDLM.step(), one digit at a time, in eager mode. Both
sides start from the same weights with the same step sizes, use one thread, and take the same digits in the same order;
their weights are compared after 100 patterns. They take turns in one process, since both want the same settings. Imports,
compiling and reading files are not counted.
"""

from __future__ import annotations

import copy
import time

import lenet_course  # noqa: F401 - before torch: it says how OpenMP threads wait

# isort: split
import torch
from measuring import alternate, arguments, figure, finish, positive

from lenet_course.data import load_mnist
from lenet_course.lenet5 import LeNet5
from lenet_course.sdlm import CURVATURE_PATTERNS, SDLM, eta_of_pass
from lenet_course.sdlm_compiled import train_patterns

MORE = 20  # times as many patterns for the compiled side, so that both take about as long


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--patterns", type=positive, default=1_000, help="of the plain loop (default 1,000)")
    given = parser.parse_args()
    torch.set_num_threads(1)
    digits = load_mnist("train")
    torch.manual_seed(0)
    model = LeNet5()
    optimizer = SDLM(model, eta=0.2 * eta_of_pass(1))
    optimizer.estimate(model.prepare(digits.images[:CURVATURE_PATTERNS]))
    print(f"largest difference of a weight after 100 patterns: {compare(model, optimizer, digits):.1e}")

    def timed(side, count: int):
        def measure() -> dict[str, float]:
            start = time.perf_counter()
            side(*fresh(model, optimizer), digits, count)
            return {"milliseconds": 1000 * (time.perf_counter() - start) / count}

        return measure

    def report(number: int, figures) -> None:
        parts = [f"{name} {values['milliseconds']:.3f} ms" for name, values in figures.items()]
        print(f"round {number}: {', '.join(parts)}", flush=True)

    most = min(MORE * given.patterns, len(digits))
    sides = {"plain loop": timed(plain, given.patterns), "compiled": timed(compiled, most)}
    found = alternate(sides, given.rounds, report)
    fast, slow = (found[name]["milliseconds"] for name in ("compiled", "plain loop"))
    a_pass = [60 * milliseconds for milliseconds in fast]
    figures = [
        figure("one pattern, compiled", fast, "ms", against="plain loop", others=slow),
        figure("one pattern, plain loop", slow, "ms"),
        figure("a pass of 60,000, compiled", a_pass, "s", kind="computed", note="60,000 patterns on one core"),
    ]
    finish("sdlm", "The method of 1998, one seed", figures, given.results)


def fresh(model: LeNet5, optimizer: SDLM) -> tuple[LeNet5, SDLM]:
    """Return a copy of the model, and an optimizer for it with the same second derivatives."""
    twin = copy.deepcopy(model)
    own = SDLM(twin, eta=optimizer.eta)
    for parameter, original in zip(twin.parameters(), model.parameters(), strict=True):
        own.state[parameter]["curvature"] = optimizer.state[original]["curvature"]
    return twin, own


def plain(model: LeNet5, optimizer: SDLM, digits, count: int) -> None:
    for number in range(count):
        loss = model.loss(model(model.prepare(digits.images[number : number + 1])), digits.labels[number : number + 1])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def compiled(model: LeNet5, optimizer: SDLM, digits, count: int) -> None:
    train_patterns(model, digits, torch.arange(count), optimizer.step_sizes())


def compare(model: LeNet5, optimizer: SDLM, digits) -> float:
    """Return the largest difference after 100 patterns; raise AssertionError if it is more than rounding."""
    ends = []
    for side in (plain, compiled):
        twin, own = fresh(model, optimizer)
        side(twin, own, digits, 100)
        ends.append(torch.cat([parameter.detach().flatten() for parameter in twin.parameters()]))
    torch.testing.assert_close(*ends, rtol=1e-5, atol=1e-6)
    return float((ends[0] - ends[1]).abs().max())


if __name__ == "__main__":
    main()
