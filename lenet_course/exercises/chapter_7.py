"""Checks for chapter 7: which of its parts still matter?"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from typing import Any

from lenet_course.comparison.differences import paired_difference
from lenet_course.exercises.checking import Verdict, check_function, not_attempted, right, wrong
from lenet_course.variants import PARTS

T_10 = 2.262  # 97.5% quantile of Student's t for ten seeds, as the exercise gives it

# What the listing of exercise 2 is, said in the parts of Variant.
MYSTERY = {"c3": "dense", "subsampling": "average", "squashing": "ReLU", "output": "linear", "input": "0 to 1"}


def paired_interval(function: Callable[..., tuple[float, float]]) -> Verdict:
    """Exercise 1: the 95% interval of a paired difference, from two lists of ten errors."""
    reference = [1.24, 1.02, 1.25, 1.18, 1.11, 1.22, 1.36, 0.96, 1.16, 1.09]
    better = [1.11, 0.90, 1.06, 1.07, 1.02, 1.05, 1.20, 0.85, 1.10, 1.01]
    noisy = [0.92, 1.37, 1.01, 1.30, 0.98, 1.45, 1.05, 1.21, 0.99, 1.33]
    cases = [(better, reference), (noisy, reference), (reference, better)]

    def interval(values: list[float], other: list[float]) -> tuple[float, float]:
        made = paired_difference(values, other)
        return round(made.low, 4), round(made.high, 4)

    return check_function(
        function,
        interval,
        cases,
        same=_same_pair,
        praise="Ten differences, one mean, one interval.",
        hint=_interval_hint(function, better, reference),
    )


def _same_pair(answer: Any, expected: tuple[float, float]) -> bool:
    try:
        low, high = (float(end) for end in answer)
    except (TypeError, ValueError):
        return False
    return math.isclose(low, expected[0], abs_tol=2e-3) and math.isclose(high, expected[1], abs_tol=2e-3)


def _interval_hint(function: Any, values: list[float], other: list[float]) -> str:
    """What a likely wrong answer to the first case tells."""
    differences = [value - base for value, base in zip(values, other, strict=True)]
    mean, spread = statistics.fmean(differences), statistics.stdev(differences)
    unpaired = math.sqrt(statistics.variance(values) + statistics.variance(other))
    root = math.sqrt(10)
    likely = {
        "That is mean -+ t times the spread. A mean of ten spreads less: divide by the square root of 10.": T_10
        * spread,
        "That takes the spread of all values. Pair them first: subtract seed by seed.": T_10 * unpaired / root,
        "That is mean -+ spread / root of 10. Multiply by t = 2.262.": spread / root,
        "Is the spread divided by 10 - 1? statistics.stdev does that, pstdev does not.": T_10
        * statistics.pstdev(differences)
        / root,
    }
    default = (
        "The mean of the ten differences, minus and plus 2.262 times their standard deviation over the root of 10."
    )
    try:
        answer = function(list(values), list(other))
    except Exception:  # a learner's code may raise anything; check_function tells
        return default
    for told, half in likely.items():
        if _same_pair(answer, (mean - half, mean + half)):
            return told
    if _same_pair(answer, (-mean - T_10 * spread / root, -mean + T_10 * spread / root)):
        return "Which one is subtracted from which? Negative should mean that the first list is better."
    return default


def which_lenet(parts: Any) -> Verdict:
    """Exercise 2: the parts of a network that calls itself LeNet-5, read from its code."""
    if not isinstance(parts, dict):
        return wrong(f"The answer is a dict of parts; got {parts!r}.")
    if any(parts.get(part, ...) in (..., None) for part in MYSTERY):
        missing = [part for part in MYSTERY if parts.get(part, ...) in (..., None)]
        return not_attempted(f"fill in {', '.join(missing)}")
    for part, choice in parts.items():
        if part not in PARTS or choice not in PARTS[part]:
            choices = ", ".join(map(repr, PARTS.get(part, PARTS)))
            return wrong(f"{part} = {choice!r} is not to be had. There are: {choices}.")
    off = [part for part in MYSTERY if parts[part] != MYSTERY[part]]
    if off:
        hints = {
            "c3": "Count the kernels of the second convolution.",
            "subsampling": "Is there anything to train between the convolutions?",
            "squashing": "Look at what follows each convolution.",
            "output": "What does the last line give, and what is compared with it?",
            "input": "What does padding=2 put around a picture whose pixels lie between 0 and 1?",
        }
        return wrong(f"{len(MYSTERY) - len(off)} of {len(MYSTERY)} parts are right. {off[0]}: {hints[off[0]]}")
    return right("Five parts, and not one of them is LeNet-5's.")


def seeds_needed(function: Callable[[float, float], int]) -> Verdict:
    """Exercise 3: how many seeds until a difference of a given size can be told from 0."""

    def reference(spread: float, difference: float) -> int:
        return math.ceil((2 * spread / difference) ** 2)

    cases = [(0.12, 0.1), (0.12, 0.05), (0.12, 0.02), (0.5, 0.1), (0.09, 0.03)]
    return check_function(
        function,
        reference,
        cases,
        praise="Half the difference needs four times the seeds.",
        hint="2 x spread / sqrt(n) is to be at most the difference: solve for n, and round up.",
    )
