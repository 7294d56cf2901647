"""Pictures of tables: which map reads which, and numbers by row and column."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes

from lenet_course.plots.describing import describe, new_axes, to_array


def connection_table(
    connected: Any,
    *,
    row_label: str = "Map of S2",
    column_label: str = "Map of C3",
    description: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw a grid with an X in a shaded cell where two maps are connected, as the paper's Table I does.

    connected: (rows, columns) bool. Raises ValueError for another shape.
    """
    cells = to_array(connected).astype(bool)
    if cells.ndim != 2 or cells.size == 0:
        raise ValueError(f"connection_table takes a grid (rows, columns) of bool; got shape {cells.shape}.")
    rows, columns = cells.shape
    ax = new_axes(ax, figsize=(0.42 * columns + 0.8, 0.42 * rows + 0.8))
    ax.imshow(0.35 * cells, cmap="gray_r", vmin=0, vmax=1)
    for row, column in np.argwhere(cells):
        ax.text(column, row, "X", ha="center", va="center")
    _rule(ax, rows, columns)
    ax.set(xlabel=column_label, ylabel=row_label)
    marked = "; ".join(
        f"{column}: {', '.join(map(str, np.flatnonzero(cells[:, column])))}" for column in range(columns)
    )
    words = (
        f"A table of {rows} rows and {columns} columns with {cells.sum()} marks. Rows marked in each column: {marked}."
    )
    return describe(ax, words, instead=description)


def number_grid(
    values: Any,
    *,
    x_label: str,
    y_label: str,
    quantity: str,
    number_format: str = ".0f",
    highlight: Any = (),
    largest: float | None = None,
    description: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw numbers in a grid, the larger the darker; the cells of highlight are framed.

    values: (rows, columns), 0 or above. quantity: what they are. highlight: (row, column) pairs. largest: the darkest value,
    by default the largest of these (for pictures that stand side by side).
    Raises ValueError for another shape or negative values.
    """
    numbers = to_array(values).astype(float)
    if numbers.ndim != 2 or numbers.size == 0 or (numbers < 0).any():
        raise ValueError(f"number_grid takes (rows, columns) values of 0 or above; got shape {numbers.shape}.")
    rows, columns = numbers.shape
    ax = new_axes(ax, figsize=(0.55 * columns + 1.2, 0.5 * rows + 0.8))
    largest = max(float(numbers.max()) if largest is None else largest, 1e-9)
    ax.imshow(numbers, cmap="Blues", vmin=0, vmax=1.2 * largest, aspect="auto")
    for (row, column), number in np.ndenumerate(numbers):
        colour = "white" if number > 0.8 * largest else "black"
        ax.text(column, row, f"{number:{number_format}}", ha="center", va="center", fontsize=9, color=colour)
    for row, column in highlight:
        ax.plot(*_frame(row, column), color="#D55E00", linewidth=2.5)
    _rule(ax, rows, columns)
    ax.set(xlabel=x_label, ylabel=y_label)
    framed = "" if not len(highlight) else f" Framed: {', '.join(f'{row} and {column}' for row, column in highlight)}."
    words = (
        f"{quantity} in a table of {rows} rows ({y_label.lower()}) and {columns} columns ({x_label.lower()}).{framed}"
    )
    return describe(ax, words, instead=description)


def _rule(ax: Axes, rows: int, columns: int) -> None:
    ax.hlines(np.arange(rows + 1) - 0.5, -0.5, columns - 0.5, color="0.6", linewidth=0.6)
    ax.vlines(np.arange(columns + 1) - 0.5, -0.5, rows - 0.5, color="0.6", linewidth=0.6)
    ax.set_xticks(range(columns))
    ax.set_yticks(range(rows))
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)


def _frame(row: int, column: int) -> tuple[list[float], list[float]]:
    left, right, top, bottom = column - 0.5, column + 0.5, row - 0.5, row + 0.5
    return [left, right, right, left, left], [top, top, bottom, bottom, top]
