"""Checks for chapter 1: how big is the output of a convolution?"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

from lenet_course.arithmetic import output_size
from lenet_course.exercises.checking import Verdict, check_function, check_value


def same_padding(function: Callable[..., int]) -> Verdict:
    """Exercise 1: the padding that keeps the size at stride 1, for odd kernels and any dilation."""

    def reference(kernel_size: int, dilation: int = 1) -> int:
        return next(p for p in itertools.count() if output_size(50, kernel_size, padding=p, dilation=dilation) == 50)

    cases = [(kernel_size, dilation) for dilation in (1, 2, 3) for kernel_size in (1, 3, 5, 7, 9)]
    return check_function(
        function,
        reference,
        [(3,), *cases],
        praise="With it, a 28 x 28 image stays 28 x 28 through any number of layers.",
        hint="Count how many pixels the kernel covers; all but one of them shrink the output.",
    )


def never_read(function: Callable[..., int]) -> Verdict:
    """Exercise 2: pixels at the far end of a row that no window reads."""

    def reference(size: int, kernel_size: int, stride: int) -> int:
        last_start = (output_size(size, kernel_size, stride) - 1) * stride
        return size - (last_start + kernel_size)

    cases = [(28, 5, 2), (28, 5, 1), (28, 5, 3)]
    cases += [(size, kernel, stride) for size in range(6, 16) for kernel in (1, 2, 5) for stride in (1, 2, 3, 4)]
    return check_function(
        function,
        reference,
        cases,
        praise="Whenever it is not 0, a layer is blind to the last rows and columns.",
        hint="Where does the last window start, and where does it end?",
    )


def widths(answer: Any) -> Verdict:
    """Exercise 3: (smallest, largest) image width that conv 5, pool 2, conv 5, pool 2 turn into 5."""
    fitting = [width for width in range(16, 60) if _through_lenet(width) == 5]
    return check_value(
        tuple(answer) if isinstance(answer, list) else answer,
        (fitting[0], fitting[-1]),
        name="widths",
        praise="The floor of each pooling lets one more pixel slip in, and the second pooling's pixel is two of the image.",
        hints={
            (32, 32): "32 is the smallest. But 33 gives 5 as well: try it with output_size.",
            (35, 32): "Those are the two numbers. The smallest comes first.",
            (28, 31): "That is what conv1 made. One step further back.",
            (32, 33): "Go back layer by layer: *two* poolings drop a pixel now and then, not one.",
        },
        hint="Go backwards from 5, with the smallest and the largest size that each layer can have had before it.",
    )


def _through_lenet(size: int) -> int:
    for kernel_size, stride in ((5, 1), (2, 2), (5, 1), (2, 2)):
        size = output_size(size, kernel_size, stride)
    return size
