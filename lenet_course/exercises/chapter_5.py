"""Checks for chapter 5: can we still get the result of 1998?"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch

from lenet_course.exercises.checking import Verdict, call_function, check_function, compare_tensors, right, wrong
from lenet_course.lenet5 import ScaledTanh, map_loss, squash
from lenet_course.reproduce.rejection import rejection_curve


def loss_of_pattern(function: Callable[..., float]) -> Verdict:
    """Exercise 1: eq. (9) for one pattern, from plain numbers."""

    def reference(distances: list[float], label: int, j: float) -> float:
        return round(float(map_loss(torch.tensor([distances]).double(), torch.tensor([label]), j)), 6)

    near = [3.0, 10.0, 40.0, 41.0, 42.0, 43.0, 44.0, 45.0, 46.0, 47.0]
    cases = [(near, 0, 1.0), (near, 1, 1.0), (near, 0, 20.0), ([5.0] * 10, 3, 5.0), ([900.0] * 10, 2, 800.0)]

    def same(answer: Any, expected: float) -> bool:
        try:
            return math.isclose(float(answer), expected, rel_tol=1e-5, abs_tol=1e-5)
        except (TypeError, ValueError):
            return False

    return check_function(
        function,
        reference,
        cases,
        same=same,
        praise="Also at distances where exp gives 0.",
        hint="y_D + log(exp(-j) + sum of exp(-y)); take the smallest of j and all y out of the exponentials.",
    )


def curvature_below(function: Any) -> Verdict:
    """Exercise 2: second derivatives one layer down, eq. (27)."""
    generator = torch.Generator().manual_seed(0)
    u, h = torch.randn(3, 4, generator=generator), torch.rand(6, 3, generator=generator)
    x = squash(torch.randn(6, 4, generator=generator))
    came_in = "u of shape (3, 4), h of shape (6, 3) and x of shape (6, 4)"
    answer, verdict = call_function(function, (u, h, x), came_in, (6, 4))
    if verdict:
        return verdict
    slope = ScaledTanh.steepness / ScaledTanh.amplitude * (ScaledTanh.amplitude**2 - x**2)
    expected = slope**2 * (h @ u**2)
    likely = {
        "That is right for the outputs of the units below. Their weighted sums come before squashing.": h @ u**2,
        "The slope must be squared, as everything on the way down.": slope * (h @ u**2),
        "The weights must be squared.": slope**2 * (h @ u),
        "That is how a gradient goes down: square the weights and the slopes.": slope * (h @ u),
        "h is a second derivative already: it is not squared.": slope**2 * (h**2 @ u**2),
        "x is squashed already: its slope is 2/3/1.7159 (1.7159^2 - x^2), without another tanh.": (
            (ScaledTanh.amplitude * ScaledTanh.steepness * (1 - torch.tanh(ScaledTanh.steepness * x) ** 2)) ** 2
            * (h @ u**2)
        ),
        "The slope of a plain tanh is 1 - x^2. Ours is 2/3/1.7159 (1.7159^2 - x^2).": (1 - x**2) ** 2 * (h @ u**2),
    }
    return compare_tensors(answer, expected, likely, "diagonal_curvature goes from F6 to C5 by the same step.")


def error_on_the_rest(function: Any) -> Verdict:
    """Exercise 3: reject the digits with the smallest gap, and count the errors among the others."""
    generator = torch.Generator().manual_seed(0)
    distances = 20 * torch.rand(200, 10, generator=generator)
    labels = torch.where(torch.rand(200, generator=generator) < 0.8, distances.argmin(dim=1), 3)
    curve = rejection_curve(distances, labels)
    for rejected in (0, 10, 100, 199):
        came_in = f"200 digits and rejected = {rejected}"
        answer, verdict = call_function(function, (distances, labels, rejected), came_in, ())
        if verdict:
            return verdict
        expected = float(curve.error[rejected])
        if not abs(float(answer) - expected) <= 1e-5:  # also where the answer is no number at all
            hint = "Sort by the gap between the two smallest distances, and leave out the first ones."
            if math.isnan(float(answer)):
                hint = "That is the mean of nothing: no digit was left. Which ones does your slice keep?"
            elif abs(float(answer) - 100 * expected) < 1e-3:
                hint = "That is in percent. Return a fraction."
            elif abs(float(answer) - expected * (200 - rejected)) < 1e-3:
                hint = "That is a number of digits. Divide by how many are left."
            elif abs(float(answer) - expected * (200 - rejected) / 200) < 1e-5:
                hint = "Divide by how many are left, not by how many there were."
            elif abs(float(answer) - (1 - expected)) < 1e-5:
                hint = "That is the fraction that is right."
            return wrong(f"{came_in} went in; {float(answer):.4g} came out. Expected: {expected:.4g}. {hint}")
    return right("The same as the course's rejection_curve, from none rejected to all but one.")
