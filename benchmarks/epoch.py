"""How long is an epoch of `fit`, beside the usual loop, beside its own arithmetic alone, and beside the machine's peak?

    python benchmarks/epoch.py [--rounds 5] [--digits 60000]

Four sides take turns, each in a process of its own:
- fit: LeNet on the training digits, batches of 64.
- usual loop: what most tutorials write. torchvision's MNIST with ToTensor and Normalize on each image, a DataLoader that
  shuffles, the default memory layout. Same network (checked: the same weights give the same scores), same batches of 64,
  same optimizer. It does not import the course, which sets how threads wait and how memory is kept.
- same batch: the step of `fit` again and again on one batch that is prepared once. Same settings of threads and memory,
  same optimizer and schedule, and the loss is read as well. No loop over digits can be faster: the floor.
- matrix product: 2048x2048 times 2048x2048 in float32, the best that the machine does.
Imports and reading the files are not counted. With fewer --digits each side does the first steps of an epoch.
"""

from __future__ import annotations

import itertools
import math
import time
from pathlib import Path

from measuring import Side, alternate_processes, arguments, at_least, at_most, figure, finish, positive, serve

DATA_FOLDER = Path(__file__).resolve().parent.parent / "data"
BATCH_SIZE = 64
RATE = 0.05
SIZE = 2048
PRODUCTS = 10


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--digits", type=positive, default=60_000, help="of the training digits (default 60,000)")
    given = parser.parse_args()
    if given.side:
        serve(SIDES[given.side](given.digits))
        return
    sides = [Side(__file__, name, "--digits", given.digits) for name in SIDES]
    found = {name: values["value"] for name, values in alternate_processes(sides, given.rounds, unit="").items()}
    work = operations(given.digits) / 1e12
    speeds = [work / seconds for seconds in found["fit"]]
    what = "an epoch" if given.digits == 60_000 else f"{given.digits:,} digits"
    one_batch = f"{what} of one same batch"
    figures = [
        figure(
            f"{what}, fit", found["fit"], "s", against="usual loop", others=found["usual loop"], target=at_most(0.45)
        ),
        figure(f"{what}, usual loop", found["usual loop"], "s"),
        figure(
            f"{what}, fit", found["fit"], "s", against="same batch", others=found["same batch"], target=at_most(1.05)
        ),
        figure(one_batch, found["same batch"], "s"),
        figure(
            "speed of fit",
            speeds,
            "TFLOP/s",
            against="matrix product",
            others=found["matrix product"],
            target=at_least(0.6),
            note=f"{work:.3f} TFLOP in {what}",
        ),
        figure(f"matrix product of {SIZE}x{SIZE}", found["matrix product"], "TFLOP/s"),
    ]
    finish("epoch", "An epoch of LeNet", figures, given.results)


def fit_side(count: int):
    from lenet_course.data import load_mnist
    from lenet_course.lenet import LeNet
    from lenet_course.training import fit

    digits = load_mnist("train")[:count]
    check_same_network(LeNet(), LeNet().prepare(digits.images[:100]))

    def measure() -> dict[str, float]:
        model = LeNet()
        history = fit(model, digits, epochs=1, batch_size=BATCH_SIZE, learning_rate=RATE, device="cpu", report=False)
        return {"value": history.seconds[0]}

    return measure


def usual_side(count: int):
    import torch
    from torch.utils.data import DataLoader
    from torchvision import datasets, transforms

    transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.1307,), (0.3081,))])
    images = datasets.MNIST(str(DATA_FOLDER), train=True, transform=transform)
    loader = DataLoader(images, batch_size=BATCH_SIZE, shuffle=True)

    def measure() -> dict[str, float]:
        model = usual_network()
        optimizer = torch.optim.SGD(model.parameters(), lr=RATE, momentum=0.9)
        criterion = torch.nn.CrossEntropyLoss()
        start = time.perf_counter()
        for inputs, labels in itertools.islice(loader, steps_for(count)):
            optimizer.zero_grad()
            loss = criterion(model(inputs), labels)
            loss.backward()
            optimizer.step()
        return {"value": time.perf_counter() - start}

    return measure


def same_batch_side(count: int):
    from lenet_course import training
    from lenet_course.data import load_mnist
    from lenet_course.lenet import LeNet

    # One step of fit sets what it sets for the whole process.
    digits = load_mnist("train")[:BATCH_SIZE]
    training.fit(LeNet(), digits, epochs=1, device="cpu", report=False)

    def measure() -> dict[str, float]:
        return {"value": same_batch(LeNet(), digits, steps_for(count))[0]}

    return measure


def same_batch(model, digits, steps: int) -> tuple[float, float]:
    """Make the step of `fit` on the same digits again and again; return (seconds, mean loss)."""
    import torch

    # As fit makes them: tests/test_benchmarks.py compares the weights after some steps.
    model.to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=RATE, total_steps=steps, pct_start=0.15, cycle_momentum=False
    )
    images = model.prepare(digits.images).contiguous(memory_format=torch.channels_last)
    start, loss_sum = time.perf_counter(), 0.0
    for _ in range(steps):
        loss = model.loss(model(images), digits.labels)
        optimizer.zero_grad()
        loss.backward()
        loss_sum += loss.item()
        optimizer.step()
        scheduler.step()
    return time.perf_counter() - start, loss_sum / steps


def product_side(count: int):
    import lenet_course  # noqa: F401 - before torch: it says how OpenMP threads wait

    # isort: split
    import torch

    left, right, out = (torch.randn(SIZE, SIZE) for _ in range(3))

    def measure() -> dict[str, float]:
        torch.mm(left, right, out=out)
        start = time.perf_counter()
        for _ in range(PRODUCTS):
            torch.mm(left, right, out=out)
        return {"value": PRODUCTS * 2 * SIZE**3 / (time.perf_counter() - start) / 1e12}

    return measure


def usual_network():
    from torch import nn

    convolutions = [nn.Conv2d(1, 20, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(20, 50, 5), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*convolutions, nn.Flatten(), nn.Linear(800, 500), nn.ReLU(), nn.Linear(500, 10))


def check_same_network(ours, inputs) -> None:
    import torch

    usual = usual_network()
    ours.load_state_dict(dict(zip(ours.state_dict(), usual.state_dict().values(), strict=True)))
    torch.testing.assert_close(ours(inputs), usual(inputs))


def steps_for(count: int) -> int:
    return math.ceil(count / BATCH_SIZE)


def operations(count: int) -> int:
    """Return the additions and multiplications of LeNet for an epoch of so many digits, forwards and backwards.

    Counted by running one batch: two for each multiply-add, forwards once, backwards once for the weights and, but for the
    first layer, once for its inputs.
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from lenet_course.lenet import LeNet

    model = LeNet()
    images, labels = torch.zeros(BATCH_SIZE, 1, 28, 28), torch.zeros(BATCH_SIZE, dtype=torch.int64)
    with FlopCounterMode(display=False) as counter:
        model.loss(model(images), labels).backward()
    return counter.get_total_flops() * count // BATCH_SIZE


SIDES = {"fit": fit_side, "usual loop": usual_side, "same batch": same_batch_side, "matrix product": product_side}

if __name__ == "__main__":
    main()
