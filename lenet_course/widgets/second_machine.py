"""Sliders for network, batch, machines and wire, and the picture that says whether more machines pay (chapter 8)."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence

import ipywidgets

from lenet_course.scaling import LARGEST_BATCH, Step, shared_step, smallest_batch

BYTES_A_PARAMETER = 4  # a gradient is as large as its parameter: float32
MOST_MACHINES = 16
MEMORY = 3_200e6 * 8  # bytes a second of one channel of DDR4-3200: 3,200 million transfers of 8 bytes
BATCH_SIZES = tuple(2**exponent for exponent in range(4, 13))
PARAMETERS = {
    10_000: "10,000",
    60_000: "60,000: LeNet-5",
    100_000: "100,000",
    431_080: "431,080: LeNet",
    1_000_000: "1 million",
    10_000_000: "10 million",
    100_000_000: "100 million",
    1_000_000_000: "1,000 million",
}
BANDWIDTHS = {  # bytes a second; a byte has 8 bits
    50e6 / 8: "50 Mbit/s: Wi-Fi",
    100e6 / 8: "100 Mbit/s",
    1e9 / 8: "1 Gbit/s: cable",
    10e9 / 8: "10 Gbit/s",
    25e9 / 8: "25 Gbit/s",
    100e9 / 8: "100 Gbit/s",
    MEMORY: "205 Gbit/s: RAM",
}
# Which kind of wire has which latency is a rough guide only.
LATENCIES = {
    seconds: f"{seconds * 1000:g} ms{where}"
    for seconds, where in (
        (0.01e-3, ""),
        (0.02e-3, ""),
        (0.05e-3, ""),
        (0.1e-3, ""),
        (0.2e-3, ": cable"),
        (0.5e-3, ""),
        (1e-3, ""),
        (2e-3, ": Wi-Fi"),
        (5e-3, ""),
        (10e-3, ""),
    )
}
_SECONDS_A_DIGIT = tuple(m * 10.0**e for e in range(-7, -2) for m in (1, 2, 5))
_SECONDS_A_STEP = tuple(m * 10.0**e for e in range(-5, -1) for m in (1, 2, 5))
_NAMES = {
    "parameters": "Parameters",
    "batch_size": "Batch size",
    "machines": "Machines",
    "bandwidth": "Bandwidth",
    "latency": "Latency",
    "seconds_a_digit": "Each digit",
    "seconds_a_step": "Each step",
}
_EFFICIENCY = 0.8  # from which share of the ideal speed-up on the machines count as well used
# JupyterLab's own colours where there are some, so that light and dark themes both work.
_INK = "var(--jp-ui-font-color1, #212121)"
_FAINT = "var(--jp-border-color1, #9e9e9e)"
_PAPER = "var(--jp-layout-color0, #ffffff)"
# Told apart by more than colour: the exchange is hatched, the ideal is dashed.
_COMPUTE, _EXCHANGE = "#0072B2", "#D55E00"
_LEFT, _LONGEST, _BAR, _TOP = (
    100,
    530,
    26,
    28,
)  # pixels: where bars begin, how long the longest is, how high, the first's y
_CURVE = (40, 28, 300, 170)  # pixels: left, top, width and height of the curve's frame


def picture(
    parameters: int,
    batch_size: int,
    machines: int,
    *,
    bandwidth: float,
    latency: float,
    seconds_a_digit: float,
    seconds_a_step: float,
) -> str:
    """Return the picture of one setting as HTML: a step's time alone and shared as bars, the verdict, the speed-up's curve.

    parameters: of the network, each with a gradient of BYTES_A_PARAMETER bytes. machines: up to MOST_MACHINES.
    bandwidth: bytes a second. latency: seconds a message. seconds_a_digit, seconds_a_step: the computing, as measured.
    The picture is 760 pixels across. All times in it are in milliseconds, to three digits.
    Raises TypeError or ValueError as `shared_step` does, and ValueError for more machines, a step that takes no time or
    one that never ends.
    """
    if isinstance(parameters, bool) or not isinstance(parameters, int) or parameters < 0:
        raise ValueError(f"parameters is how many numbers the network learns, an int of 0 or more; got {parameters!r}.")
    settings = {
        "seconds_a_digit": seconds_a_digit,
        "seconds_a_step": seconds_a_step,
        "gradient_bytes": BYTES_A_PARAMETER * parameters,
        "bandwidth": bandwidth,
        "latency": latency,
    }
    step = shared_step(batch_size, machines, **settings)
    if machines > MOST_MACHINES:
        raise ValueError(f"The picture has room for {MOST_MACHINES} machines; got {machines}.")
    curve = [shared_step(batch_size, count, **settings) for count in range(1, MOST_MACHINES + 1)]
    if not all(0 < each.total < math.inf and each.alone > 0 for each in curve):
        raise ValueError(
            "A step has to take some time, and to end: seconds_a_digit or seconds_a_step must be above 0, and all must "
            f"be of a size that can be; got {settings}."
        )
    verdict, cure = _verdict(step, machines), _cure(step, machines, settings)
    about_bars = f"{_what_it_shows(step, batch_size, machines)} {verdict} {cure}"
    about_curve = _about_curve(curve)
    points = ", ".join(f"{count}: {_times(each.speed_up)}" for count, each in enumerate(curve, start=1))
    about_points = f"How many times as fast, by the number of machines: {points}. {about_curve}"
    # A background of its own: in a dark theme whose colours have other names, ink and paper still match.
    return (
        f'<div style="color: {_INK}; background: {_PAPER}; line-height: 1.45; max-width: 760px">'
        + _svg("bars", about_bars, 740, _TOP + 2 * (_BAR + 10) + 20, _bars(step, machines))
        + f'<p style="margin: 0.2em 0 0.6em"><b>{verdict}</b> {cure}</p>'
        '<div style="display: flex; flex-wrap: wrap; gap: 12px">'
        + _svg("curve", about_points, _CURVE[0] + _CURVE[2] + 20, _CURVE[1] + _CURVE[3] + 40, _curve(curve, machines))
        + f'<div style="flex: 1 1 260px; min-width: 0"><p style="margin: 0 0 0.6em">{about_curve}</p>'
        f'<p style="margin: 0; font-size: 12px; font-family: monospace">{_formula(step, batch_size, machines, settings)}'
        "</p></div></div></div>"
    )


# Numbers and words --------------------------------------------------------------------------------------------------


def _number(amount: float) -> str:
    """To three digits, without an exponent: 1,280,000, 17.5, 0.00123."""
    if not amount:
        return "0"
    digits = 2 - math.floor(math.log10(float(f"{amount:.2e}")))  # of what it is rounded to: 9.999 is 10.0
    return f"{round(amount, digits):,.{max(digits, 0)}f}"


def _short(amount: float) -> str:
    """As `_number`, but for what was set, not measured or computed: 0.2, not 0.200."""
    text = _number(amount)
    return text.rstrip("0").rstrip(".") if "." in text else text


def _ms(seconds: float) -> str:
    return f"{_number(seconds * 1000)} ms"


def _set_ms(seconds: float) -> str:
    return f"{_short(seconds * 1000)} ms"


def _bytes(amount: float) -> str:
    for size, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if amount >= size:
            return f"{_short(amount / size)} {unit}"
    return f"{_short(amount)} B"


def _times(speed_up: float) -> str:
    """A speed-up with two decimals, and which side of 1 it is on."""
    text = f"{speed_up:.2f}"
    if text == "1.00" and speed_up != 1:
        return f"just {'over' if speed_up > 1 else 'under'} 1.00"
    return "less than 0.01" if text == "0.00" else text


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'s' * (number != 1)}"


def _verdict(step: Step, machines: int) -> str:
    if machines == 1:
        return "1.00 times as fast: one machine is alone, and there is nothing to exchange."
    who = "The second machine" if machines == 2 else f"Sharing among {machines} machines"
    speed_up = _times(step.speed_up)
    return f"{speed_up[0].upper()}{speed_up[1:]} times as fast. {who} {'pays' if step.pays else 'does not pay'}."


def _cure(step: Step, machines: int, settings: dict[str, float]) -> str:
    """From which batch size on sharing pays, and from which on it pays well."""
    if machines == 1:
        return "Add a machine to see whether it pays."
    faster = smallest_batch(machines, **settings)
    used = smallest_batch(machines, faster_than=_EFFICIENCY * machines, **settings)
    if faster is None:
        return f"No batch size does it: even with {LARGEST_BATCH:,} digits, over half of MNIST, alone is faster."
    good = f"{_EFFICIENCY:.0%} of {machines} times as fast"
    if used is None:
        tail = f"; for {good}, not even {LARGEST_BATCH:,} digits, over half of MNIST, are enough."
    else:
        tail = f", and reaches {good} from a batch of {used:,} on."
    return f"Of the powers of two, it pays from a batch of {_count(faster, 'digit')} on{tail}"


def _what_it_shows(step: Step, batch_size: int, machines: int) -> str:
    alone = f"A step with {_count(batch_size, 'digit')} takes {_ms(step.alone)} on one machine"
    if machines == 1:
        return f"{alone}."
    shared = f"{_ms(step.compute)} of computing and {_ms(step.exchange)} of exchange"
    return f"{alone}, and {_ms(step.total)} on {machines}: {shared}."


def _about_curve(curve: Sequence[Step]) -> str:
    best = max(range(len(curve)), key=lambda index: curve[index].speed_up)
    if not best:
        return f"With this batch, no number of machines up to {len(curve)} is faster than one."
    return (
        f"With this batch, {best + 1} machines are the fastest of 1 to {len(curve)}: "
        f"{_times(curve[best].speed_up)} times as fast as one."
    )


def _formula(step: Step, batch_size: int, machines: int, settings: dict[str, float]) -> str:
    """The arithmetic with the numbers filled in, step by step."""
    share = -(-batch_size // machines)
    each = f"{_set_ms(settings['seconds_a_step'])} + {share:,}&middot;{_set_ms(settings['seconds_a_digit'])}"
    compute = f"compute = step + share&middot;digit<br>= {each}<br>= <b>{_ms(step.compute)}</b>"
    wire = f"{_bytes(settings['gradient_bytes'])}/{machines}/({_bytes(settings['bandwidth'])}/s)"
    numbers = f"2&middot;({machines} - 1)&middot;({wire} + {_set_ms(settings['latency'])})"
    letters = "2&middot;(N - 1)&middot;(bytes/N/bandwidth + latency)"
    return f"{compute}<br><br>exchange =<br>{letters}<br>= {numbers}<br>= <b>{_ms(step.exchange)}</b>"


# Drawings -----------------------------------------------------------------------------------------------------------


def _svg(kind: str, label: str, across: int, down: int, drawing: str) -> str:
    return (
        f'<svg role="img" class="{kind}" aria-label="{html.escape(label, quote=True)}" width="{across}" height="{down}" '
        f'viewBox="0 0 {across} {down}" style="max-width: 100%; height: auto" xmlns="http://www.w3.org/2000/svg">'
        f"{drawing}</svg>"
    )


def _bars(step: Step, machines: int) -> str:
    longest = max(step.alone, step.total)
    pixels = _LONGEST / longest
    first, second = _TOP, _TOP + _BAR + 10
    foot = second + _BAR + 6
    ticks = "".join(
        f'<path class="tick" d="M {_LEFT + at * pixels / 1000:.1f} {foot - 3} v 6" style="stroke: {_INK}"/>'
        + _text(_LEFT + at * pixels / 1000, foot + 17, f"{at:,g}" if at < 1e6 else f"{at:,.0f}", "middle")
        for at in _ticks(longest * 1000)
    )
    compute, exchange = step.compute * pixels, step.exchange * pixels
    return (
        f'<rect x="{_LEFT}" y="4" width="14" height="12" style="fill: {_COMPUTE}; stroke: {_INK}"/>'
        + _text(_LEFT + 20, 15, "computing")
        + _hatched("key", _LEFT + 110, 4, 14, 12)
        + _text(_LEFT + 130, 15, "exchange of gradients")
        + _text(0, first + 18, "1 machine")
        + _solid("alone", first, step.alone * pixels)
        + _text(_LEFT + step.alone * pixels + 8, first + 18, _ms(step.alone))
        + _text(0, second + 18, _count(machines, "machine"))
        + _solid("compute", second, compute)
        + (_hatched("exchange", _LEFT + compute, second, exchange, _BAR) if step.exchange else "")
        + _text(_LEFT + compute + exchange + 8, second + 18, _ms(step.total))
        + f'<path d="M {_LEFT} {foot} h {_LONGEST}" style="stroke: {_INK}"/>'
        + ticks
        + _text(_LEFT + _LONGEST + 40, foot + 17, "ms a step")
    )


def _solid(kind: str, y: float, width: float) -> str:
    look = f"fill: {_COMPUTE}; stroke: {_INK}"
    return f'<rect class="{kind}" x="{_LEFT}" y="{y}" width="{width:.3f}" height="{_BAR}" style="{look}"/>'


def _hatched(kind: str, x: float, y: float, width: float, height: float) -> str:
    # Line by line: an SVG pattern is looked up by name in the whole page, where another calculator may hide its own.
    strokes, gap = [], 7
    for start in range(-height + gap - 1, math.ceil(width), gap):  # where the line of 45 degrees meets the bottom
        low, high = max(start, 0), min(start + height, width)
        if high > low:
            strokes.append(
                f"M {x + low:.1f} {y + height - (low - start):.1f} L {x + high:.1f} {y + start + height - high:.1f}"
            )
    return (
        f'<rect class="{kind}" x="{x:.3f}" y="{y}" width="{width:.3f}" height="{height}" '
        f'style="fill: {_EXCHANGE}; fill-opacity: 0.2; stroke: {_INK}"/>'
        f'<path class="hatching" d="{" ".join(strokes) or "M 0 0"}" style="stroke: {_EXCHANGE}; stroke-width: 2.5; fill: none"/>'
    )


def _ticks(longest: float) -> list[float]:
    """Three to seven round numbers from 0 to at most `longest`."""
    rough = longest / 6
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-9))
    return [float(f"{count * step:.12g}") for count in range(math.floor(longest / step * (1 + 1e-9)) + 1)]


def _curve(curve: Sequence[Step], machines: int) -> str:
    left, top, width, height = _CURVE
    highest = next((end for end in (2, 4, 8) if end >= 1.1 * max(step.speed_up for step in curve)), 16)

    def place(count: float, speed_up: float) -> tuple[float, float]:
        return left + (count - 1) / (len(curve) - 1) * width, top + height * (1 - speed_up / highest)

    points = [place(count, step.speed_up) for count, step in enumerate(curve, start=1)]
    (start_x, start_y), (end_x, end_y) = place(1, 1), place(highest, highest)
    here_x, here_y = points[machines - 1]
    foot = top + height
    line = " L ".join(f"{x:.1f} {y:.1f}" for x, y in points)
    marks = sorted(
        {1, highest / 2, highest, *([0] if highest < 16 else [])}
    )  # 0 and 1 of 16 have no room for two words
    across = "".join(_text(place(count, 0)[0], foot + 19, str(count), "middle") for count in (1, 4, 8, 12, 16))
    up = "".join(_text(left - 8, place(1, mark)[1] + 4, f"{mark:g}", "end") for mark in marks)
    ideal_label = (end_x + 6, top + 12, "ideal", "start") if highest < 16 else (end_x - 34, top + 12, "ideal", "end")
    dots = "".join(f'<circle class="dot" cx="{x:.1f}" cy="{y:.1f}" r="2.5"/>' for x, y in points)
    return (
        _text(0, 14, "times as fast as one machine")
        + f'<path d="M {left} {top} V {foot} H {left + width}" style="stroke: {_INK}; fill: none"/>'
        + f'<path class="one" d="M {left} {start_y:.1f} h {width}" style="stroke: {_FAINT}"/>'
        + f'<path class="ideal" d="M {start_x:.1f} {start_y:.1f} L {end_x:.1f} {end_y:.1f}" '
        f'style="stroke: {_INK}; stroke-dasharray: 5 4; fill: none"/>'
        + _text(*ideal_label)
        + f'<path class="line" d="M {line}" style="stroke: {_COMPUTE}; stroke-width: 2; fill: none"/>'
        + f'<g style="fill: {_COMPUTE}">{dots}</g>'
        + f'<circle class="here" cx="{here_x:.1f}" cy="{here_y:.1f}" r="6.5" '
        f'style="fill: none; stroke: {_INK}; stroke-width: 2"/>'
        + across
        + up
        + _text(left + width / 2, foot + 36, "machines", "middle")
    )


def _text(x: float, y: float, words: str, anchor: str = "start") -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"'
    return f'<text {place} font-size="13" style="fill: {_INK}">{words}</text>'


# The widget ---------------------------------------------------------------------------------------------------------


class SecondMachine(ipywidgets.VBox):
    """The widget.

    sliders: {setting of `picture`: SelectionSlider}; view: the HTML widget that shows the picture.
    children: an HBox of two VBoxes with the sliders, a line on what was measured, then view.
    """

    def __init__(self, choices: dict[str, dict], start: dict[str, float]) -> None:
        style = {"description_width": "82px"}
        self.sliders = {}
        for name, description in _NAMES.items():
            look = {"value": start[name], "description": description, "style": style, "layout": {"width": "375px"}}
            options = [(label, value) for value, label in choices[name].items()]
            self.sliders[name] = ipywidgets.SelectionSlider(options=options, **look)
        note = ipywidgets.HTML(
            f'<div style="color: {_INK}; line-height: 1.45; max-width: 760px">Measured, for one network on one machine: '
            f"{_set_ms(start['seconds_a_digit'])} for each digit and {_set_ms(start['seconds_a_step'])} for each step. "
            "For other parameters or another machine, move these two sliders as well.</div>"
        )
        self.view = ipywidgets.HTML()
        for slider in self.sliders.values():
            slider.observe(self._update, names="value")
        several = list(self.sliders.values())
        columns = ipywidgets.HBox(
            [ipywidgets.VBox(several[:4]), ipywidgets.VBox(several[4:])], layout={"flex_flow": "row wrap"}
        )
        super().__init__([columns, note, self.view])
        self._update()

    def __repr__(self) -> str:  # what a viewer without a kernel shows in the widget's place
        return "(When does a second machine pay? Seven sliders and a picture. Run the cell to use it.)"

    def _update(self, change: object = None) -> None:
        self.view.value = picture(**{name: slider.value for name, slider in self.sliders.items()})


def second_machine(
    *,
    seconds_a_digit: float,
    seconds_a_step: float,
    parameters: int = 431_080,
    batch_size: int = 64,
    machines: int = 2,
    bandwidth: float = 1e9 / 8,
    latency: float = 0.2e-3,
) -> SecondMachine:
    """Return the calculator, set to these values: by default LeNet, two machines and a cable between them.

    seconds_a_digit, seconds_a_step: as measured on one machine, for the network with these parameters; the sliders begin
    there, and a line below them says so.
    Sliders: parameters 10,000 to 1,000 million, batch size 16 to 4,096 in powers of two, machines 1 to 16, bandwidth 50 Mbit/s
    to that of a memory, latency 0.01 to 10 ms, each digit 0.0001 to 5 ms, each step 0.01 to 50 ms. A value between or
    beyond gets a place on its slider, but for batch size and machines.
    Raises ValueError for a batch size or machines that the slider does not reach, and ValueError or TypeError for what
    `picture` refuses.
    """
    for name, value, reached in (
        ("batch_size", batch_size, BATCH_SIZES),
        ("machines", machines, range(1, MOST_MACHINES + 1)),
    ):
        if isinstance(value, bool) or not isinstance(value, int) or value not in reached:
            powers = " that is a power of two," if name == "batch_size" else ""
            reach = f"a whole number{powers} from {reached[0]} to {reached[-1]}, as on its slider"
            raise ValueError(f"{name} must be {reach}; got {value!r}.")
    start = {
        "parameters": parameters,
        "batch_size": batch_size,
        "machines": machines,
        "bandwidth": bandwidth,
        "latency": latency,
        "seconds_a_digit": seconds_a_digit,
        "seconds_a_step": seconds_a_step,
    }
    picture(**start)  # refuses what no slider may start at
    choices = {
        "parameters": _with(parameters, PARAMETERS, f"{parameters:,}"),
        "batch_size": {size: f"{size:,}" for size in BATCH_SIZES},
        "machines": {count: str(count) for count in range(1, MOST_MACHINES + 1)},
        "bandwidth": _with(bandwidth, BANDWIDTHS, f"{_short(bandwidth * 8 / 1e6)} Mbit/s"),
        "latency": _with(latency, LATENCIES, _set_ms(latency)),
        "seconds_a_digit": _measured(seconds_a_digit, _SECONDS_A_DIGIT),
        "seconds_a_step": _measured(seconds_a_step, _SECONDS_A_STEP),
    }
    return SecondMachine(choices, start)


def _with(value: float, choices: dict[float, str], label: str) -> dict[float, str]:
    """The choices in their order, and the value among them."""
    return dict(sorted({value: label, **choices}.items()))


def _measured(seconds: float, choices: Sequence[float]) -> dict[float, str]:
    others = {choice: _set_ms(choice) for choice in choices if _set_ms(choice) != _set_ms(seconds)}
    return dict(sorted({**others, seconds: _set_ms(seconds)}.items()))
