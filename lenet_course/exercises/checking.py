"""What all checks have in common: try a learner's function or value, and say what came in and what was expected."""

from __future__ import annotations

import html
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

RIGHT, WRONG, NOT_ATTEMPTED = "right", "wrong", "not attempted"
_SIGNS = {RIGHT: "\N{CHECK MARK}", WRONG: "\N{BALLOT X}", NOT_ATTEMPTED: "\N{HORIZONTAL ELLIPSIS}"}


@dataclass(frozen=True)
class Verdict:
    """The answer of a check; as the last line of a cell it shows itself. outcome: right, wrong or not attempted."""

    outcome: str
    message: str

    def __repr__(self) -> str:
        return f"{_SIGNS[self.outcome]} {self.message}"

    def _repr_html_(self) -> str:
        # The sign and the words say it; the bar only repeats it in colour.
        colour = {RIGHT: "#009E73", WRONG: "#D55E00", NOT_ATTEMPTED: "#888888"}[self.outcome]
        text = html.escape(repr(self)).replace("\n", "<br>")
        return f'<div role="status" style="border-left: 4px solid {colour}; padding: 0.3em 0.8em">{text}</div>'


def right(message: str) -> Verdict:
    return Verdict(RIGHT, f"Right. {message}")


def wrong(message: str) -> Verdict:
    return Verdict(WRONG, f"Not yet. {message}")


def not_attempted(what: str) -> Verdict:
    return Verdict(NOT_ATTEMPTED, f"Not attempted yet: {what}, and run the cell again.")


def check_function(
    function: Callable,
    reference: Callable,
    cases: Iterable[tuple],
    *,
    praise: str,
    hint: str = "",
    same: Callable[[Any, Any], bool] | None = None,
) -> Verdict:
    """Call the learner's function on each case and compare with the reference; stop at the first difference.

    A function that returns None for the first case counts as not attempted. An error that it raises is part of the answer.
    same(answer, expected) compares; by default == on values of a number type.
    """
    if function is ... or function is None:
        return not_attempted("write the function in place of the dots")
    if not callable(function):
        return wrong(f"The check needs the function itself, without brackets; got {function!r}.")
    same = same or _equal
    count = 0
    for case in cases:
        call = f"{function.__name__}({', '.join(map(repr, case))})"
        expected = reference(*case)
        try:
            answer = function(*case)
        except Exception as error:  # whatever a learner's code may raise is an answer to them, not a crash of ours
            said = f"{call} raised {type(error).__name__}: {error}. Expected: {expected!r}. {hint}"
            return wrong(said.rstrip())
        if answer is None or answer is ...:
            if count == 0:
                return not_attempted(f"write the body of {function.__name__} in place of the dots, with a return")
            return wrong(f"{call} returned nothing. Expected: {expected!r}. Is there a return on every path?")
        if isinstance(expected, int) and isinstance(answer, float) and answer == expected:
            return wrong(
                f"{call} gave {answer!r}. Expected: {expected!r}, a whole number: divide with // instead of /."
            )
        if not same(answer, expected):
            return wrong(f"{call} gave {answer!r}. Expected: {expected!r}. {hint}".rstrip())
        count += 1
    return right(f"{count} cases tried. {praise}")


def check_value(
    answer: Any, expected: Any, *, name: str, praise: str, hints: dict[Any, str] | None = None, hint: str = ""
) -> Verdict:
    """Compare one value with the expected one. hints: {a likely wrong value: what it tells}; hint: for any other."""
    parts = answer if isinstance(answer, tuple) else (answer,)
    if any(part is ... or part is None for part in parts):
        return not_attempted(f"put your answer for {name} in place of the dots")
    if _equal(answer, expected):
        return right(praise)
    told = next((text for value, text in (hints or {}).items() if _equal(answer, value)), hint)
    return wrong(f"{name} is {answer!r}. {told}".rstrip())


def _equal(answer: Any, expected: Any) -> bool:
    if isinstance(answer, bool) != isinstance(expected, bool):
        return False  # True == 1 in Python, but it is no count
    try:
        return bool(answer == expected)
    except Exception:  # an array of another shape, a tensor with many entries: not the value asked for
        return False


def call_function(function: Any, arguments: tuple, came_in: str, shape: tuple[int, ...]) -> tuple[Any, Verdict | None]:
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


def compare_tensors(answer: Tensor, expected: Tensor, likely: dict[str, Tensor], praise: str) -> Verdict:
    """Compare a tensor with the expected one of the same shape. likely: {what it tells: a likely wrong answer}."""
    if torch.allclose(answer.float(), expected, atol=1e-5):
        return right(praise)
    for hint, values in likely.items():
        if torch.allclose(answer.float(), values, atol=1e-5):
            return wrong(hint)
    place = tuple((answer.float() - expected).abs().nan_to_num(nan=1.0).gt(1e-5).nonzero()[0].tolist())
    return wrong(
        f"The shape is right, the values are not: at {list(place)} is {answer[place]:.4g}, expected {expected[place]:.4g}."
    )
