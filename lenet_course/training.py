"""Train any network of the course, and find out how good it is: one loop for all of them."""

from __future__ import annotations

import ctypes
import math
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from lenet_course.data import Digits, shuffled_batches
from lenet_course.progress import progress

# --- Devices --------------------------------------------------------------------------------------------------------


def available_devices() -> tuple[str, ...]:
    """Return the kinds of device that this machine has, the one that `fit` takes by default first."""
    kinds: tuple[str, ...] = ("cuda",) if torch.cuda.is_available() else ()
    if torch.backends.mps.is_available():
        kinds += ("mps",)
    return (*kinds, "cpu")


def choose_device(device: str | torch.device | None = None) -> torch.device:
    """Return the device asked for; without one, CUDA where there is a GPU, else Apple's MPS, else the CPU.

    Raises ValueError listing the devices that there are, if the one asked for is not among them.
    """
    available = available_devices()
    if device is None:
        return torch.device(available[0])
    there = f"This machine has: {', '.join(available)}."
    try:
        chosen = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"{device!r} is not a device. {there}") from error
    if chosen.type not in available:
        raise ValueError(f"There is no {device} here. {there} device=None takes the first of them.")
    if chosen.type == "cuda" and (chosen.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"There is no {device} here, only {torch.cuda.device_count()} GPUs, counted from cuda:0.")
    return chosen


# --- Results --------------------------------------------------------------------------------------------------------


@dataclass
class History:
    """What `fit` saw, one entry an epoch.

    training_loss: mean over the digits of the epoch, each measured just before the step that used it.
    validation_error: a fraction, 0 to 1; empty if there were no validation digits.
    seconds: of training alone. steps: the steps made. stopped: None, or why it ended early.
    """

    training_loss: list[float] = field(default_factory=list)
    validation_error: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    steps: int = 0
    stopped: str | None = None


@dataclass(frozen=True)
class Evaluation:
    """How a network did on some digits.

    error: the fraction with a wrong answer, 0 to 1. loss: the mean of the network's own loss.
    confusion: (10, 10) int64, row = right digit, column = answer. predictions: (N,) int64, in the order of the digits.
    """

    error: float
    loss: float
    confusion: Tensor
    predictions: Tensor

    @property
    def accuracy(self) -> float:
        """The fraction with the right answer, 0 to 1."""
        return 1 - self.error


class TrainingDiverged(ArithmeticError):
    """The loss became infinite or not a number. `.history` has what was seen until then."""

    def __init__(self, message: str, history: History) -> None:
        super().__init__(message)
        self.history = history


# --- Training -------------------------------------------------------------------------------------------------------


def fit(
    model: nn.Module,
    train: Digits,
    *,
    epochs: int,
    batch_size: int = 64,
    learning_rate: float = 0.1,
    schedule: str = "one-cycle",
    momentum: float = 0.9,
    weight_decay: float = 0.0,
    validation: Digits | None = None,
    generator: torch.Generator | None = None,
    device: str | torch.device | None = None,
    after_step: Callable[[int], None] | None = None,
    report: bool = True,
) -> History:
    """Train the model in place by stochastic gradient descent with momentum, and return what was seen.

    model: any network of the course: it has `prepare(uint8 images)`, `forward`, `loss(outputs, labels)` and
        `decide(outputs)`.
    schedule: "one-cycle" lets the rate rise to `learning_rate` over the first 15% of all steps and fall to almost 0
        over the rest (Smith & Topin 2017); "constant" keeps it. The defaults were chosen on the last 5,000 training
        digits, for one epoch.
    validation: digits to measure the error on after each epoch; never trained on.
    generator: draws the order of the digits; a CPU generator. By default one with seed 0, the same at every call.
    device: None takes CUDA, then Apple's MPS, then the CPU. The model is moved there, and stays there.
    after_step: called after each step with the number of steps made so far, for looking inside while it learns.
    report: print a line an epoch and show a progress bar.

    Stopped by Ctrl-C or the kernel's stop button, it finishes the step in hand and returns what it has; the model keeps
    the weights of that step. A second Ctrl-C stops at once.
    Raises TrainingDiverged if the loss is no longer a finite number, ValueError for settings that make no sense.
    """
    _check_settings(train, epochs, batch_size, learning_rate, schedule)
    _keep_freed_memory()
    device = choose_device(device)
    generator = torch.Generator().manual_seed(0) if generator is None else generator
    model.to(device, memory_format=torch.channels_last)
    # On the device once and for all, and as bytes: a batch is an index, and copies little.
    images, labels = train.images.to(device), train.labels.to(device)
    steps_an_epoch = math.ceil(len(train) / batch_size)
    optimizer = torch.optim.SGD(model.parameters(), lr=learning_rate, momentum=momentum, weight_decay=weight_decay)
    scheduler = _make_schedule(schedule, optimizer, learning_rate, epochs * steps_an_epoch)
    history = History()

    steps = epochs * steps_an_epoch
    with _finish_step_in_hand() as stop, closing(progress("Training", steps, shown=report)) as display:
        for epoch in range(1, epochs + 1):
            model.train()
            start, loss_sum = time.perf_counter(), 0.0
            for batch in shuffled_batches(len(train), batch_size, generator):
                batch = batch.to(device)
                loss = model.loss(model(_inputs(model, images[batch])), labels[batch])
                optimizer.zero_grad()
                loss.backward()
                loss_sum += len(batch) * _finite(loss.item(), history, learning_rate)
                optimizer.step()
                scheduler.step()
                history.steps += 1
                display.advance()
                if after_step:
                    after_step(history.steps)
                if stop.is_set():
                    history.stopped = f"interrupted after step {history.steps:,} of {steps:,}"
                    print(f"Training {history.stopped}. The model keeps the weights of that step.")
                    return history
            history.seconds.append(time.perf_counter() - start)
            history.training_loss.append(loss_sum / len(train))
            if validation is not None:
                history.validation_error.append(evaluate(model, validation).error)
            if report:
                print(_epoch_line(epoch, epochs, history))
    return history


def _keep_freed_memory() -> None:
    """Let the C library keep the megabytes that each step frees, for the next step to use again.

    By default GNU's hands them back to the system, which clears and maps them anew a hundred times a second: 10 to 17% of
    an epoch. Other systems' libraries are left alone. It holds for the whole process, and costs it about 20 MB.
    """
    if not sys.platform.startswith("linux"):
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # not GNU's library
        return
    trim_threshold, mmap_threshold = -1, -3  # the names in malloc.h
    mallopt(trim_threshold, 512 * 2**20)
    mallopt(mmap_threshold, 1024 * 2**20)


def _inputs(model: nn.Module, images: Tensor) -> Tensor:
    """Prepare raw images; maps go channels-last, the layout in which convolutions are fastest on a CPU."""
    prepared = model.prepare(images)
    return prepared.contiguous(memory_format=torch.channels_last) if prepared.dim() == 4 else prepared


def _make_schedule(
    schedule: str, optimizer: torch.optim.Optimizer, learning_rate: float, steps: int
) -> torch.optim.lr_scheduler.LRScheduler:
    if schedule == "constant" or steps < 2:  # a cycle needs a way up and a way down
        return torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0)
    return torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=learning_rate, total_steps=steps, pct_start=0.15, cycle_momentum=False
    )


def _finite(loss: float, history: History, learning_rate: float) -> float:
    """Return the loss; raise TrainingDiverged if it is not a finite number."""
    if math.isfinite(loss):
        return loss
    history.stopped = f"diverged at step {history.steps + 1:,}"
    raise TrainingDiverged(
        f"The loss became {loss} at step {history.steps + 1:,}: the steps were too large, and the weights ran away. "
        f"Build the model anew (these weights are spoiled) and try a learning_rate of {min(learning_rate / 10, 0.1):g} "
        f"instead of {learning_rate:g}. If that does not help, look for pixels that were not scaled.",
        history,
    )


@contextmanager
def _finish_step_in_hand() -> Iterator[threading.Event]:
    """Turn the first Ctrl-C into an event that the loop can look at between two steps.

    A KeyboardInterrupt may strike anywhere, also while the optimizer has moved half of the weights.
    """
    stop = threading.Event()
    previous = signal.getsignal(signal.SIGINT)
    # Only the main thread gets signals, or may say what happens to them.
    if threading.current_thread() is not threading.main_thread() or not callable(previous):
        yield stop
        return

    def on_interrupt(signal_number, frame) -> None:
        if stop.is_set():
            previous(signal_number, frame)
        stop.set()

    signal.signal(signal.SIGINT, on_interrupt)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, previous)


def _epoch_line(epoch: int, epochs: int, history: History) -> str:
    parts = [f"training loss {history.training_loss[-1]:.4f}"]
    if history.validation_error:
        parts.append(f"validation error {100 * history.validation_error[-1]:.2f}%")
    parts.append(f"{history.seconds[-1]:.1f} s")
    return f"Epoch {epoch} of {epochs}: {', '.join(parts)}"


def _check_settings(train: Digits, epochs: int, batch_size: int, learning_rate: float, schedule: str) -> None:
    if len(train) == 0:
        raise ValueError("There are no digits to train on: train is empty.")
    if epochs < 1 or batch_size < 1:
        raise ValueError(f"epochs and batch_size must be at least 1; got {epochs} and {batch_size}.")
    if not (0 < learning_rate < math.inf):
        raise ValueError(f"learning_rate must be above 0, and finite; got {learning_rate}.")
    if schedule not in ("one-cycle", "constant"):
        raise ValueError(f'schedule is "one-cycle" or "constant"; got {schedule!r}.')


# --- Evaluation -----------------------------------------------------------------------------------------------------


@torch.no_grad()
def evaluate(model: nn.Module, digits: Digits, *, batch_size: int = 1000) -> Evaluation:
    """Return error, loss, confusion matrix and predictions of the model on all the digits, on the model's device.

    The model is left as it was, weights and mode. Raises ValueError if there are no digits.
    """
    if len(digits) == 0:
        raise ValueError("There are no digits to evaluate on: digits is empty.")
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    was_training = model.training
    model.eval()
    loss_sum, predictions = 0.0, []
    for images, labels in zip(digits.images.split(batch_size), digits.labels.split(batch_size), strict=True):
        outputs = model(_inputs(model, images.to(device)))
        loss_sum += len(labels) * model.loss(outputs, labels.to(device)).item()
        predictions.append(model.decide(outputs).cpu())
    model.train(was_training)
    answers = torch.cat(predictions)
    confusion = torch.bincount(10 * digits.labels + answers, minlength=100).reshape(10, 10)
    wrong = int((answers != digits.labels).sum())
    return Evaluation(wrong / len(digits), loss_sum / len(digits), confusion, answers)
