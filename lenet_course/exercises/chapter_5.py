"""Checks for chapter 5: can we still get the result of 1998?"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from lenet_course.exercises.checking import Verdict, check_function, not_attempted, right, wrong
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
    answer, verdict = _call(function, (u, h, x), came_in, (6, 4))
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
    return _compare(answer, expected, likely, "diagonal_curvature goes from F6 to C5 by the same step.")


def error_on_the_rest(function: Any) -> Verdict:
    """Exercise 3: reject the digits with the smallest gap, and count the errors among the others."""
    generator = torch.Generator().manual_seed(0)
    distances = 20 * torch.rand(200, 10, generator=generator)
    labels = torch.where(torch.rand(200, generator=generator) < 0.8, distances.argmin(dim=1), 3)
    curve = rejection_curve(distances, labels)
    for rejected in (0, 10, 100, 199):
        came_in = f"200 digits and rejected = {rejected}"
        answer, verdict = _call(function, (distances, labels, rejected), came_in, ())
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


def _call(function: Any, arguments: tuple, came_in: str, shape: tuple[int, ...]) -> tuple[Any, Verdict | None]:
    """Call the learner's function; return its answer, and a verdict if that is no tensor or number of this shape."""
    if function is ... or function is None:
        return None, not_attempted("write the function in place of the dots")
    if not callable(function):
        return None, wrong(f"The check needs the function itself, without brackets; got {function!r}.")
    copies = [argument.clone() if isinstance(argument, Tensor) else argument for argument in arguments]
    try:
        answer = function(*copies)
    except Exception as error:  # a learner's code may raise anything
        return None, wrong(f"{came_in} went in, and {type(error).__name__} was raised: {error}")
    if answer is None or answer is ...:
        return None, not_attempted(f"write the body of {function.__name__} in place of the dots, with a return")
    try:
        answer = torch.as_tensor(answer)
    except (TypeError, ValueError, RuntimeError):
        return None, wrong(f"{came_in} went in; a {type(answer).__name__} came out.")
    if answer.shape != shape:
        wanted = f"a tensor of shape {shape}" if shape else "a single number"
        return None, wrong(f"{came_in} went in; shape {tuple(answer.shape)} came out. Expected: {wanted}.")
    return answer, None


def _compare(answer: Tensor, expected: Tensor, likely: dict[str, Tensor], praise: str) -> Verdict:
    if torch.allclose(answer.float(), expected, atol=1e-5):
        return right(praise)
    for hint, values in likely.items():
        if torch.allclose(answer.float(), values, atol=1e-5):
            return wrong(hint)
    first = tuple(0 for _ in expected.shape)
    return wrong(
        f"The shape is right, the values are not: the first is {answer[first]:.4g}, expected {expected[first]:.4g}."
    )
