"""The convolution explorer of chapter 1, used as a learner uses it: with the keyboard, in both themes."""

import re

import pytest

from lenet_course.arithmetic import output_size

START = {"size": 7, "kernel_size": 3, "stride": 1, "padding": 0, "dilation": 1, "position": 0}
LABELS = {
    "size": "Input W",
    "kernel_size": "Kernel K",
    "stride": "Stride S",
    "padding": "Padding P",
    "dilation": "Dilation D",
    "position": "Position",
}
MAKE = (
    "from lenet_course.widgets.convolution_explorer import convolution_explorer\nexplorer = convolution_explorer()\n"
    "explorer"
)


class Explorer:
    """The explorer on a page; every value is read from what the page shows."""

    def __init__(self, page):
        self.window = page.page
        self.root = self.window.locator(".jp-OutputArea-output .jupyter-widgets:has(svg[role=img])").first
        self.drawing = self.window.locator(".jp-OutputArea-output svg[role=img]").first
        self.drawing.wait_for(timeout=20_000)

    def handle(self, name):
        return self.window.locator(f".widget-slider:has(.widget-label:text-is('{LABELS[name]}')) .noUi-handle")

    def number(self, name):
        """What stands beside the slider."""
        row = self.window.locator(f".widget-slider:has(.widget-label:text-is('{LABELS[name]}')) .widget-readout")
        return int(row.inner_text())

    def numbers(self):
        return {name: self.number(name) for name in LABELS}

    def picture(self):
        return self.drawing.inner_html()

    def description(self):
        return self.drawing.get_attribute("aria-label")

    def text(self):
        return self.root.inner_text()

    def press(self, name, key, times=1):
        """Press a key on a slider, and wait until the kernel has drawn what is new."""
        for _ in range(times):
            before = self.description()
            self.handle(name).press(key)
            self.window.wait_for_function(
                "before => document.querySelector('.jp-OutputArea-output svg[role=img]')"
                "?.getAttribute('aria-label') !== before",
                arg=before,
                timeout=10_000,
            )


@pytest.fixture(scope="module")
def notebook(window):
    window.open_new(MAKE)


@pytest.fixture
def explorer(notebook, shared_page):
    """A new explorer, as it is made."""
    shared_page.run_all()
    assert shared_page.errors() == []
    yield Explorer(shared_page)
    shared_page.use_theme("light")


@pytest.mark.parametrize("name", LABELS)
def test_a_slider_by_keyboard_moves_the_picture_and_the_numbers(explorer, name):
    assert explorer.numbers() == START
    picture = explorer.picture()
    explorer.press(name, "ArrowRight")

    assert explorer.picture() != picture
    setting = {**START, name: START[name] + 1}
    assert explorer.numbers() == setting
    place = setting.pop("position")
    side = output_size(**setting)
    words = f"row {place // side}, column {place % side} of the {side} x {side} output"
    assert words in explorer.description()
    assert f"+ 1 = {side}" in explorer.text()

    explorer.press(name, "ArrowLeft")
    assert explorer.picture() == picture
    assert explorer.numbers() == START


def test_the_tab_key_reaches_every_slider(explorer):
    explorer.handle("size").focus()
    names = list(LABELS)
    for name in names[1:]:
        explorer.window.keyboard.press("Tab")
        for _ in range(2):  # the number beside a slider takes the focus as well
            if explorer.handle(name).evaluate("node => node === document.activeElement"):
                break
            explorer.window.keyboard.press("Tab")
        assert explorer.handle(name).evaluate("node => node === document.activeElement"), name


def test_an_impossible_setting_is_said_in_words_and_can_be_left_again(explorer):
    explorer.press("kernel_size", "ArrowRight", times=5)
    assert explorer.number("kernel_size") == 8
    words = "The kernel covers D(K - 1) + 1 = 8 pixels, but the padded input has only 7. There is no place for it"
    assert words in explorer.text()
    assert words in explorer.description()
    assert "no output" in explorer.drawing.text_content()
    assert "Traceback" not in explorer.text()

    explorer.press("padding", "ArrowRight")
    assert explorer.numbers() == {**START, "kernel_size": 8, "padding": 1}
    assert "2 x 2 output" in explorer.description()


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("kernel_size", [3, 8])
def test_can_be_read_in_both_themes(shared_page, explorer, theme, kernel_size):
    shared_page.use_theme(theme)
    explorer.press("kernel_size", "ArrowRight", times=kernel_size - 3)
    contrasts = shared_page.contrasts(".jp-OutputArea-output .jupyter-widgets:has(svg[role=img])")
    assert {"Input W", "Kernel K"} <= {text for text, _ in contrasts}
    assert any(re.match("input 7 x 7", text) for text, _ in contrasts)
    too_faint = [found for found in contrasts if found[1] < 4.5]  # WCAG 2.1, 1.4.3
    assert too_faint == []


def test_two_explorers_in_one_notebook_do_not_mix(page):
    page.open_new(MAKE, MAKE)
    page.run_all()
    drawings = page.page.locator(".jp-OutputArea-output svg[role=img]")
    drawings.nth(1).wait_for(timeout=20_000)
    first, second = (drawings.nth(number).get_attribute("aria-label") for number in (0, 1))
    handles = page.page.locator(".widget-slider:has(.widget-label:text-is('Kernel K')) .noUi-handle")
    handles.nth(1).press("ArrowRight")
    page.page.wait_for_timeout(1_000)
    assert drawings.nth(0).get_attribute("aria-label") == first
    assert drawings.nth(1).get_attribute("aria-label") != second


def test_what_is_set_in_the_browser_is_what_python_has(shared_page, explorer):
    explorer.press("stride", "ArrowRight", times=2)
    outputs = shared_page.run_code("[explorer.sliders[name].value for name in explorer.sliders]")
    assert outputs[0]["data"]["text/plain"] == "[7, 3, 3, 0, 1, 0]"
    shared_page.run_code("explorer.sliders['size'].value = 12")
    explorer.drawing.wait_for()
    assert explorer.number("size") == 12
    assert "An input of 12 x 12" in explorer.description()
