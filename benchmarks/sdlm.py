"""How long is one update by the method of 1998, compiled, beside the plain loop? Both in one run, in turns; prints a table.

    python benchmarks/sdlm.py [--rounds 5]

The plain loop is what PyTorch makes easy: forward, loss.backward(), SDLM.step(), one digit at a time, in eager mode. Both
sides start from the same weights with the same step sizes, use one thread, and take the same digits in the same order;
their weights are compared after 100 patterns. Imports, compiling and reading files are not counted.
"""

import argparse
import copy
import statistics
import time

import lenet_course  # noqa: F401 - before torch: it says how OpenMP threads wait

# isort: split
import torch

from lenet_course.data import load_mnist
from lenet_course.lenet5 import LeNet5
from lenet_course.sdlm import CURVATURE_PATTERNS, SDLM, eta_of_pass
from lenet_course.sdlm_compiled import train_patterns

PATTERNS = {"plain loop": 1_000, "compiled": 20_000}  # a few seconds each


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="measurements of each side (default 5)")
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    digits = load_mnist("train")
    torch.manual_seed(0)
    model = LeNet5()
    optimizer = SDLM(model, eta=0.2 * eta_of_pass(1))
    optimizer.estimate(model.prepare(digits.images[:CURVATURE_PATTERNS]))
    sides = {"plain loop": plain, "compiled": compiled}
    print(f"largest difference of a weight after 100 patterns: {compare(model, optimizer, digits):.1e}")

    milliseconds = {name: [] for name in sides}
    for number in range(rounds):
        for name, side in sides.items():
            count = PATTERNS[name]
            start = time.perf_counter()
            side(*fresh(model, optimizer), digits, count)
            milliseconds[name].append(1000 * (time.perf_counter() - start) / count)
        print(f"round {number + 1}: {', '.join(f'{name} {times[-1]:.3f} ms' for name, times in milliseconds.items())}")
    medians = {name: statistics.median(times) for name, times in milliseconds.items()}
    print(f"\n{'one pattern, one seed':<24}{'median ms':>10}{'ratio':>9}")
    for name, median in medians.items():
        print(f"{name:<24}{median:>10.3f}{median / medians['plain loop']:>8.3f}x")
    print(f"a pass of 60,000 compiled: {60 * medians['compiled']:.1f} s on one core")


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
