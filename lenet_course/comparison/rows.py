"""The rows of the comparison: which network each trains, and by which method."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import nn

from lenet_course.lenet import LeNet
from lenet_course.lenet5 import LeNet5
from lenet_course.variants import RETELLINGS, Variant

# A row's rate is chosen from these, starting with three neighbours.
LADDER = (1e-5, 3e-5, 1e-4, 3e-4, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)


@dataclass(frozen=True)
class Row:
    """One network and one way to train it.

    name: as the table and the picture call it. exchanged: what differs from the reference, "" for the reference.
    parts: of the Variant, or network: "LeNet" (with relu_after_conv=True or False in parts).
    method: "SGD" (momentum 0.9, one cycle of the rate), "AdamW" (the same cycle), "1998" (one step size a weight, App. C),
        "one step size" (App. C without it: the same step for all weights).
    first_rates: where the search for the rate begins. The rate of "1998" is a factor of the paper's eta, that of
        "one step size" the step of the first pass.
    distorted: each digit once, and two distorted copies of it, in place of three passes.
    """

    name: str
    exchanged: str
    parts: dict[str, object] = field(default_factory=dict)
    network: str = "Variant"
    method: str = "SGD"
    first_rates: tuple[float, float, float] = (0.001, 0.003, 0.01)
    distorted: bool = False

    @property
    def pattern_by_pattern(self) -> bool:
        """True for a method that makes a step after each digit."""
        return self.method in ("1998", "one step size")

    @property
    def batch_size(self) -> int:
        """How many digits a step looks at."""
        return 1 if self.pattern_by_pattern else 64

    def build(self) -> nn.Module:
        """Return the network with first weights from torch's global generator."""
        if self.network == "LeNet":
            return LeNet(**self.parts)
        return LeNet5() if self.pattern_by_pattern else Variant(**self.parts)


REFERENCE = "LeNet-5"
_SCORES = (0.01, 0.03, 0.1)  # where networks with cross-entropy begin

ROWS: dict[str, Row] = {
    row.name: row
    for row in (
        Row(REFERENCE, ""),
        Row("C3 dense", "Table I", {"c3": "dense"}),
        Row("average pooling", "subsampling", {"subsampling": "average"}),
        Row("max pooling", "subsampling", {"subsampling": "max"}),
        Row("logistic", "squashing", {"squashing": "logistic"}),
        Row("ReLU", "squashing", {"squashing": "ReLU"}),
        Row("RBF with eq. (8)", "output", {"output": "RBF, eq. (8)"}),
        Row("linear, cross-entropy", "output", {"output": "linear"}, first_rates=_SCORES),
        Row("border of 0", "input", {"input": "border 0"}),
        Row("first weights 2.4/n", "first weights", {"weights": "2.4/n"}),
        Row("first weights Glorot", "first weights", {"weights": "Glorot"}),
        Row("1998, a step for each weight", "training", method="1998", first_rates=(0.1, 0.3, 1.0)),
        Row("1998, one step for all", "training", method="one step size", first_rates=(0.0003, 0.001, 0.003)),
        Row("AdamW", "training", method="AdamW", first_rates=(0.001, 0.003, 0.01)),
        Row("distorted digits", "digits", distorted=True),
        Row("d2l", "several", RETELLINGS["d2l"], first_rates=(0.1, 0.3, 1.0)),
        Row("PyTorch tutorial", "several", RETELLINGS["PyTorch tutorial"], first_rates=_SCORES),
        Row("Keras tutorials", "several", RETELLINGS["Keras tutorials"], first_rates=_SCORES),
        Row("20-50-500-10, three ReLUs", "all", {"relu_after_conv": True}, "LeNet", first_rates=(0.03, 0.1, 0.3)),
        Row("20-50-500-10, Caffe's", "all", {"relu_after_conv": False}, "LeNet", first_rates=(0.01, 0.03, 0.1)),
    )
}
