"""Click on any unit of LeNet or LeNet-5 and see how it came by its number (chapter 6)."""

from __future__ import annotations

import base64
import pathlib
from collections.abc import Sequence

import anywidget
import torch
import traitlets
from torch import Tensor

from lenet_course.lenet import LeNet
from lenet_course.lenet5 import LeNet5
from lenet_course.units import (
    UnitExplanation,
    check_image,
    check_layer,
    explain_unit,
    layer_values,
    unit_layers,
)
from lenet_course.widgets.unit_panel import problem_panel, unit_panel

# How many units of a layer without maps stand side by side: F6 as the bitmap that it is compared with.
_SIDE_BY_SIDE = {"f6": 7, "c5": 20, "fc1": 25, "output": 10, "fc2": 10}


class UnitExplorer(anywidget.AnyWidget):
    """The widget. `show(layer, index)` and `image` are for Python; the traits are what Python and the browser exchange.

    request: from the browser, {"layer": name, "index": list or null, "number": int}; what is wrong with it is said in the
        panel. answered: the number of the last request that was answered.
    layers: names of all layers. shown: {"layer": name, "index": list}.
    maps: {"shape": [maps, rows, columns], "units": how many of them are units, "values": float32 as base64, "scale": the
        largest of their sizes}. Base64 since Bytes would not do: they never arrive from the browser.
    panel: the HTML below the maps.
    """

    _esm = pathlib.Path(__file__).with_suffix(".js")
    request = traitlets.Any().tag(sync=True)  # checked here, not by traitlets: its errors would only reach a log
    answered = traitlets.Int(0).tag(sync=True)
    layers = traitlets.List(traitlets.Unicode()).tag(sync=True)
    shown = traitlets.Dict().tag(sync=True)
    maps = traitlets.Dict().tag(sync=True)
    panel = traitlets.Unicode("").tag(sync=True)

    def __init__(
        self, model: LeNet | LeNet5, image: Tensor, layer: str | None = None, index: Sequence[int] | int | None = None
    ) -> None:
        names = unit_layers(model)
        check_image(image)
        super().__init__(layers=list(names))
        self._model, self._image = model, image.clone()
        self.show(names[0] if layer is None else layer, index)
        self.observe(self._answer, names="request")

    def __repr__(self) -> str:  # what a viewer without a kernel shows in the widget's place
        return f"(The unit explorer: click a unit of {type(self._model).__name__}. Run the cell to use it.)"

    @property
    def image(self) -> Tensor:
        """The digit, (28, 28) uint8. Another one may take its place; the layer and the unit stay."""
        return self._image

    @image.setter
    def image(self, image: Tensor) -> None:
        check_image(image)
        self._image = image.clone()
        self.show(self.explanation.layer, self.explanation.index)

    def show(self, layer: str, index: Sequence[int] | int | None = None) -> None:
        """Show one unit; without an index the middle of the layer's first map, or its first unit.

        The network runs anew each time, so that weights which were trained on since then are the ones shown.
        Raises ValueError or TypeError as `explain_unit` does.
        """
        check_layer(self._model, layer)
        values = layer_values(self._model, self._image)[layer]
        maps = _as_maps(layer, values)
        if index is None:
            index = (0, values.shape[1] // 2, values.shape[2] // 2) if values.dim() == 3 else (0,)
        explanation = explain_unit(self._model, self._image, layer, index)
        place = explanation.index if maps["shape"][0] > 1 else explanation.index[:1]
        self.explanation: UnitExplanation = explanation
        with self.hold_sync():  # all at once: no moment with the maps of one layer and the unit of another
            self.maps, self.panel = maps, unit_panel(explanation)
            self.shown = {"layer": layer, "index": list(place)}

    def _answer(self, change: dict) -> None:
        request = change["new"]
        try:
            if not isinstance(request, dict) or "layer" not in request:
                raise ValueError(f'A request is {{"layer": name, "index": list or null}}; got {request!r}.')
            self.show(request["layer"], request.get("index"))
        except Exception as error:
            # Whatever it is: an error in a callback reaches no cell, so it has to be said here.
            self.panel = problem_panel(str(error) or type(error).__name__) + unit_panel(self.explanation)
        number = request.get("number") if isinstance(request, dict) else None
        self.answered = number if isinstance(number, int) else self.answered + 1


def unit_explorer(
    model: LeNet | LeNet5, image: Tensor, layer: str | None = None, index: Sequence[int] | int | None = None
) -> UnitExplorer:
    """Return the explorer, set to one unit of one layer.

    model: a LeNet or LeNet5, trained or not. image: (28, 28) uint8, 0 = paper, 255 = ink.
    layer: one of `unit_layers(model)`, by default the first. index: (map, row, column) or (unit,), counted from 0; by
    default the middle of the first map, or the first unit.
    Raises TypeError for another network, and ValueError or TypeError for another image, layer or index.
    """
    return UnitExplorer(model, image, layer, index)


def _as_maps(layer: str, values: Tensor) -> dict:
    """Return what the browser draws: the layer's maps, or its units as one grid whose last line may be short."""
    units = values.numel()
    if layer in _SIDE_BY_SIDE:
        width = _SIDE_BY_SIDE[layer]
        values = values.reshape(1, -1, width)
    numbers = values.to(torch.float32).contiguous()
    finite = numbers[numbers.isfinite()].abs()
    return {
        "shape": list(values.shape),
        "units": units,
        "values": base64.b64encode(numbers.numpy().tobytes()).decode(),
        "scale": finite.max().item() if len(finite) else 0.0,
    }
