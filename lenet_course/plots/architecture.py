"""The network as a figure, drawn from its layer table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.axes import Axes

from lenet_course.plots.describing import describe, new_axes, to_array
from lenet_course.plots.maps import INK, SIGNED

MOST_SHEETS = 9
COLOURS = {"Input": "0.85", "Conv2d": "C0", "TableConv2d": "C0", "Linear": "C1", "RBFOutput": "C1"}
OTHER = "C2"  # poolings, and layers that only some networks have


def architecture(
    table: Any, *, fronts: Mapping[str, Any] | None = None, description: str | None = None, ax: Axes | None = None
) -> Axes:
    """Draw the network of a layer table (`lenet_course.arithmetic.layer_table`) from left to right.

    Maps are stacks of squares, as tall as the maps are (sizes are compressed, so that 4 x 4 can still be seen), vectors are
    bars. Above each stands what comes out, below the layer and its parameters.
    fronts: {layer name: (height, width) values} to draw on the front sheet of a stack; the input's are ink, the others'
    signed. Raises ValueError for a table without rows, or a front for a layer that is no stack.
    """
    rows = list(table.rows)
    if not rows:
        raise ValueError("There is nothing to draw: the table has no rows.")
    fronts = dict(fronts or {})
    stacks = [row.name for row in rows if _is_stack(row)]
    if not set(fronts) <= set(stacks):
        raise ValueError(f"Fronts can be drawn for {', '.join(stacks)}; got {', '.join(fronts)}.")
    ax = new_axes(ax, figsize=(11, 3.4))
    x = 0.0
    for number, row in enumerate(rows):
        colour = COLOURS.get(row.kind, OTHER)
        if _is_stack(row):
            right, top = _stack(ax, x, row.output_shape, colour, fronts.get(row.name), row.kind == "Input")
        else:
            right, top = _bar(ax, x, row.output_shape, colour)
        middle = (x + right) / 2
        ax.text(middle, top + 0.12, row.maps, ha="center", va="bottom", fontsize=11, weight="bold")
        parameters = f"{row.parameters:,}" if number else "parameters:"
        ax.text(middle, -1.62, row.name, ha="center", va="top", fontsize=11)
        ax.text(middle, -1.92, parameters, ha="center", va="top", fontsize=10, color="0.3")
        if number < len(rows) - 1:
            ax.annotate(
                "", (right + 0.68, 0), (right + 0.14, 0), arrowprops={"arrowstyle": "-|>", "color": "0.3", "lw": 1.4}
            )
        x = right + 0.82
    ax.set(xlim=(-0.3, x - 0.4), ylim=(-2.25, 1.8), aspect="equal")
    ax.set_axis_off()
    stages = ", ".join(f"{row.name} {row.maps}" for row in rows)
    words = f"The network from left to right, with the size of what comes out of each layer: {stages}."
    return describe(ax, words, instead=description)


def _is_stack(row: Any) -> bool:
    return len(row.output_shape) == 3 and row.output_shape[1:] != (1, 1)


def _stack(ax: Axes, x: float, shape: tuple[int, ...], colour: str, front: Any, is_input: bool) -> tuple[float, float]:
    """Draw maps as sheets behind each other, the first with `front` on it; return the right end and the top."""
    count, height, width = shape
    tall, wide = (2.3 * (side / 32) ** 0.6 for side in (height, width))
    sheets = min(count, MOST_SHEETS)
    step = 0.055
    depth = step * (sheets - 1)
    for sheet in reversed(range(sheets)):
        left, bottom = x + step * sheet, -tall / 2 - depth / 2 + step * sheet
        ax.add_patch(
            plt.Rectangle((left, bottom), wide, tall, facecolor=colour, edgecolor="white", linewidth=0.9, zorder=-sheet)
        )
    if front is not None:
        values = to_array(front)
        limit = max(float(abs(values).max()), 1e-9)
        bottom = -tall / 2 - depth / 2
        extent = (x, x + wide, bottom, bottom + tall)
        colours = {"cmap": INK, "vmin": 0} if is_input else {"cmap": SIGNED, "vmin": -limit}
        ax.imshow(values, **colours, vmax=limit, extent=extent, zorder=2)
        ax.add_patch(plt.Rectangle((x, bottom), wide, tall, fill=False, edgecolor=colour, linewidth=1.5, zorder=3))
    return x + wide + depth, tall / 2 + depth / 2


def _bar(ax: Axes, x: float, shape: tuple[int, ...], colour: str) -> tuple[float, float]:
    """Draw a vector as an upright bar, the taller the longer; return the right end and the top."""
    tall = 2.6 * (shape[0] / 500) ** 0.28
    ax.add_patch(plt.Rectangle((x, -tall / 2), 0.22, tall, facecolor=colour, edgecolor="white", linewidth=0.9))
    return x + 0.22, tall / 2


def parameter_share(table: Any, *, description: str | None = None, ax: Axes | None = None) -> Axes:
    """Draw a bar for each layer that has parameters: how many, and which share of all.

    Raises ValueError for a table without parameters.
    """
    rows = [row for row in table.rows if row.parameters]
    if not rows:
        raise ValueError("There is nothing to draw: no layer of the table has parameters.")
    ax = new_axes(ax, figsize=(7, 0.5 * len(rows) + 1))
    drawn = ax.barh(
        [row.name for row in rows], [row.parameters for row in rows], color="C0", edgecolor="black", linewidth=0.6
    )
    words = [f"{row.parameters:,} ({_share(row.parameters / table.parameters)})" for row in rows]
    ax.bar_label(drawn, words, padding=4)
    ax.invert_yaxis()
    ax.set(xlabel="Parameters", xlim=(0, 1.25 * max(row.parameters for row in rows)))
    ax.xaxis.set_major_formatter("{x:,.0f}")
    named = ", ".join(f"{row.name} {text}" for row, text in zip(rows, words, strict=True))
    return describe(ax, f"A bar for each layer with parameters: {named}.", instead=description)


def _share(share: float) -> str:
    return "< 0.1%" if share < 0.0005 else f"{share:.1%}"
