"""One training run of the comparison, and which runs a row still needs."""

from __future__ import annotations

import json
import math
import threading
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import nn

from lenet_course.comparison.rows import LADDER, ROWS, Row
from lenet_course.data import HELD_OUT, Digits, load_mnist
from lenet_course.reproduce.distortions import DISTORTION, with_distorted_copies
from lenet_course.sdlm import SCHEDULE_1998, SDLM
from lenet_course.training import evaluate, fit
from lenet_course.weights import replacing

PASSES = 3  # over the 55,000 digits that are not held out: what every row may spend
SEEDS = 10
CHOICE_SEEDS = 3  # rates are compared with these
LEARNED_NOTHING = 0.5  # a validation error above it; guessing gives 0.9
WIDE = tuple(rate for rate in LADDER if rate >= 0.001)
# The paper's 20 passes shrunk to three: first, middle and last eta of its schedule.
ETAS = tuple(SCHEDULE_1998[i][1] for i in (0, 2, 4))


@dataclass(frozen=True)
class Run:
    """A training run: which row, which rate, which seed."""

    row: str
    rate: float
    seed: int

    @property
    def file_name(self) -> str:
        """A file name that no other run has."""
        slug = "".join(letter if letter.isalnum() else "-" for letter in self.row)
        return f"compared-{slug}-{self.rate:g}-{self.seed}.safetensors"


@dataclass(frozen=True)
class Result:
    """What a run gave. validation_error: fraction of the 5,000 held-out digits; 1.0 if the weights ran away."""

    validation_error: float
    seconds: float
    diverged: bool = False


# --- Which runs -----------------------------------------------------------------------------------------------------


def chosen_rate(row: Row, results: dict[Run, Result]) -> float | None:
    """Return the rate with the lowest mean validation error, of equal ones the largest; None while rates are to be tried.

    The lowest must have a neighbour on both sides that was tried and is not lower. A network that has learned nothing yet
    must have been tried with all of `WIDE`.
    """
    tried = _mean_errors(row, results)
    return None if set(_wanted_rates(row, tried)) - set(tried) else _best(tried)


def next_runs(row: Row, results: dict[Run, Result], seeds: int = SEEDS) -> list[Run]:
    """Return the runs that the row needs next; none when it is complete, after which `chosen_rate` is final."""
    rate = chosen_rate(row, results)
    if rate is not None:
        wanted = [Run(row.name, rate, seed) for seed in range(seeds)]
    else:
        rates = _wanted_rates(row, _mean_errors(row, results))
        wanted = [Run(row.name, rate, seed) for rate in rates for seed in range(CHOICE_SEEDS)]
    return [run for run in wanted if run not in results]


def _wanted_rates(row: Row, tried: dict[float, float]) -> tuple[float, ...]:
    """The rates that must have been tried, as far as can be said now."""
    if set(row.first_rates) - set(tried):
        return row.first_rates
    # Whether to look far is decided by the first rates alone: so it does not matter where a search was stopped.
    if min(tried[rate] for rate in row.first_rates) > LEARNED_NOTHING and set(WIDE) - set(tried):
        return WIDE
    best = _best(tried)
    place = LADDER.index(best)
    return LADDER[max(place - 1, 0) : place + 2]


def _best(tried: dict[float, float]) -> float:
    return min(tried, key=lambda rate: (tried[rate], -rate))


def _mean_errors(row: Row, results: dict[Run, Result]) -> dict[float, float]:
    """Mean validation error over the first seeds of each rate for which all of them have finished."""
    means = {}
    for rate in LADDER:
        errors = [
            results[run].validation_error
            for seed in range(CHOICE_SEEDS)
            if (run := Run(row.name, rate, seed)) in results
        ]
        if len(errors) == CHOICE_SEEDS:
            means[rate] = sum(errors) / len(errors)
    return means


# --- Doing one ------------------------------------------------------------------------------------------------------

_BUILDING = threading.Lock()


def run(
    wanted: Run,
    folder: Path,
    *,
    digits: int = 60_000 - HELD_OUT,
    after_steps: Callable[[int], None] = lambda steps: None,
) -> Result:
    """Train as wanted on one thread, leave the weights and the result in the folder, and return the result.

    A run that the folder has already is not done again. digits: train on the first ones only; such runs need a folder of
    their own, since a file does not say on how many digits its network was trained.
    after_steps: called now and then with the number of steps made since the last call.
    """
    path = folder / wanted.file_name
    if path.is_file():
        return read_result(path)
    torch.set_num_threads(1)  # runs stand beside each other, one a core
    row, train = ROWS[wanted.row], load_mnist("train")
    held_out = train[-HELD_OUT:]
    start = time.perf_counter()
    # Networks draw from torch's global generator, which all threads share; the caller's is left as it was.
    with _BUILDING, torch.random.fork_rng(devices=[]):
        torch.manual_seed(wanted.seed)
        model = row.build()
    try:
        generator = torch.Generator().manual_seed(wanted.seed)
        train_row(row, model, train[:digits], wanted.rate, generator, after_steps)
        result = Result(evaluate(model, held_out).error, time.perf_counter() - start)
    except ArithmeticError:  # TrainingDiverged is one
        result = Result(1.0, time.perf_counter() - start, diverged=True)
    tensors = {key: tensor.detach().contiguous() for key, tensor in model.state_dict().items()}
    with replacing(path) as unfinished:
        safetensors.torch.save_file(tensors, unfinished, metadata={"result": json.dumps(vars(result))})
    return result


def read_result(path: Path) -> Result:
    """Return the result kept with the weights of a run."""
    with safetensors.safe_open(path, framework="pt") as file:
        return Result(**json.loads(file.metadata()["result"]))


def steps_of(row: Row, digits: int) -> int:
    """Return how many steps `train_row` makes on so many digits."""
    if row.distorted:
        return math.ceil(PASSES * digits / row.batch_size)
    return PASSES * math.ceil(digits / row.batch_size)


def train_row(
    row: Row,
    model: nn.Module,
    digits: Digits,
    rate: float,
    generator: torch.Generator,
    after_steps: Callable[[int], None] = lambda steps: None,
) -> None:
    """Train the model in place on `PASSES` times as many digits as there are. Raises ArithmeticError if weights run away."""
    if row.pattern_by_pattern:
        _train_pattern_by_pattern(row, model, digits, rate, generator, after_steps)
        return
    epochs = PASSES
    if row.distorted:  # all digits once, and as many distorted ones as the budget leaves, each seen once
        digits, epochs = with_distorted_copies(digits, PASSES - 1, DISTORTION, generator), 1
    history = fit(
        model,
        digits,
        epochs=epochs,
        batch_size=row.batch_size,
        learning_rate=rate,
        optimizer="adamw" if row.method == "AdamW" else "sgd",
        weight_decay=0.01 if row.method == "AdamW" else 0.0,
        generator=generator,
        device="cpu",
        after_step=lambda step: after_steps(1),
        report=False,
    )
    if history.stopped:  # by Ctrl-C: half a training must not be kept as a run
        raise KeyboardInterrupt


def _train_pattern_by_pattern(
    row: Row,
    model: nn.Module,
    digits: Digits,
    rate: float,
    generator: torch.Generator,
    after_steps: Callable[[int], None],
) -> None:
    from lenet_course.sdlm_compiled import train_pass, train_patterns  # numba: only these two rows wait for it

    optimizer = SDLM(model)
    for eta in ETAS:
        told = 0

        def tell(patterns: int) -> None:
            nonlocal told
            after_steps(patterns - told)
            told = patterns

        if row.method == "1998":
            optimizer.eta = rate * eta
            train_pass(model, optimizer, digits, generator=generator, after_call=tell)
        else:
            step = rate * eta / ETAS[0]
            sizes = {name: torch.full_like(weight, step) for name, weight in model.named_parameters()}
            order = torch.randperm(len(digits), generator=generator)
            train_patterns(model, digits, order, sizes, after_call=tell)


def test_error(wanted: Run, folder: Path, test: Digits) -> float:
    """Return the fraction of the test digits that the run's network gets wrong."""
    with _BUILDING, torch.random.fork_rng(devices=[]):  # as in `run`: other threads may be drawing first weights
        model = ROWS[wanted.row].build()
    with safetensors.safe_open(folder / wanted.file_name, framework="pt") as file:
        model.load_state_dict({key: file.get_tensor(key) for key in file.keys()})  # noqa: SIM118
    return evaluate(model, test).error


def finished(folder: Path, names: Collection[str]) -> dict[Run, Result]:
    """Return the results of all runs of those rows that the folder has."""
    found = {}
    for name in names:
        for rate in LADDER:
            for seed in range(SEEDS):
                candidate = Run(name, rate, seed)
                if (path := folder / candidate.file_name).is_file():
                    found[candidate] = read_result(path)
    return found
