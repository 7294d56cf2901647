"""Pictures of several seeds: their mean, and how far they spread."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from lenet_course.plots.curves import DASHES, MARKERS
from lenet_course.plots.describing import describe, new_axes, to_array


def seed_bands(
    bands: Mapping[str, Any],
    *,
    x_label: str,
    y_label: str,
    points: Mapping[str, Any] | None = None,
    description: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw for each name the mean over seeds as a line, and a band from the smallest to the largest seed.

    bands: {name: (seeds, T)}, drawn against 1 to T. points: {name: (t,)}, t up to T: single measurements from elsewhere,
    such as the paper's, drawn as separate marks. Raises ValueError for another shape, or nothing to draw.
    """
    if not bands:
        raise ValueError("There is nothing to draw: bands is empty.")
    ax = new_axes(ax)
    for number, (name, values) in enumerate(bands.items()):
        runs = to_array(values)
        if runs.ndim != 2 or runs.size == 0:
            raise ValueError(f"Band {name!r} has shape {runs.shape}; expected (seeds, T).")
        places = np.arange(1, runs.shape[1] + 1)
        label = f"{name} (mean and range of {len(runs)} seeds)" if len(runs) > 1 else f"{name} (one seed)"
        (line,) = ax.plot(places, runs.mean(axis=0), linestyle=DASHES[number % len(DASHES)], label=label)
        ax.fill_between(places, runs.min(axis=0), runs.max(axis=0), color=line.get_color(), alpha=0.25, linewidth=0)
    for number, (name, values) in enumerate((points or {}).items()):
        heights = to_array(values)
        if heights.ndim != 1 or len(heights) == 0:
            raise ValueError(f"Points {name!r} have shape {heights.shape}; expected (t,).")
        marker = MARKERS[number % len(MARKERS)]
        ax.plot(np.arange(1, len(heights) + 1), heights, marker, color="black", markerfacecolor="none", label=name)
    ax.set_ylim(bottom=0)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set(xlabel=x_label, ylabel=y_label)
    ax.legend()
    words = f"{y_label} against {x_label.lower()}: {', '.join([*bands, *(points or {})])}."
    return describe(ax, words, instead=description)
