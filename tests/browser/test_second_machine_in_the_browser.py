"""The calculator of chapter 8, used as a learner uses it: with the keyboard, in both themes."""

import re

import pytest

from lenet_course.widgets.second_machine import picture

START = {
    "parameters": 431_080,
    "batch_size": 64,
    "machines": 2,
    "bandwidth": 1e9 / 8,
    "latency": 0.2e-3,
    "seconds_a_digit": 60e-6,
    "seconds_a_step": 1e-3,
}
LABELS = {
    "parameters": "Parameters",
    "batch_size": "Batch size",
    "machines": "Machines",
    "bandwidth": "Bandwidth",
    "latency": "Latency",
    "seconds_a_digit": "Each digit",
    "seconds_a_step": "Each step",
}
READOUTS = {  # at the start, and one to the right
    "parameters": ("431,080: LeNet", "1 million", 1_000_000),
    "batch_size": ("64", "128", 128),
    "machines": ("2", "3", 3),
    "bandwidth": ("1 Gbit/s: cable", "10 Gbit/s", 10e9 / 8),
    "latency": ("0.2 ms: cable", "0.5 ms", 0.5e-3),
    "seconds_a_digit": ("0.06 ms", "0.1 ms", 100e-6),
    "seconds_a_step": ("1 ms", "2 ms", 2e-3),
}
MAKE = (
    "from lenet_course.widgets.second_machine import second_machine\n"
    "calculator = second_machine(seconds_a_digit=60e-6, seconds_a_step=1e-3)\n"
    "calculator"
)
OUTPUT = ".jp-OutputArea-output .jupyter-widgets:has(svg.bars)"


def labels_of(html):
    return re.findall(r'aria-label="([^"]*)"', html)


class Calculator:
    """The calculator on a page; every value is read from what the page shows."""

    def __init__(self, page):
        self.window = page.page
        self.root = self.window.locator(OUTPUT).first
        self.bars = self.window.locator(".jp-OutputArea-output svg.bars").first
        self.curve = self.window.locator(".jp-OutputArea-output svg.curve").first
        self.bars.wait_for(timeout=20_000)

    def row(self, name):
        return self.window.locator(f".widget-hslider:has(.widget-label:text-is('{LABELS[name]}'))")

    def handle(self, name):
        return self.row(name).locator(".noUi-handle")

    def readouts(self):
        return {name: self.row(name).locator(".widget-readout").inner_text() for name in LABELS}

    def descriptions(self):
        return [drawing.get_attribute("aria-label") for drawing in (self.bars, self.curve)]

    def text(self):
        return self.root.inner_text()

    def press(self, name, key, times=1):
        """Press a key on a slider, and wait until the kernel has drawn what is new."""
        for _ in range(times):
            before = self.descriptions()[0]
            self.handle(name).press(key)
            self.window.wait_for_function(
                "before => document.querySelector('.jp-OutputArea-output svg.bars')"
                "?.getAttribute('aria-label') !== before",
                arg=before,
                timeout=20_000,
            )


@pytest.fixture(scope="module")
def notebook(window):
    window.open_new(MAKE)


@pytest.fixture
def calculator(notebook, shared_page):
    """A new calculator, as it is made."""
    shared_page.run_all()
    assert shared_page.errors() == []
    yield Calculator(shared_page)
    shared_page.use_theme("light")


@pytest.mark.parametrize("name", LABELS)
def test_a_slider_by_keyboard_moves_the_picture_and_the_numbers(calculator, name):
    at_start = {each: readouts[0] for each, readouts in READOUTS.items()}
    assert calculator.readouts() == at_start
    assert calculator.descriptions() == labels_of(picture(**START))
    drawings = [calculator.bars.inner_html(), calculator.curve.inner_html()]

    calculator.press(name, "ArrowRight")
    _, readout, value = READOUTS[name]
    assert calculator.readouts() == {**at_start, name: readout}
    assert calculator.descriptions() == labels_of(picture(**{**START, name: value}))
    assert calculator.bars.inner_html() != drawings[0] and calculator.curve.inner_html() != drawings[1]

    calculator.press(name, "ArrowLeft")
    assert calculator.readouts() == at_start
    assert [calculator.bars.inner_html(), calculator.curve.inner_html()] == drawings


def test_the_tab_key_reaches_every_slider(calculator):
    calculator.handle("parameters").focus()
    for name in list(LABELS)[1:]:
        for _ in range(3):  # the text beside a slider may take the focus as well
            calculator.window.keyboard.press("Tab")
            if calculator.handle(name).evaluate("node => node === document.activeElement"):
                break
        assert calculator.handle(name).evaluate("node => node === document.activeElement"), name


def test_the_verdict_turns_where_the_calculator_says_it_does(calculator):
    assert "0.28 times as fast. The second machine does not pay." in calculator.text()
    assert "it pays from a batch of 512 digits on" in calculator.text()
    calculator.press("batch_size", "ArrowRight", times=2)
    assert "does not pay" in calculator.text()
    calculator.press("batch_size", "ArrowRight")
    assert calculator.readouts()["batch_size"] == "512"
    assert "The second machine pays." in calculator.text() and "does not pay" not in calculator.text()


def test_nothing_is_cut_off(calculator):
    """With the longest words, beside the file browser and without it."""
    for name, key in (
        ("parameters", "ArrowLeft"),
        ("parameters", "ArrowLeft"),
        ("machines", "End"),
        ("bandwidth", "End"),
    ):
        calculator.press(name, key)
    assert list(calculator.readouts().values())[:4] == ["60,000: LeNet-5", "64", "16", "205 Gbit/s: RAM"]
    try:
        for width in (1200, 1000):
            calculator.window.set_viewport_size({"width": width, "height": 1000})
            calculator.window.wait_for_timeout(500)
            cut = calculator.root.evaluate(
                """root => [root, ...root.querySelectorAll(".widget-readout, .widget-label, svg, p")]
                    .filter(node => node.scrollWidth > node.clientWidth + 1
                        || node.getBoundingClientRect().right > root.getBoundingClientRect().right + 1)
                    .map(node => node.textContent.slice(0, 80))"""
            )
            assert cut == [], width
    finally:
        calculator.window.set_viewport_size({"width": 1200, "height": 1000})


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("batch_size", [64, 512])
def test_can_be_read_in_both_themes(shared_page, calculator, theme, batch_size):
    shared_page.use_theme(theme)
    if batch_size == 512:
        calculator.press("batch_size", "ArrowRight", times=3)
    contrasts = shared_page.contrasts(OUTPUT)
    texts = {text for text, _ in contrasts}
    assert {"Batch size", "computing", "exchange of gradients", "ideal", "2 machines", "machines"} <= texts
    assert any("times as fast. The second machine" in text for text in texts)
    too_faint = [found for found in contrasts if found[1] < 4.5]  # WCAG 2.1, 1.4.3
    assert too_faint == []


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_what_is_drawn_stands_out_in_both_themes(shared_page, calculator, theme):
    shared_page.use_theme(theme)
    found = calculator.root.evaluate(
        """root => {
            const numbers = colour => colour.match(/[0-9.]+/g).slice(0, 3).map(Number);
            const style = (selector, name) => numbers(getComputedStyle(root.querySelector(selector))[name]);
            return {
                paper: numbers(getComputedStyle(root.querySelector("svg.bars").parentElement).backgroundColor),
                computing: style("rect.alone", "fill"),
                exchange: style("rect.exchange + path.hatching", "stroke"),
                line: style("path.line", "stroke"),
            };
        }"""
    )

    def luminance(colour):
        linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in (c / 255 for c in colour)]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    paper = luminance(found.pop("paper"))
    for name, colour in found.items():
        low, high = sorted((luminance(colour), paper))
        assert (high + 0.05) / (low + 0.05) >= 3, name  # WCAG 2.1, 1.4.11


def test_what_is_set_in_the_browser_is_what_python_has(shared_page, calculator):
    calculator.press("machines", "ArrowRight", times=2)
    outputs = shared_page.run_code("[slider.value for slider in calculator.sliders.values()]")
    assert outputs[0]["data"]["text/plain"] == "[431080, 64, 4, 125000000.0, 0.0002, 6e-05, 0.001]"
    shared_page.run_code("calculator.sliders['batch_size'].value = 4096")
    calculator.window.wait_for_function(
        "() => document.querySelector('.jp-OutputArea-output svg.bars').getAttribute('aria-label')"
        ".startsWith('A step with 4,096 digits')",
        timeout=20_000,
    )
    assert calculator.readouts()["batch_size"] == "4,096"


def test_two_calculators_in_one_notebook_do_not_mix(page):
    page.open_new(MAKE, MAKE)
    page.run_all()
    drawings = page.page.locator(".jp-OutputArea-output svg.bars")
    drawings.nth(1).wait_for(timeout=20_000)
    first = drawings.nth(0).get_attribute("aria-label")
    handles = page.page.locator(".widget-hslider:has(.widget-label:text-is('Machines')) .noUi-handle")
    handles.nth(1).press("ArrowRight")
    page.page.wait_for_function(
        "before => [...document.querySelectorAll('.jp-OutputArea-output svg.bars')][1].getAttribute('aria-label') !== before",
        arg=first,
        timeout=20_000,
    )
    assert drawings.nth(0).get_attribute("aria-label") == first
