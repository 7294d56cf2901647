import io
import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from lenet_course.data import DATA_FOLDER, load_mnist
from lenet_course.drawing import draw_strokes, from_picture, normalise
from lenet_course.lenet import LeNet
from lenet_course.lenet5 import LeNet5
from lenet_course.weights import load_weights

SEVEN = [[(90, 60), (190, 60), (130, 220)]]


def centre_of_mass(image):
    mass = image.double()
    places = torch.arange(28.0, dtype=torch.float64)
    return [float((mass.sum(dim) * places).sum() / mass.sum()) for dim in (1, 0)]


def sheet(height, width, rectangle=None):
    image = torch.zeros(height, width, dtype=torch.uint8)
    top, bottom, left, right = rectangle or (0, height, 0, width)
    image[top:bottom, left:right] = 255
    return image


def encoded(pixels, kind="PNG", mode=None):
    file = io.BytesIO()
    Image.fromarray(np.asarray(pixels, dtype=np.uint8), mode).save(file, kind)
    return file.getvalue()


@pytest.fixture(scope="module", params=[LeNet, LeNet5])
def network(request):
    model = request.param()
    load_weights(model, request.param.__name__.lower(), source="shipped")
    return model


# --- How well the networks read it ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def mnist_again():
    digits = load_mnist("test")
    return digits, torch.stack([normalise(image).image for image in digits.images])


def test_mnist_digits_come_out_as_they_went_in(mnist_again):
    digits, again = mnist_again
    assert int((again == digits.images).all(2).all(1).sum()) >= 9_990


def test_mnist_loses_nothing(network, mnist_again):
    digits, again = mnist_again
    errors = [
        float((network.predict(network.prepare(images)) != digits.labels).double().mean())
        for images in (digits.images, again)
    ]
    assert errors[1] <= errors[0] + 0.001


def test_the_networks_read_drawn_digits(network):
    drawings = json.loads((DATA_FOLDER / "strokes" / "strokes.json").read_text(encoding="utf-8"))
    digits = torch.tensor([drawing["digit"] for drawing in drawings])
    assert torch.bincount(digits).min() >= 10
    images = [normalise(draw_strokes(drawing["strokes"], pen=drawing["pen"])).image for drawing in drawings]
    answers = network.predict(network.prepare(torch.stack(images)))
    wrong = [
        f"{drawing['style']}: {drawing['digit']} read as {answer}"
        for drawing, answer in zip(drawings, answers.tolist(), strict=True)
        if drawing["digit"] != answer
    ]
    assert len(wrong) <= 0.05 * len(drawings), wrong


# --- draw_strokes ---------------------------------------------------------------------------------------------------


def test_a_dot_is_a_disc_with_smooth_edges():
    drawing = draw_strokes([[(50, 50)]], side=100, pen=20)
    assert drawing.shape == (100, 100) and drawing.dtype == torch.uint8
    assert drawing[50, 50] == 255 and drawing[0, 0] == 0
    assert float(drawing.double().sum()) / 255 == pytest.approx(torch.pi * 100, rel=0.01)
    assert torch.equal(drawing, drawing.flip(0)) and torch.equal(drawing, drawing.T)


def test_a_line_has_the_pens_width():
    drawing = draw_strokes([[(20, 50), (80, 50)]], side=100, pen=10)
    assert float(drawing[:, 50].double().sum()) / 255 == pytest.approx(10, abs=0.1)


def test_x_goes_to_the_right_and_y_down():
    drawing = draw_strokes([[(80, 20)]], side=100, pen=4)
    assert drawing[20, 80] == 255 and drawing[80, 20] == 0


def test_the_same_point_twice_is_a_dot():
    assert torch.equal(draw_strokes([[(9, 9), (9, 9)]], side=20), draw_strokes([[(9, 9)]], side=20))


def test_nothing_drawn_leaves_the_sheet_empty():
    for strokes in ([], [[]], [[(-500, 900)]]):
        assert not draw_strokes(strokes).any()


@pytest.mark.parametrize("strokes", [[(1, 2)], [[(1, 2, 3)]], [[(1, float("nan"))]], [["ab"]], [[(1, float("inf"))]]])
def test_bad_strokes(strokes):
    with pytest.raises(ValueError, match="sequence of points"):
        draw_strokes(strokes)


@pytest.mark.parametrize("settings", [{"pen": 0}, {"pen": -1}, {"pen": float("nan")}, {"side": 0}])
def test_bad_sheet_or_pen(settings):
    with pytest.raises(ValueError, match="side must be at least 1 and pen a width above 0"):
        draw_strokes(SEVEN, **settings)


# --- normalise ------------------------------------------------------------------------------------------------------


def test_each_step_can_be_seen():
    steps = normalise(sheet(200, 100, (20, 180, 10, 50)))
    assert steps.crop.shape == (160, 40)
    assert max(steps.boxed.shape) == 20 and steps.boxed.dtype == torch.uint8
    height, width = steps.boxed.shape
    top, left = (int((28 - size) / 2 + moved) for size, moved in zip((height, width), steps.shift, strict=True))
    assert torch.equal(steps.image[top : top + height, left : left + width], steps.boxed)
    assert steps.image.sum() == steps.boxed.sum()


def test_without_centring_the_drawing_stays_where_it_was():
    steps = normalise(sheet(280, 280, (10, 40, 20, 60)), centre=False)
    assert torch.equal(steps.image, sheet(28, 28, (1, 4, 2, 6)))
    assert steps.shift == (0.0, 0.0)


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (50, 1), (1, 4000), (4000, 1), (3, 2), (28, 28), (4000, 3000)])
@pytest.mark.parametrize("centre", [True, False])
def test_any_size(size, centre):
    steps = normalise(sheet(*size), centre=centre)
    assert steps.image.shape == (28, 28) and steps.image.any()
    assert max(steps.boxed.shape) == 20


def test_a_thin_line_becomes_as_dark_as_mnists():
    assert normalise(draw_strokes(SEVEN, pen=1)).image.max() > 230


def test_nothing_drawn():
    with pytest.raises(ValueError, match="no pixel of the image has any ink"):
        normalise(sheet(28, 28, (0, 0, 0, 0)))


@pytest.mark.parametrize("image", [torch.ones(28, 28), sheet(28, 28)[None], torch.zeros(0, 5, dtype=torch.uint8), [1]])
def test_not_a_drawing(image):
    with pytest.raises(ValueError, match="expects one drawing"):
        normalise(image)


# Within the sheet at any size and place below; at least two points apart, so that it has a shape.
drawings = st.lists(
    st.lists(st.tuples(st.integers(-50, 50), st.integers(-50, 50)), min_size=2, max_size=6), min_size=1, max_size=3
).filter(lambda strokes: max(np.ptp([point for stroke in strokes for point in stroke], axis=0)) >= 30)


def drawn(strokes, scale=1.0, right=0, down=0):
    moved = [[(140 + right + scale * x, 140 + down + scale * y) for x, y in stroke] for stroke in strokes]
    return draw_strokes(moved, pen=8 * scale)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**32 - 1), st.floats(0.05, 1))
def test_any_image_is_centred(height, width, seed, share):
    generator = torch.Generator().manual_seed(seed)
    image = torch.randint(0, 256, (height, width), generator=generator)
    image = (image * (torch.rand(height, width, generator=generator) < share)).to(torch.uint8)
    image[height // 2, width // 2] = 255
    result = normalise(image).image
    assert result.shape == (28, 28) and result.dtype == torch.uint8
    # A box whose mass is at one end goes as far as the edge, and no farther: ink is not cut off.
    at_the_edge = bool(result[[0, -1]].any() or result[:, [0, -1]].any())
    assert at_the_edge or all(12.9 <= place <= 15.1 for place in centre_of_mass(result))


@settings(max_examples=30, deadline=None)
@given(drawings, st.integers(-80, 80), st.integers(-80, 80))
def test_it_does_not_matter_where_it_was_drawn(strokes, right, down):
    assert torch.equal(normalise(drawn(strokes)).image, normalise(drawn(strokes, 1.0, right, down)).image)


@settings(max_examples=30, deadline=None)
@given(drawings, st.sampled_from([1.5, 2.0, 2.5]))
def test_it_hardly_matters_how_large_it_was_drawn(strokes, scale):
    one, other = (normalise(drawn(strokes, size)).boxed.double() for size in (1.0, scale))
    # Whole pixels: a side may be rounded the other way, a fifth of a narrow drawing.
    assert all(abs(a - b) <= 2 for a, b in zip(one.shape, other.shape, strict=True))
    assert one.sum() == pytest.approx(float(other.sum()), rel=0.3)


@settings(max_examples=30, deadline=None)
@given(drawings)
def test_a_mirrored_drawing_gives_the_mirrored_image(strokes):
    drawing = drawn(strokes)
    one, other = normalise(drawing), normalise(drawing.flip(1))
    assert (one.boxed.int() - other.boxed.flip(1).int()).abs().max() <= 1
    # MNIST's centre is pixel 14, half a pixel right of the middle: the mirror image is one pixel further.
    assert one.shift[0] == other.shift[0] and abs(one.shift[1] + other.shift[1] - 1) <= 1


# --- from_picture ---------------------------------------------------------------------------------------------------


def photo(ink, *, dark=True, light=False, noise=0.0):
    """An (N, N) uint8 drawing on paper, as (N, N) uint8 greys."""
    strength = ink.double() / 255
    across = torch.linspace(0, 1, ink.shape[1], dtype=torch.float64)
    paper = 230 - 100 * across if light else torch.full_like(across, 240)
    grey = paper * (1 - 0.75 * strength)
    grey = grey if dark else 255 - grey
    return (grey + noise * torch.randn(ink.shape)).clamp(0, 255).round().to(torch.uint8)


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
@pytest.mark.parametrize("settings", [{}, {"dark": False}, {"light": True}, {"light": True, "dark": False, "noise": 6}])
def test_a_picture_of_a_seven_is_the_seven(kind, settings):
    drawing = draw_strokes(SEVEN, pen=18)
    ink = from_picture(encoded(photo(drawing, **settings), kind))
    assert ink.shape == drawing.shape and ink.dtype == torch.uint8
    assert (ink.double() - drawing.double()).abs().mean() < 4
    one, other = normalise(ink), normalise(drawing)
    assert (one.image.double() - other.image.double()).abs().mean() < 12


@pytest.mark.parametrize(("written", "behind"), [(0, 255), (255, 0)])
def test_what_is_transparent_is_paper(written, behind):
    drawing = draw_strokes(SEVEN, pen=18)
    pixels = np.full((280, 280, 4), written)
    pixels[..., 3] = drawing.numpy()
    assert (from_picture(encoded(pixels)).double() - drawing.double()).abs().mean() < 4


def test_a_large_picture_is_shrunk():
    assert from_picture(encoded(photo(draw_strokes(SEVEN, side=1200)))).shape == (600, 600)


def test_blank_paper():
    for blank in (torch.full((50, 40), 255), photo(sheet(200, 200, (0, 0, 0, 0)), light=True, noise=4), [[7]]):
        with pytest.raises(ValueError, match="nothing but paper"):
            from_picture(encoded(blank))


@pytest.mark.parametrize("content", [b"", b"no picture", encoded(sheet(30, 30))[:60]])
def test_no_picture(content):
    with pytest.raises(ValueError, match="no picture that can be read"):
        from_picture(content)


def test_not_bytes():
    with pytest.raises(ValueError, match="content as bytes; got a str"):
        from_picture("seven.png")


def test_too_large():
    with pytest.raises(ValueError, match="file is too large"):
        from_picture(bytes(40_000_001))
    file = io.BytesIO()
    Image.new("1", (8_000, 8_000)).save(file, "PNG")
    with pytest.raises(ValueError, match="picture is too large"):
        from_picture(file.getvalue())
