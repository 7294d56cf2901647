"""What stands beside the drawing pad: the steps from drawing to input, and what the network made of it, as HTML."""

from __future__ import annotations

import base64
import html
import io
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor, nn

from lenet_course.drawing import Normalised
from lenet_course.lenet5 import LeNet5

_INK = "var(--jp-ui-font-color1, #212121)"
_FAINT = "var(--jp-border-color1, #9e9e9e)"
_BAR, _ANSWER = "#0072B2", "#D55E00"
FAR = 20.0  # a distance that few digits have and most noise has (chapter 4)


@dataclass(frozen=True)
class Reading:
    """What a network says of one image.

    answer: 0 to 9. values: ten probabilities (LeNet), or ten distances (LeNet-5). words: both in a sentence.
    f6: (84,) outputs of F6 and code: (84,) the answer's code, for LeNet-5 only.
    """

    answer: int
    values: list[float]
    words: str
    f6: Tensor | None = None
    code: Tensor | None = None


@torch.no_grad()
def read_digit(model: nn.Module, image: Tensor) -> Reading:
    """Let the model read one image, (28, 28) uint8."""
    x = model.prepare(image[None])
    outputs = model(x)
    answer = int(model.decide(outputs))
    named = f"{'an' if answer == 8 else 'a'} {answer}"
    if not isinstance(model, LeNet5):
        values = outputs[0].softmax(dim=0).tolist()
        return Reading(answer, values, f"It reads {named}, with a probability of {_percent(values[answer])}.")
    values = outputs[0].tolist()
    for step in model.chain()[:-1]:
        x = step(x)
    words = f"It reads {named}, whose code is at a distance of {values[answer]:.1f}."
    if values[answer] > FAR:
        words += " That is far: it may be no digit at all."
    return Reading(answer, values, words, x[0], model.output.codes[answer])


def panel(steps: Normalised | None, reading: Reading | None = None, *, centred: bool = True) -> str:
    """Return the HTML for these steps and this reading; without them, for an empty pad."""
    if steps is None or reading is None:
        return f'<div style="color: {_INK}; min-width: 380px">Nothing to read yet.</div>'
    pictures = [
        ("the ink alone", 255 - steps.crop, f"{steps.crop.shape[0]} x {steps.crop.shape[1]}"),
        ("in a box of 20 x 20", 255 - steps.boxed, f"{steps.boxed.shape[0]} x {steps.boxed.shape[1]}"),
        ("its centre of mass in the middle", 255 - steps.image, "28 x 28"),
    ]
    if not centred:
        pictures = [("the whole canvas, as it is", 255 - steps.image, "28 x 28")]
    shown = "".join(_figure(title, picture, size) for title, picture, size in pictures)
    if reading.f6 is not None:
        for title, values in (("F6 draws", reading.f6), (f"the code of {reading.answer}", reading.code)):
            grey = (255 * (1.72 - values) / 3.44).clamp(0, 255).byte().reshape(12, 7)
            shown += _figure(title, grey, "12 x 7")
    return (
        f'<div style="color: {_INK}; max-width: 560px">'
        f'<div style="display: flex; flex-wrap: wrap; gap: 14px">{shown}</div>{_bars(reading)}'
        f'<p style="font-size: 120%; margin: 0.3em 0"><b>{html.escape(reading.words)}</b></p></div>'
    )


def _figure(title: str, picture: Tensor, size: str) -> str:
    return (
        f'<figure style="margin: 0; width: 100px"><img src="{png(picture)}" alt="{html.escape(title)}: {size} pixels" '
        f'style="width: 96px; height: 96px; object-fit: contain; image-rendering: pixelated; background: #fff; '
        f'border: 1px solid {_FAINT}"><figcaption style="line-height: 1.2">{html.escape(title)}<br>{size}</figcaption></figure>'
    )


def _bars(reading: Reading) -> str:
    """Ten bars with their values; the answer's is framed and its digit bold, not only of another colour."""
    distances = reading.f6 is not None
    quantity = "Distance from each code (the smallest wins)" if distances else "Probability of each digit"
    largest = max(reading.values) if distances else 1.0
    parts = []
    for digit, value in enumerate(reading.values):
        x, tall = 50 * digit + 6, 90 * value / max(largest, 1e-9)
        is_answer = digit == reading.answer
        style = f"fill: {_ANSWER}; stroke: {_INK}; stroke-width: 2" if is_answer else f"fill: {_BAR}"
        number = f"{value:.1f}" if distances else _percent(value)
        parts.append(f'<rect x="{x}" y="{110 - tall:.1f}" width="34" height="{tall:.1f}" style="{style}"/>')
        parts.append(_text(x + 17, 106 - tall, number, 11, is_answer) + _text(x + 17, 126, str(digit), 14, is_answer))
    label = "; ".join(f"{digit}: {value:.3g}" for digit, value in enumerate(reading.values))
    return (
        f'<p style="margin: 0.6em 0 0">{quantity}</p>'
        f'<svg role="img" aria-label="{quantity}: {label}" width="506" height="132" viewBox="0 0 506 132" '
        f'style="max-width: 100%" xmlns="http://www.w3.org/2000/svg">{"".join(parts)}</svg>'
    )


def _text(x: float, y: float, words: str, size: int, bold: bool) -> str:
    weight = ' font-weight="bold"' if bold else ""
    return (
        f'<text x="{x}" y="{y:.1f}" font-size="{size}" text-anchor="middle"{weight} style="fill: {_INK}">{words}</text>'
    )


def _percent(share: float) -> str:
    # Never "100%" for what is not certain.
    return "> 99.9%" if share > 0.999 else f"{share:.1%}" if share >= 0.001 else "0"


def png(picture: Tensor) -> str:
    """Return a grey picture, (height, width) uint8, 0 = black, as a data: URL."""
    file = io.BytesIO()
    Image.fromarray(picture.numpy()).save(file, format="PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
