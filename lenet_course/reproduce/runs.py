"""One training run by the method of 1998: its settings, and going on where it was stopped."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from lenet_course import __version__
from lenet_course.data import HELD_OUT, Digits, load_mnist
from lenet_course.lenet5 import LeNet5, draw_weights
from lenet_course.reproduce.distortions import Distortion, with_distorted_copies
from lenet_course.sdlm import SDLM, eta_of_pass
from lenet_course.sdlm_compiled import distances, train_pass
from lenet_course.weights import replacing

COPIES = 9  # 540,000 distorted digits beside the 60,000 (p. 11)


@dataclass(frozen=True)
class Settings:
    """All that decides a run. The defaults are the course's choices; where the paper leaves one open, it is marked (open).

    digits: how many of the training digits are used; fewer than there are, are drawn by the seed.
    validation: keep the last 5,000 training digits aside and measure the error on them instead of the test digits.
    eta_factor (open): times the paper's schedule. initial (open): "1/sqrt(n)" or "2.4/n", n = inputs of the unit.
    loss (open): "map" for eq. (9) with j (open), or "mse" for eq. (8). order (open): "new" for each pass, or "same".
    distortion (open): ranges for distorted copies, or None to train on the digits themselves.
    """

    seed: int = 0
    passes: int = 20
    digits: int = 60_000
    validation: bool = False
    eta_factor: float = 0.2
    initial: str = "1/sqrt(n)"
    loss: str = "map"
    j: float = 1.0
    order: str = "new"
    distortion: Distortion | None = None

    def __post_init__(self) -> None:
        available = 60_000 - HELD_OUT * self.validation
        if not 1 <= self.digits <= available or self.passes < 1:
            raise ValueError(
                f"digits are 1 to {available:,} and passes 1 or more; got {self.digits:,} and {self.passes}."
            )
        if self.initial not in INITIAL or self.order not in ("new", "same"):
            raise ValueError(f"Unknown initial or order: {self.initial!r}, {self.order!r}.")

    @property
    def name(self) -> str:
        """A file name that another run does not have."""
        digest = hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()
        return f"seed{self.seed}-{digest[:12]}"


INITIAL = {"1/sqrt(n)": lambda n: n**-0.5, "2.4/n": lambda n: 2.4 / n}


@dataclass(frozen=True)
class PassRow:
    """What one pass gave. Errors are fractions; `error` is on the test digits, or on those held out for validation."""

    number: int
    eta: float
    training_error: float
    training_loss: float
    error: float
    seconds: float


@dataclass
class Run:
    """A run as far as it has come."""

    settings: Settings
    rows: list[PassRow]
    model: LeNet5
    stopped: str | None = None  # why it can go no further, if so


def start(settings: Settings) -> tuple[LeNet5, torch.Generator]:
    """Return the network with its first weights, and the generator that draws all else; both from the seed."""
    # LeNet5 draws from torch's global generator; the caller's is left as it was.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        model = LeNet5()
        draw_weights(model, INITIAL[settings.initial])
    return model, torch.Generator().manual_seed(settings.seed)


def training_digits(settings: Settings, train: Digits) -> Digits:
    """Return the digits that a run trains on, distorted copies included. train: all 60,000."""
    if settings.validation:
        train = train[:-HELD_OUT]
    generator = torch.Generator().manual_seed(settings.seed)
    if settings.digits < len(train):
        train = train[torch.randperm(len(train), generator=generator)[: settings.digits]]
    if settings.distortion:
        train = with_distorted_copies(train, COPIES, settings.distortion, generator)
    return train


def run(settings: Settings, folder: Path, report: Callable[[Run], None] = lambda run: None) -> Run:
    """Train as the settings say, or go on from the last pass whose checkpoint is in the folder; return the finished run.

    A checkpoint is written after each pass: killed at any moment and called again, it ends with the same numbers.
    report: called after each pass.
    """
    torch.set_num_threads(1)  # runs stand beside each other, one a core
    path = folder / f"{settings.name}.safetensors"
    current, generator = _read(path, settings) if path.is_file() else _fresh(settings)
    if current.stopped or len(current.rows) >= settings.passes:
        return current
    train = load_mnist("train")
    measured_on = train[-HELD_OUT:] if settings.validation else load_mnist("test")
    digits = training_digits(settings, train)
    optimizer = SDLM(current.model)
    while len(current.rows) < settings.passes and not current.stopped:
        _one_pass(current, optimizer, digits, generator, measured_on)
        _write(path, current, generator)
        report(current)
    return current


def _fresh(settings: Settings) -> tuple[Run, torch.Generator]:
    model, generator = start(settings)
    return Run(settings, [], model), generator


def _one_pass(current: Run, optimizer: SDLM, digits: Digits, generator: torch.Generator, measured_on: Digits) -> None:
    settings, number = current.settings, len(current.rows) + 1
    began = time.perf_counter()
    optimizer.eta = settings.eta_factor * eta_of_pass(number)
    if settings.order == "same":
        generator.manual_seed(settings.seed)
    if settings.distortion:
        # A tenth of the 600,000 each pass, so that each is seen twice in 20 passes.
        parts = torch.randperm(len(digits), generator=torch.Generator().manual_seed(settings.seed)).chunk(COPIES + 1)
        digits = digits[parts[(number - 1) % len(parts)]]
    try:
        seen = train_pass(current.model, optimizer, digits, generator=generator, loss=settings.loss, j=settings.j)
    except ArithmeticError as error:
        current.stopped = str(error)
        return
    error = error_of(distances(current.model, measured_on.images), measured_on.labels)
    seconds = time.perf_counter() - began
    current.rows.append(PassRow(number, optimizer.eta, seen.error, seen.loss, error, seconds))


def error_of(outputs: Tensor, labels: Tensor) -> float:
    """Return the fraction of digits for which the smallest of the (N, 10) distances is not the label's."""
    return int((outputs.argmin(dim=1) != labels).sum()) / len(labels)


def _write(path: Path, current: Run, generator: torch.Generator) -> None:
    tensors = {**current.model.state_dict(), "generator": generator.get_state()}
    label = {
        "settings": json.dumps(asdict(current.settings)),
        "rows": json.dumps([asdict(row) for row in current.rows]),
        "stopped": current.stopped or "",
        "course": __version__,
    }
    with replacing(path) as unfinished:
        safetensors.torch.save_file(tensors, unfinished, metadata=label)


def _read(path: Path, settings: Settings) -> tuple[Run, torch.Generator]:
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            label = file.metadata()
        rows = [PassRow(**row) for row in json.loads(label["rows"])]
    except (safetensors.SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is not a checkpoint ({error}). Delete it, and its run begins anew.") from error
    model = LeNet5()
    generator = torch.Generator()
    generator.set_state(tensors.pop("generator"))
    model.load_state_dict(tensors)
    return Run(settings, rows, model, label["stopped"] or None), generator
