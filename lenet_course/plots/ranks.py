"""A picture of data parallelism: a batch, its shares, and one gradient for all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch

from lenet_course.plots.describing import describe, new_axes, to_array

_MOST_IMAGES = 8


def shared_batch(
    images: Any, shares: Sequence[Sequence[int]], *, description: str | None = None, ax: Axes | None = None
) -> Axes:
    """Draw a batch that ranks share: each one's digits, its network, its gradient, and the mean that all step along.

    images: (B, height, width), up to 8 of a share are drawn. shares: for each rank the numbers of its images.
    Raises ValueError for another shape, no rank, or a number that the batch does not have.
    """
    pictures = to_array(images)
    if pictures.ndim != 3 or not shares:
        raise ValueError(
            f"shared_batch takes images (B, height, width) and a share for each rank; got {pictures.shape}."
        )
    if any(not 0 <= number < len(pictures) for share in shares for number in share):
        raise ValueError(f"Shares hold numbers from 0 to {len(pictures) - 1}; got {[list(share) for share in shares]}.")
    ax = new_axes(ax, figsize=(9, 1.3 * len(shares) + 0.6))
    middle = (len(shares) - 1) / 2
    for rank, share in enumerate(shares):
        y = len(shares) - 1 - rank
        ax.text(-0.35, y, f"rank {rank}", ha="right", va="center", weight="bold")
        for place, number in enumerate(share[:_MOST_IMAGES]):
            left = 0.62 * place
            ax.imshow(
                255 - pictures[number].astype(float), cmap="gray", extent=(left, left + 0.55, y - 0.275, y + 0.275)
            )
        edge = 0.62 * min(max(map(len, shares)), _MOST_IMAGES)
        _box(ax, edge + 0.45, y, 1.75, "same weights", "C0")
        _box(ax, edge + 2.75, y, 1.45, "own gradient", "C1")
        _arrow(ax, (edge, y), (edge + 0.42, y))
        _arrow(ax, (edge + 2.2, y), (edge + 2.72, y))
        _arrow(ax, (edge + 4.2, y), (edge + 4.98, middle + 0.28 * np.sign(y - middle)))
    _box(ax, edge + 5.0, middle, 1.5, "mean,\nsame for all", "C2", height=0.75)
    ax.text(edge + 5.75, middle - 0.62, "all step alike", ha="center", va="top", fontsize=10, color="0.3")
    ax.set(xlim=(-1.3, edge + 6.7), ylim=(-0.6, len(shares) - 0.4), aspect="equal")
    ax.set_axis_off()
    counts = ", ".join(str(len(share)) for share in shares)
    words = (
        f"A batch of {len(pictures)} digits shared by {len(shares)} ranks, {counts} digits each. Each computes its own gradient "
        "with the same weights; all take the mean of the gradients."
    )
    return describe(ax, words, instead=description)


def _box(ax: Axes, left: float, y: float, width: float, words: str, colour: str, height: float = 0.5) -> None:
    style = {"boxstyle": "round,pad=0.02", "facecolor": "white", "edgecolor": colour, "linewidth": 1.8}
    ax.add_patch(FancyBboxPatch((left, y - height / 2), width, height, **style))
    ax.text(left + width / 2, y, words, ha="center", va="center", fontsize=10)


def _arrow(ax: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    ax.annotate("", end, start, arrowprops={"arrowstyle": "-|>", "color": "0.3", "lw": 1.3})
