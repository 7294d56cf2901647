"""The drawing pad, used as learners use it: by mouse, finger, keyboard, with an uploaded picture; and when Python is gone."""

import math

import pytest

from lenet_course.drawing import draw_strokes

MAKE = """
from lenet_course.data import load_mnist
from lenet_course.lenet import LeNet
from lenet_course.lenet5 import LeNet5
from lenet_course.weights import load_weights
from lenet_course.widgets.drawing_pad import drawing_pad

lenet, lenet5 = LeNet(), LeNet5()
load_weights(lenet, "lenet", source="shipped")
load_weights(lenet5, "lenet5", source="shipped")
pad = drawing_pad({"LeNet-5": lenet5, "LeNet": lenet}, load_mnist("test"))
pad
"""
ONE = [[(140, 40), (140, 240)]]
SEVEN = [[(80, 60), (200, 60), (130, 230)]]
ZERO = [[(140 + 55 * math.sin(turn / 20 * math.tau), 140 - 85 * math.cos(turn / 20 * math.tau)) for turn in range(21)]]


class Pad:
    """A pad on a page; every value is read from what the page shows. Places are in the pad's own units, 0 to 280."""

    def __init__(self, page, number=0):
        self.page = page
        self.window = page.page
        self.root = self.window.locator(".lenet-pad").nth(number)
        self.canvas = self.root.locator("canvas")
        self.canvas.wait_for(timeout=20_000)
        self.canvas.scroll_into_view_if_needed()

    def place(self, x, y):
        box = self.canvas.bounding_box()
        return box["x"] + x * box["width"] / 280, box["y"] + y * box["height"] / 280

    def draw(self, strokes):
        mouse = self.window.mouse
        for stroke in strokes:
            mouse.move(*self.place(*stroke[0]))
            mouse.down()
            for point in stroke[1:]:
                mouse.move(*self.place(*point), steps=4)
            mouse.up()

    def message(self):
        return self.root.locator("[role=status]").inner_text()

    def wait_for(self, words, seconds=10):
        self.root.locator("[role=status]", has_text=words).wait_for(timeout=1000 * seconds)

    def ink(self):
        """How many pixels of the canvas are dark."""
        return self.canvas.evaluate(
            "canvas => { const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);"
            "let dark = 0; for (let i = 0; i < data.length; i += 4) dark += data[i] < 100; return dark; }"
        )


@pytest.fixture
def pad(page):
    page.open_new(MAKE)
    page.run_all()
    assert page.errors() == []
    return Pad(page)


@pytest.mark.parametrize(("strokes", "digit"), [(ONE, 1), (SEVEN, 7), (ZERO, 0)])
def test_what_is_drawn_with_the_mouse_is_read(page, pad, strokes, digit):
    assert pad.message() == "Draw a digit."
    pad.draw(strokes)
    pad.wait_for(f"It reads a {digit}, whose code is at a distance of")
    outputs = page.run_code("pad.answer, len(pad.canvas.strokes)")
    assert outputs[0]["data"]["text/plain"] == f"({digit}, 1)"
    assert pad.window.locator(f"svg[aria-label^='Distance from each code']:has-text('{digit}')").count() == 1


def test_undo_takes_back_a_stroke_and_clear_all_of_them(pad):
    pad.draw(SEVEN)
    pad.wait_for("It reads a 7")
    ink = pad.ink()
    pad.draw([[(40, 20), (60, 260)]])
    assert pad.ink() > ink
    pad.root.get_by_role("button", name="Undo").click()
    pad.wait_for("It reads a 7")
    assert pad.ink() == ink
    pad.root.get_by_role("button", name="Clear").click()
    pad.wait_for("Draw a digit.")
    assert pad.ink() == 0
    assert pad.window.get_by_text("Nothing to read yet.").count() == 1


def test_undo_with_nothing_drawn_does_nothing(pad):
    pad.root.get_by_role("button", name="Undo").click()
    pad.wait_for("Draw a digit.")


def test_a_digit_is_drawn_by_keyboard_alone(pad):
    pad.canvas.focus()
    keyboard = pad.window.keyboard
    for key in [" "] + ["ArrowDown"] * 16 + [" "]:
        keyboard.press(key)
    pad.wait_for("It reads a 1")
    keyboard.press("Backspace")
    pad.wait_for("Draw a digit.")
    back_to_the_top = ["ArrowUp"] * 16 + ["ArrowLeft"] * 4  # the pen is up
    for key in [*back_to_the_top, " "] + ["ArrowRight"] * 8 + ["ArrowDown", "ArrowDown", "ArrowLeft"] * 7 + [" "]:
        keyboard.press(key)
    pad.wait_for("It reads a 7")
    keyboard.press("Delete")
    pad.wait_for("Draw a digit.")


def test_keys_stay_with_the_pad(page, pad):
    """JupyterLab's own keys would cut cells or leave the notebook."""
    cells = len(page.cells())
    pad.canvas.focus()
    for key in (" ", "ArrowDown", " ", "Backspace", "Delete", "ArrowUp"):
        pad.window.keyboard.press(key)
    assert len(page.cells()) == cells


def test_a_finger_draws_and_does_not_scroll(pad):
    session = pad.window.context.new_cdp_session(pad.window)

    def touch(kind, *places):
        points = [{"x": x, "y": y} for x, y in places]
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    stroke = [(80 + 4 * n, 60) for n in range(31)] + [(200 - 2 * n, 60 + 5 * n) for n in range(1, 35)]
    top = pad.canvas.bounding_box()["y"]
    touch("touchStart", pad.place(*stroke[0]))
    for point in stroke[1:]:
        touch("touchMove", pad.place(*point))
    touch("touchEnd")
    pad.wait_for("It reads a 7")
    assert pad.canvas.bounding_box()["y"] == top


def picture_of(strokes, tmp_path):
    from PIL import Image

    path = tmp_path / "digit.png"
    Image.fromarray((255 - draw_strokes(strokes)).numpy()).save(path)
    return path


def test_a_picture_is_uploaded_and_read(pad, tmp_path):
    pad.root.locator("input[type=file]").set_input_files(picture_of(SEVEN, tmp_path))
    pad.wait_for("It reads a 7")
    assert pad.ink() > 0


def test_a_file_that_is_no_picture_is_said(pad, tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("This is no picture.")
    pad.root.locator("input[type=file]").set_input_files(path)
    pad.wait_for("no picture")


def test_a_file_that_is_too_large_is_not_even_sent(pad, tmp_path):
    path = tmp_path / "large.png"
    path.write_bytes(bytes(6_000_000))
    pad.root.locator("input[type=file]").set_input_files(path)
    pad.wait_for("has 6.0 MB. Choose a picture of at most 5 MB.")


def test_a_test_digit_from_the_list(pad):
    pad.window.locator(".widget-dropdown:has-text('Test digit') select").select_option("0: a 7")
    pad.wait_for("It reads a 7")
    assert pad.ink() > 0
    pad.draw([[(20, 20), (22, 22)]])
    pad.window.wait_for_function(
        "() => [...document.querySelectorAll('.widget-dropdown select')].some(list => list.value === 'drawn by you')"
    )


def test_another_network_and_without_centring(pad):
    pad.draw([[(x / 4, y / 4) for x, y in SEVEN[0]]])
    pad.wait_for("It reads a 7, whose code")
    pad.window.locator(".widget-dropdown:has-text('Network') select").select_option("LeNet")
    pad.wait_for("It reads a 7, with a probability of")
    pad.window.get_by_label("Crop, scale and centre").uncheck()
    pad.window.locator("img[alt^='the whole canvas, as it is']").wait_for()


def test_two_pads_in_one_notebook(page):
    page.open_new(MAKE, "other = drawing_pad(lenet5)\nother")
    page.run_all()
    one, other = Pad(page, 0), Pad(page, 1)
    one.canvas.scroll_into_view_if_needed()
    one.draw(ONE)
    one.wait_for("It reads a 1")
    assert other.message() == "Draw a digit." and other.ink() == 0
    other.canvas.scroll_into_view_if_needed()
    other.draw(SEVEN)
    other.wait_for("It reads a 7")
    assert one.message().startswith("It reads a 1")


def test_when_the_kernel_was_restarted_it_is_said(page, pad):
    pad.draw(ONE)
    pad.wait_for("It reads a 1")
    (kernel,) = page.lab.ask("/api/kernels")
    page.lab.ask(f"/api/kernels/{kernel['id']}/restart", "POST")
    page.wait_for_idle()
    pad.draw(SEVEN)
    pad.root.locator("[role=status]", has_text="run the cell").wait_for(timeout=15_000)
    page.problems.clear()  # JupyterLab itself may complain of the comm that is gone


def test_the_time_from_stroke_to_picture_is_there_to_be_read(pad):
    pad.draw(SEVEN)
    pad.window.wait_for_function("() => document.querySelector('.lenet-pad').dataset.milliseconds")
    assert 0 < float(pad.root.get_attribute("data-milliseconds")) < 5_000


def test_many_strokes_leave_the_page_as_it_was(page, pad):
    """Nodes and listeners of the page do not grow with what is drawn."""
    session = pad.window.context.new_cdp_session(pad.window)
    session.send("Performance.enable")

    def count():
        for _ in range(3):  # what one collection sets free may hold something else
            session.send("HeapProfiler.collectGarbage")
            pad.window.wait_for_timeout(300)
        metrics = {m["name"]: m["value"] for m in session.send("Performance.getMetrics")["metrics"]}
        return metrics["Nodes"], metrics["JSEventListeners"]

    def scribble(times):
        for n in range(times):
            pad.draw([[(60 + n % 100, 60), (100, 200)]])
            if n % 10 == 9:
                pad.root.get_by_role("button", name="Clear").click()
        pad.wait_for("Draw a digit.")
        pad.window.wait_for_timeout(1_000)

    scribble(20)
    nodes, listeners = count()
    scribble(200)
    more_nodes, more_listeners = count()
    # JupyterLab itself gains some listeners with time; a leak of ours would be at least one for each of the 200 strokes.
    assert more_nodes < nodes + 200 and more_listeners < listeners + 200


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_can_be_read_in_both_themes(page, pad, theme):
    page.use_theme(theme)
    pad.draw(SEVEN)
    pad.wait_for("It reads a 7")
    contrasts = page.contrasts(".jp-OutputArea-output .jupyter-widgets:has(.lenet-pad)")
    assert [found for found in contrasts if found[1] < 4.5] == []  # WCAG 2.1, 1.4.3
