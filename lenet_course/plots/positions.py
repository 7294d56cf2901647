"""Where a kernel stands: the still picture of chapter 1's explorer."""

from __future__ import annotations

from operator import index

import matplotlib.pyplot as plt
from matplotlib.axes import Axes

from lenet_course.plots.describing import describe, new_axes

Size = int | tuple[int, int]


def kernel_positions(
    size: Size,
    kernel_size: Size,
    *,
    stride: Size = 1,
    padding: Size = 0,
    dilation: Size = 1,
    description: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw the padded input with the first and the last position of the kernel, and the output beside it.

    All settings as for `lenet_course.arithmetic.output_size`. Input pixels that no position reads are crossed out.
    Raises ValueError for a setting that is no whole number or pair of them, or too small, and if the kernel has no place to
    stand.
    """
    given = {"size": size, "kernel_size": kernel_size, "stride": stride, "padding": padding, "dilation": dilation}
    settings = [_pair(name, value) for name, value in given.items()]
    (height, width), _, _, (pad_down, pad_across), _ = settings
    down, across = (_starts(*[pair[side] for pair in settings]) for side in (0, 1))
    taps_down, taps_across = ([d * tap for tap in range(k)] for k, d in zip(settings[1], settings[4], strict=True))
    read = [
        {start + tap for start in starts for tap in taps} for starts, taps in ((down, taps_down), (across, taps_across))
    ]

    ax = new_axes(ax, figsize=(8, 3.8))
    for y in range(-pad_down, height + pad_down):
        for x in range(-pad_across, width + pad_across):
            inside = 0 <= y < height and 0 <= x < width
            _cell(ax, x, y, facecolor="white" if inside else "0.93", edgecolor="0.5", linestyle="-" if inside else ":")
            if inside and not (y in read[0] and x in read[1]):
                ax.plot(x, y, marker="x", color="C1", markersize=9, markeredgewidth=2)
    for y in down:
        for x in across:
            ax.plot(x, y, marker=".", color="black", markersize=5)
    for place, colour, hatch in ((0, "C0", "///"), (-1, "C4", "\\\\\\")):
        for y in taps_down:
            for x in taps_across:
                _cell(
                    ax, across[place] + x, down[place] + y, facecolor=colour, alpha=0.35, hatch=hatch, edgecolor=colour
                )
    right = width + pad_across + 1.5
    top = (height - len(down)) / 2
    ax.annotate("", (right + 0.6, (height - 1) / 2), (right - 1.2, (height - 1) / 2), arrowprops={"arrowstyle": "->"})
    for y in range(len(down)):
        for x in range(len(across)):
            ends = {(0, 0): ("C0", "///"), (len(down) - 1, len(across) - 1): ("C4", "\\\\\\")}
            colour, hatch = ends.get((y, x), ("white", ""))
            _cell(ax, right + 1.5 + x, top + y, facecolor=colour, alpha=0.6, hatch=hatch, edgecolor="0.3")
    words = f"{height} x {width} input"
    if pad_down or pad_across:
        words += f", padded to {height + 2 * pad_down} x {width + 2 * pad_across}"
    ax.text((width - 1) / 2, -pad_down - 0.7, words, ha="center", va="bottom")
    ax.text(right + 1 + len(across) / 2, top - 0.7, f"{len(down)} x {len(across)} output", ha="center", va="bottom")
    ax.set(xlim=(-pad_across - 1, right + 2 + len(across)), ylim=(height + pad_down, -pad_down - 2), aspect="equal")
    ax.set_axis_off()
    unread = (height - len(read[0] & set(range(height))), width - len(read[1] & set(range(width))))
    return describe(
        ax,
        f"A {words}. A kernel of {len(taps_down)} x {len(taps_across)} taps has {len(down)} places down and {len(across)} "
        f"across; a dot marks where each begins, and the first and the last are hatched, as are the two pixels of the "
        f"{len(down)} x {len(across)} output that belong to them. Never read: {unread[0]} rows and {unread[1]} columns.",
        instead=description,
    )


def _cell(ax: Axes, x: float, y: float, **style) -> None:
    ax.add_patch(plt.Rectangle((x - 0.5, y - 0.5), 1, 1, linewidth=0.8, **style))


def _pair(name: str, value: Size) -> tuple[int, int]:
    least = 0 if name == "padding" else 1
    try:
        down, across = value if isinstance(value, tuple | list) else (value, value)
        pair = index(down), index(across)
    except (TypeError, ValueError):
        raise ValueError(f"{name} is a whole number, or a pair (height, width) of them; got {value!r}.") from None
    if min(pair) < least:
        raise ValueError(f"{name} is at least {least}; got {value!r}.")
    return pair


def _starts(size: int, kernel_size: int, stride: int, padding: int, dilation: int) -> list[int]:
    """Return where the first tap stands at each place, in pixels of the input (padding is negative)."""
    covered = dilation * (kernel_size - 1) + 1
    starts = list(range(-padding, size + padding - covered + 1, stride))
    if not starts:
        raise ValueError(
            f"The kernel covers {covered} pixels, the padded input has {size + 2 * padding}: no place to stand."
        )
    return starts
