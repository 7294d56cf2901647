"""Checks for chapter 2: what is LeNet made of?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from lenet_course.arithmetic import count_parameters
from lenet_course.exercises.checking import Verdict, check_function, check_value, not_attempted, right, wrong
from lenet_course.lenet import LeNet


def convolution_parameters(function: Callable[..., int]) -> Verdict:
    """Exercise 1: the parameters of a convolution with square kernels and a bias."""

    def reference(in_channels: int, out_channels: int, kernel_size: int) -> int:
        return count_parameters(nn.Conv2d(in_channels, out_channels, kernel_size))

    cases = [(1, 20, 5), (20, 50, 5), (1, 1, 1), (3, 64, 7), (16, 120, 5), (2, 3, 4)]
    return check_function(
        function,
        reference,
        cases,
        praise="PyTorch's own layers have as many.",
        hint="Each kernel reads all input channels; each output channel has one kernel and one bias.",
    )


def fc1_inputs(answer: Any) -> Verdict:
    """Exercise 2: the inputs of LeNet's first dense layer for images of 32 x 32."""
    return check_value(
        answer,
        50 * 5 * 5,
        name="fc1_inputs",
        praise="32, 28, 14, 10, 5: 50 maps of 5 x 5.",
        hints={
            800: "That is right for 28 x 28. Walk the four layers again, from 32.",
            25: "That is one map. How many are there?",
            50 * 8 * 8: "Those are the maps as conv2 makes them for 28 x 28; pooling comes after.",
            50 * 10 * 10: "Those are the maps before the second pooling.",
        },
        hint="Walk the four layers from 32, then multiply: maps x height x width.",
    )


def my_lenet(model: Any) -> Verdict:
    """Exercise 3: a LeNet of the learner's own, with a ReLU after each convolution. The model is left unchanged."""
    if isinstance(model, type):
        return wrong(f"The check needs a network, not its class: put brackets behind {model.__name__}.")
    if not isinstance(model, nn.Module):
        return wrong(f"A network is an nn.Module; got {type(model).__name__}.")
    if not any(True for _ in model.parameters()):
        return not_attempted("make the layers in __init__, and use them in forward")
    images = torch.rand(5, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    return _check_layers(model) or _check_scores(model, images) or _check_answers(model, images)


def _check_layers(model: nn.Module) -> Verdict | None:
    shapes = [tuple(parameter.shape) for parameter in model.parameters()]
    expected = [tuple(parameter.shape) for parameter in LeNet().parameters()]
    for mine, theirs in zip(shapes, expected, strict=False):
        if mine != theirs:
            return wrong(f"A parameter has shape {mine} where LeNet, in the order of its layers, has {theirs}.")
    if len(shapes) != len(expected):
        total = f"{count_parameters(model):,} parameters in {len(shapes)} tensors"
        return wrong(f"It has {total}; LeNet has {count_parameters(LeNet()):,} in {len(expected)}.")
    return None


def _check_scores(model: nn.Module, images: torch.Tensor) -> Verdict | None:
    came_in = f"Images of shape {tuple(images.shape)} went in"
    try:
        with torch.no_grad():
            scores = model(images)
    except Exception as error:  # a learner's forward may raise anything
        return wrong(f"{came_in}, and forward raised {type(error).__name__}: {error}")
    if scores is None or scores is ...:
        return wrong(f"{came_in}, and nothing came out: forward must return the scores.")
    if not isinstance(scores, torch.Tensor) or tuple(scores.shape) != (5, 10):
        found = tuple(scores.shape) if isinstance(scores, torch.Tensor) else type(scores).__name__
        return wrong(f"{came_in}; {found} came out. Expected: scores of shape (5, 10).")
    if torch.allclose(scores.exp().sum(dim=1), torch.ones(5)) or torch.allclose(scores.sum(dim=1), torch.ones(5)):
        return wrong("Its outputs are probabilities. Return the scores: softmax belongs to the loss.")
    return None


def _check_answers(model: nn.Module, images: torch.Tensor) -> Verdict:
    reference, caffe = LeNet(), LeNet(relu_after_conv=False)
    parameters = list(model.parameters())
    for twin in (reference, caffe):
        twin.load_state_dict(dict(zip(twin.state_dict(), parameters, strict=True)))
    with torch.no_grad():
        mine, expected = model(images), reference(images)
        if torch.allclose(mine, expected, atol=1e-5):
            if _mixes_digits(model):
                return wrong(
                    "Right for 28 x 28. But from 16 images of 32 x 32 it makes another number of rows than 16: it mixes "
                    "digits. Flatten with flatten(start_dim=1), which leaves the batch axis alone."
                )
            return right(
                "With the same weights it gives the course's scores on every image. 431,080 parameters, all yours."
            )
        if torch.allclose(mine, caffe(images), atol=1e-5):
            return wrong(
                "That is Caffe's own network: its only ReLU comes after the 500 units. Add one after each convolution."
            )
    difference = (mine - expected).abs().max().item()
    return wrong(
        f"Shapes and parameters are right, but with the same weights its scores differ from LeNet's by up to {difference:.3g}. "
        "Look at the order of the layers, the pooling (the largest, 2 x 2), and where the ReLUs stand: three of them."
    )


def _mixes_digits(model: nn.Module) -> bool:
    """Whether images of the wrong size come out as another number of rows; an error is as it should be."""
    try:
        return len(model(torch.zeros(16, 1, 32, 32))) != 16
    except Exception:  # whatever it raises, it did not go on silently
        return False
