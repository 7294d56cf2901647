"""LeNet-5 exactly as published in 1998: LeCun, Bottou, Bengio, Haffner, Proc. IEEE 86(11), pages as in the preprint."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, conv2d

from lenet_course.data import check_scaled, describe_tensor, pad_1998

# Table I, p. 8: a row for each map of S2, a column for each map of C3; X where the C3 map reads the S2 map.
TABLE_1 = """
    X . . . X X X . . X X X X . X X
    X X . . . X X X . . X X X X . X
    X X X . . . X X X . . X . X X X
    . X X X . . X X X X . . X . X X
    . . X X X . . X X X X . X X . X
    . . . X X X . . X X X X . X X X
"""

# Figure 3: the codes of the digits 0 to 9, drawn as bitmaps of 12 rows of 7 pixels; X is ink.
FIGURE_3 = """
    .XXXXX. ...XX.. .XXXXX. XXXXXXX .XXXXX. .XXXXX. ..XXXX. XXXXXXX .XXXXX. .XXXXX.
    ....... ..XXX.. ....... .....XX ....... ....... .XX.... .....XX XX...XX XX..XXX
    ..XXX.. .XXXX.. .XXXXX. ....XX. ....... XXXXXXX XX..... .....XX XX...XX XX...XX
    .XX.XX. ...XX.. XX...XX ...XX.. .XX..XX XX..... XX..... ....XX. XX...XX XX...XX
    XX...XX ...XX.. X....XX ..XXXX. .XX..XX XX..... XXXXXX. ...XX.. .XXXXX. XX..XXX
    XX...XX ...XX.. ....XX. .....XX XXX..XX .XXXX.. XXX..XX ...XX.. XX...XX .XXXXXX
    XX...XX ...XX.. ..XXX.. .....XX XX...XX ..XXXX. XX...XX ..XX... XX...XX .....XX
    XX...XX ...XX.. .XX.... .....XX XX...XX .....XX XX...XX ..XX... XX...XX .....XX
    .XX.XX. ...XX.. XX..... XX...XX XX..XXX XX...XX XXX..XX ..XX... XX...XX ....XX.
    ..XXX.. .XXXXXX XXXXXXX .XXXXX. .XXXXXX .XXXXX. .XXXXX. ..XX... .XXXXX. .XXXX..
    ....... ....... ....... ....... .....XX ....... ....... ....... ....... .......
    ....... ....... ....... ....... .....XX ....... ....... ....... ....... .......
"""


class ScaledTanh(nn.Module):
    """The squashing function of eq. (6), 1.7159 tanh(2/3 a), so that f(1) = 1 and f(-1) = -1 (App. A)."""

    amplitude = 1.7159
    steepness = 2 / 3

    def forward(self, sums: Tensor) -> Tensor:
        """Squash weighted sums of any shape to between -1.7159 and 1.7159, each where it stands."""
        return self.amplitude * torch.tanh(self.steepness * sums)


squash = ScaledTanh()


class Subsampling(nn.Module):
    """Half the size: each unit adds its window of 2x2, times the map's one coefficient, plus the map's one bias (p. 7).

    Windows do not overlap and maps are never mixed. The sum comes out as it is; squashing it is the network's job.
    """

    def __init__(self, maps: int) -> None:
        super().__init__()
        self.coefficient = nn.Parameter(torch.empty(maps))
        self.bias = nn.Parameter(torch.empty(maps))
        self.inputs_a_unit = 4
        draw_weights(self)

    def forward(self, maps: Tensor) -> Tensor:
        """Return (N, maps, height / 2, width / 2) sums for (N, maps, height, width); both sizes must be even."""
        if maps.dim() != 4 or maps.shape[1] != len(self.bias) or maps.shape[2] % 2 or maps.shape[3] % 2:
            raise ValueError(
                f"Subsampling expects (N, {len(self.bias)}, height, width), both sizes even; got {tuple(maps.shape)}."
            )
        sums = 4 * avg_pool2d(maps, kernel_size=2)
        return self.coefficient[:, None, None] * sums + self.bias[:, None, None]

    def connections(self, output_shape: tuple[int, ...]) -> int:
        """Four inputs and a bias for each unit."""
        return 5 * math.prod(output_shape)

    def multiply_adds(self, output_shape: tuple[int, ...]) -> int:
        """Four additions for each unit, one of them with a multiplication."""
        return 4 * math.prod(output_shape)


class TableConv2d(nn.Module):
    """A convolution in which each output map reads only the input maps that a table gives it.

    table: a line for each input map, a column for each output map, X where they are connected and . where not.
    Only connected pairs have a kernel: `weight` is (pairs, kernel_size, kernel_size), in the order of `output_maps` and
    `input_maps`, output map by output map. Raises ValueError for a table that is not a grid of X and ., or that leaves
    an output map without input.
    """

    def __init__(self, table: str, kernel_size: int) -> None:
        super().__init__()
        connected = read_table(table)
        self.in_maps, self.out_maps = connected.shape
        self.kernel_size = kernel_size
        output_maps, input_maps = connected.T.nonzero(as_tuple=True)
        self.register_buffer("output_maps", output_maps, persistent=False)
        self.register_buffer("input_maps", input_maps, persistent=False)
        self.weight = nn.Parameter(torch.empty(len(output_maps), kernel_size, kernel_size))
        self.bias = nn.Parameter(torch.empty(self.out_maps))
        # For each output map: how many weights lead to one of its units.
        self.inputs_a_unit = connected.sum(dim=0) * kernel_size**2
        draw_weights(self)

    def dense_weight(self) -> Tensor:
        """Return the kernels as (out_maps, in_maps, kernel_size, kernel_size), 0 where there is no connection."""
        dense = self.weight.new_zeros(self.out_maps, self.in_maps, self.kernel_size, self.kernel_size)
        return dense.index_put((self.output_maps, self.input_maps), self.weight)

    def forward(self, maps: Tensor) -> Tensor:
        """Return sums (N, out_maps, ...) for (N, in_maps, height, width), as nn.Conv2d with stride 1 does."""
        return conv2d(maps, self.dense_weight(), self.bias)

    def connections(self, output_shape: tuple[int, ...]) -> int:
        """For each unit its connected inputs and its bias."""
        return (self.weight.numel() + self.bias.numel()) * math.prod(output_shape[1:])

    def multiply_adds(self, output_shape: tuple[int, ...]) -> int:
        """For each unit its connected inputs; computing them densely, as `forward` does, takes more."""
        return self.weight.numel() * math.prod(output_shape[1:])


class RBFOutput(nn.Module):
    """Ten Euclidean radial basis function units: how far F6 is from the code of each digit (p. 8).

    codes: (10, 84), +1 = ink, -1 = paper, read from Figure 3. They are fixed: no parameter, but kept in the state dict.
    """

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("codes", read_codes())

    def forward(self, f6: Tensor) -> Tensor:
        """Return squared distances, 0 or above, (..., 10) for (..., 84): y_i = sum_j (x_j - w_ij)^2."""
        return (f6.unsqueeze(-2) - self.codes).square().sum(dim=-1)

    def connections(self, output_shape: tuple[int, ...]) -> int:
        """Each unit reads all of F6."""
        return self.codes.shape[1] * math.prod(output_shape)

    multiply_adds = connections


class LeNet5(nn.Module):
    """LeNet-5 (p. 7 and 8): 60,000 parameters, 340,908 connections.

    Initial weights are uniform in +-1/sqrt(inputs of the unit), as in the authors' own code, drawn from torch's global
    generator: call torch.manual_seed before you build one. The paper's rule is draw_weights(model, lambda n: 2.4 / n).
    """

    architecture = "LeNet5()"

    def __init__(self) -> None:
        super().__init__()
        self.c1 = nn.Conv2d(1, 6, kernel_size=5)
        self.s2 = Subsampling(6)
        self.c3 = TableConv2d(TABLE_1, kernel_size=5)
        self.s4 = Subsampling(16)
        self.c5 = nn.Conv2d(16, 120, kernel_size=5)
        self.f6 = nn.Linear(120, 84)
        self.output = RBFOutput()
        draw_weights(self)

    def forward(self, images: Tensor) -> Tensor:     # (N,   1, 32, 32)
        """Return the squared distance of F6 from each digit's code; the smallest is the answer.

        images: (N, 1, 32, 32) floating point from `prepare`. Returns (N, 10) of the same dtype, 0 or above.
        Raises ValueError for another shape, a dtype that is not floating point, or pixels that were not scaled.
        """
        self._check(images, images_are_larger=False)
        x = squash(self.c1(images))                  # (N,   6, 28, 28)
        x = squash(self.s2(x))                       # (N,   6, 14, 14)
        x = squash(self.c3(x))                       # (N,  16, 10, 10)
        x = squash(self.s4(x))                       # (N,  16,  5,  5)
        x = squash(self.c5(x))                       # (N, 120,  1,  1)
        x = x.flatten(start_dim=1)                   # (N, 120)
        x = squash(self.f6(x))                       # (N,  84)
        return self.output(x)                        # (N,  10)

    def forward_maps(self, images: Tensor) -> Tensor:
        """Read a larger image at every place where the 32x32 network fits, 4 pixels apart (the paper's Sec. VII).

        Nothing is computed twice: C5 is a convolution, so its maps simply become larger than 1x1.
        images: (N, 1, height, width) floating point; both sizes 32, 36, 40 and so on.
        Returns distances (N, 10, height / 4 - 7, width / 4 - 7). Raises ValueError as `forward` does.
        """
        self._check(images, images_are_larger=True)
        x = squash(self.s2(squash(self.c1(images))))
        x = squash(self.s4(squash(self.c3(x))))
        x = squash(self.c5(x)).movedim(1, -1)        # maps last: F6 and the output read the 120 at one place
        return self.output(squash(self.f6(x))).movedim(-1, 1)

    def chain(self) -> tuple[nn.Module, ...]:
        """Return what `forward` does, step by step, as modules from first to last."""
        convolutions = (self.c1, squash, self.s2, squash, self.c3, squash, self.s4, squash, self.c5, squash)
        return (*convolutions, nn.Flatten(), self.f6, squash, self.output)

    def prepare(self, images: Tensor) -> Tensor:
        """Turn raw (N, 28, 28) uint8 images into the network's input, (N, 1, 32, 32) float32 in [-0.1, 1.175]."""
        return pad_1998(images)

    @torch.no_grad()
    def predict(self, images: Tensor) -> Tensor:
        """Return the answer for each image, (N,) int64, 0 to 9; images as `forward` takes them."""
        return torch.cat([self.decide(self(some)) for some in images.split(1000)])

    def decide(self, outputs: Tensor) -> Tensor:
        """Return the label of the smallest distance: (N, 10) outputs of `forward` to (N,) int64."""
        return outputs.argmin(dim=1)

    def loss(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Return eq. (9) with j = 1, mean over the batch; see `map_loss`."""
        return map_loss(outputs, labels)

    def _check(self, images: Tensor, images_are_larger: bool) -> None:
        wanted = "(N, 1, height, width) with sizes 32, 36, 40, ..." if images_are_larger else "(N, 1, 32, 32)"
        advice = "Use lenet_course.data.pad_1998(images) on raw 28x28 digits"
        if not isinstance(images, Tensor) or not images.is_floating_point():
            got = describe_tensor(images)
            raise ValueError(f"LeNet5 expects floating-point images of shape {wanted}; got {got}. {advice}.")
        sizes = images.shape[2:]
        fits = all(size >= 32 and size % 4 == 0 for size in sizes) if images_are_larger else sizes == (32, 32)
        if images.dim() != 4 or images.shape[1] != 1 or not fits:
            if not images_are_larger:
                advice += ", and model.forward_maps(images) for larger images"
            raise ValueError(f"LeNet5 expects images of shape {wanted}; got {tuple(images.shape)}. {advice}.")
        check_scaled(images, "LeNet5", "-0.1 to 1.175", advice)


# --- Tables and weights ---------------------------------------------------------------------------------------------


def read_table(table: str) -> Tensor:
    """Return a grid of X and . as bool (rows, columns), True at X. Raises ValueError for anything else."""
    rows = [line.split() for line in table.strip().splitlines()]
    signs = {sign for row in rows for sign in row}
    if not rows or not signs <= {"X", "."} or len({len(row) for row in rows}) != 1:
        raise ValueError(f"A table has lines of X and ., parted by blanks and equally many in each; got:\n{table}")
    connected = torch.tensor([[sign == "X" for sign in row] for row in rows])
    if not connected.any(dim=0).all():
        lonely = (~connected.any(dim=0)).nonzero().flatten().tolist()
        raise ValueError(f"Each output map (column) needs at least one X; there is none in column {lonely}.")
    return connected


def read_codes() -> Tensor:
    """Return the codes of Figure 3, (10, 84) float32, +1 = ink, -1 = paper, row by row from the top left pixel."""
    lines = [line.split() for line in FIGURE_3.strip().splitlines()]
    bitmaps = ["".join(line[digit] for line in lines) for digit in range(10)]
    return torch.tensor([[1.0 if pixel == "X" else -1.0 for pixel in bitmap] for bitmap in bitmaps])


@torch.no_grad()
def draw_weights(module: nn.Module, bound: Callable[[float], float] = lambda n: 1 / math.sqrt(n)) -> None:
    """Draw all weights and biases of a layer or network anew, uniform in +-bound(n), n = number of inputs of the unit.

    A unit's weights and its bias have the same bound. The default is that of the authors' own code; the paper's App. A
    has 2.4 / n; with it, training only starts if eta is far smaller than printed (chapter 5). Drawn from torch's global generator.
    """
    for layer in module.modules():
        own = list(layer.parameters(recurse=False))
        if not own:
            continue
        inputs = getattr(layer, "inputs_a_unit", None)
        inputs = own[0][0].numel() if inputs is None else inputs
        if isinstance(layer, TableConv2d):  # units of different maps have different numbers of inputs
            bounds = torch.tensor([bound(float(n)) for n in inputs])
            layer.weight.uniform_(-1, 1).mul_(bounds[layer.output_maps.cpu(), None, None].to(layer.weight))
            layer.bias.uniform_(-1, 1).mul_(bounds.to(layer.bias))
        else:
            for parameter in own:
                parameter.uniform_(-1, 1).mul_(bound(float(inputs)))


# --- Losses ---------------------------------------------------------------------------------------------------------


def mse_loss(distances: Tensor, labels: Tensor) -> Tensor:
    """Return eq. (8), the mean distance from the right code. distances: (N, 10); labels: (N,) int64, 0 to 9."""
    _check_outputs(distances, labels)
    return distances.gather(1, labels[:, None]).mean()


def map_loss(distances: Tensor, labels: Tensor, j: float = 1.0) -> Tensor:
    """Return eq. (9), mean [ y_D + log(exp(-j) + sum_i exp(-y_i)) ]: near the right code *and* far from the others.

    distances: (N, 10) floating point, 0 or above. labels: (N,) int64, 0 to 9. j: above 0; the paper gives no value.
    A scalar, 0 or above. Computed without overflow or underflow at any distance.
    Raises ValueError for other shapes or dtypes, or a j that is not above 0.
    """
    _check_outputs(distances, labels)
    if not j > 0:
        raise ValueError(f"j must be above 0 (eq. 9); got {j}.")
    rubbish = torch.full_like(distances[:, :1], -j)  # the class of all that is no digit, always at distance j
    competitors = torch.cat([rubbish, -distances], dim=1).logsumexp(dim=1)
    return (distances.gather(1, labels[:, None]).squeeze(1) + competitors).mean()


def _check_outputs(distances: Tensor, labels: Tensor) -> None:
    if distances.dim() != 2 or distances.shape[1] != 10 or not distances.is_floating_point():
        raise ValueError(f"The loss takes distances (N, 10), the output of LeNet5; got {describe_tensor(distances)}.")
    if labels.shape != distances.shape[:1] or labels.dtype != torch.int64:
        raise ValueError(
            f"The loss takes as many labels as distances, ({len(distances)},) int64; got {describe_tensor(labels)}."
        )
