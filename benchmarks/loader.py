"""How long is an epoch of `fit`, beside the usual loop? Both in one run, in turns; prints a table.

    python benchmarks/loader.py [--rounds 5]

The usual loop is what most tutorials write: torchvision's MNIST with ToTensor and Normalize on each image, a DataLoader
that shuffles, the default memory layout. Same network (checked: the same weights give the same scores), same 60,000
digits, batches of 64, the same optimizer. Each epoch runs in a process of its own, and the usual loop's does not import
the course, which sets how threads wait and how memory is kept. Imports and reading the files are not counted.
"""

import argparse
import statistics
import subprocess
import sys
import time
from pathlib import Path

DATA_FOLDER = Path(__file__).resolve().parent.parent / "data"
BATCH_SIZE = 64
RATE = 0.05


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="epochs of each side (default 5)")
    parser.add_argument("--side", choices=SIDES, help="run one epoch of this side and print its seconds")
    arguments = parser.parse_args()
    if arguments.side:
        print(SIDES[arguments.side]())
        return
    seconds = {side: [] for side in SIDES}
    for number in range(arguments.rounds):
        for side, times in seconds.items():
            command = [sys.executable, __file__, "--side", side]
            times.append(float(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout))
        print(
            f"round {number + 1}: {', '.join(f'{side} {times[-1]:.2f} s' for side, times in seconds.items())}",
            flush=True,
        )
    medians = {side: statistics.median(times) for side, times in seconds.items()}
    print(f"\n{'an epoch of 60,000':<20}{'median s':>10}{'fit takes':>12}")
    for side, median in medians.items():
        print(f"{side:<20}{median:>10.2f}{medians['fit'] / median:>11.2f}x")


def fit_epoch() -> float:
    from lenet_course.data import load_mnist
    from lenet_course.lenet import LeNet
    from lenet_course.training import fit

    digits = load_mnist("train")
    check_same_network(LeNet(), LeNet().prepare(digits.images[:100]))
    history = fit(LeNet(), digits, epochs=1, batch_size=BATCH_SIZE, learning_rate=RATE, device="cpu", report=False)
    return history.seconds[0]


def usual_epoch() -> float:
    import torch
    from torch.utils.data import DataLoader
    from torchvision import datasets, transforms

    transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.1307,), (0.3081,))])
    images = datasets.MNIST(str(DATA_FOLDER), train=True, transform=transform)
    loader = DataLoader(images, batch_size=BATCH_SIZE, shuffle=True)
    model = usual_network()
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE, momentum=0.9)
    criterion = torch.nn.CrossEntropyLoss()
    start = time.perf_counter()
    for inputs, labels in loader:
        optimizer.zero_grad()
        loss = criterion(model(inputs), labels)
        loss.backward()
        optimizer.step()
    return time.perf_counter() - start


def usual_network():
    from torch import nn

    convolutions = [nn.Conv2d(1, 20, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(20, 50, 5), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*convolutions, nn.Flatten(), nn.Linear(800, 500), nn.ReLU(), nn.Linear(500, 10))


def check_same_network(ours, inputs) -> None:
    import torch

    usual = usual_network()
    ours.load_state_dict(dict(zip(ours.state_dict(), usual.state_dict().values(), strict=True)))
    torch.testing.assert_close(ours(inputs), usual(inputs))


SIDES = {"fit": fit_epoch, "usual loop": usual_epoch}

if __name__ == "__main__":
    main()
