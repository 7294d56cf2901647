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


def digit(image: Any, *, title: str | None = None, ticks: bool = True, ax: Axes | None = None) -> Axes:
    """Draw one image, dark ink on light paper.

    image: (height, width), 0 = paper, 255 = ink. ticks: number the first and the last pixel on both sides.
    Raises ValueError for another shape.
    """
    pixels = _expect(to_array(image), 2, "one image: (height, width)")
    height, width = pixels.shape
    ax = new_axes(ax, figsize=(3, 3))
    ax.imshow(pixels, cmap=INK, vmin=0, vmax=255, extent=(-0.5, width - 0.5, height - 0.5, -0.5))
    ax.spines[:].set_visible(True)
    ax.set_xticks([0, width - 1] if ticks else [])
    ax.set_yticks([0, height - 1] if ticks else [])
    if title:
        ax.set_title(title)
    return describe(ax, f"{title or 'An image'}: {height} x {width} pixels, dark ink on light paper.")


def digits(
    images: Any,
    *,
    labels: Any = None,
    predictions: Any = None,
    columns: int = 10,
    ax: Axes | None = None,
) -> Axes:
    """Draw many images in a grid, row by row, each with its label.

    images: (N, height, width) or (N, 1, height, width). labels, predictions: (N,), or None. A wrong prediction is
    written as the paper's Figure 8 does, right digit > answer, and framed.
    Raises ValueError for another shape, or if the numbers of images, labels and predictions differ.
    """
    pixels = to_array(images)
    pixels = pixels[:, 0] if pixels.ndim == 4 and pixels.shape[1] == 1 else pixels
    _expect(pixels, 3, "images: (N, height, width)")
    given = {"labels": labels, "predictions": predictions}
    captions = {name: to_array(values).tolist() for name, values in given.items() if values is not None}
    for name, values in captions.items():
        if len(values) != len(pixels):
            raise ValueError(f"There are {len(pixels)} images and {len(values)} {name}: one for each is expected.")
    columns = min(columns, len(pixels))
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
    return describe(ax, f"{len(pixels)} images of {height} x {width} pixels in {rows} rows{named}.")


def _caption(ax: Axes, number: int, captions: dict, x: float, y: float, frame: tuple) -> None:
    label = captions.get("labels", {number: ""})[number]
    answer = captions.get("predictions", {number: label})[number]
    text = f"{label}" if answer == label else f"{label} > {answer}"
    ax.text(x, y + 1, text, ha="center", va="top", fontsize=9, fontweight="normal" if answer == label else "bold")
    if answer != label:
        top, left, height, width = frame
        ax.add_patch(plt.Rectangle((left - 0.5, top - 0.5), width, height, fill=False, edgecolor="C1", linewidth=2))


def kernels(
    weight: Any, *, columns: int | None = None, labels: Sequence[str] | None = None, ax: Axes | None = None
) -> Axes:
    """Draw kernels on one signed colour scale, centred on 0.

    weight: (out, height, width), laid out in a grid; or (out, in, height, width), a row for each output map and a column
    for each input map (a single input map is laid out as a grid). Raises ValueError for another shape.
    """
    values = to_array(weight)
    values = values[:, 0] if values.ndim == 4 and values.shape[1] == 1 else values
    if values.ndim == 4:
        columns = values.shape[1]
        text = f"{values.shape[0]} x {columns} kernels: a row for each output map, a column for each input map"
        values = values.reshape(-1, *values.shape[2:])
    else:
        _expect(values, 3, "kernels: (out, height, width) or (out, in, height, width)")
        text = f"{len(values)} kernel{'s' * (len(values) > 1)}"
    ax = _signed_mosaic(values, columns, "Weight", ax, labels)
    height, width = values.shape[1:]
    return describe(ax, f"{text}, {height} x {width} weights each. Red is positive, blue negative, white 0.")


def feature_maps(
    maps: Any,
    *,
    columns: int | None = None,
    signed: bool = True,
    numbered: bool = True,
    quantity: str = "Value",
    ax: Axes | None = None,
) -> Axes:
    """Draw the maps of one layer for one image in a grid.

    maps: (C, height, width). signed: a colour scale centred on 0; otherwise from 0 up, in grey. numbered: write each
    map's number. quantity: what the values are, for the colour scale. Raises ValueError for another shape.
    """
    values = _expect(to_array(maps), 3, "the maps of one image: (C, height, width)")
    count, height, width = values.shape
    labels = [str(number) for number in range(count)] if numbered and count > 1 else None
    if signed:
        ax = _signed_mosaic(values, columns, quantity, ax, labels)
        colours = "Red is positive, blue negative, white 0."
    else:
        ax = _mosaic(values, columns, ax, labels, INK, 0, max(float(values.max()), 1e-9), quantity)
        colours = "White is 0; the darker, the larger."
    return describe(ax, f"{count} map{'s' * (count > 1)} of {height} x {width} values. {colours}")


def _signed_mosaic(values: np.ndarray, columns: int | None, quantity: str, ax: Axes | None, labels: Any) -> Axes:
    limit = max(float(np.abs(values).max()), 1e-9)
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
    columns = columns or (count if count <= 4 else 10 if count % 10 == 0 else math.ceil(math.sqrt(count * 1.6)))
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


def _expect(values: np.ndarray, axes: int, what: str) -> np.ndarray:
    if values.ndim != axes or values.size == 0:
        raise ValueError(f"Expected {what}; got shape {values.shape}.")
    return values
