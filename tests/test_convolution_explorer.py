import re
from xml.etree import ElementTree

import ipywidgets
import pytest
import torch
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from torch.nn.functional import conv1d, conv2d

from lenet_course.arithmetic import output_size
from lenet_course.widgets.convolution_explorer import LARGEST, RANGES, convolution_explorer, picture

FULL = {name: st.integers(low, high) for name, (low, high) in RANGES.items()}
SETTINGS = {name: st.integers(low, min(high, 9)) for name, (low, high) in RANGES.items()}
NAMED = ("size", "kernel_size", "stride", "padding", "dilation")


def drawn(html, kind):
    return len(re.findall(f'class="{kind}"', html))


def svg_of(html):
    return ElementTree.fromstring(re.search("<svg.*</svg>", html)[0])


def where(html, kind):
    """{(row, column)} of what is drawn as this kind: of the output for "output" and "here", else input."""
    parts = [part for part in svg_of(html).iter() if part.get("class") == kind]
    cell = 1 + float(next(part for part in svg_of(html).iter() if part.get("class") == "pixel").get("width"))
    if kind == "never":
        corners = [map(float, part.get("d").split()[1:3]) for part in parts]
    else:
        x, y = ("cx", "cy") if kind == "start" else ("x", "y")
        corners = [(float(part.get(x)), float(part.get(y))) for part in parts]
    corners = list(map(tuple, corners))
    assert len(set(corners)) == len(corners), "two parts in one place"
    if kind in ("output", "here"):
        everything = [part for part in svg_of(html).iter() if part.get("class") in ("output", "here")]
        left, top = (min(float(part.get(axis)) for part in everything) for axis in ("x", "y"))
    else:
        left, top = 0, 25
    return {(int((y - top) // cell), int((x - left) // cell)) for x, y in corners}


def by_hand(size, kernel_size, stride, padding, dilation):
    """The pixels of the padded input that are read, a set for each place; found by trying every place."""
    padded = size + 2 * padding
    offsets = [dilation * tap for tap in range(kernel_size)]
    windows = []
    for y in range(0, padded, stride):
        for x in range(0, padded, stride):
            if y + offsets[-1] < padded and x + offsets[-1] < padded:
                windows.append({(y + down, x + across) for down in offsets for across in offsets})
    return windows


def by_torch(size, kernel_size, stride, padding, dilation):
    """(output size, pixels that no window reads), found by running a convolution; None if it does not fit."""
    pixels = torch.zeros(1, 1, size, size, requires_grad=True)
    try:
        output = conv2d(pixels, torch.ones(1, 1, kernel_size, kernel_size), None, stride, padding, dilation)
    except RuntimeError:
        return None
    output.sum().backward()
    return output.shape[3], int((pixels.grad == 0).sum())


# --- the picture --------------------------------------------------------------------------------------------


@settings(max_examples=150, deadline=None)
@given(**SETTINGS)
def test_what_is_drawn_is_what_a_convolution_does(size, kernel_size, stride, padding, dilation):
    found = by_torch(size, kernel_size, stride, padding, dilation)
    assume(found is not None)
    places, never = found
    html = picture(size, kernel_size, stride=stride, padding=padding, dilation=dilation)
    assert drawn(html, "pixel") == size**2
    assert drawn(html, "padding") == (size + 2 * padding) ** 2 - size**2
    assert drawn(html, "tap") == kernel_size**2
    assert drawn(html, "start") == places**2
    assert (drawn(html, "here"), drawn(html, "output")) == (1, places**2 - 1)
    assert drawn(html, "never") == never
    assert f"<b>{places}</b>" in html and f"output {places} x {places}" in html


@settings(max_examples=100, deadline=None)
@given(share=st.floats(0, 1), **SETTINGS)
def test_everything_is_drawn_in_its_place(share, size, kernel_size, stride, padding, dilation):
    windows = by_hand(size, kernel_size, stride, padding, dilation)
    assume(windows)
    position = round(share * (len(windows) - 1))
    html = picture(size, kernel_size, stride=stride, padding=padding, dilation=dilation, position=position)
    everywhere = {(y, x) for y in range(size + 2 * padding) for x in range(size + 2 * padding)}
    pixels = {(y + padding, x + padding) for y in range(size) for x in range(size)}
    assert where(html, "pixel") == pixels and where(html, "padding") == everywhere - pixels
    assert where(html, "tap") == windows[position]
    assert where(html, "start") == {min(window) for window in windows}
    assert where(html, "never") == pixels - set().union(*windows)
    side = round(len(windows) ** 0.5)
    assert where(html, "here") == {divmod(position, side)}
    assert where(html, "output") | where(html, "here") == {(y, x) for y in range(side) for x in range(side)}


@settings(max_examples=100, deadline=None)
@given(**FULL)
def test_the_text_says_what_output_size_and_torch_say(size, kernel_size, stride, padding, dilation):
    html = picture(size, kernel_size, stride=stride, padding=padding, dilation=dilation)
    row, kernel = torch.zeros(1, 1, size), torch.zeros(1, 1, kernel_size)
    try:
        expected = output_size(size, kernel_size, stride, padding, dilation)
    except ValueError:
        with pytest.raises(RuntimeError, match="Kernel size can't be greater"):
            conv1d(row, kernel, None, stride, padding, dilation)
        assert "There is no place for it" in html and "is below 0" in html
        return
    assert conv1d(row, kernel, None, stride, padding, dilation).shape[2] == expected
    steps = re.search(r"&lfloor;(\d+) / (\d+)&rfloor; \+ 1 = (\d+) \+ 1 = <b>(\d+)</b>", html)
    last, by, whole, places = map(int, steps.groups())
    assert (by, whole, places) == (stride, last // by, expected)
    assert ("The floor drops a remainder" in html) == (last % by > 0)
    windows = by_hand(size, kernel_size, stride, padding, dilation)
    read = {y - padding for window in windows for y, _ in window} & set(range(size))
    never = size - len(read)
    s = "s" * (never != 1)
    assert (f"{never} row{s} and {never} column{s} of the input are never read" in html) == (never > 0)


@settings(max_examples=50, deadline=None)
@given(**SETTINGS)
def test_a_kernel_that_sticks_out_is_told_apart_without_colour(size, kernel_size, stride, padding, dilation):
    assume(not by_hand(size, kernel_size, stride, padding, dilation))
    html = picture(size, kernel_size, stride=stride, padding=padding, dilation=dilation)
    edge = size + 2 * padding
    out = [tap for tap in where(html, "tap") if max(tap) >= edge]
    strokes = next(part for part in svg_of(html).iter() if part.get("class") == "out")
    assert strokes.get("d").count("M") == len(out) > 0
    assert "stroke-dasharray: 4 2" in html and drawn(html, "edge") == 1


@settings(max_examples=100, deadline=None)
@given(**SETTINGS)
def test_an_impossible_setting_is_explained_with_its_numbers(size, kernel_size, stride, padding, dilation):
    assume(by_torch(size, kernel_size, stride, padding, dilation) is None)
    html = picture(size, kernel_size, stride=stride, padding=padding, dilation=dilation)
    covered = dilation * (kernel_size - 1) + 1
    assert f"covers D(K - 1) + 1 = {covered} pixels" in html
    assert f"but the padded input has only {size + 2 * padding}." in html
    assert "no output" in html and drawn(html, "output") == drawn(html, "here") == drawn(html, "start") == 0
    assert drawn(html, "tap") == kernel_size**2


@settings(max_examples=100, deadline=None)
@given(position=st.integers(-3, 700), **FULL)
@example(position=0, size=16, kernel_size=1, stride=1, padding=4, dilation=1)  # the widest
@example(position=0, size=16, kernel_size=9, stride=1, padding=4, dilation=4)  # the one that sticks out most
def test_is_well_formed_labelled_and_fits(size, kernel_size, stride, padding, dilation, position):
    setting = {"stride": stride, "padding": padding, "dilation": dilation, "position": position}
    html = picture(size, kernel_size, **setting)
    assert html == picture(size, kernel_size, **setting)
    svg = svg_of(html)
    assert svg.get("role") == "img" and f"{size} x {size}" in svg.get("aria-label")
    assert int(svg.get("width")) <= 760 and int(svg.get("height")) <= 520
    squares = [part for part in svg.iter() if part.tag.endswith("rect") and part.get("class") != "edge"]
    assert all(float(square.get("width")) == float(square.get("height")) >= 11 for square in squares)
    for square in squares:
        assert 0 <= float(square.get("x")) <= int(svg.get("width")) - float(square.get("width"))
        assert 0 <= float(square.get("y")) <= int(svg.get("height")) - float(square.get("height"))
    assert len(html) < 120_000  # sent to the browser at each step of a slider


def test_the_formula_is_filled_in_step_by_step():
    html = picture(8, 3, stride=2, padding=0)
    assert "&lfloor;(8 + 2&middot;0 - 1&middot;(3 - 1) - 1) / 2&rfloor; + 1" in html
    assert "&lfloor;5 / 2&rfloor; + 1 = 2 + 1 = <b>3</b>" in html
    assert "The floor drops a remainder of 1" in html
    assert "1 row and 1 column of the input are never read (crossed out)" in html
    assert "nothing is left over" in picture(7, 3, stride=2)


def test_the_position_is_clamped_and_named():
    assert "row 1, column 2 of the 3 x 3 output" in picture(5, 3, position=5)
    assert "row 2, column 2 of the 3 x 3 output" in picture(5, 3, position=999)
    assert "reads rows 1, 2, 3 and columns 2, 3, 4" in picture(5, 3, position=5)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"size": 0}, ValueError),
        ({"stride": 0}, ValueError),
        ({"padding": -1}, ValueError),
        ({"kernel_size": 2.0}, TypeError),
        ({"size": "7"}, TypeError),
        ({"dilation": True}, TypeError),
        ({"stride": (1, 2)}, TypeError),
        ({"position": 1.5}, TypeError),
    ],
)
def test_what_is_no_setting_is_refused(arguments, error):
    with pytest.raises(error):
        picture(**{"size": 7, "kernel_size": 3, **arguments})


def test_what_is_too_large_to_draw_is_refused_before_it_fills_the_memory():
    html = picture(LARGEST, 1, stride=9)
    assert drawn(html, "pixel") == LARGEST**2 and 'class="pixel" x="1" y="25" width="11"' in html
    for size, kernel_size in ((LARGEST + 1, 3), (7, 20_000)):
        with pytest.raises(ValueError, match=f"room for {LARGEST} pixels"):
            picture(size, kernel_size)


# --- the widget ---------------------------------------------------------------------------------------------


def test_every_slider_moves_the_picture():
    explorer = convolution_explorer(7, 3)
    for name in NAMED:
        before = explorer.view.value
        explorer.sliders[name].value += 1
        assert explorer.view.value != before, name
    values = {name: explorer.sliders[name].value for name in NAMED}
    assert explorer.view.value == picture(**values)
    before = explorer.view.value
    explorer.sliders["position"].value = 1
    assert explorer.view.value == picture(**values, position=1) != before


def test_the_position_follows_the_number_of_places():
    explorer = convolution_explorer(7, 3)
    position = explorer.sliders["position"]
    assert position.max == 24
    position.value = 24
    explorer.sliders["stride"].value = 2
    assert (position.max, position.value) == (8, 8)
    assert explorer.view.value == picture(7, 3, stride=2, position=8)


def test_an_impossible_setting_leaves_the_sliders_where_they_are_and_can_be_left_again():
    explorer = convolution_explorer(3, 3)
    possible = explorer.view.value
    explorer.sliders["kernel_size"].value = 9
    assert explorer.sliders["kernel_size"].value == 9 and explorer.sliders["size"].value == 3
    assert "There is no place for it" in explorer.view.value
    assert explorer.sliders["position"].disabled
    explorer.sliders["kernel_size"].value = 3
    assert explorer.view.value == possible and not explorer.sliders["position"].disabled


def test_sliders_reach_what_they_say():
    explorer = convolution_explorer()
    for name, (low, high) in RANGES.items():
        slider = explorer.sliders[name]
        assert isinstance(slider, ipywidgets.IntSlider) and (slider.min, slider.max) == (low, high)
        for value in (low, high):
            slider.value = value  # every corner draws
        assert slider.description


def test_there_is_no_output_widget():
    def all_widgets(widget):
        yield widget
        for child in getattr(widget, "children", ()):
            yield from all_widgets(child)

    assert not any(isinstance(widget, ipywidgets.Output) for widget in all_widgets(convolution_explorer()))


@pytest.mark.parametrize(
    ("name", "value"),
    [("size", 17), ("size", 0), ("kernel_size", 10), ("stride", 0), ("padding", 5), ("dilation", True)],
)
def test_a_start_that_no_slider_reaches_is_refused(name, value):
    with pytest.raises(ValueError, match=f"{name} must be a whole number from"):
        convolution_explorer(**{name: value})


def test_without_a_kernel_a_sentence_stands_in_its_place():
    assert repr(convolution_explorer()) == repr(convolution_explorer(9, 5)) and "Run the cell" in repr(
        convolution_explorer()
    )


# --- going through the positions ------------------------------------------------------------------------------------


def test_the_player_moves_the_position_and_follows_it():
    explorer = convolution_explorer(size=7, kernel_size=3)
    assert explorer.player.max == explorer.sliders["position"].max == 24
    explorer.player.value = 6
    assert explorer.sliders["position"].value == 6
    assert "row 1, column 1 of the 5 x 5 output" in explorer.view.value
    explorer.sliders["position"].value = 24
    assert explorer.player.value == 24


def test_the_player_ends_where_the_positions_end():
    explorer = convolution_explorer(size=7, kernel_size=3)
    explorer.player.value = 24
    explorer.sliders["stride"].value = 2
    assert explorer.player.max == 8 and explorer.player.value == explorer.sliders["position"].value == 8
    explorer.sliders["kernel_size"].value = 9
    assert explorer.player.disabled and explorer.player.max == 0
    explorer.sliders["kernel_size"].value = 3
    assert not explorer.player.disabled
