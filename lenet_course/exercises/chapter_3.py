"""Checks for chapter 3: how does it learn to read digits?"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from lenet_course.exercises.checking import Verdict, check_function, not_attempted, right, wrong


def steps_in_an_epoch(function: Callable[..., int]) -> Verdict:
    """Exercise 1: steps an epoch, the smaller last batch included."""
    cases = [(55_000, 64), (60_000, 64), (64, 64), (65, 64), (1, 64), (10, 3), (9, 3)]
    return check_function(
        function,
        lambda digits, batch_size: math.ceil(digits / batch_size),
        cases,
        praise="860 steps for 55,000 digits, 64 at a time.",
        hint="It is a whole number, and what is left over makes one more step.",
    )


def judge(function: Callable[..., Any]) -> Verdict:
    """Exercise 2: error and confusion matrix from labels and answers."""
    if not callable(function):
        return not_attempted("write the function judge")
    generator = torch.Generator().manual_seed(0)
    random = (torch.randint(10, (500,), generator=generator), torch.randint(10, (500,), generator=generator))
    cases = {
        "three digits, labels 7, 2, 2 and answers 7, 2, 6": (torch.tensor([7, 2, 2]), torch.tensor([7, 2, 6])),
        "ten right answers": (torch.arange(10), torch.arange(10)),
        "500 random labels and answers": random,
    }
    for description, (labels, answers) in cases.items():
        try:
            answer = function(labels.clone(), answers.clone())
        except Exception as error:  # a learner's code may raise anything
            return wrong(f"On {description} it raised {type(error).__name__}: {error}")
        if answer is None or answer is ...:
            return not_attempted("write the body of judge, with a return")
        complaint = _compare_judgement(answer, labels, answers)
        if complaint:
            return wrong(f"On {description}: {complaint}")
    return right("Error and confusion matrix as `evaluate` gives them.")


def _compare_judgement(answer: Any, labels: Tensor, answers: Tensor) -> str | None:
    """Return what is wrong with (error, confusion); None if nothing is."""
    if not isinstance(answer, (tuple, list)) or len(answer) != 2:
        return f"expected two results, error and confusion; got {answer!r}."
    try:
        error, confusion = float(answer[0]), torch.as_tensor(answer[1])
    except (TypeError, ValueError, RuntimeError):
        return "the first result must be the error, a number, and the second the confusion matrix. Are the two swapped?"
    expected_error = int((labels != answers).sum()) / len(labels)
    if not math.isclose(error, expected_error, abs_tol=1e-6):
        told = " That is the accuracy." if math.isclose(error, 1 - expected_error, abs_tol=1e-6) else ""
        return f"the error is {error:g}, expected {expected_error:g}, a fraction of all digits.{told}"
    if tuple(confusion.shape) != (10, 10):
        return f"confusion has shape {tuple(confusion.shape)}, expected (10, 10), also where a digit does not occur."
    expected = torch.zeros(10, 10)
    for label, given in zip(labels.tolist(), answers.tolist(), strict=True):
        expected[label, given] += 1
    if torch.equal(confusion.float(), expected):
        return None
    if torch.equal(confusion.float(), expected.T):
        return "rows and columns are swapped: row = right digit, column = answer."
    row, column = (confusion.float() != expected).nonzero()[0].tolist()
    return f"confusion[{row}, {column}] is {confusion[row, column]:g}, expected {expected[row, column]:g}."


def training_loop(function: Callable[..., float]) -> Verdict:
    """Exercise 3: a loop that forgets to clear the gradients. Right when it makes the steps of plain gradient descent."""
    steps, rate = 4, 0.05
    mine, plain, summed = _small_model(), _small_model(), _small_model()
    generator = torch.Generator().manual_seed(1)
    images, labels = torch.rand(32, 6, generator=generator), torch.randint(3, (32,), generator=generator)
    try:
        answer = function(mine, images, labels, steps)
    except Exception as error:  # a learner's code may raise anything
        return wrong(f"It raised {type(error).__name__}: {error}")
    if answer is None or answer is ...:
        return not_attempted("mend the loop, and keep its return")
    _descend(plain, images, labels, steps, rate, clear=True)
    _descend(summed, images, labels, steps, rate, clear=False)
    if _same_weights(mine, plain):
        return right(f"After {steps} steps its weights are those of plain gradient descent.")
    if _same_weights(mine, summed):
        if "zero_grad" in getattr(getattr(function, "__code__", None), "co_names", ()):
            return wrong("Its weights are those of the loop as it was. Is zero_grad called at every step?")
        return not_attempted("the loop is still as it was. Find the bug")
    return wrong(
        f"After {steps} steps its weights are neither those of the old loop nor those of gradient descent. "
        f"Keep the optimizer, its rate of {rate} and one step for each turn of the loop."
    )


def _small_model() -> nn.Module:
    model = nn.Linear(6, 3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.linspace(-1, 1, parameter.numel()).reshape(parameter.shape))
    return model


def _descend(model: nn.Module, images: Tensor, labels: Tensor, steps: int, rate: float, *, clear: bool) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=rate)
    for _ in range(steps):
        if clear:
            optimizer.zero_grad()
        cross_entropy(model(images), labels).backward()
        optimizer.step()


def _same_weights(one: nn.Module, other: nn.Module) -> bool:
    pairs = zip(one.parameters(), other.parameters(), strict=True)
    return all(torch.allclose(mine, theirs, atol=1e-6) for mine, theirs in pairs)
