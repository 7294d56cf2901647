"""Make the README's picture: LeNet, drawn from the model itself, with what it makes of a digit.

python pictures/make_pictures.py
"""

from pathlib import Path

import lenet_course  # noqa: F401 - before torch: it says how OpenMP threads wait

# isort: split
import matplotlib

matplotlib.use("agg")

from lenet_course import plots
from lenet_course.arithmetic import layer_table
from lenet_course.data import load_mnist
from lenet_course.lenet import LeNet
from lenet_course.weights import load_weights

FOLDER = Path(__file__).parent


def main() -> None:
    model = LeNet()
    load_weights(model, "lenet", source="shipped")
    image = load_mnist("test").images[0]
    fronts = {"input": image}
    for name in ("conv1", "pool1", "conv2", "pool2"):
        layer = model.get_submodule(name)
        layer.register_forward_hook(
            lambda module, inputs, output, name=name: fronts.update({name: strongest(output[0])})
        )
    model(model.prepare(image[None]))
    plots.use_course_style()
    ax = plots.architecture(layer_table(LeNet(), (1, 28, 28)), fronts=fronts)
    ax.figure.savefig(FOLDER / "lenet.png", dpi=110, bbox_inches="tight", facecolor="white")


def strongest(maps):
    """Return the map with the largest value, of (C, height, width)."""
    return maps[maps.flatten(1).amax(dim=1).argmax()].detach()


if __name__ == "__main__":
    main()
