"""LeNet-5 with one part exchanged at a time, and the networks that re-tellings call LeNet-5, as named combinations."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from lenet_course.data import check_scaled, describe_tensor, pad_1998, scale_caffe
from lenet_course.lenet5 import (
    TABLE_1,
    RBFOutput,
    ScaledTanh,
    Subsampling,
    TableConv2d,
    draw_weights,
    map_loss,
    mse_loss,
)

# What can be exchanged. The first choice of each part is that of LeNet-5 as published.
PARTS: dict[str, tuple[str, ...]] = {
    "c3": ("Table I", "dense"),
    "subsampling": ("trainable", "average", "max"),
    "squashing": ("scaled tanh", "tanh", "logistic", "ReLU"),
    "output": ("RBF, eq. (9)", "RBF, eq. (8)", "linear"),
    "input": ("-0.1 to 1.175", "border 0", "0 to 1"),
    "weights": ("1/sqrt(n)", "2.4/n", "Glorot", "Glorot, biases 1/sqrt(n)"),
}

# Six maps, 16 maps, 120, 84, 10: the networks that re-tellings call LeNet-5, each as its authors build it.
RETELLINGS: dict[str, dict[str, str]] = {
    # Zhang, Lipton, Li, Smola, Dive into Deep Learning, section "LeNet". xavier_uniform_ for weights only.
    "d2l": {
        "c3": "dense",
        "subsampling": "average",
        "squashing": "logistic",
        "output": "linear",
        "input": "0 to 1",
        "weights": "Glorot, biases 1/sqrt(n)",
    },
    # pytorch.org, "Neural Networks" in the 60-minute blitz. PyTorch's own initial weights are 1/sqrt(n).
    "PyTorch tutorial": {
        "c3": "dense",
        "subsampling": "max",
        "squashing": "ReLU",
        "output": "linear",
        "input": "0 to 1",
    },
    # Conv2D(6, 5, activation="tanh", padding="same"), AveragePooling2D(), ... as most Keras tutorials have it.
    "Keras tutorials": {
        "c3": "dense",
        "subsampling": "average",
        "squashing": "tanh",
        "output": "linear",
        "input": "0 to 1",
        "weights": "Glorot",
    },
}


class Variant(nn.Module):
    """LeNet-5 with parts exchanged. Variant() is LeNet5(), to the last bit of its first weights and its outputs.

    c3: "Table I", or "dense": each of the 16 maps reads all six.
    subsampling: "trainable" (sum x coefficient + bias, then squashed), or "average" or "max", with nothing after it.
    squashing: of C1, S2, C3, S4 and C5. F6 keeps the scaled tanh as long as the output compares it with codes of +-1,
        which a logistic unit or a ReLU cannot reach; before a linear output it changes with the others.
    output: "RBF, eq. (9)" and "RBF, eq. (8)": distances from the codes of Figure 3, smallest wins; or "linear": 84 to 10
        scores for cross-entropy, largest wins.
    input: "-0.1 to 1.175" as published; "border 0": the same digit, but a border of zeros, as padding gives it that comes
        after scaling; "0 to 1": pixels / 256, border and paper both 0.
    weights: bound of the first weights, uniform: "1/sqrt(n)" as in the authors' code (and PyTorch's own rule today),
        "2.4/n" as in the paper, or "Glorot": sqrt(6 / (n + outputs that a unit feeds)) with biases of 0 (Keras), or with
        biases of 1/sqrt(n) (xavier_uniform_ in PyTorch).

    First weights come from torch's global generator: call torch.manual_seed before. Raises ValueError for a part or
    choice that there is not.
    """

    def __init__(
        self,
        *,
        c3: str = "Table I",
        subsampling: str = "trainable",
        squashing: str = "scaled tanh",
        output: str = "RBF, eq. (9)",
        input: str = "-0.1 to 1.175",
        weights: str = "1/sqrt(n)",
    ) -> None:
        super().__init__()
        self.parts = check_parts(
            {
                "c3": c3,
                "subsampling": subsampling,
                "squashing": squashing,
                "output": output,
                "input": input,
                "weights": weights,
            }
        )
        self.c1 = nn.Conv2d(1, 6, kernel_size=5)
        self.s2 = _subsampling(subsampling, maps=6)
        self.c3 = TableConv2d(TABLE_1, kernel_size=5) if c3 == "Table I" else nn.Conv2d(6, 16, kernel_size=5)
        self.s4 = _subsampling(subsampling, maps=16)
        self.c5 = nn.Conv2d(16, 120, kernel_size=5)
        self.f6 = nn.Linear(120, 84)
        self.output = nn.Linear(84, 10) if output == "linear" else RBFOutput()
        self.squash = _SQUASHING[squashing]()
        self.squash_subsampled = self.squash if subsampling == "trainable" else nn.Identity()
        self.squash_f6 = self.squash if output == "linear" else ScaledTanh()
        _FIRST_WEIGHTS[weights](self)

    @property
    def architecture(self) -> str:
        """What weights must have been trained for to mean the same here (first weights do not matter then)."""
        kept = {part: choice for part, choice in self.parts.items() if part != "weights" and choice != PARTS[part][0]}
        return f"Variant({', '.join(f'{part}={choice!r}' for part, choice in kept.items())})"

    def forward(self, images: Tensor) -> Tensor:             # (N,   1, 32, 32)
        """Return (N, 10): distances, of which the smallest is the answer, or with a linear output scores, the largest.

        images: (N, 1, 32, 32) floating point from `prepare`. Raises ValueError as LeNet5 does.
        """
        self._check(images)
        x = self.squash(self.c1(images))                     # (N,   6, 28, 28)
        x = self.squash_subsampled(self.s2(x))               # (N,   6, 14, 14)
        x = self.squash(self.c3(x))                          # (N,  16, 10, 10)
        x = self.squash_subsampled(self.s4(x))               # (N,  16,  5,  5)
        x = self.squash(self.c5(x)).flatten(start_dim=1)     # (N, 120)
        x = self.squash_f6(self.f6(x))                       # (N,  84)
        return self.output(x)                                # (N,  10)

    def prepare(self, images: Tensor) -> Tensor:
        """Turn raw (N, 28, 28) uint8 images into the network's input, (N, 1, 32, 32) float32."""
        if self.parts["input"] == "0 to 1":
            return nn.functional.pad(scale_caffe(images), (2, 2, 2, 2))
        prepared = pad_1998(images)
        if self.parts["input"] == "border 0":
            for border in (prepared[:, :, :2], prepared[:, :, -2:], prepared[..., :2], prepared[..., -2:]):
                border.zero_()
        return prepared

    @torch.no_grad()
    def predict(self, images: Tensor) -> Tensor:
        """Return the answer for each image, (N,) int64, 0 to 9; images as `forward` takes them."""
        return torch.cat([self.decide(self(some)) for some in images.split(1000)])

    def decide(self, outputs: Tensor) -> Tensor:
        """Return the label of the smallest distance or the largest score: (N, 10) to (N,) int64."""
        return outputs.argmax(dim=1) if self.parts["output"] == "linear" else outputs.argmin(dim=1)

    def loss(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Return eq. (9) with j = 1, eq. (8), or the cross-entropy in nats, as the output wants; mean over the batch."""
        return _LOSSES[self.parts["output"]](outputs, labels)

    def _check(self, images: Tensor) -> None:
        if not isinstance(images, Tensor) or images.shape[1:] != (1, 32, 32) or not images.is_floating_point():
            raise ValueError(
                f"A Variant expects floating-point images (N, 1, 32, 32); got {describe_tensor(images)}. "
                "Use model.prepare(images) on raw 28x28 digits: each variant has an input of its own."
            )
        check_scaled(images, "A Variant", self.parts["input"], "Use model.prepare(images) on raw 28x28 digits")


def check_parts(parts: dict[str, str]) -> dict[str, str]:
    """Return the parts as they are. Raises ValueError naming a part or choice that there is not, and those there are."""
    for part, choice in parts.items():
        if part not in PARTS:
            raise ValueError(f"There is no part {part!r} to exchange. There are: {', '.join(PARTS)}.")
        if choice not in PARTS[part]:
            raise ValueError(f"{part} can be {', '.join(map(repr, PARTS[part]))}; got {choice!r}.")
    return parts


# --- Choices --------------------------------------------------------------------------------------------------------


_SQUASHING = {"scaled tanh": ScaledTanh, "tanh": nn.Tanh, "logistic": nn.Sigmoid, "ReLU": nn.ReLU}
_LOSSES = {"RBF, eq. (9)": map_loss, "RBF, eq. (8)": mse_loss, "linear": cross_entropy}


def _subsampling(choice: str, maps: int) -> nn.Module:
    if choice == "trainable":
        return Subsampling(maps)
    return nn.AvgPool2d(kernel_size=2) if choice == "average" else nn.MaxPool2d(kernel_size=2)


@torch.no_grad()
def _draw_glorot(module: Variant, zero_biases: bool) -> None:
    """Glorot & Bengio 2010: uniform in +-sqrt(6 / (inputs of a unit + units that an input feeds))."""
    draw_weights(module)
    for layer in module.modules():
        if layer is module.c5:  # its kernels are as large as its maps: a dense layer, and that is what re-tellings build
            nn.init.xavier_uniform_(layer.weight.view(120, 400))
        elif isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.xavier_uniform_(layer.weight)
        elif isinstance(layer, TableConv2d):
            kernel = layer.kernel_size**2
            fed = torch.bincount(layer.input_maps.cpu(), minlength=layer.in_maps)[layer.input_maps.cpu()] * kernel
            bounds = (6 / (layer.inputs_a_unit[layer.output_maps.cpu()] + fed)).sqrt()
            layer.weight.uniform_(-1, 1).mul_(bounds[:, None, None].to(layer.weight))
        elif isinstance(layer, Subsampling):  # four inputs, and each feeds one unit
            layer.coefficient.uniform_(-1, 1).mul_(math.sqrt(6 / 5))
        else:
            continue
        if zero_biases:
            layer.bias.zero_()


_FIRST_WEIGHTS = {
    "1/sqrt(n)": draw_weights,
    "2.4/n": lambda module: draw_weights(module, lambda n: 2.4 / n),
    "Glorot": lambda module: _draw_glorot(module, zero_biases=True),
    "Glorot, biases 1/sqrt(n)": lambda module: _draw_glorot(module, zero_biases=False),
}
