import base64
import re
from xml.etree import ElementTree

import numpy as np
import pytest
import torch

from lenet_course.data import load_mnist
from lenet_course.lenet import LeNet
from lenet_course.lenet5 import LeNet5
from lenet_course.units import explain_unit, layer_values, unit_layers
from lenet_course.widgets.unit_explorer import UnitExplorer, unit_explorer

IMAGES = load_mnist("test").images[:3]


@pytest.fixture(params=[LeNet, LeNet5])
def model(request):
    return request.param()


@pytest.fixture
def explorer():
    return unit_explorer(LeNet5(), IMAGES[0])


def click(widget, layer, index):
    """Set what the browser sets."""
    widget.set_state({"request": {"layer": layer, "index": index, "number": widget.answered + 1}})


def tables(panel):
    """{caption: rows of numbers} for each table of numbers, in order."""
    found = re.findall(r"<caption[^>]*>([^<]*)</caption><tbody>(.*?)</tbody>", panel)
    rows = [
        (title, [re.findall(r"<td[^>]*>([^<]*)</td>", row) for row in re.findall("<tr>(.*?)</tr>", body)])
        for title, body in found
    ]
    return [(title, [[float(number) for number in row] for row in body]) for title, body in rows]


def equal_as_shown(shown, values):
    torch.testing.assert_close(torch.tensor(shown), values.float(), rtol=0.06, atol=0.00051)


def last_index(values, layer):
    return [values.shape[0] - 1] if layer == "c5" else [length - 1 for length in values.shape]


def test_it_opens_on_the_middle_of_the_first_map(model):
    widget = unit_explorer(model, IMAGES[0])
    first = unit_layers(model)[0]
    assert widget.layers == list(unit_layers(model))
    assert widget.shown["layer"] == first
    assert widget.shown["index"] == [0, *(length // 2 for length in layer_values(model, IMAGES[0])[first].shape[1:])]
    assert isinstance(widget, UnitExplorer) and widget._esm


def test_it_opens_where_it_is_told_to():
    widget = unit_explorer(LeNet5(), IMAGES[0], "c3", (2, 4, 5))
    assert widget.shown == {"layer": "c3", "index": [2, 4, 5]}
    assert "c3, map 2, row 4, column 5" in widget.panel


def test_a_click_on_any_layer_shows_the_networks_numbers(model):
    widget = unit_explorer(model, IMAGES[0])
    for layer, values in layer_values(model, IMAGES[0]).items():
        index = last_index(values, layer)
        click(widget, layer, index)
        assert widget.shown["index"] == index
        unit = explain_unit(model, IMAGES[0], layer, index)
        bold = re.findall("<b>([^<]*)</b>", widget.panel)
        assert [float(number) for number in bold] == pytest.approx([unit.sum, unit.output], abs=0.00051)
        assert float(bold[-1]) == pytest.approx(values[unit.index].item(), abs=0.00051)
        if unit.bias is not None:
            assert f"{abs(unit.bias):.3f}" in widget.panel
        shown = iter(tables(widget.panel))
        if sum(part.inputs.numel() for part in unit.reads) <= 150:
            for part in unit.reads:
                for expected in (part.inputs, part.weights, part.products):
                    if expected is not None and expected.dim() == 2:
                        equal_as_shown(next(shown)[1], expected)


def test_the_output_is_shown_pixel_by_pixel(explorer):
    click(explorer, "output", [3])
    (_, f6), (title, code), (_, squares) = tables(explorer.panel)
    assert title == "code of 3" and len(f6) == 12 and len(f6[0]) == 7
    assert torch.tensor(code).flatten().tolist() == explorer._model.output.codes[3].tolist()
    total = layer_values(explorer._model, IMAGES[0])["output"][3].item()
    assert torch.tensor(squares).sum().item() == pytest.approx(total, abs=84 * 0.0005)


@pytest.mark.parametrize(("layer", "count"), [("c5", 400), ("f6", 120)])
def test_many_inputs_are_pictures_and_the_largest_products(explorer, layer, count):
    click(explorer, layer, [5])
    unit = explain_unit(explorer._model, IMAGES[0], layer, 5)
    assert f"The 10 largest of {count} products" in explorer.panel and not tables(explorer.panel)
    products = torch.cat([part.products.flatten() for part in unit.reads])
    largest = products[products.abs().argsort(descending=True)]
    rows = re.findall(r"<tr><td[^>]*>(?:map|unit|the other).*?</tr>", explorer.panel)
    numbers = [float(re.findall(">([^<>]*)</td>", row)[-1]) for row in rows]
    equal_as_shown(numbers, torch.cat([largest[:10], largest[10:].sum()[None]]).detach())


def test_the_winner_of_max_pooling_is_framed():
    widget = unit_explorer(LeNet(), IMAGES[0], "pool1", (3, 5, 6))
    unit = widget.explanation
    framed = re.findall(r"3px double[^>]*>([^<]*)</td>", widget.panel)
    assert [float(number) for number in framed] == pytest.approx([unit.sum], abs=0.00051)


def test_the_maps_arrive_as_they_are(model):
    widget = unit_explorer(model, IMAGES[0])
    for layer, values in layer_values(model, IMAGES[0]).items():
        widget.show(layer)
        sent = np.frombuffer(base64.b64decode(widget.maps["values"]), dtype="<f4")
        assert sent.tolist() == values.flatten().tolist()
        assert widget.maps["units"] == values.numel() == np.prod(widget.maps["shape"])
        assert widget.maps["scale"] == values.abs().max()


def test_another_layer_starts_at_its_middle(explorer):
    click(explorer, "c1", [5, 27, 27])
    click(explorer, "s4", None)
    assert explorer.shown == {"layer": "s4", "index": [0, 2, 2]}
    click(explorer, "f6", None)
    assert explorer.shown["index"] == [0]


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        ({"layer": "c9", "index": None}, "has no layer &#x27;c9&#x27;; its layers are c1,"),
        ({"layer": "c3", "index": [0, 99, 0]}, "c3 has 10 rows, counted from 0 to 9; got row 99."),
        ({"layer": "c3", "index": ["<b>", 0, 0]}, "whole numbers from 0; got [&#x27;&lt;b&gt;&#x27;, 0, 0]."),
        ({"layer": None}, "has no layer None"),
        ({}, "A request is"),
        ("c3", "A request is"),
        ([1, 2], "A request is"),
    ],
)
def test_what_is_wrong_is_said_in_the_panel(explorer, request_, words):
    before = explorer.shown
    explorer.set_state({"request": request_})
    assert "That did not work." in explorer.panel and words in explorer.panel
    assert explorer.shown == before and explorer.answered == 1
    click(explorer, "c1", [0, 0, 0])
    assert "That did not work." not in explorer.panel and explorer.answered == 2


def test_an_error_of_the_network_itself_is_said_too(explorer, monkeypatch):
    def broken(images):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(explorer._model, "prepare", broken)
    click(explorer, "c1", [0, 0, 0])
    assert "out of memory" in explorer.panel


def test_another_image_keeps_layer_and_unit(explorer):
    click(explorer, "c3", [1, 2, 3])
    before = explorer.maps
    explorer.image = IMAGES[1]
    assert explorer.shown["index"] == [1, 2, 3] and explorer.maps != before
    assert explorer.explanation.output == layer_values(explorer._model, IMAGES[1])["c3"][1, 2, 3]
    assert torch.equal(explorer.image, IMAGES[1])
    with pytest.raises(ValueError, match="An image is"):
        explorer.image = IMAGES
    assert torch.equal(explorer.image, IMAGES[1])


def test_further_training_is_seen(explorer):
    click(explorer, "c1", [0, 4, 4])
    with torch.no_grad():
        explorer._model.c1.bias[0] += 1
    before = explorer.explanation.bias
    explorer.show("c1", (0, 4, 4))
    assert explorer.explanation.bias == pytest.approx(before + 1)


def test_a_network_of_nan_is_drawn_without_complaint(explorer):
    with torch.no_grad():
        explorer._model.c1.weight.fill_(float("nan"))
    for layer in explorer.layers:
        click(explorer, layer, None)
        assert "That did not work." not in explorer.panel
        assert explorer.maps["scale"] == explorer.maps["scale"]  # JSON has no NaN


def test_every_picture_is_sound_and_has_words(model):
    widget = unit_explorer(model, IMAGES[0])
    for layer in widget.layers:
        widget.show(layer)
        page = ElementTree.fromstring(re.sub("&(times|lfloor);", "x", widget.panel.replace("<br>", "<br/>")))
        pictures = [part for part in page.iter() if part.tag.endswith("svg")]
        assert pictures and all(picture.get("aria-label") for picture in pictures)
        assert len(widget.panel) < 200_000, f"{layer}: sent anew at each step of a key"


def test_the_frame_is_around_what_the_unit_sees(explorer):
    explorer.show("s2", (0, 3, 4))
    frame = re.search(r'class="seen" x="(\d+)" y="(\d+)" width="(\d+)" height="(\d+)"', explorer.panel)
    assert [int(number) / 5 for number in frame.groups()] == [8, 6, 6, 6]


def test_without_a_kernel_it_says_what_it_is(explorer):
    assert repr(explorer) == "(The unit explorer: click a unit of LeNet5. Run the cell to use it.)"
    assert len(repr(explorer)) <= 110  # ipywidgets cuts off what is longer


def test_nonsense_is_refused_at_once():
    with pytest.raises(TypeError, match="for a LeNet or a LeNet5"):
        unit_explorer(torch.nn.Linear(1, 1), IMAGES[0])
    with pytest.raises(ValueError, match="An image is"):
        unit_explorer(LeNet5(), IMAGES)
    with pytest.raises(ValueError, match="has no layer 'conv1'"):
        unit_explorer(LeNet5(), IMAGES[0], "conv1")
    with pytest.raises(ValueError, match="c1 has 6 maps"):
        unit_explorer(LeNet5(), IMAGES[0], "c1", (6, 0, 0))
