"""Train any network of the course, and find out how good it is: one loop for all of them."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn

from lenet_course.data import Digits, shuffled_batches
from lenet_course.devices import available_devices, choose_device, keep_freed_memory
from lenet_course.evaluation import evaluate, network_inputs
from lenet_course.progress import progress
from lenet_course.ranks import ALONE, Ranks

__all__ = ("History", "Training", "TrainingDiverged", "available_devices", "choose_device", "evaluate", "fit")

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
    optimizer: str = "sgd",
    schedule: str = "one-cycle",
    momentum: float = 0.9,
    weight_decay: float = 0.0,
    validation: Digits | None = None,
    generator: torch.Generator | None = None,
    device: str | torch.device | None = None,
    after_step: Callable[[int], None] | None = None,
    report: bool = True,
) -> History:
    """Train the model in place by stochastic gradient descent, and return what was seen.

    model: any network of the course: it has `prepare(uint8 images)`, `forward`, `loss(outputs, labels)` and
        `decide(outputs)`.
    optimizer: "sgd", with momentum, or "adamw" (Loshchilov & Hutter 2019), which has moments of its own and wants a rate
        of about 0.001 to 0.01; momentum does not matter then.
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
    training = Training(
        model,
        train,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        optimizer=optimizer,
        schedule=schedule,
        momentum=momentum,
        weight_decay=weight_decay,
        generator=generator,
        device=device,
    )
    history = training.run(validation=validation, after_step=after_step, report=report, progress_bar=report)
    if history.stopped:
        print(f"Training {history.stopped}. The model keeps the weights of that step.")
    return history


class Training:
    """A training under way: `fit`, with what it needs to be stopped anywhere and to go on as if it had not been.

    The settings are those of `fit`. `run` goes to the end; `step` is where a step happens. `history` grows meanwhile.
    ranks: the processes that share each batch. The weights come out as if there were one, to rounding: each batch is
        drawn in the same order by all, and the gradient is that of its mean loss, however unequal the shares are.
    """

    def __init__(
        self,
        model: nn.Module,
        train: Digits,
        *,
        epochs: int,
        batch_size: int = 64,
        learning_rate: float = 0.1,
        optimizer: str = "sgd",
        schedule: str = "one-cycle",
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        generator: torch.Generator | None = None,
        device: str | torch.device | None = None,
        ranks: Ranks = ALONE,
    ) -> None:
        _check_settings(train, epochs, batch_size, learning_rate, optimizer, schedule)
        keep_freed_memory()
        self.device = choose_device(device)
        self.generator = torch.Generator().manual_seed(0) if generator is None else generator
        self.model = model.to(self.device, memory_format=torch.channels_last)
        # On the device once and for all, and as bytes: a batch is an index, and copies little.
        self.images, self.labels = train.images.to(self.device), train.labels.to(self.device)
        self.epochs, self.batch_size, self.learning_rate = epochs, batch_size, learning_rate
        self.steps_an_epoch = math.ceil(len(train) / batch_size)
        self.steps = epochs * self.steps_an_epoch
        self.optimizer = _make_optimizer(optimizer, self.model, learning_rate, momentum, weight_decay)
        self.scheduler = _make_schedule(schedule, self.optimizer, learning_rate, self.steps)
        self.history = History()
        self.ranks = ranks
        self.network = ranks.wrap(model)
        self._order = self.generator.get_state()  # as it was before it drew the order of this epoch
        self._loss_sum, self._seconds = 0.0, 0.0  # of this epoch
        self._stop = threading.Event()  # Ctrl-C came, here
        self._all_stop = False  # it came to some rank, and all know
        if not ranks.alone:
            self._settle_sums()

    @property
    def finished(self) -> bool:
        """Whether all epochs are done, validation included."""
        return len(self.history.training_loss) >= self.epochs

    def run(
        self,
        *,
        validation: Digits | None = None,
        after_step: Callable[[int], None] | None = None,
        after_epoch: Callable[[], None] | None = None,
        report: bool = True,
        progress_bar: bool = True,
    ) -> History:
        """Train from here to the end, or until Ctrl-C as `fit` says, and return the history.

        after_epoch: called after each epoch, once its validation error is known. In it and in `after_step`, `state_dict`
        is the state to go on from. report: print a line an epoch. Raises TrainingDiverged as `fit` does.
        """
        history, left = self.history, self.steps - self.history.steps
        history.stopped = None
        title = f"Training from step {history.steps:,}" if history.steps else "Training"
        with _finish_step_in_hand() as self._stop, closing(progress(title, left, shown=progress_bar)) as display:
            while not self.finished:
                self.model.train()
                start = time.perf_counter() - self._seconds
                for batch in self._batches_left():
                    self.step(batch)
                    self._seconds = time.perf_counter() - start
                    display.advance()
                    if after_step:
                        after_step(history.steps)
                    if self._asked_to_stop():
                        history.stopped = f"interrupted after step {history.steps:,} of {self.steps:,}"
                        return history
                self._end_epoch(time.perf_counter() - start, validation)
                if after_epoch:
                    after_epoch()
                if report:
                    print(_epoch_line(len(history.training_loss), self.epochs, history))
        return history

    def step(self, batch: Tensor) -> None:
        """Make one step: forward, backward, a move of the optimizer, a move of the schedule.

        batch: (B,) int64 on the CPU, the numbers of the digits of the whole batch; each rank takes its share.
        """
        share, weight = self._share(batch)
        share = share.to(self.device)
        loss = self.model.loss(self.network(network_inputs(self.model, self.images[share])), self.labels[share])
        self.optimizer.zero_grad()
        (loss if weight == 1 else weight * loss).backward()
        mean = loss.item() if self.ranks.alone else self._mean_loss(loss.item(), weight)
        self._loss_sum += len(batch) * _finite(mean, self.history, self.learning_rate)
        self.optimizer.step()
        self.scheduler.step()
        self.history.steps += 1

    def state_dict(self) -> dict[str, Any]:
        """Return all that the rest of the training depends on: tensors, numbers, lists and dicts of them.

        The tensors are the living ones: save or copy them before the next step.
        """
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "order": self._order,
            "loss_sum": self._loss_sum,
            "seconds": self._seconds,
            "history": asdict(self.history),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state: `run` then ends with the numbers that it would have had without the stop.

        The Training must have been made with the same settings and digits. On another device, or with another number of
        threads or ranks, sums round differently, and the numbers drift apart as they would without a stop.
        """
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scheduler.load_state_dict(state["scheduler"])
        self.generator.set_state(state["order"])
        self._order = state["order"]
        self._loss_sum, self._seconds = state["loss_sum"], state["seconds"]
        self.history = History(**{**state["history"], "stopped": None})

    def _asked_to_stop(self) -> bool:
        return self._stop.is_set() if self.ranks.alone else self._all_stop

    def _batches_left(self) -> Iterator[Tensor]:
        """Draw the order of this epoch's digits, and leave out the batches that are behind."""
        behind = self.history.steps - self.steps_an_epoch * len(self.history.training_loss)
        if behind:
            self.generator.set_state(self._order)
        return islice(shuffled_batches(len(self.labels), self.batch_size, self.generator), behind, None)

    def _end_epoch(self, seconds: float, validation: Digits | None) -> None:
        error = None if validation is None else evaluate(self.model, validation, ranks=self.ranks).error
        self.history.seconds.append(seconds)
        self.history.training_loss.append(self._loss_sum / len(self.labels))
        if error is not None:
            self.history.validation_error.append(error)
        self._order = self.generator.get_state()
        self._loss_sum, self._seconds = 0.0, 0.0

    # --- with other ranks ---

    def _share(self, batch: Tensor) -> tuple[Tensor, float]:
        """Return this rank's digits, and what its mean loss counts: the mean over ranks is then that over the batch."""
        if self.ranks.alone:
            return batch, 1.0
        share = self.ranks.share(batch)
        if len(share) == 0:  # a small last batch: the others still wait for a gradient, and it is 0
            return batch[:1], 0.0
        return share, self.ranks.world * len(share) / len(batch)

    def _mean_loss(self, loss: float, weight: float) -> float:
        """Return the mean loss over the whole batch, and hear on the way whether a rank got a Ctrl-C."""
        sums = self.ranks.sum(torch.tensor([weight * loss, self._stop.is_set()], dtype=torch.float64))
        self._all_stop = bool(sums[1] > 0)
        return float(sums[0]) / self.ranks.world

    def _settle_sums(self) -> None:
        """Make a backward pass for nothing.

        After its first one, DistributedDataParallel changes the order in which gradients lie while they are added, and
        three numbers added in another order round differently: a training that goes on would differ from one that never
        stopped.
        """
        self.model.loss(self.network(network_inputs(self.model, self.images[:1])), self.labels[:1]).backward()
        self.optimizer.zero_grad()


def _make_optimizer(
    name: str, model: nn.Module, learning_rate: float, momentum: float, weight_decay: float
) -> torch.optim.Optimizer:
    if name == "adamw":
        return torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=weight_decay)
    return torch.optim.SGD(model.parameters(), lr=learning_rate, momentum=momentum, weight_decay=weight_decay)


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


def _check_settings(
    train: Digits, epochs: int, batch_size: int, learning_rate: float, optimizer: str, schedule: str
) -> None:
    if len(train) == 0:
        raise ValueError("There are no digits to train on: train is empty.")
    if epochs < 1 or batch_size < 1:
        raise ValueError(f"epochs and batch_size must be at least 1; got {epochs} and {batch_size}.")
    if not (0 < learning_rate < math.inf):
        raise ValueError(f"learning_rate must be above 0, and finite; got {learning_rate}.")
    if optimizer not in ("sgd", "adamw"):
        raise ValueError(f'optimizer is "sgd" or "adamw"; got {optimizer!r}.')
    if schedule not in ("one-cycle", "constant"):
        raise ValueError(f'schedule is "one-cycle" or "constant"; got {schedule!r}.')
