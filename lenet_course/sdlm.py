"""The training method of 1998: stochastic diagonal Levenberg-Marquardt (LeCun et al. 1998, p. 10 and App. C).

One pattern, one update, and each parameter with a step size of its own, eta / (mu + h): small where the loss is curved.
h, the diagonal of the Gauss-Newton matrix, is estimated on 500 patterns before each pass and kept during it.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from functools import singledispatch

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate
from torch.nn.grad import conv2d_input, conv2d_weight

from lenet_course.data import describe_tensor
from lenet_course.lenet5 import RBFOutput, ScaledTanh, Subsampling, TableConv2d

# (number of passes, eta), p. 10: 20 passes in all.
SCHEDULE_1998 = ((2, 5e-4), (3, 2e-4), (3, 1e-4), (4, 5e-5), (8, 1e-5))
MU_1998 = 0.02
CURVATURE_PATTERNS = 500


def eta_of_pass(number: int, schedule: Iterable[tuple[int, float]] = SCHEDULE_1998) -> float:
    """Return eta of a pass, the first one being number 1; after the schedule's end its last eta goes on.

    schedule: (number of passes, eta), in order. Raises ValueError for a number below 1.
    """
    if number < 1:
        raise ValueError(f"Passes are counted from 1; got {number}.")
    etas = [eta for passes, eta in schedule for _ in range(passes)]
    return etas[min(number, len(etas)) - 1]


# --- Second derivatives ---------------------------------------------------------------------------------------------


@torch.no_grad()
def diagonal_curvature(model: nn.Module, images: Tensor) -> dict[str, Tensor]:
    """Return an estimate of the second derivative of the loss for each parameter, by one backward pass (App. C).

    It goes backwards as the gradient does, with weights and slopes squared (eq. 27); all cross terms are dropped, and a
    shared weight gets the sum over its connections (eq. 23 and 25). It starts from the second derivative of the model's
    output: 2 for each unit below an RBFOutput, that of the distance y_D from the right code; 1 for each output
    otherwise, that of half a squared error. No labels are needed.

    model: an nn.Sequential, or a network with `chain()`, of nn.Conv2d, nn.Linear, nn.Flatten, and the layers of lenet5.py.
    images: (N, ...), what the model takes, N from 1; computed in their dtype and the model's.
    Returns {parameter name: tensor like the parameter}, the mean over the images; 0 or above.
    Raises ValueError for no images, or if chain() is not what forward does; TypeError for a layer without a rule;
    ArithmeticError if the outputs are not finite.
    """
    if len(images) == 0:
        raise ValueError(f"The curvature is a mean over images, but there are none: got {describe_tensor(images)}.")
    layers = tuple(model) if isinstance(model, nn.Sequential) else model.chain()
    inputs, x = [], images
    for layer in layers:
        inputs.append(x)
        x = layer(x)
    if not x.isfinite().all():
        raise ArithmeticError("The model's outputs are no finite numbers: its weights have run away. Build it anew.")
    outputs = model(images)
    if x.shape != outputs.shape or not torch.allclose(x, outputs, rtol=1e-3, atol=1e-4):
        raise ValueError(f"{type(model).__name__}.chain() gives other outputs than its forward: they must be the same.")

    names = {parameter: name for name, parameter in model.named_parameters()}
    curvature = {name: torch.zeros_like(parameter) for name, parameter in model.named_parameters()}
    behind = torch.ones_like(x)
    for layer, entering in zip(reversed(layers), reversed(inputs), strict=True):
        behind, own = _backwards(layer, entering, behind)
        for name, of_images in own.items():
            curvature[names[getattr(layer, name)]] += of_images / len(images)
    return curvature


# Each rule takes a layer, what came in, and the second derivatives h of what came out, for each image. It returns those of
# what came in, and those of the layer's parameters, summed over the images.


@singledispatch
def _backwards(layer: nn.Module, x: Tensor, h: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    raise TypeError(
        f"There is no rule for the curvature of a {type(layer).__name__}. There are rules for Conv2d, Linear, Flatten, "
        "TableConv2d, Subsampling, ScaledTanh and RBFOutput."
    )


@_backwards.register
def _(layer: nn.Linear, x: Tensor, h: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    own = {"weight": h.T @ x.square()}
    if layer.bias is not None:
        own["bias"] = h.sum(dim=0)
    return h @ layer.weight.square(), own


@_backwards.register
def _(layer: nn.Conv2d, x: Tensor, h: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    if isinstance(layer.padding, str) or layer.padding_mode != "zeros":
        raise TypeError(
            f'There is no rule for the curvature of a Conv2d with padding={layer.padding!r}, padding_mode="'
            f'{layer.padding_mode}": give padding as numbers, and pad with zeros.'
        )
    settings = (layer.stride, layer.padding, layer.dilation, layer.groups)
    own = {"weight": conv2d_weight(x.square(), layer.weight.shape, h, *settings)}
    if layer.bias is not None:
        own["bias"] = h.sum(dim=(0, 2, 3))
    return conv2d_input(x.shape, layer.weight.square(), h, *settings), own


@_backwards.register
def _(layer: TableConv2d, x: Tensor, h: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    dense = layer.dense_weight()
    of_dense = conv2d_weight(x.square(), dense.shape, h)
    own = {"weight": of_dense[layer.output_maps, layer.input_maps], "bias": h.sum(dim=(0, 2, 3))}
    return conv2d_input(x.shape, dense.square(), h), own


@_backwards.register
def _(layer: Subsampling, x: Tensor, h: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    # All four inputs go through one weight. To the coefficient they are a single input, their sum.
    sums = 4 * avg_pool2d(x, kernel_size=2)
    own = {"coefficient": (h * sums.square()).sum(dim=(0, 2, 3)), "bias": h.sum(dim=(0, 2, 3))}
    return interpolate(h * layer.coefficient.square()[:, None, None], scale_factor=2), own


@_backwards.register
def _(layer: ScaledTanh, x: Tensor, h: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    # The term with the second derivative of the squashing function is dropped: that is Gauss-Newton (eq. 27).
    slope = layer.amplitude * layer.steepness * (1 - torch.tanh(layer.steepness * x).square())
    return h * slope.square(), {}


@_backwards.register
def _(layer: RBFOutput, x: Tensor, h: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    return torch.full_like(x, 2.0), {}


@_backwards.register
def _(layer: nn.Flatten, x: Tensor, h: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    return h.reshape(x.shape), {}


# --- The optimizer --------------------------------------------------------------------------------------------------


class SDLM(torch.optim.Optimizer):
    """Stochastic diagonal Levenberg-Marquardt: each parameter moves against its gradient by eta / (mu + h) (eq. 21).

    Call `estimate(images)` before each pass, and set `optimizer.eta` as the schedule says. Then, pattern by pattern,
    loss.backward(), step() and zero_grad(), as with any optimizer of PyTorch. `lenet_course.sdlm_compiled` does the same
    to LeNet5 a good deal quicker.

    model: what `diagonal_curvature` takes. eta: the global rate. mu: keeps steps finite where there is no curvature.
    Raises ValueError for an eta or a mu that is not above 0.
    """

    def __init__(self, model: nn.Module, *, eta: float = SCHEDULE_1998[0][1], mu: float = MU_1998) -> None:
        if not eta > 0 or not mu > 0:
            raise ValueError(f"eta and mu must be above 0; got {eta} and {mu}.")
        super().__init__(model.parameters(), {"eta": eta, "mu": mu})
        self._model = model

    @property
    def eta(self) -> float:
        """The global rate of eq. (21); may be set between passes."""
        return self.param_groups[0]["eta"]

    @eta.setter
    def eta(self, eta: float) -> None:
        for group in self.param_groups:
            group["eta"] = eta

    @torch.no_grad()
    def estimate(self, images: Tensor) -> None:
        """Estimate h of each parameter on these prepared images (the paper takes 500), and keep it for the steps to come.

        In double precision, and rounded to the parameters' own afterwards: so step sizes do not depend on the order in
        which a processor adds.
        """
        exact = copy.deepcopy(self._model).double()
        curvature = diagonal_curvature(exact, images.double())
        for name, parameter in self._model.named_parameters():
            self.state[parameter]["curvature"] = curvature[name]

    def step_sizes(self) -> dict[str, Tensor]:
        """Return {parameter name: eta / (mu + h), a tensor like the parameter}. Raises RuntimeError before `estimate`."""
        return {name: self._step_size(parameter) for name, parameter in self._model.named_parameters()}

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor | None:
        """Make one update. closure: computes the loss anew and its gradients, as torch.optim has it; may be left out.

        Raises RuntimeError before the first `estimate`.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parameter -= self._step_size(parameter) * parameter.grad
        return loss

    def _step_size(self, parameter: Tensor) -> Tensor:
        state = self.state.get(parameter, {})
        if "curvature" not in state:
            raise RuntimeError(
                "SDLM has no second derivatives yet: call optimizer.estimate(images) with about "
                f"{CURVATURE_PATTERNS} prepared images before the first step, and again before each pass."
            )
        group = self.param_groups[0]
        return (group["eta"] / (group["mu"] + state["curvature"])).to(parameter)
