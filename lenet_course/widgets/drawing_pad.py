"""Draw a digit, and see at once what the network makes of it (chapter 6)."""

from __future__ import annotations

import base64
import binascii
import pathlib
from collections.abc import Mapping
from typing import Any

import anywidget
import ipywidgets
import traitlets
from torch import Tensor, nn

from lenet_course.data import Digits
from lenet_course.drawing import draw_strokes, from_picture, normalise
from lenet_course.widgets.pad_panel import panel, png, read_digit

SIDE, PEN = 280, 14.0  # units of the canvas; the pen that draw_strokes takes by itself
MOST_POINTS = 20_000
_NOTHING = "Draw a digit."


class DrawingCanvas(anywidget.AnyWidget):
    """The part that needs JavaScript: it collects strokes, or an uploaded picture, and shows a message.

    The page sets strokes, background, upload (a data: URL) and raises version by 1; Python answers by message and answered.
    """

    _esm = pathlib.Path(__file__).with_name("drawing_pad.js")
    strokes = traitlets.List([]).tag(sync=True)
    background = traitlets.Unicode("").tag(sync=True)
    upload = traitlets.Unicode("").tag(sync=True)
    pen = traitlets.Float(PEN).tag(sync=True)
    version = traitlets.Int(0).tag(sync=True)
    answered = traitlets.Int(0).tag(sync=True)
    message = traitlets.Unicode(_NOTHING).tag(sync=True)


class DrawingPad(ipywidgets.VBox):
    """The widget.

    canvas: what is drawn on. model_choice: which network reads (hidden if there is one). centred: whether the drawing goes into the middle.
    test_digit: a digit of MNIST instead of a drawing (hidden if none were given). view: what was read, as HTML.
    drawing: (28, 28) uint8, what the network got, or None if nothing is drawn. answer: its answer, or None.
    """

    def __init__(self, models: Mapping[str, nn.Module], digits: Digits | None) -> None:
        self.models, self.digits = dict(models), digits
        self.drawing: Tensor | None = None
        self.answer: int | None = None
        self.canvas = DrawingCanvas()
        self.view = ipywidgets.HTML(panel(None))
        layout = {"width": "280px"}
        self.model_choice = ipywidgets.Dropdown(options=list(self.models), description="Network", layout=layout)
        self.centred = ipywidgets.Checkbox(value=True, description="Crop, scale and centre", indent=False)
        count = 0 if digits is None else min(len(digits), 30)
        options = [("drawn by you", -1), *((f"{number}: a {digits.labels[number]}", number) for number in range(count))]
        self.test_digit = ipywidgets.Dropdown(options=options, description="Test digit", layout=layout)
        self.model_choice.layout.display = None if len(self.models) > 1 else "none"
        self.test_digit.layout.display = None if count else "none"
        self.canvas.observe(self._on_version, names="version")
        self.test_digit.observe(self._on_test_digit, names="value")
        for choice in (self.model_choice, self.centred):
            choice.observe(lambda change: self._read(), names="value")
        left = ipywidgets.VBox([self.canvas, self.model_choice, self.test_digit, self.centred])
        super().__init__([ipywidgets.HBox([left, self.view], layout={"flex_flow": "row wrap"})])

    def __repr__(self) -> str:  # what a viewer without a kernel shows in the widget's place
        return "(The drawing pad: draw a digit, and the network reads it. Run the cell to use it.)"

    def _on_version(self, change: object) -> None:
        # The page has drawn or uploaded something: that takes the place of a test digit.
        self.test_digit.unobserve(self._on_test_digit, names="value")
        self.test_digit.value = -1
        self.test_digit.observe(self._on_test_digit, names="value")
        self._read()
        self.canvas.answered = self.canvas.version

    def _on_test_digit(self, change: object) -> None:
        self.canvas.strokes, self.canvas.upload = [], ""
        self._read()
        if self.drawing is None:
            self.canvas.background = ""

    def _read(self) -> None:
        """Compute what is drawn, what the network says, and show both. Whatever goes wrong is said in words."""
        self.drawing = self.answer = None
        try:
            source = self._source()
            steps = None if source is None else normalise(source, centre=self.centred.value)
        except ValueError as error:
            self.view.value, self.canvas.message = panel(None), str(error)
            return
        if steps is None:
            self.view.value, self.canvas.message = panel(None), _NOTHING
            return
        reading = read_digit(self.models[self.model_choice.value], steps.image)
        self.drawing, self.answer = steps.image, reading.answer
        self.view.value = panel(steps, reading, centred=self.centred.value)
        self.canvas.message = reading.words

    def _source(self) -> Tensor | None:
        """Return what is to be read, (height, width) uint8, or None if nothing is drawn."""
        if self.test_digit.value >= 0:
            image = self.digits.images[self.test_digit.value]
            self.canvas.background = png(255 - image)
            return image
        if self.canvas.upload:
            image = from_picture(_decode(self.canvas.upload))
            self.canvas.background = png(255 - normalise(image, centre=False).image)
            return image
        strokes = _checked(self.canvas.strokes)
        return draw_strokes(strokes, side=SIDE, pen=self.canvas.pen) if strokes else None


def _decode(upload: str) -> bytes:
    try:
        return base64.b64decode(upload.partition(",")[2], validate=True)
    except binascii.Error as error:
        raise ValueError(f"The upload did not arrive whole ({error}). Choose the picture again.") from error


def _checked(strokes: list[Any]) -> list[Any]:
    """Return the strokes that have points; whether those are points, `draw_strokes` will say."""
    count = sum(len(stroke) for stroke in strokes if isinstance(stroke, list))
    if count > MOST_POINTS:
        raise ValueError(
            f"The drawing has {count:,} points; {MOST_POINTS:,} are enough for any digit. Clear, and draw again."
        )
    return [stroke for stroke in strokes if stroke]


def drawing_pad(models: nn.Module | Mapping[str, nn.Module], digits: Digits | None = None) -> DrawingPad:
    """Return the drawing pad.

    models: a trained network (LeNet or LeNet5) on the CPU, or several by name, to choose from. digits: the first 30 of these can be
    taken instead of a drawing.
    Raises ValueError for no network, or one that is neither.
    """
    named = dict(models) if isinstance(models, Mapping) else {type(models).__name__: models}
    for name, model in named.items():
        if not isinstance(model, nn.Module) or not hasattr(model, "prepare"):
            raise ValueError(
                f"The drawing pad reads by networks of the course, such as LeNet(); got {model!r} as {name!r}."
            )
    if not named:
        raise ValueError("The drawing pad needs at least one network.")
    return DrawingPad(named, digits)
