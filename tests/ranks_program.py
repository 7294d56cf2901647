"""What tests/test_train_ranks.py runs as several ranks, and once alone: python ranks_program.py FOLDER writes RANK.pt."""

import io
import os
import signal
import sys
from pathlib import Path

import lenet_course  # noqa: F401 - before torch: it says how OpenMP threads wait

# isort: split
import torch
from torch import nn

from lenet_course.data import Digits, load_mnist
from lenet_course.lenet import LeNet
from lenet_course.lenet5 import LeNet5
from lenet_course.ranks import ALONE, Ranks, joined_ranks
from lenet_course.training import Training, evaluate

# Six batches an epoch: five of 51, and one of a single digit, of which all ranks but one get nothing.
DIGITS, BATCH_SIZE, EPOCHS = 256, 51, 9
COUNTS = (59_999, 60_000, 2)


class PreciseLeNet(LeNet):
    def prepare(self, images):
        return super().prepare(images).double()


class PreciseLeNet5(LeNet5):
    def prepare(self, images):
        return super().prepare(images).double()


# Each with its rate, and how far its weights may be from those of one process after 50 steps. A batch of a single digit lets
# the last bit of a sum grow: in single precision to 0.0001 for LeNet, while in double precision little comes of it. At its
# usual rate of 0.003, LeNet-5 does not settle here, and one process alone makes 1e-8 of a difference of 1e-13.
NETWORKS = {
    "lenet": (LeNet, 0.1, 2e-3),
    "lenet5": (LeNet5, 0.0003, 2e-3),
    "lenet in double precision": (lambda: PreciseLeNet().double(), 0.1, 1e-9),
    "lenet5 in double precision": (lambda: PreciseLeNet5().double(), 0.0003, 1e-9),
}


class Reader(nn.Module):
    """It answers the number that is written into the first pixel."""

    def prepare(self, images):
        return images

    def forward(self, images):
        return images[:, 0, 0].long()

    def loss(self, outputs, labels):
        return (outputs != labels).double().mean()

    def decide(self, outputs):
        return outputs


def numbered(count):
    """Digits without a picture: every seventh will be read as the next digit."""
    labels = torch.arange(count) % 10
    read = torch.where(torch.arange(count) % 7 == 0, (labels + 1) % 10, labels)
    return Digits(read.to(torch.uint8)[:, None, None].expand(count, 1, 1), labels)


def new_training(ranks: Ranks, name="lenet") -> Training:
    torch.manual_seed(ranks.rank)  # those of rank 0 count
    network, rate, _ = NETWORKS[name]
    order = torch.Generator().manual_seed(5)
    return Training(
        network(),
        load_mnist()[:DIGITS],
        epochs=EPOCHS,
        batch_size=BATCH_SIZE,
        learning_rate=rate,
        generator=order,
        device="cpu",
        ranks=ranks,
    )


class Enough(Exception):
    pass


def fifty_steps(training):
    """Return the weights after 50 of the 54 steps, and the mean loss of each epoch until then."""

    def stop(step):
        if step == 50:
            raise Enough

    try:
        whole_run(training, after_step=stop)
    except Enough:
        return weights_of(training), training.history.training_loss


def whole_run(training, **settings):
    history = training.run(validation=load_mnist()[-50:], report=False, progress_bar=False, **settings)
    return weights_of(training), history.training_loss, history.validation_error


def weights_of(training):
    return [parameter.detach().clone() for parameter in training.model.parameters()]


def stopped_and_resumed(ranks):
    """Ctrl-C comes to the last rank alone; return why each stopped, and what comes out after going on."""

    def interrupt(step):
        if step == 20 and ranks.rank == ranks.world - 1:
            os.kill(os.getpid(), signal.SIGINT)

    stopped = new_training(ranks)
    whole_run(stopped, after_step=interrupt)
    file = io.BytesIO()
    torch.save(stopped.state_dict(), file)
    resumed = new_training(ranks)
    content = ranks.broadcast(file.getvalue() if ranks.rank == 0 else b"", 0)
    resumed.load_state_dict(torch.load(io.BytesIO(content), weights_only=True))
    return stopped.history.stopped, whole_run(resumed)


def main(folder):
    torch.set_num_threads(1)
    with joined_ranks(torch.device("cpu"), timeout=300) as ranks:
        found = {name: fifty_steps(new_training(ranks, name)) for name in NETWORKS}
        for count in COUNTS:
            test = evaluate(Reader(), numbered(count), ranks=ranks)
            found[count] = test.error, test.loss, test.confusion, test.predictions
        found["whole"] = whole_run(new_training(ranks))
        if ranks is not ALONE:
            found["why"], found["resumed"] = stopped_and_resumed(ranks)
    torch.save(found, Path(folder) / f"{ranks.rank}.pt")


if __name__ == "__main__":
    main(sys.argv[1])
