"""The training method of 1998, compiled: the updates of `lenet_course.sdlm.SDLM` to LeNet5, many times as fast.

PyTorch spends most of such an update on getting ready: the arithmetic of one pattern is small. Here numba turns the whole
loop over the patterns into machine code. Sums are added in the order in which they are written down, without reordering
for the processor at hand, so results do not depend on it. Arrays are laid out for loops that a compiler can vectorise:

- A map is kept as one long row. Its rows have the width of the layer's input, and a few columns at the end are unused.
- A dot product is added in 40 lanes, and the lanes at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numba import njit
from torch import Tensor

from lenet_course.data import GREYS_1998, Digits, describe_tensor
from lenet_course.lenet5 import LeNet5, ScaledTanh
from lenet_course.sdlm import CURVATURE_PATTERNS, SDLM

F = np.float32
PATTERNS_A_CALL = 2000  # between two calls of compiled code, Ctrl-C is heard and progress is shown
_compiled = njit(nogil=True, error_model="numpy", cache=True)


# --- For callers ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PatternResult:
    """What was seen on the fly: each pattern was looked at just before the update that it caused.

    wrong: how many got a wrong answer. loss: the mean loss. patterns: how many there were.
    """

    wrong: int
    loss: float
    patterns: int

    @property
    def error(self) -> float:
        """The fraction with a wrong answer, 0 to 1."""
        return self.wrong / self.patterns


def train_pass(
    model: LeNet5,
    optimizer: SDLM,
    digits: Digits,
    *,
    generator: torch.Generator,
    loss: str = "map",
    j: float = 1.0,
    patterns: int | None = None,
    after_call: Callable[[int], None] | None = None,
) -> PatternResult:
    """Go once through all digits in random order, as the paper does: estimate the curvature on 500, then one update each.

    generator: a CPU generator; it draws the 500, then the order. patterns: stop after so many, by default after all.
    The rest is as for `train_patterns`.
    """
    sample = torch.randperm(len(digits), generator=generator)[:CURVATURE_PATTERNS]
    order = torch.randperm(len(digits), generator=generator)[:patterns]
    optimizer.estimate(model.prepare(digits.images[sample]))
    return train_patterns(model, digits, order, optimizer.step_sizes(), loss=loss, j=j, after_call=after_call)


def train_patterns(
    model: LeNet5,
    digits: Digits,
    order: Tensor,
    step_sizes: Mapping[str, Tensor],
    *,
    loss: str = "map",
    j: float = 1.0,
    after_call: Callable[[int], None] | None = None,
) -> PatternResult:
    """Update the model in place, once for each digit in that order: parameter -= step size x gradient.

    order: (N,) int64, numbers of digits; one may come more than once. step_sizes: {parameter name: float32 tensor like it},
    as `SDLM.step_sizes()` gives them. loss: "map" for eq. (9) with j, "mse" for eq. (8).
    after_call: called every 2,000 patterns and at the end with the number of patterns so far.
    Stopped by Ctrl-C, the model has the weights after the last full 2,000 patterns.
    Raises ValueError for a model that is not a LeNet5 in float32 on the CPU, for digits that are not 28x28, for numbers
    that are not in the digits, and for other settings; ArithmeticError if a weight is no longer a finite number.
    """
    weights = _arrays(model, dict(model.named_parameters()))
    steps = _arrays(model, step_sizes)
    order = _check(digits, order, loss, j)
    images, labels, work = _contiguous(digits.images), _contiguous(digits.labels), _workspace()
    wrong, loss_sum = 0, 0.0
    for start in range(0, len(order), PATTERNS_A_CALL):
        part = order[start : start + PATTERNS_A_CALL]
        seen = _train(
            images, labels, part, _GREYS, _PAIRS, weights, steps, _codes(model), work, float(j), loss == "map"
        )
        if not all(np.isfinite(array).all() for array in weights):
            raise ArithmeticError(
                f"After {start + len(part):,} patterns a weight is no longer a finite number: the steps were too large. "
                "Build the model anew (these weights are spoiled) and take a smaller eta."
            )
        wrong, loss_sum = wrong + seen[0], loss_sum + seen[1]
        if after_call:
            after_call(start + len(part))
    return PatternResult(wrong, loss_sum / len(order), len(order))


def distances(model: LeNet5, images: Tensor) -> Tensor:
    """Return model(model.prepare(images)) to rounding, (N, 10) float32; the same numbers on every processor.

    images: (N, 28, 28) uint8. Raises ValueError as `train_patterns` does.
    """
    _check_images(images)
    weights = _arrays(model, dict(model.named_parameters()))
    return torch.from_numpy(_distances(_contiguous(images), _GREYS, _PAIRS, weights, _codes(model), _workspace()))


def _check(digits: Digits, order: Tensor, loss: str, j: float) -> np.ndarray:
    if loss not in ("map", "mse"):
        raise ValueError(f'loss is "map" (eq. 9) or "mse" (eq. 8); got {loss!r}.')
    if not j > 0:
        raise ValueError(f"j must be above 0 (eq. 9); got {j}.")
    _check_images(digits.images)
    if order.dim() != 1 or order.dtype != torch.int64 or len(order) == 0:
        raise ValueError(
            f"order is a row of digit numbers, (N,) int64, N from 1; got {tuple(order.shape)} {order.dtype}."
        )
    if order.min() < 0 or order.max() >= len(digits):
        raise ValueError(f"order has numbers from {order.min()} to {order.max()}, but there are {len(digits)} digits.")
    if digits.labels.min() < 0 or digits.labels.max() > 9:
        raise ValueError(f"labels must be 0 to 9; got {digits.labels.min()} to {digits.labels.max()}.")
    return _contiguous(order)


def _check_images(images: Tensor) -> None:
    if images.shape[1:] != (28, 28) or images.dtype != torch.uint8 or images.device.type != "cpu":
        raise ValueError(
            f"Compiled code takes raw digits, (N, 28, 28) uint8 on the CPU; got {describe_tensor(images)} "
            f"on {images.device}."
        )


def _contiguous(tensor: Tensor) -> np.ndarray:
    """Compiled code is made for arrays in one piece; another layout would be compiled anew."""
    return tensor.contiguous().numpy()


class _Arrays(NamedTuple):
    """A number for each parameter of LeNet5, in the order of model.named_parameters()."""

    c1_weight: np.ndarray  # (6, 1, 5, 5)
    c1_bias: np.ndarray
    s2_coefficient: np.ndarray
    s2_bias: np.ndarray
    c3_weight: np.ndarray  # (60, 5, 5)
    c3_bias: np.ndarray
    s4_coefficient: np.ndarray
    s4_bias: np.ndarray
    c5_weight: np.ndarray  # (120, 16, 5, 5)
    c5_bias: np.ndarray
    f6_weight: np.ndarray  # (84, 120)
    f6_bias: np.ndarray


def _arrays(model: LeNet5, tensors: Mapping[str, Tensor]) -> _Arrays:
    """Look at tensors as arrays, without copying: what compiled code writes there is in the model."""
    if not isinstance(model, LeNet5):
        raise ValueError(f"Only LeNet5 is compiled; got {type(model).__name__}. Train others with SDLM, or with fit.")
    if {name: tuple(parameter.shape) for name, parameter in model.named_parameters()} != _SHAPES:
        raise ValueError(
            "Only LeNet5 with Table I and its own layers is compiled; this one has others. Train it with SDLM."
        )
    pairs = torch.stack([model.c3.output_maps, model.c3.input_maps], dim=1)
    if pairs.device.type == "cpu" and (pairs.numpy() != _PAIRS).any():
        raise ValueError("Only LeNet5 with Table I is compiled; this one's C3 has another table. Train it with SDLM.")
    arrays = {}
    for name, parameter in model.named_parameters():
        tensor = tensors.get(name)
        if tensor is None or tensor.shape != parameter.shape:
            raise ValueError(
                f"step_sizes needs a tensor {tuple(parameter.shape)} for {name}; got {getattr(tensor, 'shape', None)}. "
                "SDLM.step_sizes() gives them all."
            )
        if tensor.device.type != "cpu" or tensor.dtype != torch.float32 or not tensor.is_contiguous():
            raise ValueError(
                f"{name} is {tensor.dtype} on {tensor.device}; compiled training takes float32 in the default layout on "
                "the CPU: model.to('cpu', torch.float32, memory_format=torch.contiguous_format)."
            )
        arrays[name.replace(".", "_")] = tensor.detach().numpy()
    return _Arrays(**arrays)


def _codes(model: LeNet5) -> np.ndarray:
    return model.output.codes.numpy()


_GREYS = GREYS_1998.numpy()
with torch.random.fork_rng(devices=[]):  # importing this module draws nothing from the caller's generator
    _REFERENCE = LeNet5()
_SHAPES = {name: tuple(parameter.shape) for name, parameter in _REFERENCE.named_parameters()}
_PAIRS = np.stack([_REFERENCE.c3.output_maps.numpy(), _REFERENCE.c3.input_maps.numpy()], axis=1)


# --- Squashing ------------------------------------------------------------------------------------------------------

_A, _S = F(ScaledTanh.amplitude), F(ScaledTanh.steepness)
_A_SQUARED, _S_BY_A = F(ScaledTanh.amplitude**2), F(ScaledTanh.steepness / ScaledTanh.amplitude)


@_compiled
def _squash(a):
    """A tanh(S a), tanh by the rational function that Eigen and XLA use for float32: 6e-7 at most from the real one."""
    x = min(max(_S * a, F(-7.99)), F(7.99))
    s = x * x
    over = F(2.00018790482477e-13) + s * F(-2.76076847742355e-16)
    over = F(5.12229709037114e-08) + s * (F(-8.60467152213735e-11) + s * over)
    over = F(6.37261928875436e-04) + s * (F(1.48572235717979e-05) + s * over)
    over = F(4.89352455891786e-03) + s * over
    under = F(1.18534705686654e-04) + s * F(1.19825839466702e-06)
    under = F(4.89352518554385e-03) + s * (F(2.26843463243900e-03) + s * under)
    return _A * (x * over / under)


@_compiled
def _slope(y):
    """The derivative of the squashing function where its value is y."""
    return _S_BY_A * (_A_SQUARED - y * y)


# --- One pattern ----------------------------------------------------------------------------------------------------


class _Workspace(NamedTuple):
    """Values of all units for one pattern, and d_...: derivatives of the loss with respect to their weighted sums."""

    image: np.ndarray  # (36 * 32,): 32 rows of 32, and room for the last kernel rows
    c1: np.ndarray  # (6, 28 * 32): 28 rows of 32, of which 28 columns are used
    d_c1: np.ndarray
    s2_sums: np.ndarray  # (6, 14 * 14): of four inputs, before the coefficient
    s2: np.ndarray  # (6, 14 * 14 + 8)
    d_s2: np.ndarray
    c3: np.ndarray  # (16, 140): 10 rows of 14, of which 10 columns are used
    d_c3: np.ndarray  # (16, 4 + 140 + 4): zeros before and after, for kernels that reach over the end
    s4_sums: np.ndarray  # (16, 25)
    s4: np.ndarray  # (400,)
    d_s4: np.ndarray
    c5: np.ndarray  # (120,)
    d_c5: np.ndarray
    f6: np.ndarray  # (84,)
    d_f6: np.ndarray
    patches: np.ndarray  # (100, 150): what each of the 10x10 places of C3 reads in all maps of S2
    c3_gradient: np.ndarray  # (16, 150): as if C3 read all maps
    lanes: np.ndarray  # (40,)
    outputs: np.ndarray  # (10,) float64: distances
    pulls: np.ndarray  # (10,) float64: derivatives of the loss with respect to them


def _workspace() -> _Workspace:
    shapes = (36 * 32, (6, 896), (6, 896), (6, 196), (6, 204), (6, 204), (16, 140), (16, 148), (16, 25))
    shapes += (400, 400, 120, 120, 84, 84, (100, 150), (16, 150), 40)
    arrays = [np.zeros(shape, F) for shape in shapes]
    arrays[0][:] = _GREYS[0]  # paper, also in the border
    return _Workspace(*arrays, np.zeros(10), np.zeros(10))


@_compiled
def _add_five_taps(out, x, kernel_row, length):
    """out += the correlation of x with one row of a 5x5 kernel."""
    w0, w1, w2, w3, w4 = kernel_row[0], kernel_row[1], kernel_row[2], kernel_row[3], kernel_row[4]
    for i in range(length):
        out[i] += w0 * x[i] + w1 * x[i + 1] + w2 * x[i + 2] + w3 * x[i + 3] + w4 * x[i + 4]


@_compiled
def _sum_of_lanes(lanes):
    total = F(0)
    for value in lanes:
        total += value
    return total


@_compiled
def _forward_subsampling(coefficient, bias, below, sums, values, size, width):
    """Fill sums and values, size x size, from one map of the layer below with rows of `width`."""
    for row in range(size):
        for column in range(size):
            i = 2 * width * row + 2 * column
            sums[size * row + column] = below[i] + below[i + 1] + below[i + width] + below[i + width + 1]
    for i in range(size * size):
        values[i] = _squash(coefficient * sums[i] + bias)


@_compiled
def _forward(image, greys, pairs, p, codes, v):
    """Fill the workspace v with the values of all units."""
    for row in range(28):
        for column in range(28):
            v.image[(row + 2) * 32 + column + 2] = greys[image[row, column]]

    for m in range(6):
        c1 = v.c1[m]
        c1[:] = p.c1_bias[m]
        for ky in range(5):
            _add_five_taps(c1, v.image[ky * 32 :], p.c1_weight[m, 0, ky], 892)
        for i in range(892):
            c1[i] = _squash(c1[i])
        _forward_subsampling(p.s2_coefficient[m], p.s2_bias[m], c1, v.s2_sums[m], v.s2[m], 14, 32)

    for m in range(16):
        v.c3[m, :] = p.c3_bias[m]
    for pair in range(60):
        m, k = pairs[pair]
        for ky in range(5):
            _add_five_taps(v.c3[m], v.s2[k, ky * 14 :], p.c3_weight[pair, ky], 136)
    for m in range(16):
        c3 = v.c3[m]
        for i in range(136):
            c3[i] = _squash(c3[i])
        _forward_subsampling(p.s4_coefficient[m], p.s4_bias[m], c3, v.s4_sums[m], v.s4[25 * m :], 5, 14)

    _forward_dense(p, codes, v)


@_compiled
def _forward_dense(p, codes, v):
    x, lanes = v.s4, v.lanes
    c5_weight = p.c5_weight.reshape(120, 400)
    for o in range(120):
        w = c5_weight[o]
        for i in range(40):
            first = w[i] * x[i] + w[40 + i] * x[40 + i] + w[80 + i] * x[80 + i] + w[120 + i] * x[120 + i]
            second = w[160 + i] * x[160 + i] + w[200 + i] * x[200 + i] + w[240 + i] * x[240 + i]
            third = w[280 + i] * x[280 + i] + w[320 + i] * x[320 + i] + w[360 + i] * x[360 + i]
            lanes[i] = first + second + third
        v.c5[o] = _squash(p.c5_bias[o] + _sum_of_lanes(lanes))
    x = v.c5
    for o in range(84):
        w = p.f6_weight[o]
        for i in range(40):
            lanes[i] = w[i] * x[i] + w[40 + i] * x[40 + i] + w[80 + i] * x[80 + i]
        v.f6[o] = _squash(p.f6_bias[o] + _sum_of_lanes(lanes))
    for digit in range(10):
        distance = 0.0
        for i in range(84):
            distance += (v.f6[i] - codes[digit, i]) ** 2
        v.outputs[digit] = distance


@_compiled
def _loss(outputs, label, j, competitive, pulls):
    """Return the loss of one pattern, eq. (9) if competitive and else eq. (8), and fill pulls with its derivatives."""
    pulls[:] = 0
    pulls[label] = 1
    if not competitive:
        return outputs[label]
    nearest = min(np.min(outputs), j)  # taken out of the exponentials, which else would underflow
    total = np.exp(nearest - j)
    for digit in range(10):
        total += np.exp(nearest - outputs[digit])
    for digit in range(10):
        pulls[digit] -= np.exp(nearest - outputs[digit]) / total
    return outputs[label] + np.log(total) - nearest


@_compiled
def _update(pairs, p, steps, codes, v):
    """Go backwards from v.pulls, and change all parameters; each is used before it is changed."""
    for i in range(84):
        pull = 0.0
        for digit in range(10):
            pull += 2 * v.pulls[digit] * (v.f6[i] - codes[digit, i])
        v.d_f6[i] = F(pull) * _slope(v.f6[i])
    _update_dense(p.f6_weight, p.f6_bias, steps.f6_weight, steps.f6_bias, v.c5, v.d_f6, v.d_c5)
    for i in range(120):
        v.d_c5[i] *= _slope(v.c5[i])
    c5_weight, c5_steps = p.c5_weight.reshape(120, 400), steps.c5_weight.reshape(120, 400)
    _update_dense(c5_weight, p.c5_bias, c5_steps, steps.c5_bias, v.s4, v.d_c5, v.d_s4)
    for m in range(16):
        change = _backward_subsampling(
            p.s4_coefficient[m], v.s4[25 * m :], v.s4_sums[m], v.d_s4[25 * m :], v.c3[m], v.d_c3[m, 4:], 5, 14
        )
        p.s4_coefficient[m] -= steps.s4_coefficient[m] * change[0]
        p.s4_bias[m] -= steps.s4_bias[m] * change[1]
    _update_c3(pairs, p, steps, v)
    for m in range(6):
        change = _backward_subsampling(
            p.s2_coefficient[m], v.s2[m], v.s2_sums[m], v.d_s2[m], v.c1[m], v.d_c1[m], 14, 32
        )
        p.s2_coefficient[m] -= steps.s2_coefficient[m] * change[0]
        p.s2_bias[m] -= steps.s2_bias[m] * change[1]
    _update_c1(p, steps, v)


@_compiled
def _update_dense(weight, bias, weight_steps, bias_steps, x, d_out, d_x):
    d_x[:] = 0
    for o in range(len(d_out)):
        w, step, d = weight[o], weight_steps[o], d_out[o]
        for i in range(len(x)):
            d_x[i] += w[i] * d
            w[i] -= step[i] * (d * x[i])
        bias[o] -= bias_steps[o] * d


@_compiled
def _backward_subsampling(coefficient, values, sums, d_values, below, d_below, size, width):
    """Fill d_below, one map of the layer below with rows of `width`; return the gradients of coefficient and bias."""
    of_coefficient, of_bias = F(0), F(0)
    for row in range(size):
        for column in range(size):
            i = size * row + column
            d = d_values[i] * _slope(values[i])
            of_coefficient += d * sums[i]
            of_bias += d
            d *= coefficient
            i = 2 * width * row + 2 * column
            d_below[i] = d * _slope(below[i])
            d_below[i + 1] = d * _slope(below[i + 1])
            d_below[i + width] = d * _slope(below[i + width])
            d_below[i + width + 1] = d * _slope(below[i + width + 1])
    return of_coefficient, of_bias


@_compiled
def _update_c3(pairs, p, steps, v):
    v.d_s2[:] = 0
    for pair in range(60):
        m, k = pairs[pair]
        for ky in range(5):
            kernel_row = p.c3_weight[pair, ky]
            _add_five_taps(v.d_s2[k, ky * 14 :], v.d_c3[m], kernel_row[::-1], 140)
    for row in range(10):
        for column in range(10):
            patch = v.patches[10 * row + column]
            for k in range(6):
                for ky in range(5):
                    for kx in range(5):
                        patch[25 * k + 5 * ky + kx] = v.s2[k, 14 * (row + ky) + column + kx]
    v.c3_gradient[:] = 0
    for m in range(16):
        gradient, of_bias = v.c3_gradient[m], F(0)
        for row in range(10):
            d, x = v.d_c3[m, 4 + 14 * row :], v.patches[10 * row :]
            d0, d1, d2, d3, d4, d5, d6, d7, d8, d9 = d[0], d[1], d[2], d[3], d[4], d[5], d[6], d[7], d[8], d[9]
            of_bias += d0 + d1 + d2 + d3 + d4 + d5 + d6 + d7 + d8 + d9
            for i in range(150):
                left = d0 * x[0, i] + d1 * x[1, i] + d2 * x[2, i] + d3 * x[3, i] + d4 * x[4, i]
                right = d5 * x[5, i] + d6 * x[6, i] + d7 * x[7, i] + d8 * x[8, i] + d9 * x[9, i]
                gradient[i] += left + right
        p.c3_bias[m] -= steps.c3_bias[m] * of_bias
    for pair in range(60):
        m, k = pairs[pair]
        for ky in range(5):
            for kx in range(5):
                p.c3_weight[pair, ky, kx] -= steps.c3_weight[pair, ky, kx] * v.c3_gradient[m, 25 * k + 5 * ky + kx]


@_compiled
def _update_c1(p, steps, v):
    lanes = v.lanes[:32]
    for m in range(6):
        d = v.d_c1[m]
        lanes[:] = 0
        for row in range(28):
            for i in range(32):
                lanes[i] += d[32 * row + i]
        p.c1_bias[m] -= steps.c1_bias[m] * _sum_of_lanes(lanes)
        for ky in range(5):
            for kx in range(5):
                lanes[:] = 0
                for row in range(0, 28, 4):
                    a, x = d[32 * row :], v.image[32 * (row + ky) + kx :]
                    for i in range(32):
                        lanes[i] += (a[i] * x[i] + a[i + 32] * x[i + 32]) + (
                            a[i + 64] * x[i + 64] + a[i + 96] * x[i + 96]
                        )
                p.c1_weight[m, 0, ky, kx] -= steps.c1_weight[m, 0, ky, kx] * _sum_of_lanes(lanes)


@_compiled
def _train(images, labels, order, greys, pairs, p, steps, codes, v, j, competitive):
    wrong, loss_sum = 0, 0.0
    for n in order:
        _forward(images[n], greys, pairs, p, codes, v)
        wrong += np.argmin(v.outputs) != labels[n]
        loss_sum += _loss(v.outputs, labels[n], j, competitive, v.pulls)
        _update(pairs, p, steps, codes, v)
    return wrong, loss_sum


@_compiled
def _distances(images, greys, pairs, p, codes, v):
    result = np.empty((len(images), 10), F)
    for n in range(len(images)):
        _forward(images[n], greys, pairs, p, codes, v)
        result[n] = v.outputs
    return result
