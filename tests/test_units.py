import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import relu

from lenet_course.data import load_mnist
from lenet_course.lenet import LeNet
from lenet_course.lenet5 import TABLE_1 as TABLE
from lenet_course.lenet5 import LeNet5, read_table, squash
from lenet_course.units import CODE_SHAPE, explain_unit, layer_values, unit_layers

LENET = ("conv1", "pool1", "conv2", "pool2", "fc1", "fc2")
LENET5 = ("c1", "s2", "c3", "s4", "c5", "f6", "output")
IMAGES = load_mnist("test").images[:5]
NETWORKS = {
    "LeNet": lambda: LeNet(),
    "LeNet without ReLU": lambda: LeNet(relu_after_conv=False),
    "LeNet of any size": lambda: LeNet(any_size=True),
    "LeNet5": lambda: LeNet5(),
}


def build(name):
    torch.manual_seed(3)
    return NETWORKS[name]()


MODELS = {name: build(name) for name in NETWORKS}
EVERY_LAYER = [(name, layer) for name, model in MODELS.items() for layer in unit_layers(model)]


@torch.no_grad()
def by_hooks(model, image):
    """What each layer reads and puts out, before squashing or ReLU, noted while the network runs."""
    noted = {}
    hooks = [
        getattr(model, name).register_forward_hook(
            lambda _, read, out, name=name: noted.update({name: (read[0][0], out[0])})
        )
        for name in unit_layers(model)
    ]
    model(model.prepare(image[None]))
    for hook in hooks:
        hook.remove()
    return noted


def close(mine, networks):
    # The network adds in single precision and another order.
    torch.testing.assert_close(mine, networks, rtol=1e-5, atol=1e-5, check_dtype=False)


def test_layers_by_name():
    assert unit_layers(LeNet()) == unit_layers(LeNet(relu_after_conv=False)) == LENET
    assert unit_layers(LeNet5()) == LENET5


@pytest.mark.parametrize("name", NETWORKS)
def test_values_are_those_that_the_network_hands_on(name):
    model = MODELS[name]
    values = layer_values(model, IMAGES[0])
    assert tuple(values) == unit_layers(model)
    with torch.no_grad():
        x = model.prepare(IMAGES[:1])
        torch.testing.assert_close(list(values.values())[-1], model(x)[0])
        if name == "LeNet5":
            for layer in ("c1", "s2", "c3", "s4", "c5"):
                x = squash(getattr(model, layer)(x))
                torch.testing.assert_close(values[layer], x[0])
        else:
            after = relu if model.relu_after_conv else torch.nn.Identity()
            torch.testing.assert_close(values["conv1"], model.conv1(x)[0])
            torch.testing.assert_close(values["pool1"], after(model.pool1(model.conv1(x)))[0])
            torch.testing.assert_close(values["fc1"], relu(model.fc1(values["pool2"].flatten())))


def test_running_leaves_the_network_as_it_was():
    model = LeNet5()
    layer_values(model.train(), IMAGES[0])
    assert model.training
    assert not any(module._forward_hooks for module in model.modules())
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize(("name", "layer"), EVERY_LAYER)
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_a_unit_equals_the_running_networks(name, layer, data):
    model = MODELS[name]
    image = IMAGES[data.draw(st.integers(0, 4))]
    _, sums = by_hooks(model, image)[layer]
    index = tuple(data.draw(st.integers(0, length - 1)) for length in sums.shape)
    unit = explain_unit(model, image, layer, index)
    assert (unit.layer, unit.index) == (layer, index)
    close(torch.tensor(unit.sum), sums[index])
    close(torch.tensor(unit.output), layer_values(model, image)[layer][index])
    # What happens afterwards is said rightly: it leads from the sum to the output.
    after = {"squash": squash, "ReLU": relu, None: lambda sums: sums}[unit.after]
    close(after(torch.tensor(unit.sum)), torch.tensor(unit.output))


@pytest.mark.parametrize(("name", "layer"), EVERY_LAYER)
def test_what_a_unit_reads_are_the_inputs_of_its_layer(name, layer):
    model = MODELS[name]
    read, sums = by_hooks(model, IMAGES[1])[layer]
    index = tuple(length - 1 for length in sums.shape)
    unit = explain_unit(model, IMAGES[1], layer, index)
    for part in unit.reads:
        if layer == "fc1":
            close(part.inputs, read.reshape(50, 4, 4)[part.map])
        elif part.map is None:
            close(part.inputs.flatten(), read)
        else:
            (top, bottom), (left, right) = part.rows, part.columns
            close(part.inputs, read[part.map, top : bottom + 1, left : right + 1])
        if unit.kind in ("convolution", "dense", "subsampling"):
            close(part.products, part.inputs * part.weights)
    if unit.kind in ("convolution", "dense"):
        assert unit.sum == pytest.approx(sum(part.products.sum().item() for part in unit.reads) + unit.bias, abs=1e-4)


@pytest.mark.parametrize(("name", "layer"), EVERY_LAYER)
def test_a_unit_sees_just_the_pixels_that_can_change_it(name, layer):
    model = build(name)
    for parameter in model.parameters():  # so that no weight is 0 by chance and no max hides a pixel
        torch.nn.init.uniform_(parameter, 0.01, 0.02)
    shape = layer_values(model, IMAGES[0])[layer].shape
    index = tuple(length // 3 for length in shape)
    unit = explain_unit(model, IMAGES[0], layer, index)
    seen = torch.zeros_like(unit.image, dtype=torch.bool)
    for digit in torch.randint(0, 255, (40, 28, 28), dtype=torch.uint8):
        pixels = model.prepare(digit[None]).requires_grad_()
        sums = {}
        hook = getattr(model, layer).register_forward_hook(lambda _, read, out, sums=sums: sums.update(out=out[0]))
        model(pixels)
        hook.remove()
        seen |= torch.autograd.grad(sums["out"][index], pixels)[0][0, 0] != 0
    rows, columns = seen.any(dim=1).nonzero().flatten(), seen.any(dim=0).nonzero().flatten()
    assert (unit.rows, unit.columns) == ((rows[0], rows[-1]), (columns[0], columns[-1]))
    assert unit.image.shape == ((32, 32) if name == "LeNet5" else (28, 28))


@pytest.mark.parametrize("number", range(16))
def test_c3_reads_the_maps_of_table_1(number):
    unit = explain_unit(MODELS["LeNet5"], IMAGES[0], "c3", (number, 0, 9))
    assert [part.map for part in unit.reads] == read_table(TABLE)[:, number].nonzero().flatten().tolist()
    for part in unit.reads:
        close(part.weights, MODELS["LeNet5"].c3.dense_weight()[number, part.map].detach())


def test_subsampling_has_a_coefficient_and_a_bias():
    model = MODELS["LeNet5"]
    unit = explain_unit(model, IMAGES[0], "s2", (3, 5, 6))
    (part,) = unit.reads
    assert (part.map, part.rows, part.columns) == (3, (10, 11), (12, 13))
    close(part.inputs, layer_values(model, IMAGES[0])["c1"][3, 10:12, 12:14])
    assert unit.coefficient == model.s2.coefficient[3].item() and unit.bias == model.s2.bias[3].item()
    assert unit.added == pytest.approx(part.inputs.sum().item(), abs=1e-5)
    assert unit.sum == pytest.approx(unit.coefficient * unit.added + unit.bias)


def test_max_pooling_names_the_winner():
    model = MODELS["LeNet"]
    values = layer_values(model, IMAGES[0])["conv1"]
    for row in range(12):
        unit = explain_unit(model, IMAGES[0], "pool1", (7, row, 5))
        assert unit.sum == values[7, 2 * row : 2 * row + 2, 10:12].max()
        assert values[(7, *unit.winner)] == unit.sum
    blank = explain_unit(model, torch.zeros(28, 28, dtype=torch.uint8), "pool1", (7, 0, 5))
    assert blank.winner == (0, 10) and "(4 of them are equal)" in blank.words


def test_the_output_compares_f6_with_a_code_pixel_by_pixel():
    model = MODELS["LeNet5"]
    unit = explain_unit(model, IMAGES[0], "output", 4)
    (part,) = unit.reads
    f6 = layer_values(model, IMAGES[0])["f6"].reshape(CODE_SHAPE)
    close(part.products, (f6 - model.output.codes[4].reshape(CODE_SHAPE)) ** 2)
    answer = model.predict(model.prepare(IMAGES[:1])).item()
    assert f"answer is {answer}, which has the smallest distance" in unit.words
    assert "answer" not in explain_unit(model, IMAGES[0], "f6", 4).words


def test_words():
    unit = explain_unit(MODELS["LeNet5"], IMAGES[0], "c3", (0, 0, 0))
    assert unit.words.startswith(
        "The unit multiplies 75 units in maps 0, 1, 2 of s2, as Table I has it, by as many weights and adds the "
        f"products and a bias. The result is {unit.sum:.3f}, squashed {unit.output:.3f}."
    )
    assert unit.words.endswith("It sees rows 0 to 13 and columns 0 to 13 of the network's input.")
    assert repr(unit) == unit.words


def test_a_unit_of_c5_has_a_number_alone_too():
    model = MODELS["LeNet5"]
    assert explain_unit(model, IMAGES[0], "c5", 7).words == explain_unit(model, IMAGES[0], "c5", (7, 0, 0)).words


def test_double_precision():
    model = build("LeNet5").double()
    unit = explain_unit(model, IMAGES[0], "c5", 7)
    assert unit.reads[0].inputs.dtype == torch.float64
    assert unit.output == pytest.approx(squash(torch.tensor(unit.sum, dtype=torch.float64)).item(), rel=1e-12)


@pytest.mark.parametrize(
    ("layer", "index", "error", "message"),
    [
        ("c9", (0, 0, 0), ValueError, "LeNet5 has no layer 'c9'; its layers are c1, s2, c3, s4, c5, f6, output."),
        (3, (0, 0, 0), ValueError, "LeNet5 has no layer 3;"),
        ("c3", (16, 0, 0), ValueError, "c3 has 16 maps, counted from 0 to 15; got map 16."),
        ("c3", (0, 0, 10), ValueError, "c3 has 10 columns, counted from 0 to 9; got column 10."),
        ("c3", (0, -1, 0), ValueError, "got row -1"),
        ("c3", (0, 1), ValueError, r"A unit of c3 is given by \(map, row, column\); got \(0, 1\)."),
        ("c3", 5, ValueError, "A unit of c3 is given by"),
        ("f6", (84,), ValueError, "f6 has 84 units, counted from 0 to 83; got unit 84."),
        ("f6", (1, 2, 3), ValueError, r"A unit of f6 is given by \(unit,\)"),
        ("f6", (1.5,), TypeError, r"A unit of f6 is \(unit,\), whole numbers from 0; got \(1.5,\)."),
        ("f6", "7", TypeError, "whole numbers"),
        ("f6", (True,), TypeError, "whole numbers"),
        ("f6", None, TypeError, "whole numbers"),
    ],
)
def test_what_is_not_there_is_answered_in_words(layer, index, error, message):
    with pytest.raises(error, match=message):
        explain_unit(MODELS["LeNet5"], IMAGES[0], layer, index)


@pytest.mark.parametrize(
    ("image", "got"),
    [(IMAGES[:1], r"\(1, 28, 28\)"), (IMAGES[0].float(), "float32"), (IMAGES[0][:20], r"\(20, 28\)"), (None, "None")],
)
def test_another_image_is_refused(image, got):
    with pytest.raises(ValueError, match=rf"An image is \(28, 28\) uint8, .* got .*{got}"):
        layer_values(MODELS["LeNet"], image)


def test_another_network_is_refused():
    with pytest.raises(TypeError, match="for a LeNet or a LeNet5 of this course; got Linear"):
        explain_unit(torch.nn.Linear(2, 2), IMAGES[0], "c1", (0, 0, 0))
