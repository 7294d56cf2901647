"""Pictures made of pixels: digits, kernels, feature maps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from lenet_course.plots.describing import describe, new_axes, to_array

SIGNED, INK = "RdBu_r", "gray_r"
RASTER = 16  # up to this many pixels a side, lines part them and there is room for their values


def digit(
    image: Any,
    *,
    title: str | None = None,
    ticks: bool = True,
    value_range: tuple[float, float] = (0, 255),
    numbers: bool = False,
    description: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw one image, dark ink on light paper. Up to 16 x 16 pixels, lines part them.

    image: (height, width). ticks: number the first and the last pixel on both sides. value_range: the values of paper and
    of ink. numbers: write each pixel's value into it.
    Raises ValueError for another shape, an empty range, or numbers in more than 16 x 16 pixels.
    """
    pixels = _expect(to_array(image), 2, "one image: (height, width)")
    height, width = pixels.shape
    paper, ink = value_range
    if not paper < ink:
        raise ValueError(f"value_range is (paper, ink), the smaller value first; got {value_range}.")
    small = max(height, width) <= RASTER
    if numbers and not small:
        raise ValueError(
            f"Numbers can be read in up to {RASTER} x {RASTER} pixels; got {height} x {width}. Draw a part: image[:8, :8]."
        )
    ax = new_axes(ax, figsize=(max(3, 0.45 * width), max(3, 0.45 * height)) if numbers else (3, 3))
    ax.imshow(pixels, cmap=INK, vmin=paper, vmax=ink, extent=(-0.5, width - 0.5, height - 0.5, -0.5))
    if small:
        lines = {"colors": "0.6", "linewidth": 0.6}
        ax.vlines(np.arange(1, width) - 0.5, -0.5, height - 0.5, **lines)
        ax.hlines(np.arange(1, height) - 0.5, -0.5, width - 0.5, **lines)
    if numbers:
        for (y, x), value in np.ndenumerate(pixels):
            colour = "white" if value - paper > 0.5 * (ink - paper) else "black"
            ax.text(x, y, f"{value:.3g}", ha="center", va="center", fontsize=9, color=colour)
    ax.spines[:].set_visible(True)
    ax.set_xticks([0, width - 1] if ticks else [])
    ax.set_yticks([0, height - 1] if ticks else [])
    if title:
        ax.set_title(title)
    written = ", each with its value written in it" if numbers else ""
    words = f"{title or 'An image'}: {height} x {width} pixels, dark ink on light paper{written}."
    return describe(ax, words, instead=description)


def digits(
    images: Any,
    *,
    labels: Any = None,
    predictions: Any = None,
    columns: int = 10,
    description: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw many images in a grid, row by row, each with its label.

    images: (N, height, width) or (N, 1, height, width), 0 = paper. labels, predictions: (N,), or None. A wrong prediction
    is written as the paper's Figure 8 does, right digit > answer, and framed.
    Raises ValueError for another shape, if the numbers of images, labels and predictions differ, or for predictions
    without labels.
    """
    pixels = to_array(images)
    pixels = pixels[:, 0] if pixels.ndim == 4 and pixels.shape[1] == 1 else pixels
    _expect(pixels, 3, "images: (N, height, width)")
    given = {"labels": labels, "predictions": predictions}
    captions = {name: to_array(values).tolist() for name, values in given.items() if values is not None}
    for name, values in captions.items():
        if len(values) != len(pixels):
            raise ValueError(f"There are {len(pixels)} images and {len(values)} {name}: one for each is expected.")
    if predictions is not None and labels is None:
        raise ValueError("Predictions without labels cannot be marked right or wrong: give labels as well.")
    columns = min(_columns(columns), len(pixels))
    rows = math.ceil(len(pixels) / columns)
    ax = new_axes(ax, figsize=(0.78 * columns, 0.98 * rows))
    height, width = pixels.shape[1:]
    cell_height, cell_width = height + height // 3, width + max(2, width // 9)  # room for a caption below
    mosaic = np.zeros((rows * cell_height, columns * cell_width))
    for number, image in enumerate(pixels):
        top, left = number // columns * cell_height, number % columns * cell_width
        mosaic[top : top + height, left : left + width] = image
        _caption(ax, number, captions, left + width / 2, top + height, (top, left, height, width))
    ax.imshow(mosaic, cmap=INK, vmin=0, vmax=max(float(pixels.max()), 1e-9))
    ax.set_axis_off()
    named = f", labelled {', '.join(map(str, captions['labels']))}" if "labels" in captions else ""
    words = f"{len(pixels)} images of {height} x {width} pixels in {rows} rows{named}."
    return describe(ax, words, instead=description)


def _caption(ax: Axes, number: int, captions: dict, x: float, y: float, frame: tuple) -> None:
    label = captions.get("labels", {number: ""})[number]
    answer = captions.get("predictions", {number: label})[number]
    text = f"{label}" if answer == label else f"{label} > {answer}"
    ax.text(x, y + 1, text, ha="center", va="top", fontsize=9, fontweight="normal" if answer == label else "bold")
    if answer != label:
        top, left, height, width = frame
        ax.add_patch(plt.Rectangle((left - 0.5, top - 0.5), width, height, fill=False, edgecolor="C1", linewidth=2))


def kernels(
    weight: Any,
    *,
    columns: int | None = None,
    labels: Sequence[str] | None = None,
    limit: float | None = None,
    description: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw kernels on one signed colour scale, centred on 0.

    weight: (out, height, width), laid out in a grid; or (out, in, height, width), a row for each output map and a column
    for each input map (a single input map is laid out as a grid). columns: how wide the grid is; with several input maps,
    how many of them are drawn. limit: the scale goes from -limit to limit, by default the largest absolute weight.
    Raises ValueError for another shape, number of labels or limit.
    """
    values = to_array(weight)
    values = values[:, 0] if values.ndim == 4 and values.shape[1] == 1 else values
    by_map = values.ndim == 4
    if by_map:
        _expect(values, 4, "kernels: (out, height, width) or (out, in, height, width)")
        inputs = values.shape[1]
        columns = min(_columns(columns), inputs) if columns is not None else inputs
        part = "" if columns == inputs else f" of the first {columns}"
        text = f"{len(values)} x {columns} kernels: a row for each output map, a column for each input map{part}"
        values = values[:, :columns].reshape(-1, *values.shape[2:])
    else:
        _expect(values, 3, "kernels: (out, height, width) or (out, in, height, width)")
        text = f"{len(values)} kernel{'s' * (len(values) > 1)}"
    if labels is not None and len(labels) != len(values):
        raise ValueError(f"There are {len(values)} kernels and {len(labels)} labels: one for each is expected.")
    ax = _signed_mosaic(values, columns, "Weight", ax, labels, limit)
    if by_map:
        _name_rows_and_columns(ax, len(values) // columns, columns)
    height, width = values.shape[1:]
    words = f"{text}, {height} x {width} weights each. Red is positive, blue negative, white 0."
    return describe(ax, words, instead=description)


def _name_rows_and_columns(ax: Axes, rows: int, columns: int) -> None:
    """Number output maps down and input maps across: all, or every 2nd, 5th, ... where they are many."""
    frames = [frame.get_bbox() for frame in ax.patches]
    every_row, every_column = (next(step for step in (1, 2, 5, 10, 20, n) if n <= 20 * step) for n in (rows, columns))
    down, across = range(0, rows, every_row), range(0, columns, every_column)
    ax.set_axis_on()
    ax.spines[:].set_visible(False)
    ax.set_xticks([(frames[column].x0 + frames[column].x1) / 2 for column in across], list(across), fontsize=9)
    ax.set_yticks([(frames[row * columns].y0 + frames[row * columns].y1) / 2 for row in down], list(down), fontsize=9)
    ax.tick_params(length=0)
    ax.set(xlabel="Input map", ylabel="Output map")


def feature_maps(
    maps: Any,
    *,
    columns: int | None = None,
    signed: bool | None = True,
    numbered: bool = True,
    quantity: str = "Value",
    description: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw the maps of one layer for one image in a grid.

    maps: (C, height, width). signed: a colour scale centred on 0; otherwise from 0 up, in grey; None: signed if a value is
    negative. numbered: write each map's number. quantity: what the values are, for the colour scale.
    Raises ValueError for another shape.
    """
    values = _expect(to_array(maps), 3, "the maps of one image: (C, height, width)")
    count, height, width = values.shape
    labels = [str(number) for number in range(count)] if numbered and count > 1 else None
    signed = bool((values < 0).any()) if signed is None else signed
    if signed:
        ax = _signed_mosaic(values, columns, quantity, ax, labels)
        colours = "Red is positive, blue negative, white 0."
    else:
        ax = _mosaic(values, columns, ax, labels, INK, 0, max(float(values.max()), 1e-9), quantity)
        colours = "White is 0; the darker, the larger."
    words = f"{count} map{'s' * (count > 1)} of {height} x {width} values. {colours}"
    return describe(ax, words, instead=description)


def _signed_mosaic(
    values: np.ndarray,
    columns: int | None,
    quantity: str,
    ax: Axes | None,
    labels: Any,
    limit: float | None = None,
) -> Axes:
    if limit is not None and not limit > 0:
        raise ValueError(f"The colour scale goes from -limit to limit: limit must be above 0; got {limit}.")
    limit = max(float(np.abs(values).max()), 1e-9) if limit is None else limit
    return _mosaic(values, columns, ax, labels, SIGNED, -limit, limit, quantity)


def _mosaic(
    values: np.ndarray,
    columns: int | None,
    ax: Axes | None,
    labels: Any,
    colours: str,
    low: float,
    high: float,
    quantity: str,
) -> Axes:
    count, height, width = values.shape
    columns = (
        _columns(columns)
        if columns is not None
        else (count if count <= 4 else 10 if count % 10 == 0 else math.ceil(math.sqrt(count * 1.6)))
    )
    rows = math.ceil(count / columns)
    gap = max(1, width // 8) if count > 1 else 0
    above = gap + (height // 4 + 1 if labels else 0)
    grid = np.full((rows * (height + above), columns * (width + gap)), np.nan)
    if ax is None:
        scale = min(8.2 / (columns * (width + gap)), 5.0 / (rows * (height + above)))
        ax = new_axes(None, figsize=(grid.shape[1] * scale + 1.0, grid.shape[0] * scale + 0.45))
    for number, value in enumerate(values):
        top, left = number // columns * (height + above) + above, number % columns * (width + gap)
        grid[top : top + height, left : left + width] = value
        frame = plt.Rectangle((left - 0.5, top - 0.5), width, height, fill=False, edgecolor="0.6", linewidth=0.6)
        ax.add_patch(frame)
        if labels:
            ax.text(left + width / 2 - 0.5, top - 0.7, labels[number], ha="center", va="bottom", fontsize=8)
    picture = ax.imshow(grid, cmap=colours, vmin=low, vmax=high)
    ax.set(xlim=(-0.9, grid.shape[1] - gap - 0.1), ylim=(grid.shape[0] - 0.1, -0.5))  # room for the frames' lines
    ax.set_axis_off()
    ax.figure.colorbar(picture, ax=ax, label=quantity, shrink=0.8, aspect=18, pad=0.02)
    return ax


def _columns(columns: int) -> int:
    if columns < 1:
        raise ValueError(f"A grid has at least 1 column; got columns={columns}.")
    return columns


def _expect(values: np.ndarray, axes: int, what: str) -> np.ndarray:
    if values.ndim != axes or values.size == 0:
        raise ValueError(f"Expected {what}; got shape {values.shape}.")
    return values
