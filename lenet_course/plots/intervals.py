"""Pictures of differences with their uncertainty."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes

from lenet_course.plots.describing import describe, new_axes


def intervals(
    rows: Mapping[str, tuple[float, float, float]],
    *,
    x_label: str,
    single: Mapping[str, Sequence[float]] | None = None,
    marked: Mapping[str, Sequence[float]] | None = None,
    limit: float | None = None,
    description: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw a line for each row: its mean as a dot, its interval as a bar; grey and hollow where the interval holds 0.

    rows: {name: (low, mean, high)}, the first on top. single: {name: values}, drawn as small ticks below, one a seed.
    marked: {name: values}, drawn as stars. limit: where the axis ends on the right; what lies beyond is drawn at the edge
    as an arrow with its mean beside it. Raises ValueError for no row, an interval that does not hold its mean, or a name in
    single or marked that is no row's.
    """
    if not rows:
        raise ValueError("There is nothing to draw: rows is empty.")
    for name, (low, mean, high) in rows.items():
        if not low <= mean <= high:
            raise ValueError(f"Row {name!r} should be (low, mean, high) in this order; got {(low, mean, high)}.")
    for name in [*(single or {}), *(marked or {})]:
        if name not in rows:
            raise ValueError(f"There is no row {name!r} to draw values in. There are: {', '.join(rows)}.")
    ax = new_axes(ax, figsize=(8, 0.32 * len(rows) + 1))
    ax.axvline(0, color="black", linewidth=1)
    for height, (name, (low, mean, high)) in enumerate(rows.items()):
        sure = not low <= 0 <= high
        colour = "0.55" if not sure else "C0" if mean < 0 else "C1"
        if limit is not None and mean > limit:
            ax.annotate(f"{mean:+.1f} \N{RIGHTWARDS ARROW}", (limit, height), color=colour, ha="right", va="center")
        else:
            ax.plot((low, high), (height, height), color=colour, linewidth=3, solid_capstyle="butt", alpha=0.8)
            face = colour if sure else "white"
            ax.plot(mean, height, "o", color=colour, markerfacecolor=face, markersize=6)
        ticks = (single or {}).get(name, ())
        ax.plot(ticks, [height + 0.3] * len(ticks), "|", color="0.45", markersize=5)
        stars = (marked or {}).get(name, ())
        ax.plot(stars, [height] * len(stars), "*", color="C2", markeredgecolor="black", markersize=13, zorder=5)
    ax.set_yticks(range(len(rows)), list(rows))
    ax.set_ylim(len(rows) - 0.5, -0.5)
    ax.grid(axis="y", alpha=0.25)
    if limit is not None:
        drawn = [0.0, *(end for low, _, high in rows.values() for end in (low, high))]
        drawn += [value for values in (*(single or {}).values(), *(marked or {}).values()) for value in values]
        lowest = min(drawn)
        ax.set_xlim(lowest - 0.05 * (limit - lowest), limit)
    ax.set_xlabel(x_label)
    return describe(ax, f"{x_label}, mean and 95% interval, for {', '.join(rows)}.", instead=description)
