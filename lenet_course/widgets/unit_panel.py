"""The panel below the unit explorer's maps: one unit's arithmetic as HTML, numbers where there is room for them."""

from __future__ import annotations

import html
import math

from torch import Tensor

from lenet_course.units import RELU, SQUASH, MapRead, UnitExplanation, number_words, unit_name

# Up to so many inputs of a unit, and of one map, each one is written out; beyond, pictures and the largest.
MOST_NUMBERS, MOST_NUMBERS_A_MAP = 150, 84
LARGEST_SHOWN = 10
# JupyterLab's own colours where there are some, then those of VS Code, so that light and dark themes both work.
_INK = "var(--jp-ui-font-color1, var(--vscode-editor-foreground, #212121))"
_PAPER = "var(--jp-layout-color0, var(--vscode-editor-background, #ffffff))"
_FAINT = "var(--jp-border-color1, #9e9e9e)"
_KERNEL = "var(--lenet-frame, #d55e00)"
# Red, green, blue; unit_explorer.js sets lighter ones for dark themes.
_COLOURS = "--above: var(--lenet-above, 178 24 43); --below: var(--lenet-below, 33 102 172)"
_ABOVE, _BELOW = "var(--above)", "var(--below)"
_ROW = 'style="display: flex; flex-wrap: wrap; gap: 8px 24px; align-items: flex-start"'
_CAPTION = "margin: 0.5em 0 0.2em; font-weight: 600"


def unit_panel(explanation: UnitExplanation) -> str:
    """Return one unit's arithmetic as HTML: what it sees on the digit, the sum step by step, then what it reads.

    Up to 150 inputs, 84 of a map, are written out as numbers on a red and blue ground. More are drawn as pictures, with the ten
    largest products as numbers. Everything shown is rounded to three decimals, or given in powers of ten.
    """
    e = explanation
    count = sum(read.inputs.numel() for read in e.reads)
    few = count <= MOST_NUMBERS and all(read.inputs.numel() <= MOST_NUMBERS_A_MAP for read in e.reads)
    draw = _numbers if few else _pictures
    scales = [_largest(kind, e.reads) for kind in ("inputs", "weights", "products")]
    return (
        f'<div style="{_COLOURS}; color: {_INK}; background: {_PAPER}; padding: 4px 0">'
        f'<p style="{_CAPTION}">{html.escape(unit_name(e.layer, e.index))}</p>'
        f'<p style="margin: 0.2em 0">{html.escape(e.words)}</p>'
        f"<div {_ROW}>{_digit(e)}{_steps(e, count)}</div>"
        f"{_legend(e, scales)}"
        f"{'' if few else _largest_products(e)}"
        f"<div {_ROW}>{''.join(_one_map(e, read, scales, draw) for read in e.reads)}</div></div>"
    )


def problem_panel(words: str) -> str:
    """Return a panel that says what went wrong."""
    return (
        f'<p role="alert" style="color: {_INK}; background: {_PAPER}; padding: 4px 8px; '
        f'border-left: 4px solid {_KERNEL}"><b>That did not work.</b> {html.escape(words)}</p>'
    )


# --- What it sees, and the sum --------------------------------------------------------------------------------------


def _digit(e: UnitExplanation) -> str:
    """The network's input, with a frame around what the unit sees."""
    side, cell = e.image.shape[0], 5
    low, high = e.image.min().item(), e.image.max().item()
    ink = ((e.image - low) / (high - low or 1)).tolist()
    pixels = "".join(
        f'<rect x="{column * cell}" y="{row * cell}" width="{cell}" height="{cell}" fill-opacity="{value:.2f}"/>'
        for row, line in enumerate(ink)
        for column, value in enumerate(line)
        if value > 0.02
    )
    (top, bottom), (left, right) = e.rows, e.columns
    seen = (
        f'<rect class="seen" x="{left * cell}" y="{top * cell}" width="{(right - left + 1) * cell}" '
        f'height="{(bottom - top + 1) * cell}" style="fill: none; stroke: {_KERNEL}; stroke-width: 2"/>'
    )
    label = f"The input, {side} x {side}; the unit sees rows {top} to {bottom} and columns {left} to {right}."
    edge = f'<rect width="{side * cell}" height="{side * cell}" style="fill: none; stroke: {_FAINT}"/>'
    return (
        f'<svg role="img" aria-label="{label}" width="{side * cell + 2}" height="{side * cell + 2}" '
        f'viewBox="-1 -1 {side * cell + 2} {side * cell + 2}" xmlns="http://www.w3.org/2000/svg">'
        f'{edge}<g style="fill: {_INK}">{pixels}</g>{seen}</svg>'
    )


def _steps(e: UnitExplanation, count: int) -> str:
    """The sum, line by line, with this unit's numbers."""
    total, output = number_words(e.sum), number_words(e.output)
    if e.kind == "max pooling":
        lines = [f"largest of four = <b>{total}</b>, from row {e.winner[0]}, column {e.winner[1]} of {e.previous}"]
    elif e.kind == "subsampling":
        terms = " + ".join(_bracketed(value) for value in e.reads[0].inputs.flatten().tolist())
        lines = [
            f"added = {terms} = {number_words(e.added)}",
            f"sum = coefficient &times; added + bias = {_bracketed(e.coefficient)} &times; {_bracketed(e.added)} "
            f"+ {_bracketed(e.bias)} = <b>{total}</b>",
        ]
    elif e.kind == "distance":
        lines = [f"sum = {count} squared differences added = <b>{total}</b>"]
    else:
        products = sum(read.products.double().sum().item() for read in e.reads)
        lines = [
            f"{count} products added = {number_words(products)}",
            f"sum = products + bias = {_bracketed(products)} + {_bracketed(e.bias)} = <b>{total}</b>",
        ]
    if e.after == SQUASH:
        lines.append(f"output = 1.7159 tanh(2/3 &times; sum) = <b>{output}</b>")
    elif e.after == RELU:
        lines.append(f"output = max(0, {'largest' if e.winner else 'sum'}) = <b>{output}</b>")
    else:
        lines.append(f"output = <b>{output}</b>, as it is")
    return f'<p style="margin: 0.4em 0; font-family: monospace">{"<br>".join(lines)}</p>'


def _legend(e: UnitExplanation, scales: list[float]) -> str:
    names = ("inputs", *_titles(e)[1:])
    reach = ", ".join(f"{name} ±{number_words(scale)}" for name, scale in zip(names, scales, strict=True) if scale)
    return (
        '<p style="margin: 0.4em 0">Red is above 0, blue with a minus below; '
        f"the strongest colour stands for: {reach or 'nothing, all are 0'}. All numbers are rounded.</p>"
    )


# --- What it reads --------------------------------------------------------------------------------------------------


def _titles(e: UnitExplanation) -> tuple[str, ...]:
    return {
        "distance": (e.previous, f"code of {e.index[0]}", "squared differences"),
        "subsampling": ("inputs", "coefficient", "products"),
    }.get(e.kind, ("inputs", "weights", "products"))


def _one_map(e: UnitExplanation, read: MapRead, scales: list[float], draw) -> str:
    if read.map is None:
        where = f"all of {e.previous}"
    else:
        where = f"map {read.map} of {e.previous}" if e.previous != "input" else "the image"
        where += f", rows {read.rows[0]} to {read.rows[1]}, columns {read.columns[0]} to {read.columns[1]}"
    if read.products is not None and len(e.reads) > 1:
        where += f": products add to {number_words(read.products.double().sum().item())}"
    parts = zip((read.inputs, read.weights, read.products), _titles(e), scales, strict=True)
    marked = e.winner and (e.winner[0] - read.rows[0], e.winner[1] - read.columns[0])
    drawn = "".join(
        draw(_as_grid(values), title, scale, marked) for values, title, scale in parts if values is not None
    )
    if draw is _pictures:  # many maps: one short line for each
        where = f"map {read.map}" if read.map is not None else where
    return f'<div><p style="{_CAPTION}">{where}</p><div style="display: flex; flex-wrap: wrap; gap: 10px">{drawn}</div></div>'


def _numbers(values: Tensor, title: str, scale: float, marked: tuple[int, int] | None = None) -> str:
    """A table of numbers on a ground of red or blue; the marked one in a frame."""
    # Codes and blank paper are whole numbers; beside large numbers small ones are 0.000, unless all are small.
    whole = bool((values == values.round()).all())
    form = "{:.0f}" if whole else "{:.3f}" if 0.01 <= scale < 1e6 else "{:.1e}"
    rows = "".join(
        f"<tr>{''.join(_cell(value, form, scale, (row, column) == marked) for column, value in enumerate(line))}</tr>"
        for row, line in enumerate(values.tolist())
    )
    return (
        f'<table style="border-collapse: collapse; font: 11px monospace"><caption style="text-align: left; '
        f'color: {_INK}">{title}</caption><tbody>{rows}</tbody></table>'
    )


def _cell(value: float, form: str, scale: float, marked: bool) -> str:
    # At most half-strong, so that the number stays legible on it in light and dark.
    ground = f"rgb({_BELOW if value < 0 else _ABOVE} / {_strength(value, scale) * 0.5:.2f})"
    border = f"3px double {_INK}" if marked else f"1px solid {_FAINT}"
    return (
        f'<td style="background: {ground}; text-align: right; padding: 1px 4px; color: {_INK}; '
        f'border: {border}">{form.format(value or 0.0)}</td>'
    )


def _pictures(values: Tensor, title: str, scale: float, marked: None = None) -> str:
    """Squares of red or blue, those below 0 with a minus."""
    height, width = values.shape
    cell = 9
    # One path for all squares of about the same colour: a path each would be 300 kB for fc1, at each step of a key.
    paths, minuses = {}, []
    for row, line in enumerate(values.tolist()):
        for column, value in enumerate(line):
            strength = math.ceil(_strength(value, scale) * 8 - 0.25)
            if not strength:
                continue
            paths.setdefault((value < 0, strength), []).append(f"M{column * cell} {row * cell}h{cell}v{cell}h-{cell}z")
            if value < 0:
                minuses.append(f"M{column * cell + 2} {row * cell + 4.5}h{cell - 4}")
    squares = "".join(
        f'<path d="{"".join(corners)}" style="fill: rgb({_BELOW if below else _ABOVE} / {strength / 8:g})"/>'
        for (below, strength), corners in paths.items()
    )
    label = f"{title}: {height} x {width} numbers from {number_words(values.min().item())} to {number_words(values.max().item())}"
    return (
        f'<figure style="margin: 0"><figcaption style="font-size: 11px">{title}</figcaption>'
        f'<svg role="img" aria-label="{label}" width="{width * cell + 2}" height="{height * cell + 2}" '
        f'viewBox="-1 -1 {width * cell + 2} {height * cell + 2}" xmlns="http://www.w3.org/2000/svg">{squares}'
        f'<path d="{"".join(minuses)}" style="stroke: {_INK}; fill: none"/>'
        f'<rect width="{width * cell}" height="{height * cell}" style="fill: none; stroke: {_FAINT}"/></svg></figure>'
    )


def _largest_products(e: UnitExplanation) -> str:
    """The products that decide the sum, as numbers, and what all others add up to."""
    entries = []
    for read in e.reads:
        grids = (read.inputs, read.weights, read.products)
        numbers = zip(*(grid.flatten().tolist() for grid in grids), strict=True)
        for place, (value, weight, product) in enumerate(numbers):
            entries.append((abs(product), _place(read, place), value, weight, product))
    entries.sort(key=lambda entry: -entry[0] if entry[0] == entry[0] else 0)
    shown, rest = entries[:LARGEST_SHOWN], entries[LARGEST_SHOWN:]
    td = f'<td style="text-align: right; padding: 1px 8px; color: {_INK}">'
    lines = [
        f"<tr>{td}{where}</td>{td}{number_words(value)}</td>{td}{number_words(weight)}</td>{td}{number_words(product)}</td></tr>"
        for _, where, value, weight, product in shown
    ]
    others = math.fsum(entry[-1] for entry in rest)
    lines.append(f"<tr>{td}the other {len(rest)} together</td>{td}</td>{td}</td>{td}{number_words(others)}</td></tr>")
    heads = "".join(f'<th style="text-align: right">{name}</th>' for name in ("where", "input", "weight", "product"))
    return (
        f'<p style="{_CAPTION}">The {len(shown)} largest of {len(entries)} products</p>'
        f'<table style="font: 12px monospace; border-collapse: collapse"><thead><tr>{heads}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table>"
    )


def _place(read: MapRead, place: int) -> str:
    if read.map is None:
        return f"unit {place}"
    row, column = divmod(place, read.inputs.shape[1])
    return f"map {read.map}, row {read.rows[0] + row}, column {read.columns[0] + column}"


# --- Small things ---------------------------------------------------------------------------------------------------


def _as_grid(values: Tensor) -> Tensor:
    """A vector as lines that are about twice as wide as high; maps as they are."""
    if values.dim() == 2:
        return values
    count = len(values)
    width = min((w for w in range(1, count + 1) if count % w == 0), key=lambda w: abs(w - math.sqrt(2 * count)))
    return values.reshape(-1, width)


def _largest(kind: str, reads: tuple[MapRead, ...]) -> float:
    return max((getattr(read, kind).abs().max().item() for read in reads if getattr(read, kind) is not None), default=0)


def _strength(value: float, scale: float) -> float:
    return min(abs(value) / scale, 1.0) if scale and math.isfinite(value / scale) else 0.0


def _bracketed(value: float) -> str:
    return f"({number_words(value)})" if value < 0 else number_words(value)
