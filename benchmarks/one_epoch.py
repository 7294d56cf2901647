"""How good is LeNet after one epoch? Train it with several seeds and write data/results/lenet_one_epoch.csv.

    python benchmarks/one_epoch.py [--seeds 10]

Each seed draws the first weights and the order of the 60,000 training digits. The settings are `fit`'s defaults; they
were chosen on the last 5,000 training digits, so the test digits are looked at once a seed, here. A row is written as
soon as it is measured, and a seed that has a row is not run again: stopped, the next call goes on.
"""

import argparse
import csv
import datetime
import platform
import statistics
from pathlib import Path

import lenet_course  # before torch: it says how OpenMP threads wait

# isort: split
import torch

from lenet_course.data import DATA_FOLDER, load_mnist
from lenet_course.lenet import LeNet
from lenet_course.training import choose_device, evaluate, fit

RESULTS = DATA_FOLDER / "results" / "lenet_one_epoch.csv"
COLUMNS = (
    "seed",
    "test_error",
    "epochs",
    "batch_size",
    "learning_rate",
    "device",
    "machine",
    "torch",
    "course",
    "date",
)
SETTINGS = {"epochs": 1, "batch_size": 64, "learning_rate": 0.1}


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--seeds", type=int, default=10, help="seeds 0 to SEEDS - 1 (default 10)")
    seeds = range(arguments.parse_args().seeds)
    train, test = load_mnist("train"), load_mnist("test")
    errors = read_errors(RESULTS)
    for seed in seeds:
        if seed not in errors:
            errors[seed] = train_once(seed, train, test)
            append_row(RESULTS, seed, errors[seed])
        print(f"seed {seed}: test accuracy {100 * (1 - errors[seed]):.2f}%")
    accuracies = [100 * (1 - errors[seed]) for seed in seeds]
    spread = f", standard deviation {statistics.stdev(accuracies):.2f}" if len(accuracies) > 1 else ""
    print(f"mean of {len(accuracies)} seeds: {statistics.mean(accuracies):.3f}%{spread}")


def train_once(seed: int, train, test) -> float:
    torch.manual_seed(seed)
    model = LeNet()
    fit(model, train, **SETTINGS, generator=torch.Generator().manual_seed(seed), report=False)
    return evaluate(model, test).error


def read_errors(path: Path) -> dict[int, float]:
    """Return {seed: test error} of the rows with these settings."""
    if not path.is_file():
        return {}
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return {
        int(row["seed"]): float(row["test_error"])
        for row in rows
        if all(float(row[name]) == value for name, value in SETTINGS.items())
    }


def append_row(path: Path, seed: int, error: float) -> None:
    machine = (str(choose_device()), platform.machine(), torch.__version__, lenet_course.__version__)
    row = (seed, error, *SETTINGS.values(), *machine, datetime.date.today().isoformat())
    new = not path.is_file()
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        if new:
            writer.writerow(COLUMNS)
        writer.writerow(row)


if __name__ == "__main__":
    main()
