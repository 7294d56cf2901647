"""How good a network is: its error, its loss, and what it takes for what."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lenet_course.data import Digits
from lenet_course.ranks import ALONE, Ranks


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


def network_inputs(model: nn.Module, images: Tensor) -> Tensor:
    """Prepare raw images; maps go channels-last, the layout in which convolutions are fastest on a CPU.

    images: (N, height, width) uint8. Returns what `model.prepare` makes of them, on the same device.
    """
    prepared = model.prepare(images)
    return prepared.contiguous(memory_format=torch.channels_last) if prepared.dim() == 4 else prepared


@torch.no_grad()
def evaluate(model: nn.Module, digits: Digits, *, batch_size: int = 1000, ranks: Ranks = ALONE) -> Evaluation:
    """Return error, loss, confusion matrix and predictions of the model on all the digits, on the model's device.

    ranks: each looks at its share of the digits, and all of them get the same result; every rank must call it.
    The model is left as it was, weights and mode. Raises ValueError if there are no digits.
    """
    if len(digits) == 0:
        raise ValueError("There are no digits to evaluate on: digits is empty.")
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    was_training = model.training
    model.eval()
    share = digits if ranks.alone else digits[ranks.rank :: ranks.world]
    loss_sum, predictions = 0.0, [torch.empty(0, dtype=torch.int64)]
    for images, labels in zip(share.images.split(batch_size), share.labels.split(batch_size), strict=True):
        if len(labels) == 0:  # fewer digits than ranks
            continue
        outputs = model(network_inputs(model, images.to(device)))
        loss_sum += len(labels) * model.loss(outputs, labels.to(device)).item()
        predictions.append(model.decide(outputs).cpu())
    model.train(was_training)
    answers = torch.cat(predictions)
    confusion = torch.bincount(10 * share.labels + answers, minlength=100)
    if not ranks.alone:
        everyones = torch.zeros(len(digits), dtype=torch.int64)
        everyones[ranks.rank :: ranks.world] = answers
        sums = ranks.sum(torch.cat([everyones, confusion]))
        answers, confusion = sums.split([len(digits), 100])
        loss_sum = ranks.sum(torch.tensor(loss_sum, dtype=torch.float64)).item()
    confusion = confusion.reshape(10, 10)
    wrong = len(digits) - int(confusion.trace())
    return Evaluation(wrong / len(digits), loss_sum / len(digits), confusion, answers)
