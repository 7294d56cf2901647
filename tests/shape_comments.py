"""Hold the shape comments of a network's `forward` against what the network computes."""

import inspect
import re
import sys

import torch
from torch import nn


def check_shape_comments(net: nn.Module, images: torch.Tensor, count: int) -> None:
    """Run forward line by line, and compare `# (N, ...)` at the end of each line with what the line assigned to x.

    The def line stands for the argument `images`, the return line for the result. count: how many such comments there are.
    """
    lines, first = inspect.getsourcelines(type(net).forward)
    claims = {
        first + number: tuple(int(n) for n in re.findall(r"\d+", comment.group(1)))
        for number, line in enumerate(lines)
        if (comment := re.search(r"#\s*\(N,([^)]*)\)\s*$", line))
    }
    assert len(claims) == count, f"{len(claims)} shape comments instead of {count}"
    seen = shapes_by_line(net, images)
    for line, shape in claims.items():
        assert seen[line] == (len(images), *shape), f"line {line} says {shape}, but the shape is {seen[line]}"


def shapes_by_line(net: nn.Module, images: torch.Tensor) -> dict[int, tuple[int, ...]]:
    """Return the shape of x after each line of forward; the def line stands for the input, the last for the output."""
    code, seen, state = type(net).forward.__code__, {}, {}

    def trace(frame, event, argument):
        if frame.f_code is not code:
            return None
        if event == "call":
            seen[frame.f_lineno] = tuple(frame.f_locals["images"].shape)
        elif state.get("line") and "x" in frame.f_locals:
            seen[state["line"]] = tuple(frame.f_locals["x"].shape)
        if event == "return":
            seen[frame.f_lineno] = tuple(argument.shape)
        state["line"] = frame.f_lineno
        return trace

    previous = sys.gettrace()
    sys.settrace(trace)
    try:
        net(images)
    finally:
        sys.settrace(previous)
    return seen
