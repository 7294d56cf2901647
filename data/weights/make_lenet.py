"""Make lenet.safetensors: LeNet as chapter 3 trains it, 3 epochs on the first 55,000 training digits.

    python data/weights/make_lenet.py

Writes the file and its line in SHA256SUMS. Another processor rounds differently, so it makes another file with about the
same error; what is shipped was made once.
"""

import hashlib
from pathlib import Path

import lenet_course  # noqa: F401 - before torch: it says how OpenMP threads wait

# isort: split
import torch

from lenet_course.data import load_mnist
from lenet_course.lenet import LeNet
from lenet_course.training import evaluate, fit
from lenet_course.weights import SHIPPED_FOLDER, save_weights


def main() -> None:
    digits = load_mnist("train")
    torch.manual_seed(0)
    model = LeNet()
    fit(model, digits[:55_000], epochs=3, validation=digits[55_000:], device="cpu")
    path = save_weights(model, "lenet", folder=SHIPPED_FOLDER)
    write_sum(path)
    print(f"{path.name}: test error {evaluate(model, load_mnist('test')).error:.2%}")


def write_sum(path: Path) -> None:
    """Put the file's SHA-256 into SHA256SUMS, and leave the other lines as they are."""
    sums = path.with_name("SHA256SUMS")
    lines = sums.read_text().splitlines() if sums.is_file() else []
    kept = [line for line in lines if line.split()[1] != path.name]
    new = f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}"
    sums.write_text("\n".join(sorted([*kept, new], key=lambda line: line.split()[1])) + "\n")


if __name__ == "__main__":
    main()
