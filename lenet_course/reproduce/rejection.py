"""Refusing to answer: how many digits to reject so that few of the other answers are wrong (Sec. III-C)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class RejectionCurve:
    """What is left when digits are rejected one by one, the least certain first.

    rejected: (N,) float64, fractions from 0 up to almost 1. error: (N,) float64, wrong answers among the rest, a fraction.
    """

    rejected: Tensor
    error: Tensor

    def rejected_for(self, error: float) -> float:
        """Return the smallest fraction to reject so that at most this fraction of the rest is wrong. 0.005 is the paper's.

        Raises ValueError if even a single digit left would be wrong more often.
        """
        good_enough = (self.error <= error).nonzero()
        if len(good_enough) == 0:
            raise ValueError(f"No share of rejected digits brings the error on the rest down to {error:.2%}.")
        return float(self.rejected[good_enough[0, 0]])


def rejection_curve(distances: Tensor, labels: Tensor) -> RejectionCurve:
    """Reject by the gap between the two smallest distances, smallest gap first, as the paper does (Sec. III-C).

    distances: (N, 10), N from 1; labels: (N,) int64. Raises ValueError for other shapes.
    """
    if distances.dim() != 2 or distances.shape[1] < 2 or labels.shape != distances.shape[:1] or len(labels) == 0:
        raise ValueError(
            f"rejection_curve takes distances (N, 10) and N labels; got {tuple(distances.shape)} and {tuple(labels.shape)}."
        )
    best = distances.topk(2, dim=1, largest=False)
    gap = best.values[:, 1] - best.values[:, 0]
    wrong = (best.indices[:, 0] != labels).double()[gap.argsort(stable=True)]
    left = torch.arange(len(labels), 0, -1, dtype=torch.float64)
    wrong_left = wrong.flip(0).cumsum(0).flip(0)
    return RejectionCurve(1 - left / len(labels), wrong_left / left)
