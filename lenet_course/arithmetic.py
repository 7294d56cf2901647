"""Sizes, receptive fields, parameters and connections: what can be known about a network without training it."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

Size = int | tuple[int, int]


# --- Output sizes ---------------------------------------------------------------------------------------------------


def output_size(size: Size, kernel_size: Size, stride: Size = 1, padding: Size = 0, dilation: Size = 1) -> Size:
    """Return how many places a kernel has on an input: the output size of a convolution or pooling layer.

    floor((size + 2 padding - dilation (kernel_size - 1) - 1) / stride) + 1

    Every argument is an int, in pixels, or a (height, width) pair of them. If all are ints the result is an int,
    otherwise a (height, width) pair.
    Raises TypeError for anything but ints (a float, a bool, a string) and ValueError for a size, kernel, stride or
    dilation below 1, a negative padding, or a kernel that is larger than the padded input.

    >>> output_size(28, 5)
    24
    >>> output_size((28, 40), 5, stride=2, padding=(2, 0))
    (14, 18)
    """
    arguments = {
        "size": size,
        "kernel_size": kernel_size,
        "stride": stride,
        "padding": padding,
        "dilation": dilation,
    }
    as_pairs = {name: _as_pair(name, value) for name, value in arguments.items()}
    heights = {name: pair[0] for name, pair in as_pairs.items()}
    widths = {name: pair[1] for name, pair in as_pairs.items()}
    if any(_is_sequence(value) for value in arguments.values()):
        return _output_length(**heights), _output_length(**widths)
    return _output_length(**heights)


def _output_length(size: int, kernel_size: int, stride: int, padding: int, dilation: int) -> int:
    covered = dilation * (kernel_size - 1) + 1
    padded = size + 2 * padding
    if covered > padded:
        raise ValueError(
            f"The kernel covers dilation (kernel_size - 1) + 1 = {dilation} x ({kernel_size} - 1) + 1 = {covered} "
            f"pixels, but the padded input has only size + 2 padding = {size} + 2 x {padding} = {padded}. "
            "It has no place to stand: make the input or the padding larger, or the kernel or the dilation smaller."
        )
    return (padded - covered) // stride + 1


def _as_pair(name: str, value: Size) -> tuple[int, int]:
    pair = tuple(value) if _is_sequence(value) else (value, value)
    if len(pair) != 2:
        raise ValueError(f"{name} is an int or a (height, width) pair; got {value!r} with {len(pair)} entries.")
    smallest = 0 if name == "padding" else 1
    for number in pair:
        if isinstance(number, bool) or not isinstance(number, int):
            raise TypeError(f"{name} counts pixels, so it is an int or a pair of ints; got {value!r}.")
        if number < smallest:
            raise ValueError(f"{name} must be at least {smallest}; got {value!r}.")
    return pair


def _is_sequence(value: object) -> bool:
    return isinstance(value, (tuple, list))


# --- Receptive fields -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ReceptiveField:
    """The square of the input that one unit can see, in input pixels.

    size: its side. step: how far it moves when one goes to the next unit. start: the first pixel that unit 0 sees
    (negative when it begins in the padding).
    """

    size: int
    step: int
    start: int

    def span(self, unit: int) -> tuple[int, int]:
        """Return (first, last) input pixel that unit number `unit` of a row sees, both included."""
        first = self.start + unit * self.step
        return first, first + self.size - 1


def receptive_field(layers: Iterable[Sequence[int]]) -> ReceptiveField:
    """Return the receptive field of a unit after `layers`, each (kernel_size, stride[, padding[, dilation]]).

    Layers are given from the input on. No layer at all: the pixel itself.
    Raises ValueError or TypeError for settings that `output_size` would refuse.

    >>> receptive_field([(5, 1), (2, 2), (5, 1), (2, 2)])
    ReceptiveField(size=16, step=4, start=0)
    """
    size, step, start = 1, 1, 0
    for layer in layers:
        if not _is_sequence(layer) or not 2 <= len(layer) <= 4:
            raise ValueError(f"A layer is (kernel_size, stride[, padding[, dilation]]); got {layer!r}.")
        names = ("kernel_size", "stride", "padding", "dilation")
        given = {name: _as_pair(name, value)[0] for name, value in zip(names, layer, strict=False)}
        kernel_size, stride = given["kernel_size"], given["stride"]
        # A kernel tap is one unit of the layer before, and those stand `step` input pixels apart.
        size += given.get("dilation", 1) * (kernel_size - 1) * step
        start -= given.get("padding", 0) * step
        step *= stride
    return ReceptiveField(size, step, start)


# --- Parameters and connections -------------------------------------------------------------------------------------


def count_parameters(module: nn.Module) -> int:
    """Return the number of trainable parameters of a module; one that is shared or frozen counts once or not at all."""
    return sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)


@dataclass(frozen=True)
class LayerRow:
    """One layer of a LayerTable. Shapes are without the batch axis; a count that is unknown is None."""

    name: str
    kind: str
    output_shape: tuple[int, ...]
    parameters: int
    connections: int | None
    multiply_adds: int | None

    @property
    def maps(self) -> str:
        """The output shape as the paper writes it: '20@24x24' for maps, '500' for a vector."""
        if len(self.output_shape) == 3:
            return "{}@{}x{}".format(*self.output_shape)
        return "x".join(str(length) for length in self.output_shape)


@dataclass(frozen=True)
class LayerTable:
    """The layers of a network in the order in which they ran, input first. Prints as text, shows as HTML in Jupyter."""

    rows: tuple[LayerRow, ...]

    HEADER = ("Layer", "Kind", "Output", "Parameters", "Connections", "Multiply-adds")

    def __getitem__(self, name: str) -> LayerRow:
        for row in self.rows:
            if row.name == name:
                return row
        raise KeyError(f"No layer {name!r}; there are {', '.join(row.name for row in self.rows)}.")

    @property
    def parameters(self) -> int:
        """Trainable parameters of all layers."""
        return sum(row.parameters for row in self.rows)

    @property
    def connections(self) -> int | None:
        """Connections of all layers; None if one is unknown."""
        return _sum_or_none(row.connections for row in self.rows)

    @property
    def multiply_adds(self) -> int | None:
        """Multiply-adds of all layers for one image; None if one is unknown."""
        return _sum_or_none(row.multiply_adds for row in self.rows)

    def _cells(self) -> list[tuple[str, ...]]:
        rows = [(row.name, row.kind, row.maps, *map(_number, _counts(row))) for row in self.rows]
        return [*rows, ("total", "", "", *map(_number, _counts(self)))]

    def __str__(self) -> str:
        lines = [self.HEADER, *self._cells()]
        widths = [max(len(line[column]) for line in lines) for column in range(len(self.HEADER))]
        # Words to the left, numbers to the right.
        aligned = [
            "  ".join(
                cell.ljust(width) if column < 3 else cell.rjust(width)
                for column, (cell, width) in enumerate(zip(line, widths, strict=True))
            ).rstrip()
            for line in lines
        ]
        rule = "-" * max(map(len, aligned))
        return "\n".join([aligned[0], rule, *aligned[1:-1], rule, aligned[-1]])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        def line(cells: Sequence[str], tag: str) -> str:
            styled = (
                f'<{tag} style="text-align: {"left" if column < 3 else "right"}">{html.escape(cell)}</{tag}>'
                for column, cell in enumerate(cells)
            )
            return f"<tr>{''.join(styled)}</tr>"

        *rows, total = self._cells()
        body = "\n".join(line(cells, "td") for cells in rows)
        return (
            f"<table>\n<thead>{line(self.HEADER, 'th')}</thead>\n<tbody>\n{body}\n</tbody>\n"
            f"<tfoot>{line(total, 'th')}</tfoot>\n</table>"
        )


def layer_table(model: nn.Module, input_shape: Sequence[int]) -> LayerTable:
    """Run one blank image through the model and count every layer that it passes.

    input_shape: of one image, without the batch axis, for example (1, 28, 28).
    Connections are counted as LeCun et al. (1998) count them: for every unit of the output one for each input that
    it reads, plus one for its bias. A pooling unit reads its window and has no bias. Multiply-adds leave the bias out.
    Layers are the modules without children, one row each time one runs. A layer of your own can say its counts by the
    methods `connections(output_shape)` and `multiply_adds(output_shape)`; one that does not shows "?".
    Raises ValueError if the model refuses that input.
    """
    shape = tuple(input_shape)
    if not shape or any(isinstance(length, bool) or not isinstance(length, int) or length < 1 for length in shape):
        raise ValueError(
            f"input_shape is the shape of one image, without the batch axis, such as (1, 28, 28); got {input_shape!r}."
        )
    rows = [LayerRow("input", "Input", shape, 0, 0, 0)]

    def add_row(name: str):
        def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            after = tuple(output.shape[1:])
            # A layer that runs twice (shared weights) has its parameters counted once.
            known = any(row.name == name for row in rows)
            parameters = 0 if known else count_parameters(module)
            work = _count_work(module, tuple(inputs[0].shape[1:]), after)
            rows.append(LayerRow(name, type(module).__name__, after, parameters, *work))

        return hook

    layers = [(name, module) for name, module in model.named_modules() if not any(module.children())]
    hooks = [module.register_forward_hook(add_row(name or "layer")) for name, module in layers]
    was_training = model.training
    try:
        reference = next(model.parameters(), torch.empty(0))
        with torch.no_grad():
            model.eval()
            model(torch.zeros((1, *shape), dtype=reference.dtype, device=reference.device))
    except (RuntimeError, ValueError) as error:
        raise ValueError(f"{type(model).__name__} cannot take an input of shape {shape}: {error}") from error
    finally:
        model.train(was_training)
        for hook in hooks:
            hook.remove()
    return LayerTable(tuple(rows))


def _count_work(
    module: nn.Module, input_shape: tuple[int, ...], output_shape: tuple[int, ...]
) -> tuple[int | None, int | None]:
    """Return (connections, multiply-adds) of one layer for one image."""
    units = math.prod(output_shape)
    if hasattr(module, "connections") and hasattr(module, "multiply_adds"):
        return module.connections(output_shape), module.multiply_adds(output_shape)
    if isinstance(module, nn.Conv2d):
        inputs_read = module.in_channels // module.groups * math.prod(module.kernel_size)
    elif isinstance(module, nn.Linear):
        inputs_read = module.in_features
    elif isinstance(module, (nn.MaxPool2d, nn.AvgPool2d)):
        height, width = _as_pair("kernel_size", module.kernel_size)
        return units * height * width, 0
    elif isinstance(module, nn.AdaptiveMaxPool2d):
        down, across = (_adaptive_reads(*sizes) for sizes in zip(input_shape[1:], output_shape[1:], strict=True))
        return output_shape[0] * down * across, 0
    elif count_parameters(module) == 0 and isinstance(module, (nn.ReLU, nn.Tanh, nn.Sigmoid, nn.Flatten, nn.Identity)):
        return 0, 0  # each unit is changed where it stands
    else:
        return None, None
    bias = 0 if module.bias is None else 1
    return units * (inputs_read + bias), units * inputs_read


def _adaptive_reads(size: int, places: int) -> int:
    """Return how many pixels of a row `places` adaptive pooling windows read together (they may overlap)."""
    return sum(math.ceil((place + 1) * size / places) - place * size // places for place in range(places))


def _counts(counted: LayerRow | LayerTable) -> tuple[int | None, ...]:
    return counted.parameters, counted.connections, counted.multiply_adds


def _number(count: int | None) -> str:
    return "?" if count is None else f"{count:,}"


def _sum_or_none(counts: Iterable[int | None]) -> int | None:
    counts = tuple(counts)
    return None if None in counts else sum(counts)
