"""Pictures of numbers: curves, bars, a confusion matrix."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from lenet_course.plots.describing import describe, new_axes, to_array

# Lines differ in dash and marker too, so that they can be told apart without colour.
DASHES = ("-", "--", "-.", ":")
MARKERS = ("o", "s", "^", "D", "v")


def curves(
    series: Mapping[str, Sequence[float]],
    *,
    x_label: str,
    y_label: str,
    x: Sequence[float] | None = None,
    log_y: bool = False,
    description: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw one line for each series, against x (by default 1, 2, 3, ...).

    series: {name: values}. x_label, y_label: quantity and unit, such as "Test error (%)".
    Raises ValueError if there is no series, one is empty, or its length is not that of x.
    """
    if not series:
        raise ValueError("There is nothing to draw: series is empty.")
    ax = new_axes(ax)
    for number, (name, values) in enumerate(series.items()):
        values = to_array(values)
        places = np.arange(1, len(values) + 1) if x is None else np.asarray(x)
        if values.ndim != 1 or len(values) == 0 or len(places) != len(values):
            raise ValueError(
                f"Series {name!r} has shape {values.shape}; expected ({len(places)},), one value for each x."
            )
        marker = MARKERS[number % len(MARKERS)] if len(values) <= 30 else None
        ax.plot(places, values, label=name, linestyle=DASHES[number % len(DASHES)], marker=marker)
    if len(series) > 1:
        ax.legend()
    if log_y:
        ax.set_yscale("log")
    elif min(np.nanmin(to_array(values)) for values in series.values()) >= 0:
        ax.set_ylim(bottom=0)
    if x is None:
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))  # they are counted: there is no epoch 1.5
    ax.set(xlabel=x_label, ylabel=y_label)
    return describe(ax, f"{y_label} against {x_label.lower()}: {', '.join(series)}.", instead=description)


def bars(
    values: Any,
    *,
    x_label: str,
    y_label: str,
    labels: Sequence[Any] | None = None,
    highlight: int | None = None,
    description: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw a bar for each value; the one with the number `highlight` is hatched and in another colour.

    values: (N,). labels: N names, by default the numbers. Raises ValueError for another shape or number of labels, or if
    there is no bar with the number highlight.
    """
    heights = np.atleast_1d(to_array(values))
    names = [str(label) for label in (range(len(heights)) if labels is None else labels)]
    if heights.ndim != 1 or len(names) != len(heights):
        raise ValueError(
            f"bars takes one row of values and as many labels; got {heights.shape} and {len(names)} labels."
        )
    if highlight is not None and not 0 <= highlight < len(heights):
        raise ValueError(f"There are bars 0 to {len(heights) - 1}; bar {highlight} cannot be marked.")
    ax = new_axes(ax, figsize=(6, 3))
    drawn = ax.bar(names, heights, color="C0", edgecolor="black", linewidth=0.6)
    if highlight is not None:
        drawn[highlight].set(hatch="///", facecolor="C4")
    ax.axhline(0, color="black", linewidth=0.8)
    ax.set(xlabel=x_label, ylabel=y_label)
    marked = "" if highlight is None else f" {names[highlight]} is marked."
    words = f"{len(names)} bars: {y_label.lower()} for {x_label.lower()} {', '.join(names)}.{marked}"
    return describe(ax, words, instead=description)


def confusion_matrix(confusion: Any, *, description: str | None = None, ax: Axes | None = None) -> Axes:
    """Draw counts of right digit (rows) against answer (columns). Shading is for the errors; the diagonal is left plain.

    confusion: (10, 10) counts, or any square of them. Raises ValueError for another shape.
    """
    counts = to_array(confusion)
    if counts.ndim != 2 or counts.shape[0] != counts.shape[1]:
        raise ValueError(f"A confusion matrix is a square of counts, such as (10, 10); got shape {counts.shape}.")
    size = len(counts)
    ax = new_axes(ax, figsize=(6, 5.2))
    errors = np.where(np.eye(size, dtype=bool), 0, counts)
    most = max(int(errors.max()), 1)
    picture = ax.imshow(errors, cmap="Oranges", vmin=0, vmax=most)
    for row in range(size):
        for column in range(size):
            if counts[row, column]:
                colour = "white" if errors[row, column] > 0.7 * most else "black"
                weight = "bold" if row == column else "normal"
                ax.text(
                    column, row, int(counts[row, column]), ha="center", va="center", color=colour, weight=weight, size=9
                )
    ax.set(xlabel="Answer", ylabel="Right digit", xticks=range(size), yticks=range(size))
    ax.spines[:].set_visible(True)
    ax.figure.colorbar(picture, ax=ax, label="Errors (digits)", shrink=0.8)
    words = f"A {size} x {size} table of counts: a row for each right digit, a column for each answer."
    return describe(ax, words, instead=description)


def score_history(
    scores: Any,
    *,
    label: int,
    x: Sequence[float] | None = None,
    x_label: str = "Training step",
    y_label: str = "Score",
    description: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw how the ten scores of one digit change; the right digit's line is thick, each line ends in its digit.

    scores: (T, 10), T from 1. label: the right digit, 0 to 9. x: (T,), by default 1 to T. Raises ValueError for another
    shape or label.
    """
    values = np.atleast_1d(to_array(scores))
    places = np.arange(1, len(values) + 1) if x is None else np.asarray(x)
    if values.ndim != 2 or values.shape[1] != 10 or len(values) == 0 or len(places) != len(values):
        raise ValueError(
            f"score_history takes scores (T, 10) and T places; got {values.shape} and {len(places)} places."
        )
    if label not in range(10):
        raise ValueError(f"The right digit is one of 0 to 9; got {label}.")
    ax = new_axes(ax, figsize=(7, 4))
    values_range = float(np.ptp(values))
    if values_range == 0:  # ten equal scores: room for ten labels
        ax.set_ylim(values[0, 0] - 0.5, values[0, 0] + 0.5)
    heights = _apart(values[-1], 0.05 * (values_range or 1))
    for number in range(10):
        right = number == label
        (line,) = ax.plot(
            places,
            values[:, number],
            color="C1" if right else f"C{number % 7}" if number % 7 != 1 else "0.4",
            linestyle="-" if right else DASHES[number % len(DASHES)],
            linewidth=3 if right else 1.1,
        )
        end = places[-1] + 0.012 * (places[-1] - places[0])
        ax.text(
            end, heights[number], str(number), color=line.get_color(), va="center", weight="bold" if right else None
        )
    ax.set(xlabel=x_label, ylabel=y_label)
    words = f"Ten lines: the score of each digit against {x_label.lower()} for an image of a {label}."
    return describe(ax, words, instead=description)


def _apart(heights: np.ndarray, gap: float) -> np.ndarray:
    """Push labels apart until neighbours are `gap` from each other, each as little as that takes."""
    order = np.argsort(heights)
    placed = heights[order].astype(float)
    for _ in range(200):
        overlap = gap - np.diff(placed)
        if (overlap <= 1e-9).all():
            break
        push = np.clip(overlap, 0, None) / 2
        placed[:-1] -= push
        placed[1:] += push
    apart = np.empty_like(placed)
    apart[order] = placed
    return apart
