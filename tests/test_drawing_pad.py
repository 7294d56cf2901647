"""The drawing pad, Python's side: what the page sends, set as the page would set it. The page itself is tried in tests/browser."""

import base64
import io
import re

import pytest
import torch
from PIL import Image

from lenet_course.data import load_mnist
from lenet_course.drawing import draw_strokes, normalise
from lenet_course.lenet import LeNet
from lenet_course.lenet5 import LeNet5
from lenet_course.weights import load_weights
from lenet_course.widgets.drawing_pad import MOST_POINTS, drawing_pad
from lenet_course.widgets.pad_panel import read_digit

SEVEN = [[[80, 60], [200, 60], [130, 220]]]
ONE = [[[140, 50], [140, 230]]]


@pytest.fixture(scope="module")
def models():
    lenet, lenet5 = LeNet(), LeNet5()
    load_weights(lenet, "lenet", source="shipped")
    load_weights(lenet5, "lenet5", source="shipped")
    return {"LeNet-5": lenet5, "LeNet": lenet}


@pytest.fixture(scope="module")
def test_digits():
    return load_mnist("test")


@pytest.fixture
def pad(models, test_digits):
    return drawing_pad(models, test_digits)


def send(pad, **changes):
    """Do what the page does: set what has changed, then raise the version."""
    for name, value in changes.items():
        setattr(pad.canvas, name, value)
    pad.canvas.version += 1


def upload_of(image):
    file = io.BytesIO()
    Image.fromarray(image.numpy()).save(file, format="PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


# --- reading --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("strokes", "digit"), [(SEVEN, 7), (ONE, 1)])
@pytest.mark.parametrize("name", ["LeNet", "LeNet-5"])
def test_a_drawing_is_read_and_said(pad, name, strokes, digit):
    pad.model_choice.value = name
    send(pad, strokes=strokes)
    assert pad.answer == digit and pad.canvas.message.startswith(f"It reads a {digit}, ")
    assert pad.canvas.answered == pad.canvas.version == 1
    expected = normalise(draw_strokes(strokes, side=280, pen=pad.canvas.pen)).image
    assert torch.equal(pad.drawing, expected)


def test_the_bars_are_the_networks_own_numbers(pad, models):
    send(pad, strokes=SEVEN)
    distances = models["LeNet-5"](models["LeNet-5"].prepare(pad.drawing[None]))[0].tolist()
    label = re.search(r'aria-label="Distance from each code \(the smallest wins\): ([^"]*)"', pad.view.value)[1]
    assert label == "; ".join(f"{digit}: {distance:.3g}" for digit, distance in enumerate(distances))
    pad.model_choice.value = "LeNet"
    shares = models["LeNet"](models["LeNet"].prepare(pad.drawing[None]))[0].softmax(dim=0).tolist()
    label = re.search(r'aria-label="Probability of each digit: ([^"]*)"', pad.view.value)[1]
    assert label == "; ".join(f"{digit}: {share:.3g}" for digit, share in enumerate(shares))


def test_the_steps_are_shown_and_f6_beside_the_code(pad):
    send(pad, strokes=SEVEN)
    captions = re.findall(r'alt="([^"]*)"', pad.view.value)
    assert [caption.split(":")[0] for caption in captions] == [
        "the ink alone",
        "in a box of 20 x 20",
        "its centre of mass in the middle",
        "F6 draws",
        "the code of 7",
    ]
    pad.centred.value = False
    assert 'alt="the whole canvas, as it is: 28 x 28 pixels"' in pad.view.value
    assert "in a box of 20 x 20" not in pad.view.value


def test_without_centring_a_digit_in_the_corner_stays_there(pad):
    corner = [[[x / 4, y / 4] for x, y in SEVEN[0]]]
    send(pad, strokes=corner)
    assert pad.answer == 7
    pad.centred.value = False
    assert pad.drawing[14:].sum() == 0 and pad.drawing[:, 14:].sum() == 0


def test_nothing_drawn_is_no_guess(pad):
    assert pad.answer is None and pad.drawing is None and pad.canvas.message == "Draw a digit."
    assert "Nothing to read yet" in pad.view.value
    send(pad, strokes=SEVEN)
    send(pad, strokes=[])
    assert pad.answer is None and pad.canvas.message == "Draw a digit." and pad.canvas.answered == 2
    assert "Nothing to read yet" in pad.view.value


def test_what_is_far_from_every_code_is_said_to_be_far(models):
    noise = torch.randint(0, 256, (28, 28), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    reading = read_digit(models["LeNet-5"], noise)
    assert min(reading.values) > 20 and "it may be no digit at all" in reading.words
    assert reading.answer == reading.values.index(min(reading.values))


def test_eight_has_its_article(models, test_digits):
    eight = test_digits.images[test_digits.labels == 8][0]
    assert read_digit(models["LeNet"], eight).words.startswith("It reads an 8, with a probability of ")


# --- a test digit, an uploaded picture ------------------------------------------------------------------------------


def test_a_test_digit_takes_the_place_of_a_drawing_and_the_other_way_round(pad, test_digits):
    send(pad, strokes=SEVEN)
    pad.test_digit.value = 3
    assert pad.answer == int(test_digits.labels[3]) == 0
    assert pad.canvas.strokes == [] and pad.canvas.background.startswith("data:image/png;base64,")
    send(pad, strokes=ONE, background="")
    assert pad.answer == 1 and pad.test_digit.value == -1
    pad.test_digit.value = 3
    pad.test_digit.value = -1
    assert pad.answer is None and pad.canvas.background == ""


def test_an_uploaded_picture_is_read(pad):
    picture = 255 - draw_strokes(SEVEN, side=280, pen=20)  # dark ink on light paper
    send(pad, upload=upload_of(picture))
    assert pad.answer == 7 and pad.canvas.background.startswith("data:image/png")


@pytest.mark.parametrize(
    ("upload", "complaint"),
    [
        ("data:image/png;base64,AAAA", "no picture"),
        ("data:image/png;base64,AAA", "did not arrive whole"),
        ("data:text/plain;base64,aGVsbG8=", "no picture"),
    ],
)
def test_an_upload_that_is_no_picture_is_said(pad, upload, complaint):
    send(pad, upload=upload)
    assert complaint in pad.canvas.message and pad.answer is None and pad.canvas.answered == 1


# --- what may come from a page --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "strokes", [[["x"]], [[[1, 2, 3]]], [[[None, 1]]], [1], [[["a", "b"]]], [[[float("nan"), 1.0]]]]
)
def test_strokes_that_are_none_are_said_and_the_pad_goes_on(pad, strokes):
    send(pad, strokes=strokes)
    assert pad.answer is None and len(pad.canvas.message) > 20 and pad.canvas.answered == 1
    send(pad, strokes=SEVEN)
    assert pad.answer == 7


def test_too_many_points_are_refused(pad):
    send(pad, strokes=[[[1.0, 1.0]] * (MOST_POINTS + 1)])
    assert "20,001 points" in pad.canvas.message and pad.answer is None


def test_a_single_dot_and_points_off_the_canvas_do_no_harm(pad):
    send(pad, strokes=[[[140, 140]]])
    assert pad.drawing is not None
    send(pad, strokes=[[[-50, -50], [400, 400]]])
    assert pad.drawing is not None


def test_a_thousand_strokes_leave_nothing_behind(pad):
    import tracemalloc

    strokes = [[[100 + n % 80, 60], [120, 200 - n % 50]] for n in range(20)]
    send(pad, strokes=strokes)
    tracemalloc.start()
    for n in range(50):
        send(pad, strokes=strokes[: 1 + n % 20])
    early = tracemalloc.get_traced_memory()[0]
    for n in range(1000):
        send(pad, strokes=strokes[: 1 + n % 20])
    late = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert late - early < 300_000


# --- making one -----------------------------------------------------------------------------------------------------


def test_one_network_needs_no_choice_and_no_digits_no_list(models):
    pad = drawing_pad(models["LeNet"])
    assert pad.model_choice.layout.display == pad.test_digit.layout.display == "none"
    send(pad, strokes=SEVEN)
    assert pad.answer == 7


def test_two_pads_do_not_share_anything(models):
    one, other = drawing_pad(models), drawing_pad(models)
    send(one, strokes=SEVEN)
    assert one.answer == 7 and other.answer is None and other.canvas.strokes == []


def test_where_no_kernel_runs_there_is_a_sentence(pad):
    assert repr(pad) == "(The drawing pad: draw a digit, and the network reads it. Run the cell to use it.)"


@pytest.mark.parametrize("models", [{}, torch.nn.Linear(2, 2), {"a": "lenet"}, "lenet"])
def test_it_needs_networks_of_the_course(models):
    with pytest.raises(ValueError, match="drawing pad (needs|reads by)"):
        drawing_pad(models)


def test_the_pictures_are_well_formed(pad):
    from xml.etree import ElementTree

    send(pad, strokes=SEVEN)
    svg = re.search(r"<svg.*</svg>", pad.view.value)[0]
    bars = ElementTree.fromstring(svg)
    assert len([part for part in bars if part.tag.endswith("rect")]) == 10
