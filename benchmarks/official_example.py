"""The MNIST example that PyTorch's authors publish, in our own words: same network, settings and order of digits.

Source: github.com/pytorch/examples, mnist/main.py, as it runs on a CPU: batches of 64 in MNIST's own order (it shuffles
on a GPU only), ToTensor and Normalize on each image as it is read, Adadelta at 1.0, times 0.7 after each epoch, 14 epochs,
all 10,000 test digits after each, a thousand at a time. Nothing of the course is imported here: it would change the
settings of threads and memory.
"""

from __future__ import annotations

import itertools
import os
import time
from pathlib import Path

import torch
from torch import nn
from torch.nn.functional import nll_loss
from torch.utils.data import DataLoader
from torchvision import datasets, transforms

DATA_FOLDER = Path(__file__).resolve().parent.parent / "data"
SEED = 1
EPOCHS = 14
BATCH_SIZE = 64
STEPS = -(-60_000 // BATCH_SIZE)


def network() -> nn.Sequential:
    features = [nn.Conv2d(1, 32, 3), nn.ReLU(), nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout(0.25)]
    dense = [nn.Flatten(), nn.Linear(9216, 128), nn.ReLU(), nn.Dropout(0.5), nn.Linear(128, 10), nn.LogSoftmax(dim=1)]
    return nn.Sequential(*features, *dense)


class Example:
    """The example as far as it has come: network, optimizer, schedule and digits."""

    def __init__(self) -> None:
        torch.manual_seed(SEED)
        transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.1307,), (0.3081,))])
        train, test = (datasets.MNIST(str(DATA_FOLDER), train=part, transform=transform) for part in (True, False))
        self.train_loader = DataLoader(train, batch_size=BATCH_SIZE)
        self.test_loader = DataLoader(test, batch_size=1000)
        self.model = network()
        self.optimizer = torch.optim.Adadelta(self.model.parameters(), lr=1.0)
        self.scheduler = torch.optim.lr_scheduler.StepLR(self.optimizer, step_size=1, gamma=0.7)

    def train(self, steps: int | None = None) -> float:
        """Train for an epoch, or for its first steps, and return the seconds."""
        self.model.train()
        start = time.perf_counter()
        for number, (images, labels) in enumerate(itertools.islice(self.train_loader, steps)):
            self.optimizer.zero_grad()
            loss = nll_loss(self.model(images), labels)
            loss.backward()
            self.optimizer.step()
            if number % 10 == 0:  # the example prints it
                loss.item()
        return time.perf_counter() - start

    @torch.no_grad()
    def test(self, batches: int | None = None) -> tuple[float, float]:
        """Return (accuracy on the test digits, or on the first thousands of them, seconds)."""
        self.model.eval()
        start, right, count, loss_sum = time.perf_counter(), 0, 0, 0.0
        for images, labels in itertools.islice(self.test_loader, batches):
            outputs = self.model(images)
            loss_sum += nll_loss(outputs, labels, reduction="sum").item()
            right += int((outputs.argmax(dim=1) == labels).sum())
            count += len(labels)
        return right / count, time.perf_counter() - start


def epochs_to(accuracy: float, checkpoint: Path, report) -> list[float]:
    """Run the example until its test accuracy is reached, 14 epochs at most; return the accuracy after each epoch.

    A checkpoint is written after each epoch: stopped and called again, it goes on from there.
    report: called after each epoch with the accuracies so far.
    """
    example, seen = Example(), []
    if checkpoint.is_file():
        kept = torch.load(checkpoint, weights_only=True)
        for part in ("model", "optimizer", "scheduler"):
            getattr(example, part).load_state_dict(kept[part])
        torch.set_rng_state(kept["random"])
        seen = list(kept["accuracies"])
        report(seen)
    while len(seen) < EPOCHS and (not seen or seen[-1] < accuracy):
        example.train()
        seen.append(example.test()[0])
        example.scheduler.step()
        parts = {part: getattr(example, part).state_dict() for part in ("model", "optimizer", "scheduler")}
        checkpoint.parent.mkdir(parents=True, exist_ok=True)
        unfinished = checkpoint.with_name(f"{checkpoint.name}.part")
        torch.save({**parts, "random": torch.get_rng_state(), "accuracies": seen}, unfinished)
        os.replace(unfinished, checkpoint)
        report(seen)
    return seen
