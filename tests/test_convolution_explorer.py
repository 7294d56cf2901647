import re
from xml.etree import ElementTree

import ipywidgets
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch.nn.functional import conv2d

from lenet_course.widgets.convolution_explorer import RANGES, convolution_explorer, picture

SETTINGS = {name: st.integers(low, min(high, 9)) for name, (low, high) in RANGES.items()}
NAMED = ("size", "kernel_size", "stride", "padding", "dilation")


def drawn(html, kind):
    return len(re.findall(f'class="{kind}"', html))


def by_torch(size, kernel_size, stride, padding, dilation):
    """(output size, pixels that no window reads), found by running a convolution; None if it does not fit."""
    pixels = torch.zeros(1, 1, size, size, requires_grad=True)
    try:
        output = conv2d(pixels, torch.ones(1, 1, kernel_size, kernel_size), None, stride, padding, dilation)
    except RuntimeError:
        return None
    output.sum().backward()
    return output.shape[3], int((pixels.grad == 0).sum())


# --- the picture ----------------------------------------------------------------------------------------------------


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
@given(**SETTINGS)
def test_an_impossible_setting_is_explained_with_its_numbers(size, kernel_size, stride, padding, dilation):
    assume(by_torch(size, kernel_size, stride, padding, dilation) is None)
    html = picture(size, kernel_size, stride=stride, padding=padding, dilation=dilation)
    covered = dilation * (kernel_size - 1) + 1
    assert f"covers D(K - 1) + 1 = {covered} pixels, but the padded input has only {size + 2 * padding}" in html
    assert "no output" in html and drawn(html, "output") == drawn(html, "here") == drawn(html, "start") == 0
    assert drawn(html, "tap") == kernel_size**2


@settings(max_examples=50, deadline=None)
@given(position=st.integers(-3, 300), **SETTINGS)
def test_is_well_formed_labelled_and_narrow_enough(size, kernel_size, stride, padding, dilation, position):
    html = picture(size, kernel_size, stride=stride, padding=padding, dilation=dilation, position=position)
    svg = ElementTree.fromstring(re.search("<svg.*</svg>", html)[0])
    assert svg.get("role") == "img" and f"{size} x {size}" in svg.get("aria-label")
    assert int(svg.get("width")) <= 860 and int(svg.get("height")) <= 520
    assert html == picture(size, kernel_size, stride=stride, padding=padding, dilation=dilation, position=position)


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
    ],
)
def test_what_is_no_setting_is_refused(arguments, error):
    with pytest.raises(error):
        picture(**{"size": 7, "kernel_size": 3, **arguments})


# --- the widget -----------------------------------------------------------------------------------------------------


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
