"""How long is an epoch of `fit`, beside the usual loop? Both sides in one run, alternating; prints a table.

    python benchmarks/loader.py [--rounds 5]

The usual loop is what most tutorials write: torchvision's MNIST with ToTensor and Normalize on each image, a DataLoader
that shuffles, the default memory layout. Same network, same digits, batch 64, same optimizer.
"""

import argparse
import statistics
import time

import lenet_course  # noqa: F401 - before torch: it says how OpenMP threads wait

# isort: split
import torch
from torch.utils.data import DataLoader
from torchvision import datasets, transforms

from lenet_course.data import DATA_FOLDER, load_mnist
from lenet_course.lenet import LeNet
from lenet_course.training import fit

BATCH_SIZE = 64
RATE = 0.05


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="epochs of each side (default 5)")
    rounds = parser.parse_args().rounds
    digits = load_mnist("train")
    images = datasets.MNIST(
        str(DATA_FOLDER),
        train=True,
        transform=transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.1307,), (0.3081,))]),
    )
    seconds = {"fit": [], "DataLoader": []}
    fit_epoch(digits[: 50 * BATCH_SIZE])  # warm-up: the first steps set up threads and memory
    for number in range(rounds):
        seconds["fit"].append(fit_epoch(digits))
        seconds["DataLoader"].append(usual_epoch(images))
        print(
            f"round {number + 1}: fit {seconds['fit'][-1]:.2f} s, DataLoader {seconds['DataLoader'][-1]:.2f} s",
            flush=True,
        )
    medians = {side: statistics.median(times) for side, times in seconds.items()}
    print(f"\n{'an epoch of 60,000':<20}{'median s':>10}")
    for side, median in medians.items():
        print(f"{side:<20}{median:>10.2f}")
    print(f"{'fit / DataLoader':<20}{medians['fit'] / medians['DataLoader']:>10.2f}")


def fit_epoch(digits) -> float:
    torch.manual_seed(0)
    history = fit(LeNet(), digits, epochs=1, batch_size=BATCH_SIZE, learning_rate=RATE, device="cpu", report=False)
    return history.seconds[0]


def usual_epoch(images) -> float:
    torch.manual_seed(0)
    model = LeNet()
    loader = DataLoader(images, batch_size=BATCH_SIZE, shuffle=True)
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE, momentum=0.9)
    criterion = torch.nn.CrossEntropyLoss()
    model.train()
    start = time.perf_counter()
    for inputs, labels in loader:
        optimizer.zero_grad()
        loss = criterion(model(inputs), labels)
        loss.backward()
        optimizer.step()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
