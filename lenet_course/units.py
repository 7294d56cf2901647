"""The arithmetic behind any one unit of LeNet or LeNet-5, taken from the running network."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lenet_course.arithmetic import receptive_field
from lenet_course.data import describe_tensor
from lenet_course.lenet import LeNet
from lenet_course.lenet5 import LeNet5, RBFOutput, Subsampling, TableConv2d

_LAYERS = {
    LeNet: ("conv1", "pool1", "conv2", "pool2", "fc1", "fc2"),
    LeNet5: ("c1", "s2", "c3", "s4", "c5", "f6", "output"),
}
SQUASH, RELU = "squash", "ReLU"
CODE_SHAPE = (12, 7)  # F6 and the codes are bitmaps of 12 rows of 7 pixels (LeCun et al. 1998, Figure 3)


@dataclass(frozen=True, eq=False, repr=False)
class MapRead:
    """What a unit reads of one map of the layer before, or of a whole layer that has no maps (then map is None).

    rows, columns: first and last that it reads, both included; None where map is None.
    inputs: floating point, (rows, columns) as they lie in the map, (units,) for a dense layer, (12, 7) for F6.
    weights: of the same shape. The code's pixels, +1 or -1, for the RBF output; None for max pooling, which has none.
    products: of the same shape: inputs times weights; for the RBF output the squared differences instead; None for
    max pooling.
    """

    map: int | None
    rows: tuple[int, int] | None
    columns: tuple[int, int] | None
    inputs: Tensor
    weights: Tensor | None
    products: Tensor | None


@dataclass(frozen=True, eq=False, repr=False)
class UnitExplanation:
    """One unit, from what it reads to what it gives out. Prints as words.

    layer, previous: names of its layer and of the one that it reads ("input" for the image).
    index: (map, row, column), or (unit,) in a layer without maps, counted from 0.
    kind: "convolution", "subsampling", "max pooling", "dense" or "distance" (the RBF output).
    image: (28, 28) or (32, 32) floating point, the network's own input. rows, columns: first and last pixel of it that
    the unit sees, both included.
    reads: a MapRead for each map that it reads.
    bias, coefficient, added: None where there is none; `added` is the sum of a Subsampling unit's four inputs.
    winner: (row, column) in its map of the input that max pooling lets through, else None; of equal ones the first.
    sum: before squashing or ReLU: products and bias added, the largest input, or the squared distance.
    after: what then happens to the sum: "squash", "ReLU" or None. output: the number that the next layer reads.
    words: two to four sentences that say all this; for the last layer also the network's answer.
    """

    layer: str
    previous: str
    index: tuple[int, ...]
    kind: str
    image: Tensor
    rows: tuple[int, int]
    columns: tuple[int, int]
    reads: tuple[MapRead, ...]
    sum: float
    output: float
    after: str | None
    words: str
    bias: float | None = None
    coefficient: float | None = None
    added: float | None = None
    winner: tuple[int, int] | None = None

    def __repr__(self) -> str:
        return self.words


def unit_layers(model: nn.Module) -> tuple[str, ...]:
    """Return the names of the layers that have units, first to last. Raises TypeError for another network."""
    for network, names in _LAYERS.items():
        if isinstance(model, network):
            return names
    raise TypeError(f"Units are explained for a LeNet or a LeNet5 of this course; got {type(model).__name__}.")


def layer_values(model: LeNet | LeNet5, image: Tensor) -> dict[str, Tensor]:
    """Run the network on one image and return what each layer hands on, after its squashing or ReLU if it has one.

    image: (28, 28) uint8, 0 = paper, 255 = ink. Returns, by layer name in order, tensors on the CPU in the network's
    dtype: (maps, rows, columns), which is (120, 1, 1) for C5, or (units,) for dense layers and the output.
    LeNet's conv1 and conv2 are seen as the network computes them: before pooling, and so before any ReLU.
    Raises TypeError for another network, ValueError for an image of another shape or dtype.
    """
    return _run(model, image)[1]


def explain_unit(model: LeNet | LeNet5, image: Tensor, layer: str, index: Sequence[int] | int) -> UnitExplanation:
    """Run the network on one image and return how one of its units came by its output.

    image: (28, 28) uint8, 0 = paper, 255 = ink. layer: one of `unit_layers(model)`.
    index: (map, row, column), counted from 0; (unit,) or unit in a dense layer, in the output, and in C5 if you like.
    Raises TypeError for another network or an index that is not whole numbers; ValueError for an image of another
    shape or dtype, a layer that is not there, or an index outside it.
    """
    names = unit_layers(model)
    check_layer(model, layer)
    inputs, values = _run(model, image)
    place = check_index(layer, index, tuple(values[layer].shape))
    previous = names[names.index(layer) - 1] if layer != names[0] else "input"
    parts = _arithmetic(getattr(model, layer), inputs[layer], place, previous)
    rows, columns = _seen(model, layer, place, inputs)
    after = _after(model, layer)
    output = values[layer][place].item()
    words = _words(parts, layer, place, previous, after, output)
    words += f" It sees rows {rows[0]} to {rows[1]} and columns {columns[0]} to {columns[1]} of the network's input."
    if layer == names[-1]:
        best = "smallest distance" if parts["kind"] == "distance" else "largest score"
        words += f" The network's answer is {model.decide(values[layer][None]).item()}, which has the {best}."
    seen = {"image": inputs[names[0]][0], "rows": rows, "columns": columns}
    return UnitExplanation(layer, previous, place, output=output, after=after, words=words, **seen, **parts)


def check_layer(model: nn.Module, layer: str) -> None:
    """Raise ValueError, with the names that there are, if the network has no layer of that name."""
    names = unit_layers(model)
    if not isinstance(layer, str) or layer not in names:
        raise ValueError(f"{type(model).__name__} has no layer {layer!r}; its layers are {', '.join(names)}.")


def check_image(image: Tensor) -> None:
    """Raise ValueError for anything but one (28, 28) uint8 image."""
    if not isinstance(image, Tensor) or image.shape != (28, 28) or image.dtype != torch.uint8:
        advice = "Use a single one, such as digits.images[0]"
        raise ValueError(f"An image is (28, 28) uint8, 0 = paper, 255 = ink; got {describe_tensor(image)}. {advice}.")


def check_index(layer: str, index: Sequence[int] | int, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the index of a unit in a layer of that shape as a tuple with a number for each axis.

    Maps of a single unit, as C5's are, may be given by their number alone.
    Raises TypeError for anything but whole numbers, ValueError for too many or few of them, or one that is too large.
    """
    axes = ("map", "row", "column") if len(shape) == 3 else ("unit",)
    wanted = f"({', '.join(axes)}{',' * (len(axes) == 1)})"
    given = index if isinstance(index, (tuple, list)) else (index,)
    try:
        if any(isinstance(number, (bool, str)) for number in given):
            raise TypeError
        place = tuple(operator.index(number) for number in given)
    except TypeError:
        raise TypeError(f"A unit of {layer} is {wanted}, whole numbers from 0; got {index!r}.") from None
    if len(place) == 1 and shape[1:] == (1, 1):
        place = (*place, 0, 0)
    if len(place) != len(shape):
        raise ValueError(f"A unit of {layer} is given by {wanted}; got {index!r}.")
    for axis, number, length in zip(axes, place, shape, strict=True):
        if not 0 <= number < length:
            raise ValueError(f"{layer} has {length} {axis}s, counted from 0 to {length - 1}; got {axis} {number}.")
    return place


# --- The running network --------------------------------------------------------------------------------------------


@torch.no_grad()
def _run(model: LeNet | LeNet5, image: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return what each layer reads and what it hands on, by name and without the batch axis, from one run."""
    names = unit_layers(model)
    check_image(image)
    inputs, shapes = {}, {}

    def note(name: str):
        def hook(module: nn.Module, arguments: tuple[Tensor, ...], output: Tensor) -> None:
            inputs[name] = arguments[0][0].detach().cpu()
            shapes[name] = output.shape[1:]

        return hook

    hooks = [getattr(model, name).register_forward_hook(note(name)) for name in names]
    parameter = next(model.parameters())
    try:
        outputs = model(model.prepare(image[None]).to(parameter))
    finally:
        for hook in hooks:
            hook.remove()
    # What a layer hands on is what the next one reads: squashed, rectified or neither, as this network has it.
    handed_on = [*(inputs[name] for name in names[1:]), outputs[0].cpu()]
    values = {name: value.reshape(shapes[name]) for name, value in zip(names, handed_on, strict=True)}
    return inputs, values


def _after(model: LeNet | LeNet5, layer: str) -> str | None:
    if isinstance(model, LeNet5):
        return None if layer == "output" else SQUASH
    return RELU if layer == "fc1" or (layer in ("pool1", "pool2") and model.relu_after_conv) else None


def _seen(
    model: LeNet | LeNet5, layer: str, place: tuple[int, ...], inputs: dict[str, Tensor]
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return (first, last) row and (first, last) column of the network's input that the unit sees."""
    names = unit_layers(model)
    side = inputs[names[0]].shape[-1]
    if len(place) == 1:  # a dense layer reads every unit before it, and those see all of the image between them
        return (0, side - 1), (0, side - 1)
    steps = {name: (2, 2) if isinstance(getattr(model, name), _POOLING) else (5, 1) for name in names}
    field = receptive_field([steps[name] for name in names[: names.index(layer) + 1]])
    spans = [field.span(number) for number in place[1:]]
    return tuple((max(first, 0), min(last, side - 1)) for first, last in spans)


# --- One unit -------------------------------------------------------------------------------------------------------

_POOLING = (Subsampling, nn.MaxPool2d, nn.AdaptiveMaxPool2d)


def _arithmetic(layer: nn.Module, inputs: Tensor, place: tuple[int, ...], previous: str) -> dict:
    """Return the fields of a UnitExplanation that depend on what kind of layer it is."""
    if isinstance(layer, _POOLING):
        return _pooling(layer, inputs, *place)
    if isinstance(layer, RBFOutput):
        code = layer.codes[place[0]].detach().cpu()
        f6, code = inputs.reshape(CODE_SHAPE), code.reshape(CODE_SHAPE)
        reads = (MapRead(None, None, None, f6, code, (f6 - code).square()),)
        return {"kind": "distance", "reads": reads, "sum": _total(reads)}
    weights, bias = layer.weight.detach().cpu(), layer.bias[place[0]].item()
    if isinstance(layer, nn.Linear):
        return _dense(weights[place[0]], bias, inputs, previous)
    maps = range(len(inputs))
    if isinstance(layer, TableConv2d):
        mine = (layer.output_maps == place[0]).cpu()
        maps, kernels = layer.input_maps.cpu()[mine].tolist(), weights[mine]
    else:
        kernels = weights[place[0]]
    _, row, column = place
    spans = (row, row + 4), (column, column + 4)
    patches = inputs[:, row : row + 5, column : column + 5]
    reads = tuple(_read(number, *spans, patches[number], kernel) for number, kernel in zip(maps, kernels, strict=True))
    return {"kind": "convolution", "reads": reads, "bias": bias, "sum": _total(reads) + bias}


def _dense(weights: Tensor, bias: float, inputs: Tensor, previous: str) -> dict:
    if previous == "pool2":  # flattened from 50 maps of 4x4: shown as those maps
        inputs, weights = inputs.reshape(50, 4, 4), weights.reshape(50, 4, 4)
        reads = tuple(_read(number, (0, 3), (0, 3), inputs[number], weights[number]) for number in range(50))
    else:
        reads = (_read(None, None, None, inputs, weights),)
    return {"kind": "dense", "reads": reads, "bias": bias, "sum": _total(reads) + bias}


def _pooling(layer: nn.Module, inputs: Tensor, number: int, row: int, column: int) -> dict:
    rows, columns = (2 * row, 2 * row + 1), (2 * column, 2 * column + 1)
    four = inputs[number, rows[0] : rows[1] + 1, columns[0] : columns[1] + 1]
    if isinstance(layer, Subsampling):
        coefficient, bias = (values[number].item() for values in (layer.coefficient, layer.bias))
        reads = (_read(number, rows, columns, four, torch.full_like(four, coefficient)),)
        added = four.double().sum().item()
        found = {"coefficient": coefficient, "bias": bias, "added": added, "sum": coefficient * added + bias}
        return {"kind": "subsampling", "reads": reads, **found}
    down, across = divmod(four.argmax().item(), 2)
    reads = (MapRead(number, rows, columns, four, None, None),)
    winner = (rows[0] + down, columns[0] + across)
    return {"kind": "max pooling", "reads": reads, "winner": winner, "sum": four.max().item()}


def _read(number: int | None, rows, columns, inputs: Tensor, weights: Tensor) -> MapRead:
    return MapRead(number, rows, columns, inputs, weights, inputs * weights)


def _total(reads: Sequence[MapRead]) -> float:
    return sum(read.products.double().sum().item() for read in reads)


# --- Words ----------------------------------------------------------------------------------------------------------


def number_words(number: float) -> str:
    """Return a number with three decimals, or in powers of ten where three decimals would hide it."""
    return f"{number:.1e}" if 0 < abs(number) < 0.0005 or abs(number) >= 1e6 else f"{number:.3f}"


def unit_name(layer: str, index: tuple[int, ...]) -> str:
    """Return which unit this is, as in "c3, map 2, row 4, column 5"."""
    if len(index) == 1 or layer == "c5":  # its maps are a single unit each
        return f"{layer}, unit {index[0]}"
    return f"{layer}, map {index[0]}, row {index[1]}, column {index[2]}"


def _words(parts: dict, layer: str, place: tuple[int, ...], previous: str, after: str | None, output: float) -> str:
    reads, kind = parts["reads"], parts["kind"]
    numbers = [read.map for read in reads]
    count = sum(read.inputs.numel() for read in reads)
    if kind == "distance":
        did = f"compares the {count} units of {previous} with the code of the digit {place[0]}, pixel by pixel"
    elif kind == "max pooling":
        equal = (reads[0].inputs == reads[0].inputs.max()).sum().item()
        tie = "" if equal == 1 else f" ({equal} of them are equal)"
        did = f"lets through the largest of four units{tie} of map {numbers[0]} of {previous}"
    elif kind == "subsampling":
        did = f"adds four units of map {numbers[0]} of {previous}, times a coefficient, plus a bias"
    else:
        if previous == "input":
            source = f"{count} pixels"
        elif layer == "c3":
            source = f"{count} units in maps {', '.join(map(str, numbers))} of {previous}, as Table I has it,"
        else:
            source = f"{count} units of {previous}"
        did = f"multiplies {source} by as many weights and adds the products and a bias"
    result = f"The result is {number_words(parts['sum'])}"
    if after == SQUASH:
        result += f", squashed {number_words(output)}"
    elif after == RELU:
        result += f", after ReLU {number_words(output)}"
    return f"The unit {did}. {result}."
