"""Train a network of the course from a shell: a line an epoch, a checkpoint now and then, weights at the end.

It trains on the first 55,000 of MNIST's training digits, measures the error on the last 5,000 after each epoch, and on
the 10,000 test digits once, at the end. The weights become your own: the chapters then use them.

Stopped by Ctrl-C or killed at any moment, the same command with --resume goes on from the last checkpoint and ends with
the same weights as if it had not been stopped. (The same to the last bit on the same machine with the same --threads.)
"""

from __future__ import annotations

import argparse
import math
import os
import re
import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import lenet_course  # noqa: F401 - before torch: it says how OpenMP threads wait

# isort: split
import torch

from lenet_course.checkpoints import CheckpointError, compare_settings, read_checkpoint, write_checkpoint
from lenet_course.data import load_mnist
from lenet_course.lenet import LeNet
from lenet_course.lenet5 import LeNet5
from lenet_course.ranks import Ranks, is_lost_rank, joined_ranks, rank_to_be, started_by_torchrun
from lenet_course.training import Training, TrainingDiverged, choose_device, evaluate
from lenet_course.weights import own_folder, save_weights

MODELS = {"lenet": LeNet, "lenet5": LeNet5}
LEARNING_RATES = {"lenet": 0.1, "lenet5": 0.003}  # those of chapters 3 and 5
TRAINING_DIGITS = 60_000

EXAMPLES = """\
examples:
  python -m lenet_course.train                                the LeNet of chapter 3, in a minute or so
  python -m lenet_course.train --model lenet5 --epochs 10
  python -m lenet_course.train --train-digits 2000 --epochs 1 --out /tmp/try     a quick look, kept apart
  python -m lenet_course.train --resume                       after a stop, with the settings it was started with

several processes, each with its share of every batch (--batch-size is the whole batch):
  torchrun --standalone --nproc-per-node=2 -m lenet_course.train
  torchrun --standalone --nproc-per-node=2 --max-restarts=3 -m lenet_course.train
      if a process dies, all start again from the last checkpoint, by themselves
  torchrun --nnodes=2 --nproc-per-node=1 --rdzv-backend=c10d --rdzv-endpoint=FIRST_MACHINE:29400 --rdzv-id=NAME \\
      -m lenet_course.train --out SHARED_FOLDER
      on each of two machines. Rank 0 writes: a folder that both can read survives the loss of either

exit status: 0 done, 1 broken off, 2 wrong arguments or a checkpoint that does not fit, 130 stopped by Ctrl-C
"""


@dataclass(frozen=True)
class Settings:
    """All that decides what a training gives: a checkpoint goes on only with the same."""

    model: str
    epochs: int
    seed: int
    batch_size: int
    learning_rate: float
    train_digits: int
    validation: int


# --- The command ----------------------------------------------------------------------------------------------------


def main(arguments: Sequence[str] | None = None) -> int:
    """Train as the arguments say (by default those of the command line), and return the exit status."""
    parser = _parser()
    given = parser.parse_args(arguments)
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(line_buffering=True)  # in a pipe or a log, too, a line appears when it is printed
    try:
        settings = _settings(given)
        device = _device(given.device)
    except ValueError as error:
        parser.error(str(error))
    command = shlex.join(arguments if arguments is not None else sys.argv[1:])
    try:
        _set_threads(given.threads, device)
        with joined_ranks(device, given.timeout) as ranks:
            return _Command(given, settings, device, ranks, command).run()
    except KeyboardInterrupt:
        return _fail("\nStopped. If there is a checkpoint, the same command with --resume goes on from it.", 130)
    except CheckpointError as error:
        return _fail(str(error), 2, every_rank=True)
    except (OSError, TrainingDiverged) as error:  # OSError: digits that are missing, a disk that is full
        return _fail(str(error), 1)
    except RuntimeError as error:
        if not (started_by_torchrun() and is_lost_rank(error)):
            raise
        _fail(_lost_rank(error, given.timeout), 1, every_rank=True)
        # At once, while the error still holds all that waits for the lost rank: taking it down can abort the process.
        sys.stdout.flush()
        os._exit(1)


def _fail(message: str, status: int, *, every_rank: bool = False) -> int:
    if message and (every_rank or rank_to_be() == 0):
        print(message, file=sys.stderr, flush=True)
    return status


def _lost_rank(error: RuntimeError, timeout: float) -> str:
    reason = re.sub(r"^\[\S+\] ", "", str(error)).split(". ")[0]  # without the line of gloo's source, and its advice
    return (
        f"Rank {rank_to_be()} lost the others: one died, or stood still for more than {timeout:g} s (--timeout).\n"
        f"  {reason}\n"
        "torchrun starts all of them again from the last checkpoint if it has restarts left (--max-restarts); else the "
        "same command with --resume does."
    )


class _Command:
    """One call of the command, on one rank."""

    def __init__(
        self, given: argparse.Namespace, settings: Settings, device: torch.device, ranks: Ranks, command: str
    ) -> None:
        self.settings, self.device, self.ranks, self.command = settings, device, ranks, command
        self.resume, self.anew, self.every = given.resume, given.anew, given.checkpoint_every
        self.folder = own_folder() if given.out is None else given.out
        self.path = self.folder / f"{settings.model}.checkpoint.pt"
        self.restarts = int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))
        job = os.environ.get("TORCHELASTIC_RUN_ID", "")
        self.job = "" if job == "none" else job  # torchrun's "none" is the name of every job without a name
        self.first = ranks.rank == 0

    def run(self) -> int:
        checkpoint = self._checkpoint()  # before all that takes long
        digits = load_mnist("train")
        settings = self.settings
        train = digits[: settings.train_digits]
        validation = digits[TRAINING_DIGITS - settings.validation :] if settings.validation else None
        torch.manual_seed(settings.seed)
        training = Training(
            MODELS[settings.model](),
            train,
            epochs=settings.epochs,
            batch_size=settings.batch_size,
            learning_rate=settings.learning_rate,
            generator=torch.Generator().manual_seed(settings.seed),
            device=self.device,
            ranks=self.ranks,
        )
        self._say(self._headline(training))
        self._remove_unfinished()
        if checkpoint is None:
            self._write(training)  # killed from now on, there is always one to resume from
        else:
            training.load_state_dict(checkpoint)
            done = f"after step {training.history.steps:,} of {training.steps:,}"
            restarts = f", restart {self.restarts}" if self.restarts else ""
            self._say(f"{'Finished' if training.finished else 'Going on'} {done}, from {self.path}{restarts}")

        def after_step(step: int) -> None:
            if step % self.every == 0:
                self._write(training)

        history = training.run(
            validation=validation,
            after_step=after_step,
            after_epoch=lambda: self._write(training),
            report=self.first,
            progress_bar=self.first and sys.stderr.isatty(),
        )
        if history.stopped:
            self._write(training)
            self._say(f"Training {history.stopped}. The checkpoint is {self.path}.\nTo go on: {self._resume_command()}")
            return 130
        test = evaluate(training.model, load_mnist("test"), ranks=self.ranks)
        wrong, count = int(test.confusion.sum() - test.confusion.trace()), int(test.confusion.sum())
        self._say(f"Test error {100 * test.error:.2f}%: {wrong:,} of {count:,} digits wrong.")
        if self.first:
            path = save_weights(training.model, settings.model, folder=self.folder)
            self._say(self._how_to_use(path))
        return 0

    # --- checkpoints ---

    def _write(self, training: Training) -> None:
        if self.first:
            write_checkpoint(self.path, asdict(self.settings), training.state_dict(), self.job)

    def _checkpoint(self) -> dict[str, Any] | None:
        """Return the state to go on from, the same on every rank, or None to begin at the beginning.

        The newest that any rank can read counts: after a restart, rank 0 may be on another machine than before. Raises
        CheckpointError where there is none to go on from, or an unfinished one that would be lost.
        """
        problem, content, steps = None, b"", -1
        try:
            content = self.path.read_bytes()
            steps = self._steps_behind(content)
        except FileNotFoundError:
            pass
        except CheckpointError as error:
            problem = error
        except OSError as error:
            problem = CheckpointError(f"The checkpoint cannot be read: {error}.")
        seen = torch.zeros(self.ranks.world, 2, dtype=torch.int64)
        seen[self.ranks.rank] = torch.tensor([steps, problem is not None])
        seen = self.ranks.sum(seen)
        if seen[:, 1].any():  # all leave together, and the first rank that knows why says it
            raise problem if problem and int(seen[:, 1].argmax()) == self.ranks.rank else CheckpointError("")
        newest = int(seen[:, 0].argmax())
        if seen[newest, 0] < 0:
            if self.resume and not self.restarts:
                raise CheckpointError(
                    f"There is no checkpoint to go on from: {self.path} is missing. Without --resume, the command begins "
                    "at the beginning; --out says in which folder to look."
                    if self.first
                    else ""
                )
            return None
        return read_checkpoint(self.ranks.broadcast(content, newest), self.path)["training"]

    def _steps_behind(self, content: bytes) -> int:
        """Return the number of steps after which the command goes on from a checkpoint, -1 if it begins at the beginning.

        Raises CheckpointError if it must do neither.
        """
        try:
            found = read_checkpoint(content, self.path)
        except CheckpointError:
            if self.anew and not self.restarts:
                return -1
            raise
        steps = found["training"]["history"]["steps"]
        # The same job again: after a restart, or because a machine came or went.
        if self.resume or self.restarts or (self.job and found["job"] == self.job):
            compare_settings(self.path, found["settings"], asdict(self.settings))
            return steps
        if not (self.anew or _finished(found)):
            raise CheckpointError(
                f"{self.path} is of a training that was not finished, after step {steps:,}. --resume goes on with it; "
                "--anew begins again, and writes over it; --out names another folder."
            )
        return -1

    def _remove_unfinished(self) -> None:
        """Remove what a killed process was writing."""
        if self.first and self.folder.is_dir():
            for unfinished in self.folder.glob(f"{self.path.name}.*.part"):
                unfinished.unlink(missing_ok=True)

    # --- words ---

    def _say(self, text: str) -> None:
        if self.first:
            print(text, flush=True)

    def _headline(self, training: Training) -> str:
        settings = self.settings
        if self.device.type == "cpu":
            where = f"on the CPU, {_counted(torch.get_num_threads(), 'thread')}"
        else:
            where = f"on {self.device}"
        if not self.ranks.alone:
            where = f"{self.ranks.world} processes, each {where}"
        return (
            f"{settings.model}, seed {settings.seed}, {where}: {settings.train_digits:,} training digits, "
            f"{_counted(settings.epochs, 'epoch')} of {_counted(training.steps_an_epoch, 'step')}"
        )

    def _resume_command(self) -> str:
        if not self.ranks.alone:
            return "the same torchrun command with --resume at its end"
        words = [word for word in shlex.split(self.command) if word not in ("--anew", "--resume")]
        return shlex.join(["python", "-m", "lenet_course.train", *words, "--resume"])

    def _how_to_use(self, path: Path) -> str:
        name, network = self.settings.model, MODELS[self.settings.model]
        module = network.__module__
        place = (
            ""
            if self.folder == own_folder()
            else f" (with the environment variable LENET_COURSE_WEIGHTS={self.folder})"
        )
        return (
            f"The weights are in {path}. To use them{place}:\n"
            f"  from {module} import {network.__name__}\n"
            f"  from lenet_course.weights import load_weights\n"
            f"  model = {network.__name__}()\n"
            f'  load_weights(model, "{name}")'
        )


def _finished(found: dict[str, Any]) -> bool:
    return len(found["training"]["history"]["training_loss"]) >= found["settings"]["epochs"]


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


# --- Arguments ------------------------------------------------------------------------------------------------------


class _Parser(argparse.ArgumentParser):
    """Of several processes with the same wrong arguments, one complains."""

    def _print_message(self, message: str, file=None) -> None:
        if rank_to_be() == 0:
            super()._print_message(message, file)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m lenet_course.train",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=EXAMPLES,
        allow_abbrev=False,
    )
    decides = parser.add_argument_group("what is trained, and how")
    decides.add_argument("--model", choices=MODELS, default="lenet", help="the network (default: lenet)")
    decides.add_argument("--epochs", type=_at_least(1), default=3, help="times through the digits (default: 3)")
    decides.add_argument(
        "--learning-rate",
        type=_rate,
        help="its highest value: it rises to it over the first 15%% of the steps, then falls to almost 0 "
        f"(default: {', '.join(f'{rate:g} for {name}' for name, rate in LEARNING_RATES.items())})",
    )
    decides.add_argument("--batch-size", type=_at_least(1), default=64, help="digits a step (default: 64)")
    decides.add_argument(
        "--seed", type=_at_least(0), default=0, help="draws the first weights and the order of the digits (default: 0)"
    )
    decides.add_argument(
        "--train-digits",
        type=_at_least(1),
        help="train on the first so many only (default: all but those for validation)",
    )
    decides.add_argument(
        "--validation",
        type=_at_least(0),
        default=5_000,
        help="the last so many training digits are kept aside to measure the error on (default: 5000; 0: none)",
    )
    going = parser.add_argument_group("where it goes, and going on")
    going.add_argument(
        "--out", type=Path, help="folder of weights and checkpoint (default: my_weights in the course's folder)"
    )
    going.add_argument("--resume", action="store_true", help="go on from the checkpoint in that folder")
    going.add_argument("--anew", action="store_true", help="begin again, even if an unfinished training is lost by it")
    going.add_argument(
        "--checkpoint-every",
        type=_at_least(1),
        default=100,
        metavar="STEPS",
        help="write one so often, and after each epoch (default: 100)",
    )
    machine = parser.add_argument_group("the machine")
    machine.add_argument("--device", help="cpu, cuda, cuda:1, mps (default: a GPU where there is one, else cpu)")
    machine.add_argument("--threads", type=_at_least(1), help="CPU threads of a process (default: one for each core)")
    machine.add_argument(
        "--timeout",
        type=_at_least(1),
        default=120,
        metavar="SECONDS",
        help="of several processes, how long one waits for the others before it gives up (default: 120)",
    )
    return parser


def _at_least(lowest: int):
    def number(text: str) -> int:
        value = int(text)
        if value < lowest:
            raise argparse.ArgumentTypeError(f"{value} is not {lowest} or more")
        return value

    return number


def _rate(text: str) -> float:
    rate = float(text)
    if not 0 < rate < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is not above 0, and finite")
    return rate


def _settings(given: argparse.Namespace) -> Settings:
    available = TRAINING_DIGITS - given.validation
    digits = available if given.train_digits is None else given.train_digits
    if not 1 <= digits <= available:
        raise ValueError(
            f"There are {TRAINING_DIGITS:,} training digits: {digits:,} to train on and {given.validation:,} for "
            "validation are too many. Lower --train-digits or --validation."
        )
    if given.resume and given.anew:
        raise ValueError("--resume goes on, --anew begins again: give one of them.")
    rate = LEARNING_RATES[given.model] if given.learning_rate is None else given.learning_rate
    return Settings(given.model, given.epochs, given.seed, given.batch_size, rate, digits, given.validation)


def _device(asked: str | None) -> torch.device:
    """Return where this process computes. Of several, each has its own GPU; raises ValueError if there are too few."""
    if not started_by_torchrun():
        return choose_device(asked)
    kind = asked or ("cuda" if torch.cuda.is_available() else "cpu")
    if kind not in ("cuda", "cpu"):
        raise ValueError(
            f"Several processes train on --device cpu, or on --device cuda, where each takes a GPU of its own; got {kind}."
        )
    if kind == "cpu":
        return torch.device("cpu")
    local = int(os.environ.get("LOCAL_RANK", "0"))
    if torch.cuda.is_available() and local >= torch.cuda.device_count():
        raise ValueError(
            f"There are {os.environ.get('LOCAL_WORLD_SIZE', local + 1)} processes and {torch.cuda.device_count()} GPUs "
            "here, and each process needs one. Start fewer (--nproc-per-node), or use --device cpu."
        )
    return choose_device(f"cuda:{local}")


def _set_threads(asked: int | None, device: torch.device) -> None:
    """Share the cores out over the processes of this machine; torchrun's own default is one thread each."""
    if asked is None and started_by_torchrun() and device.type == "cpu":
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        asked = max(1, cores // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
    if asked is not None:
        torch.set_num_threads(asked)


if __name__ == "__main__":
    status = main()
    if started_by_torchrun():
        # All is saved and said. Taking down the threads that talk to other ranks can abort a process that has succeeded (seen
        # once), or wait for a rank that is lost.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    raise SystemExit(status)
