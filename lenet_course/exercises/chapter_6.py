"""Checks for chapter 6: what has it learned to see?"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lenet_course.arithmetic import receptive_field
from lenet_course.exercises.checking import Verdict, call_function, check_function, compare_tensors

S4 = receptive_field([(5, 1), (2, 2), (5, 1), (2, 2)])


def span_of_s4(function: Any) -> Verdict:
    """Exercise 1: the pixels that a unit of S4 sees."""
    return check_function(
        function,
        S4.span,
        [(unit,) for unit in range(5)],
        praise="As chapter 1's formula has it.",
        hint="C1 5x5, S2 2x2 with stride 2, C3 5x5, S4 2x2 with stride 2; both ends are included.",
        same=lambda answer, expected: isinstance(answer, tuple | list) and tuple(answer) == expected,
    )


def saturated(function: Any) -> Verdict:
    """Exercise 2: the share of digits for which each unit is saturated."""
    outputs = 1.7159 * torch.tanh(2 * torch.randn(50, 7, generator=torch.Generator().manual_seed(0)))
    answer, verdict = call_function(function, (outputs,), "Outputs of shape (50, 7)", (7,))
    if verdict:
        return verdict
    expected = (outputs.abs() > 1.6).float().mean(dim=0)
    likely = {
        "That counts one side only: -1.65 is saturated as well.": (outputs > 1.6).float().mean(dim=0),
        "Those are numbers of digits. Divide by how many there are.": (outputs.abs() > 1.6).float().sum(dim=0),
        "That is the share that is not saturated.": 1 - expected,
        "That is in percent. Return a share, 0 to 1.": 100 * expected,
    }
    return compare_tensors(answer, expected, likely, "Seven units, both sides counted.")


def occlusion_map(function: Any) -> Verdict:
    """Exercise 3: an occlusion map of 28 x 28, for a distance that is known."""
    generator = torch.Generator().manual_seed(0)
    weight, image = torch.randn(32, 32, generator=generator), torch.rand(32, 32, generator=generator)

    def distance(images: Tensor) -> Tensor:
        if images.dim() != 4 or images.shape[1:] != (1, 32, 32):
            raise ValueError(f"distance takes images of shape (N, 1, 32, 32); got {tuple(images.shape)}")
        return (images[:, 0] * weight).sum(dim=(1, 2))

    came_in = "A distance and an image of shape (32, 32)"
    answer, verdict = call_function(function, (distance, image), came_in, (28, 28))
    if verdict:
        return verdict
    change = (-0.1 - image) * weight
    expected = change.unfold(0, 5, 1).unfold(1, 5, 1).sum(dim=(2, 3))
    black = ((1.175 - image) * weight).unfold(0, 5, 1).unfold(1, 5, 1).sum(dim=(2, 3))
    zero = (-image * weight).unfold(0, 5, 1).unfold(1, 5, 1).sum(dim=(2, 3))
    likely = {
        "The sign is turned around: growth is the covered distance minus that of the whole image.": -expected,
        "Those are the distances of the covered images. Take away that of the whole image.": expected
        + distance(image[None, None]),
        "Rows and columns are exchanged.": expected.T,
        "The squares are covered with 0. Paper is -0.1.": zero,
        "The squares are covered with ink. Paper is -0.1.": black,
    }
    return compare_tensors(answer, expected, likely, "784 squares, each in its place.")
