"""Checks for chapter 8: what changes on a GPU, and on many?"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch

from lenet_course.exercises.checking import (
    Verdict,
    call_function,
    check_function,
    compare_tensors,
    not_attempted,
    right,
    wrong,
)
from lenet_course.scaling import exchange_seconds


def share_of_rank(function: Callable[..., Any]) -> Verdict:
    """Exercise 1: the digits of a batch that a rank takes."""

    if function is ... or function is None:
        return not_attempted("write the function in place of the dots")
    if not callable(function):
        return wrong(f"The check needs the function itself, without brackets; got {function!r}.")

    def taken(batch: list[int], world: int) -> tuple[Any, Verdict | None]:
        shares = []
        for rank in range(world):
            try:
                share = function(list(batch), rank, world)
                shares.append(None if share is None or share is ... else [int(number) for number in share])
            except Exception as error:  # a learner's code may raise anything
                came_in = f"share_of_rank({batch}, rank={rank}, world={world})"
                return None, wrong(f"{came_in} raised {type(error).__name__}: {error}")
        return shares, None

    for size, world in ((8, 2), (7, 3), (64, 3), (2, 4), (5, 1)):
        batch = list(range(100, 100 + size))
        shares, verdict = taken(batch, world)
        if verdict:
            return verdict
        if any(share is None for share in shares):
            return not_attempted("write the body of share_of_rank in place of the dots, with a return")
        together = [number for share in shares for number in share]
        said = f"A batch of {size} and {world} ranks: {', '.join(str(share) for share in shares[:4])}."
        if missing := sorted(set(batch) - set(together)):
            return wrong(f"{said} Nobody took {missing[:5]}. Every digit has to be in some share.")
        if len(together) > len(batch):
            return wrong(f"{said} Some digit is taken twice: its gradient would count double.")
        sizes = [len(share) for share in shares]
        if max(sizes) - min(sizes) > 1:
            return wrong(f"{said} One has {max(sizes)} and one {min(sizes)}: all wait for the slowest.")
    return right("Every digit once, and no share more than one larger than another.")


def mean_gradient(function: Callable[..., Any]) -> Verdict:
    """Exercise 2: the gradient of the whole batch from the ranks' mean gradients and the sizes of their shares."""
    generator = torch.Generator().manual_seed(0)
    gradients = torch.randn(3, 4, generator=generator)
    for sizes in (torch.tensor([2, 2, 2]), torch.tensor([22, 21, 21]), torch.tensor([5, 1, 0])):
        came_in = f"gradients of shape (3, 4) and sizes {sizes.tolist()}"
        answer, verdict = call_function(function, (gradients, sizes), came_in, (4,))
        if verdict:
            return verdict
        weights = sizes / sizes.sum()
        expected = weights @ gradients
        likely = {
            f"With sizes {sizes.tolist()}, the shares count differently: weigh each by its size.": gradients.mean(
                dim=0
            ),
            "That is a sum. A mean over the batch is asked for: divide by the number of its digits.": sizes.float()
            @ gradients,
        }
        judged = compare_tensors(answer, expected, likely, "Also with shares of different size, and with an empty one.")
        if judged.outcome != "right":
            return judged
    return judged


def smallest_bandwidth(function: Callable[..., float]) -> Verdict:
    """Exercise 3: from which bandwidth on two machines are as fast as one, without latency."""

    def reference(gradient_bytes: float, seconds_saved: float) -> float:
        return gradient_bytes / seconds_saved

    cases = [(1_724_320, 0.002), (240_000, 0.001), (4e8, 0.5)]
    for gradient_bytes, seconds in cases:
        needed = reference(gradient_bytes, seconds)
        assert math.isclose(exchange_seconds(gradient_bytes, 2, needed, 0.0), seconds)

    def same(answer: Any, expected: float) -> bool:
        try:
            return math.isclose(float(answer), expected, rel_tol=1e-6)
        except (TypeError, ValueError):
            return False

    return check_function(
        function,
        reference,
        cases,
        same=same,
        praise="In bytes a second; times 8 it is what is printed on the box.",
        hint="Two machines send two messages each, of half the gradients: together all of its bytes, in the time saved.",
    )
