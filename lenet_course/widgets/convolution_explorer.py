"""Sliders for the five settings of a convolution, and the picture that belongs to them (chapter 1)."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass

import ipywidgets

from lenet_course.arithmetic import output_size

RANGES = {"size": (1, 16), "kernel_size": (1, 9), "stride": (1, 5), "padding": (0, 4), "dilation": (1, 4)}
LARGEST = 64
_NAMES = {
    "size": "Input W",
    "kernel_size": "Kernel K",
    "stride": "Stride S",
    "padding": "Padding P",
    "dilation": "Dilation D",
    "position": "Position",
}
# JupyterLab's own colours where there are some, so that light and dark themes both work.
_INK = "var(--jp-ui-font-color1, #212121)"
_FAINT = "var(--jp-border-color1, #9e9e9e)"
_PAPER = "var(--jp-layout-color0, #ffffff)"
_PADDING = "var(--jp-layout-color2, #eeeeee)"
_DASHES = "var(--jp-ui-font-color2, #616161)"
# Told apart by more than colour: what is wrong is dashed, struck through or crossed out as well.
_KERNEL, _WARNING = "#0072B2", "#D55E00"
_TAP = "fill: {0}; stroke: {0}; fill-opacity: 0.55; stroke-width: 2"
_TOP = 25.0  # pixels above the grid, for its title


@dataclass(frozen=True)
class Setting:
    """One setting of the sliders: the same for both directions, as the input is square. All in pixels."""

    size: int
    kernel_size: int
    stride: int = 1
    padding: int = 0
    dilation: int = 1

    @property
    def covered(self) -> int:
        """How many pixels the kernel covers from end to end."""
        return self.dilation * (self.kernel_size - 1) + 1

    @property
    def padded(self) -> int:
        return self.size + 2 * self.padding

    @property
    def longest(self) -> int:
        """How many pixels to draw side by side: the kernel may stick out."""
        return max(self.padded, self.covered)

    @property
    def places(self) -> int:
        """The output size; 0 if the kernel has no place to stand."""
        if self.covered > self.padded:
            return 0
        return output_size(self.size, self.kernel_size, self.stride, self.padding, self.dilation)

    def taps(self, place: int) -> list[int]:
        """The rows (or columns) that the kernel reads at this place; 0 is the padded input's first."""
        return [place * self.stride + self.dilation * tap for tap in range(self.kernel_size)]

    def never_read(self) -> list[int]:
        """The rows (or columns) of the padded input that no place reads, those of the padding left out."""
        read = {tap for place in range(self.places) for tap in self.taps(place)}
        return [row for row in range(self.padding, self.padding + self.size) if row not in read]


def picture(
    size: int, kernel_size: int, *, stride: int = 1, padding: int = 0, dilation: int = 1, position: int = 0
) -> str:
    """Return the picture of one setting as HTML: input, kernel and output as SVG, then the formula's steps.

    All settings as for `output_size`, but ints only, as the input is square. Within RANGES the picture is at
    most 760 pixels across; beyond them it grows, up to a padded input, or a kernel, of LARGEST pixels.
    position: which output pixel to look at, counted row by row from 0; too large a number means the last one.
    A kernel that does not fit gets a picture too, which shows how far it sticks out.
    Raises TypeError or ValueError for settings that `output_size` refuses for another reason, TypeError for
    pairs and ValueError for what is too large to draw.
    """
    _check(size, kernel_size, stride, padding, dilation, position)
    setting = Setting(size, kernel_size, stride, padding, dilation)
    places = setting.places
    row, column = divmod(min(max(position, 0), places * places - 1), places) if places else (0, 0)
    words = _explanation(setting)
    label = html.escape(f"{_what_it_shows(setting, row, column)} {words}", quote=True)
    # A cell is 12 to 26 pixels wide, and all of it fits beside a notebook's prompt and on a laptop's screen.
    longest = setting.longest
    cell = max(12, min(26, 640 // (longest + max(places, 1)), 480 // longest))
    across = cell * (longest + max(places, 1)) + 120
    down = cell * max(longest, places) + 30
    drawing = _input_grid(setting, row, column, cell) + _output_grid(setting, row, column, cell)
    # A background of its own: in a dark theme whose colours have other names, ink and paper still match.
    return (
        f'<div style="color: {_INK}; background: {_PAPER}">'
        f'<svg role="img" aria-label="{label}" width="{across}" height="{down}" '
        f'viewBox="0 0 {across} {down}" xmlns="http://www.w3.org/2000/svg">{drawing}</svg>'
        f'<p style="margin: 0.4em 0; font-family: monospace">{_formula(setting)}</p>'
        f'<p style="margin: 0.4em 0">{words}</p></div>'
    )


def _check(size: int, kernel_size: int, stride: int, padding: int, dilation: int, position: int) -> None:
    """Raise what `output_size` raises, except for a kernel that is merely too large for the input."""
    for value in (size, kernel_size, stride, padding, dilation):
        if isinstance(value, (tuple, list)):
            raise TypeError(f"The picture is of a square input: give one int instead of the pair {value!r}.")
    output_size(size, 1)
    output_size(10**9, kernel_size, stride, padding, dilation)
    if isinstance(position, bool) or not isinstance(position, int):
        raise TypeError(f"position counts output pixels, so it is an int; got {position!r}.")
    longest = Setting(size, kernel_size, stride, padding, dilation).longest
    if longest > LARGEST:
        raise ValueError(
            f"The picture has room for {LARGEST} pixels side by side, with the padding; here are {longest}. "
            "Use lenet_course.arithmetic.output_size if only the number is wanted."
        )


def _input_grid(setting: Setting, row: int, column: int, cell: int) -> str:
    inside = range(setting.padding, setting.padding + setting.size)
    cells = _cells(range(setting.padded), range(setting.padded))
    pixels = [(x, y) for x, y in cells if x in inside and y in inside]
    border = [(x, y) for x, y in cells if x not in inside or y not in inside]
    never = set(setting.never_read()) if setting.places else set()
    taps = _cells(setting.taps(column), setting.taps(row))
    draw_kernel = _kernel if setting.places else _too_large
    title = f"input {setting.size} x {setting.size}" + (", padded" if setting.padding else "")
    starts = [(place * setting.stride + 0.5) * cell for place in range(setting.places)]
    centres = [(x, y + _TOP, cell / 9) for x, y in _cells(starts, starts)]
    dots = "".join(f'<circle class="start" cx="{x:g}" cy="{y:g}" r="{r:.1f}"/>' for x, y, r in centres)
    return (
        _text(0, 15, title)
        + _squares("pixel", pixels, cell, f"fill: {_PAPER}; stroke: {_FAINT}")
        + _squares("padding", border, cell, f"fill: {_PADDING}; stroke: {_DASHES}; stroke-dasharray: 2 2")
        + _crosses([(x, y) for x, y in pixels if x in never or y in never], cell)
        + draw_kernel(setting, taps, cell)
        + f'<g style="fill: {_INK}">{dots}</g>'
    )


def _kernel(setting: Setting, taps: list[tuple[int, int]], cell: int) -> str:
    return _squares("tap", taps, cell, _TAP.format(_KERNEL))


def _too_large(setting: Setting, taps: list[tuple[int, int]], cell: int) -> str:
    """The kernel as a warning: dashed and struck through where it sticks out; and the edge of the input."""
    edge, side = setting.padded, cell - 3
    out = [(x, y) for x, y in taps if x >= edge or y >= edge]
    corners = [(x * cell + 2, (y + 1) * cell + _TOP - 2) for x, y in out]
    strokes = " ".join(f"M {x} {y} l {side} -{side}" for x, y in corners)
    return (
        _squares("tap", [tap for tap in taps if tap not in out], cell, _TAP.format(_WARNING))
        + _squares("tap", out, cell, _TAP.format(_WARNING) + "; stroke-dasharray: 4 2")
        + f'<path class="out" d="{strokes}" style="stroke: {_WARNING}; stroke-width: 2; fill: none"/>'
        + f'<rect class="edge" x="1" y="{_TOP:g}" width="{edge * cell - 1}" height="{edge * cell - 1}" '
        f'style="fill: none; stroke: {_INK}; stroke-width: 2"/>'
    )


def _output_grid(setting: Setting, row: int, column: int, cell: int) -> str:
    places = setting.places
    left, middle = cell * setting.longest + 60, cell * setting.longest / 2 + _TOP
    top = middle - cell * places / 2
    shaft_and_head = f"M {left - 48} {middle:g} h 26 m -7 -5 l 7 5 l -7 5"
    arrow = f'<path d="{shaft_and_head}" style="fill: none; stroke: {_INK}"/>'
    if not places:
        return arrow + _text(left, round(middle) + 4, "no output")
    look = f"fill: {_KERNEL}; stroke: {_INK}; stroke-width: 2"
    others = [place for place in _cells(range(places), range(places)) if place != (column, row)]
    return (
        arrow
        + _text(left, round(top) - 10, f"output {places} x {places}")
        + _squares("output", others, cell, f"fill: {_PAPER}; stroke: {_FAINT}", left, top)
        + _squares("here", [(column, row)], cell, look, left, top)
    )


def _cells(columns: Sequence[int], rows: Sequence[int]) -> list[tuple[int, int]]:
    """All (x, y), row by row."""
    return [(x, y) for y in rows for x in columns]


def _squares(kind: str, cells: list[tuple[int, int]], cell: int, style: str, left=0.0, top=_TOP) -> str:
    # The style stands once for all of them: a large picture has 1,500 parts, sent at each step of a slider.
    side = f'width="{cell - 1}" height="{cell - 1}"'
    corners = [(left + x * cell + 1, top + y * cell) for x, y in cells]
    squares = "".join(f'<rect class="{kind}" x="{x:g}" y="{y:g}" {side}/>' for x, y in corners)
    return f'<g style="{style}">{squares}</g>'


def _crosses(cells: list[tuple[int, int]], cell: int) -> str:
    half = f"{cell / 2:g}"
    corners = [((x + 0.25) * cell, (y + 0.25) * cell + _TOP) for x, y in cells]
    both = f"l {half} {half} m -{half} 0 l {half} -{half}"
    crosses = "".join(f'<path class="never" d="M {x:g} {y:g} {both}"/>' for x, y in corners)
    return f'<g style="stroke: {_WARNING}; stroke-width: 2; fill: none">{crosses}</g>'


def _text(x: int, y: int, words: str) -> str:
    return f'<text x="{x}" y="{y}" font-size="13" style="fill: {_INK}">{words}</text>'


def _formula(s: Setting) -> str:
    """The formula with the numbers filled in, step by step."""
    letters = "&lfloor;(W + 2P - D(K - 1) - 1) / S&rfloor; + 1"
    room = f"{s.size} + 2&middot;{s.padding} - {s.dilation}&middot;({s.kernel_size} - 1) - 1"
    numbers = f"&lfloor;({room}) / {s.stride}&rfloor; + 1"
    last = s.padded - s.covered
    if not s.places:
        return f"{letters}<br>= {numbers}, but {room} = {last} is below 0"
    steps = f"&lfloor;{last} / {s.stride}&rfloor; + 1 = {last // s.stride} + 1 = <b>{s.places}</b>"
    return f"{letters}<br>= {numbers}<br>= {steps}"


def _explanation(s: Setting) -> str:
    """What there is to say about this setting, in words."""
    if not s.places:
        return (
            f"The kernel covers D(K - 1) + 1 = {s.covered} pixels, but the padded input has only {s.padded}. "
            "There is no place for it: make W or P larger, or K or D smaller."
        )
    rest = (s.padded - s.covered) % s.stride
    never = len(s.never_read())
    words = []
    if rest:
        words.append(f"The floor drops a remainder of {rest}: so much is left over behind the last place.")
    if never:
        lines = f"{_count(never, 'row')} and {_count(never, 'column')}"
        words.append(f"{lines} of the input are never read (crossed out).")
    return " ".join(words) or "Every pixel of the input is read, and nothing is left over."


def _what_it_shows(s: Setting, row: int, column: int) -> str:
    padded = f", padded to {s.padded} x {s.padded}" if s.padding else ""
    grid = f"An input of {s.size} x {s.size} pixels{padded}"
    if not s.places:
        return f"{grid}; the kernel sticks out."
    return (
        f"{grid}; the kernel reads rows {_list(s.taps(row))} and columns {_list(s.taps(column))} of it, "
        f"counted from 0; that makes row {row}, column {column} of the {s.places} x {s.places} output."
    )


def _list(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers))


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"


class ConvolutionExplorer(ipywidgets.VBox):
    """The widget.

    sliders: {setting or "position": IntSlider}; player: the buttons that go through the positions one by one, twice a second;
    view: the HTML widget that shows the picture.
    children: an HBox of two VBoxes with three sliders each (size, kernel_size, stride; padding, dilation,
    position), then the player, then view.
    """

    def __init__(self, **setting: int) -> None:
        self.sliders = {name: _slider(name, setting[name], *RANGES[name]) for name in RANGES}
        self.sliders["position"] = _slider("position", 0, 0, 0)
        self.view = ipywidgets.HTML()
        for slider in self.sliders.values():
            slider.observe(self._update, names="value")
        columns = [ipywidgets.VBox(list(self.sliders.values())[start : start + 3]) for start in (0, 3)]
        self.player = ipywidgets.Play(min=0, max=0, interval=500, description="Go through the positions")
        # In Python, not by jslink: the player has to follow the slider and its changing end as well.
        ipywidgets.link((self.player, "value"), (self.sliders["position"], "value"))
        player = ipywidgets.HBox([ipywidgets.Label("Go through the positions:"), self.player])
        super().__init__([ipywidgets.HBox(columns, layout={"flex_flow": "row wrap"}), player, self.view])
        self._update()

    def __repr__(self) -> str:  # what a viewer without a kernel shows in the widget's place
        return "(The convolution explorer: six sliders and a picture. Run the cell to use it.)"

    def _update(self, change: object = None) -> None:
        values = {name: slider.value for name, slider in self.sliders.items()}
        position = values.pop("position")
        places = Setting(**values).places
        slider = self.sliders["position"]
        slider.disabled = places == 0
        slider.max = max(places * places - 1, 0)  # pulls the value along, and so comes back here if it has to
        self.player.max, self.player.disabled = slider.max, places == 0
        self.view.value = picture(position=min(position, slider.max), **values)


def _slider(name: str, value: int, low: int, high: int) -> ipywidgets.IntSlider:
    style = {"description_width": "90px"}
    return ipywidgets.IntSlider(value=value, min=low, max=high, description=_NAMES[name], style=style)


def convolution_explorer(
    size: int = 7, kernel_size: int = 3, stride: int = 1, padding: int = 0, dilation: int = 1
) -> ConvolutionExplorer:
    """Return the explorer, set to these values.

    Sliders: input size 1 to 16, kernel 1 to 9, stride 1 to 5, padding 0 to 4, dilation 1 to 4, and the
    position, that is which output pixel to look at, counted row by row from 0.
    Raises ValueError for a value that its slider does not reach.
    """
    setting = dict(zip(RANGES, (size, kernel_size, stride, padding, dilation), strict=True))
    for name, value in setting.items():
        low, high = RANGES[name]
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            reach = f"from {low} to {high}, as on its slider"
            raise ValueError(f"{name} must be a whole number {reach}; got {value!r}.")
    return ConvolutionExplorer(**setting)
