"""The unit explorer in a real page: click a unit, and the numbers shown are the network's."""

import re

import pytest
import torch

from lenet_course.data import load_mnist
from lenet_course.lenet5 import LeNet5
from lenet_course.units import explain_unit, layer_values
from lenet_course.weights import load_weights

MAKE = """
from lenet_course.data import load_mnist
from lenet_course.lenet5 import LeNet5
from lenet_course.weights import load_weights
from lenet_course.widgets.unit_explorer import unit_explorer

lenet5 = LeNet5()
load_weights(lenet5, "lenet5", source="shipped")
explorer = unit_explorer(lenet5, load_mnist("test").images[0], "{layer}")
explorer
"""


@pytest.fixture(scope="module")
def network():
    model = LeNet5()
    load_weights(model, "lenet5", source="shipped")
    return model, load_mnist("test").images[0]


class Explorer:
    """The explorer on a page."""

    def __init__(self, page):
        self.page, self.window = page, page.page
        self.canvas = self.window.locator("canvas[role=application]").first
        self.canvas.wait_for(timeout=20_000)
        self.canvas.scroll_into_view_if_needed()

    def panel(self):
        return self.window.locator(".lenet-unit-panel").first.inner_text()

    def status(self):
        return self.window.locator("[aria-live=polite]").first.inner_text()

    def shown(self):
        """The unit that Python has."""
        outputs = self.page.run_code("explorer.shown['layer'], tuple(explorer.shown['index'])")
        return eval(outputs[0]["data"]["text/plain"])

    def click(self, x, y):
        """Click at a share of the canvas' width and height, and wait until the panel has changed."""
        before = self.panel()
        box = self.canvas.bounding_box()
        self.window.mouse.click(box["x"] + x * box["width"], box["y"] + y * box["height"])
        self.window.wait_for_function(
            "before => document.querySelector('.lenet-unit-panel').innerText !== before", arg=before, timeout=10_000
        )


def open_at(page, layer):
    page.open_new(MAKE.format(layer=layer))
    page.run_all()
    assert page.errors() == []
    return Explorer(page)


def numbers_in(text):
    return [float(number) for number in re.findall(r"-?\d+\.\d+", text.replace("\N{MINUS SIGN}", "-"))]


@pytest.mark.parametrize("layer", ["c1", "s2", "c3", "s4", "c5", "f6"])
def test_a_click_shows_the_networks_own_numbers(page, network, layer):
    model, image = network
    explorer = open_at(page, layer)
    explorer.click(0.3, 0.6)
    name, index = explorer.shown()
    assert name == layer
    expected = explain_unit(model, image, layer, index)
    value = layer_values(model, image)[layer][tuple(index)].item()
    assert expected.output == pytest.approx(value, abs=1e-5)
    shown = numbers_in(explorer.panel())
    for number in (float(expected.sum), value):
        assert min(abs(found - number) for found in shown) < 6e-3, (number, shown[:40])


def test_another_layer_from_the_list(page, network):
    explorer = open_at(page, "c1")
    explorer.window.locator("select[id^=lenet-unit-explorer]").select_option("c3")
    explorer.window.wait_for_function(
        "() => document.querySelector('.lenet-unit-panel').innerText.includes('as Table I has it')"
    )
    assert explorer.shown()[0] == "c3"


def test_arrow_keys_move_from_unit_to_unit(page):
    explorer = open_at(page, "c1")
    before = explorer.shown()[1]
    cells = len(page.cells())
    explorer.canvas.focus()
    for key in ("ArrowRight", "ArrowRight", "ArrowDown"):
        explorer.window.keyboard.press(key)
    explorer.window.wait_for_timeout(1_000)
    assert len(page.cells()) == cells
    map_number, row, column = explorer.shown()[1]
    assert (map_number, row, column) == (before[0], before[1] + 1, before[2] + 2)


def test_another_digit_takes_the_place_of_the_first(page, network):
    model, _ = network
    explorer = open_at(page, "f6")
    page.run_code("explorer.image = load_mnist('test').images[1]")
    index = explorer.shown()[1]
    value = layer_values(model, load_mnist("test").images[1])["f6"][tuple(index)].item()
    explorer.window.wait_for_timeout(500)
    assert min(abs(found - value) for found in numbers_in(explorer.panel())) < 6e-3


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_can_be_read_in_both_themes(page, theme):
    explorer = open_at(page, "c3")
    page.use_theme(theme)
    explorer.click(0.5, 0.3)
    contrasts = page.contrasts(".lenet-unit-panel")
    assert len(contrasts) > 5
    assert [found for found in contrasts if found[1] < 4.5] == []  # WCAG 2.1, 1.4.3


def test_the_network_is_not_changed_by_looking(network):
    model, image = network
    before = torch.cat([parameter.detach().flatten() for parameter in model.parameters()])
    explain_unit(model, image, "c3", (4, 5, 5))
    assert torch.equal(before, torch.cat([parameter.detach().flatten() for parameter in model.parameters()]))
