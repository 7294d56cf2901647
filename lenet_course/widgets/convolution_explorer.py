"""Sliders for the five settings of a convolution, and the picture that belongs to them (chapter 1)."""

from __future__ import annotations

import html
from dataclasses import dataclass

import ipywidgets

from lenet_course.arithmetic import output_size

RANGES = {"size": (1, 16), "kernel_size": (1, 9), "stride": (1, 5), "padding": (0, 4), "dilation": (1, 4)}
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
_KERNEL, _WARNING = "#0072B2", "#D55E00"


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
    def places(self) -> int:
        """The output size; 0 if the kernel has no place to stand."""
        if self.covered > self.padded:
            return 0
        return output_size(self.size, self.kernel_size, self.stride, self.padding, self.dilation)

    def taps(self, place: int) -> list[int]:
        """The rows (or columns) that the kernel reads at this place, counted from the first one of the padded input."""
        return [place * self.stride + self.dilation * tap for tap in range(self.kernel_size)]

    def never_read(self) -> list[int]:
        """The rows (or columns) of the padded input that no place reads, those of the padding left out."""
        read = {tap for place in range(self.places) for tap in self.taps(place)}
        return [row for row in range(self.padding, self.padding + self.size) if row not in read]


def picture(
    size: int, kernel_size: int, *, stride: int = 1, padding: int = 0, dilation: int = 1, position: int = 0
) -> str:
    """Return the picture of one setting as HTML: input, kernel and output as SVG, then the formula with its numbers.

    position: which output pixel to look at, counted row by row from 0; too large a number means the last one.
    A kernel that does not fit gets a picture too, which shows how far it sticks out.
    Raises TypeError or ValueError for settings that `output_size` refuses for another reason.
    """
    output_size(max(size, 10_000), kernel_size, stride, padding, dilation)  # refuses what is no setting at all
    output_size(size, 1)
    setting = Setting(size, kernel_size, stride, padding, dilation)
    places = setting.places
    row, column = divmod(min(max(position, 0), places * places - 1), places) if places else (0, 0)
    words = _explanation(setting)
    label = html.escape(f"{_what_it_shows(setting, row, column)} {words}", quote=True)
    # A cell is at most 26 pixels wide, and all of it fits beside a notebook's prompt and on a laptop's screen.
    cells = max(setting.padded, setting.covered) + max(places, 1)
    cell = min(26, 640 // cells, 480 // max(setting.padded, setting.covered))
    across = cell * cells + 120
    down = cell * max(setting.padded, setting.covered, places) + 30
    drawing = _input_grid(setting, row, column, cell) + _output_grid(setting, row, column, cell)
    return (
        f'<div style="color: {_INK}"><svg role="img" aria-label="{label}" width="{across}" height="{down}" '
        f'viewBox="0 0 {across} {down}" xmlns="http://www.w3.org/2000/svg">{drawing}</svg>'
        f'<p style="margin: 0.4em 0; font-family: monospace">{_formula(setting)}</p>'
        f'<p style="margin: 0.4em 0">{words}</p></div>'
    )


def _input_grid(setting: Setting, row: int, column: int, cell: int) -> str:
    inside = range(setting.padding, setting.padding + setting.size)
    never = set(setting.never_read()) if setting.places else set()
    parts = [_text(0, 15, f"input {setting.size} x {setting.size}" + (", padded" if setting.padding else ""))]
    for y in range(setting.padded):
        for x in range(setting.padded):
            if y in inside and x in inside:
                parts.append(_square(x, y, cell, "pixel", fill=_PAPER, stroke=_FAINT))
                if y in never or x in never:
                    parts.append(_cross(x, y, cell))
            else:
                parts.append(_square(x, y, cell, "padding", fill=_PADDING, stroke=_FAINT, dashed=True))
    colour = _KERNEL if setting.places else _WARNING
    for y in setting.taps(row):
        for x in setting.taps(column):
            parts.append(_square(x, y, cell, "tap", fill=colour, stroke=colour, opacity=0.55, width=2))
    for y in range(setting.places):
        for x in range(setting.places):
            centre = (x * setting.stride + 0.5) * cell, (y * setting.stride + 0.5) * cell + 25
            parts.append(
                f'<circle class="start" cx="{centre[0]:g}" cy="{centre[1]:g}" r="{cell / 9:.1f}" fill="{_INK}"/>'
            )
    return "".join(parts)


def _output_grid(setting: Setting, row: int, column: int, cell: int) -> str:
    left = cell * max(setting.padded, setting.covered) + 60
    places = setting.places
    middle = cell * max(setting.padded, setting.covered) / 2 + 25
    arrow = f'<path d="M {left - 48} {middle:g} h 26 m -7 -5 l 7 5 l -7 5" fill="none" stroke="{_INK}"/>'
    top = middle - cell * places / 2
    parts = [
        arrow,
        _text(
            left, middle if not places else round(top) - 10, f"output {places} x {places}" if places else "no output"
        ),
    ]
    for y in range(places):
        for x in range(places):
            here = (y, x) == (row, column)
            look = {"fill": _KERNEL, "stroke": _INK, "width": 2} if here else {"fill": _PAPER, "stroke": _FAINT}
            parts.append(_square(x, y, cell, "here" if here else "output", left=left, top=top, **look))
    return "".join(parts)


def _square(
    x: int,
    y: int,
    cell: int,
    kind: str,
    *,
    fill: str,
    stroke: str,
    left=0.0,
    top=25.0,
    dashed=False,
    opacity=1.0,
    width=1,
) -> str:
    dashes = ' stroke-dasharray="2 2"' if dashed else ""
    return (
        f'<rect class="{kind}" x="{left + x * cell + 1:g}" y="{top + y * cell:g}" width="{cell - 1}" height="{cell - 1}" '
        f'style="fill: {fill}; stroke: {stroke}" fill-opacity="{opacity}" stroke-width="{width}"{dashes}/>'
    )


def _cross(x: int, y: int, cell: int) -> str:
    start, length = cell * 0.25, cell * 0.5
    return (
        f'<path class="never" d="M {x * cell + start:g} {y * cell + 25 + start:g} l {length:g} {length:g} '
        f'm {-length:g} 0 l {length:g} {-length:g}" stroke="{_WARNING}" stroke-width="2" fill="none"/>'
    )


def _text(x: int, y: int, words: str) -> str:
    return f'<text x="{x}" y="{y}" font-size="13" style="fill: {_INK}">{words}</text>'


def _formula(s: Setting) -> str:
    """The formula with the numbers filled in, step by step."""
    letters = "&lfloor;(W + 2P - D(K - 1) - 1) / S&rfloor; + 1"
    numbers = f"&lfloor;({s.size} + 2&middot;{s.padding} - {s.dilation}&middot;({s.kernel_size} - 1) - 1) / {s.stride}&rfloor; + 1"
    if not s.places:
        return f"{letters}<br>= {numbers}, but {s.size} + 2&middot;{s.padding} - {s.dilation}&middot;({s.kernel_size} - 1) - 1 is below 0"
    last = s.padded - s.covered
    return f"{letters}<br>= {numbers}<br>= &lfloor;{last} / {s.stride}&rfloor; + 1 = {last // s.stride} + 1 = <b>{s.places}</b>"


def _explanation(s: Setting) -> str:
    """What there is to say about this setting, in words."""
    if not s.places:
        return (
            f"The kernel covers D(K - 1) + 1 = {s.covered} pixels, but the padded input has only {s.padded}. There is no "
            "place for it: make W or P larger, or K or D smaller."
        )
    left_over = (s.padded - s.covered) % s.stride
    never = len(s.never_read())
    words = []
    if left_over:
        words.append(f"The floor drops a remainder of {left_over}: so much is left over behind the last place.")
    if never:
        words.append(f"{_count(never, 'row')} and {_count(never, 'column')} of the input are never read (crossed out).")
    return " ".join(words) or "Every pixel of the input is read, and nothing is left over."


def _what_it_shows(s: Setting, row: int, column: int) -> str:
    grid = f"An input of {s.size} x {s.size} pixels" + (f", padded to {s.padded} x {s.padded}" if s.padding else "")
    if not s.places:
        return f"{grid}; the kernel sticks out."
    return (
        f"{grid}; the kernel reads rows {_list(s.taps(row))} and columns {_list(s.taps(column))} of it, counted from 0; "
        f"that makes row {row}, column {column} of the {s.places} x {s.places} output."
    )


def _list(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers))


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"


class ConvolutionExplorer(ipywidgets.VBox):
    """The widget. sliders: {setting or "position": IntSlider}; view: the HTML widget that shows the picture."""

    def __init__(self, **setting: int) -> None:
        self.sliders = {
            name: ipywidgets.IntSlider(
                value=setting[name], min=low, max=high, description=_NAMES[name], style={"description_width": "90px"}
            )
            for name, (low, high) in RANGES.items()
        }
        self.sliders["position"] = ipywidgets.IntSlider(
            value=0, min=0, max=0, description=_NAMES["position"], style={"description_width": "90px"}
        )
        self.view = ipywidgets.HTML()
        for slider in self.sliders.values():
            slider.observe(self._update, names="value")
        columns = [ipywidgets.VBox(list(self.sliders.values())[start : start + 3]) for start in (0, 3)]
        super().__init__([ipywidgets.HBox(columns, layout={"flex_flow": "row wrap"}), self.view])
        self._update()

    def _update(self, change: object = None) -> None:
        values = {name: slider.value for name, slider in self.sliders.items()}
        position = values.pop("position")
        places = Setting(**values).places
        slider = self.sliders["position"]
        slider.disabled = places == 0
        slider.max = max(places * places - 1, 0)  # pulls the value along, and so comes back here if it has to
        self.view.value = picture(position=min(position, slider.max), **values)


def convolution_explorer(
    size: int = 7, kernel_size: int = 3, stride: int = 1, padding: int = 0, dilation: int = 1
) -> ConvolutionExplorer:
    """Return the explorer, set to these values.

    Sliders: input size 1 to 16, kernel 1 to 9, stride 1 to 5, padding 0 to 4, dilation 1 to 4, and the position, that is
    which output pixel to look at. Raises ValueError for a value that its slider does not reach.
    """
    setting = {"size": size, "kernel_size": kernel_size, "stride": stride, "padding": padding, "dilation": dilation}
    for name, value in setting.items():
        low, high = RANGES[name]
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise ValueError(f"{name} must be a whole number from {low} to {high}, as on its slider; got {value!r}.")
    return ConvolutionExplorer(**setting)
