"""Checks for chapter 4: what was the network of 1998, really?"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, max_pool2d, pad

from lenet_course.arithmetic import count_parameters
from lenet_course.data import GREYS_1998
from lenet_course.exercises.checking import Verdict, check_function, not_attempted, right, wrong
from lenet_course.lenet5 import LeNet5, Subsampling, TableConv2d, squash


def table_parameters(function: Callable[..., int]) -> Verdict:
    """Exercise 1: the parameters of a convolution with a connection table."""

    def reference(table: list[str], kernel_size: int) -> int:
        with torch.random.fork_rng(devices=[]):  # a layer draws its first weights
            return count_parameters(TableConv2d("\n".join(" ".join(row) for row in table), kernel_size))

    cases = [(["X"], 5), (["X.", "XX"], 3), (["X.X", "XX."], 5), (["XXXX"] * 2, 1), (["X.XX", ".X.X", "XX.."], 5)]
    return check_function(
        function,
        reference,
        cases,
        praise="The course's TableConv2d has as many.",
        hint="Each X is a kernel of kernel_size x kernel_size; each output map (character of a row) has one bias.",
    )


def subsample(function: Any) -> Verdict:
    """Exercise 2: S2 by hand, squashed."""
    if function is ... or function is None:
        return not_attempted("write the function in place of the dots")
    if not callable(function):
        return wrong(f"The check needs the function itself, without brackets; got {function!r}.")
    generator = torch.Generator().manual_seed(0)
    maps = torch.randn(3, 6, 8, generator=generator)
    coefficient, bias = torch.randn(2, 3, generator=generator)
    came_in = "Maps of shape (3, 6, 8), coefficient (3,) and bias (3,) went in"
    try:
        answer = function(maps.clone(), coefficient.clone(), bias.clone())
    except Exception as error:  # a learner's code may raise anything
        advice = " A number for each map needs the shape (maps, 1, 1)." if "size of tensor" in str(error) else ""
        return wrong(f"{came_in}, and {type(error).__name__} was raised: {error}{advice}")
    if answer is None or answer is ...:
        return not_attempted("write the body of subsample in place of the dots, with a return")
    if not isinstance(answer, Tensor) or answer.shape != (3, 3, 4):
        found = tuple(answer.shape) if isinstance(answer, Tensor) else type(answer).__name__
        return wrong(f"{came_in}; {found} came out. Expected: (3, 3, 4), half the height and half the width.")
    with torch.random.fork_rng(devices=[]):
        layer = Subsampling(3)
    with torch.no_grad():
        layer.coefficient.copy_(coefficient)
        layer.bias.copy_(bias)
        total = layer(maps[None])[0]
        sums = 4 * avg_pool2d(maps[None], 2)[0]
        likely = {
            "That is the weighted sum. It still has to be squashed.": total,
            "That takes the mean of the four. The paper adds them.": squash(total / 4 + 0.75 * bias[:, None, None]),
            "The bias is multiplied in. It must be added after the multiplication.": squash(
                total * bias[:, None, None] - bias[:, None, None] ** 2
            ),
            "The coefficient is missing.": squash(sums + bias[:, None, None]),
            "The bias comes after the multiplication: coefficient times sum, plus bias.": squash(
                coefficient[:, None, None] * (sums + bias[:, None, None])
            ),
            "That takes the largest of the four. The paper adds them.": squash(
                coefficient[:, None, None] * max_pool2d(maps[None], 2)[0] + bias[:, None, None]
            ),
            "It is squashed by a plain tanh. The paper's is 1.7159 tanh(2/3 a): use squash.": torch.tanh(total),
            "It is squashed by the logistic function. The paper's is 1.7159 tanh(2/3 a): use squash.": total.sigmoid(),
        }
        if torch.allclose(answer, squash(total), atol=1e-5):
            return right("The course's layer gives the same, once it is squashed.")
    for hint, values in likely.items():
        if torch.allclose(answer, values, atol=1e-5):
            return wrong(hint)
    return wrong(
        f"The shape is right, the values are not: the first is {answer[0, 0, 0]:.4g}, expected "
        f"{squash(total)[0, 0, 0]:.4g}. Add the window's four values, times the coefficient, plus the bias, squashed."
    )


def found(function: Any) -> Verdict:
    """Exercise 3: LeNet-5's forward pass with three mistakes, to be mended: border, squashing of S4, distance."""
    if not callable(function):
        return wrong(f"The check needs the function itself, without brackets; got {function!r}.")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = LeNet5()
    digits = torch.randint(0, 256, (20, 28, 28), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    try:
        with torch.no_grad():
            answer = function(net, digits.clone())
    except Exception as error:  # a learner's code may raise anything
        return wrong(f"20 digits went in, and {type(error).__name__} was raised: {error}")
    if answer is None or answer is ...:
        return not_attempted("return the distances again, find the three mistakes, mend them")
    if not isinstance(answer, Tensor) or answer.shape != (20, 10):
        came_out = tuple(answer.shape) if isinstance(answer, Tensor) else type(answer).__name__
        return wrong(f"20 digits went in; {came_out} came out. Expected: distances of shape (20, 10).")
    for mended in product((False, True), repeat=3):
        if torch.allclose(answer, _with_mistakes(net, digits, *mended), rtol=1e-4, atol=1e-3):
            left = 3 - sum(mended)
            if left == 0:
                return right("The same distances as LeNet5's, for every digit.")
            if left == 3:
                return not_attempted("find the three mistakes, mend them")
            return wrong(f"{sum(mended)} mended, {left} left. Go through the layers again, from the pixels on.")
    mended = _with_mistakes(net, digits, True, True, True)
    for hint, values in {
        "Distances are squared, and no root is taken of their sum.": mended.sqrt(),
        "Those are negative distances. The smallest distance wins.": -mended,
    }.items():
        if torch.allclose(answer, values, rtol=1e-4, atol=1e-3):
            return wrong(hint)
    return wrong(
        "Something else changed as well: it is neither the network as found nor the paper's. Undo one change after the "
        "other. (The scaling was right: paper -0.1, ink -0.1 + 1.275 = 1.175.)"
    )


@torch.no_grad()
def _with_mistakes(net: LeNet5, digits: Tensor, border_mended: bool, s4_mended: bool, distance_mended: bool) -> Tensor:
    border = -0.1 if border_mended else 0.0
    x = squash(net.s2(squash(net.c1(pad(GREYS_1998[digits.int()][:, None], (2, 2, 2, 2), value=border)))))
    x = net.s4(squash(net.c3(x)))
    x = squash(x) if s4_mended else x
    x = squash(net.f6(squash(net.c5(x)).flatten(1)))
    difference = x[:, None] - net.output.codes
    return (difference.square() if distance_mended else difference.abs()).sum(dim=2)
