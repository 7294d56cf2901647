import doctest

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from lenet_course import arithmetic
from lenet_course.arithmetic import (
    ReceptiveField,
    count_parameters,
    layer_table,
    output_size,
    receptive_field,
)
from lenet_course.lenet import LeNet

# --- output_size ----------------------------------------------------------------------------------------------------

SETTINGS = {
    "size": st.integers(1, 40),
    "kernel_size": st.integers(1, 9),
    "stride": st.integers(1, 6),
    "padding": st.integers(0, 6),
    "dilation": st.integers(1, 4),
}


def test_examples_in_the_docstrings():
    assert doctest.testmod(arithmetic).failed == 0


@settings(max_examples=3000, deadline=None)
@given(**SETTINGS)
def test_counts_the_places_one_by_one(size, kernel_size, stride, padding, dilation):
    covered = 1 + dilation * (kernel_size - 1)
    places = sum(start + covered <= size + 2 * padding for start in range(0, size + 2 * padding, stride))
    if places:
        assert output_size(size, kernel_size, stride, padding, dilation) == places
    else:
        with pytest.raises(ValueError, match=f"covers .* = {covered} pixels, .* = {size + 2 * padding}"):
            output_size(size, kernel_size, stride, padding, dilation)


@settings(max_examples=1500, deadline=None)
@given(**{name: st.tuples(values, values) for name, values in SETTINGS.items()})
def test_agrees_with_torch_convolution_refusals_included(size, kernel_size, stride, padding, dilation):
    image, kernel = torch.zeros(1, 1, *size), torch.zeros(1, 1, *kernel_size)
    try:
        expected = tuple(functional.conv2d(image, kernel, None, stride, padding, dilation).shape[2:])
    except RuntimeError:
        expected = None
    if expected is None:
        with pytest.raises(ValueError, match="no place to stand"):
            output_size(size, kernel_size, stride, padding, dilation)
    else:
        assert output_size(size, kernel_size, stride, padding, dilation) == expected


@settings(max_examples=1500, deadline=None)
@given(**SETTINGS)
def test_agrees_with_torch_max_pooling(size, kernel_size, stride, padding, dilation):
    padding = min(padding, kernel_size // 2)  # torch pads a pooling window by at most half of it
    image = torch.zeros(1, 1, size, size)
    try:
        expected = functional.max_pool2d(image, kernel_size, stride, padding, dilation).shape[3]
    except RuntimeError:
        with pytest.raises(ValueError, match="no place to stand"):
            output_size(size, kernel_size, stride, padding, dilation)
    else:
        assert output_size(size, kernel_size, stride, padding, dilation) == expected


def test_ints_give_an_int_and_one_pair_makes_a_pair():
    assert output_size(28, 5) == 24
    assert output_size((28, 28), 5) == (24, 24)
    for position in range(5):
        arguments = [30, 5, 2, 1, 1]
        arguments[position] = (20, 30) if position == 0 else (2, 3)
        height, width = ([a if not isinstance(a, tuple) else a[side] for a in arguments] for side in (0, 1))
        assert output_size(*arguments) == (output_size(*height), output_size(*width))


@pytest.mark.parametrize("name", ["size", "kernel_size", "stride", "padding", "dilation"])
@pytest.mark.parametrize("value", [2.0, True, "3", None, (3, 2.0), (False, 3)])
def test_only_ints_count_pixels(name, value):
    arguments = {"size": 28, "kernel_size": 5, name: value}
    with pytest.raises(TypeError, match=f"{name} counts pixels"):
        output_size(**arguments)


@pytest.mark.parametrize(
    ("name", "value", "smallest"),
    [
        ("size", 0, 1),
        ("kernel_size", 0, 1),
        ("stride", 0, 1),
        ("stride", -1, 1),
        ("padding", -1, 0),
        ("dilation", 0, 1),
    ],
)
def test_too_small_a_setting_is_named(name, value, smallest):
    with pytest.raises(ValueError, match=f"{name} must be at least {smallest}; got {value}"):
        output_size(**{"size": 28, "kernel_size": 5, name: value})


@pytest.mark.parametrize("value", [(), (1,), (1, 2, 3)])
def test_a_pair_has_two_entries(value):
    with pytest.raises(ValueError, match="pair"):
        output_size(28, value)


def test_the_refusal_fills_the_numbers_in():
    with pytest.raises(ValueError) as refusal:
        output_size(5, 4, padding=1, dilation=3)
    assert "3 x (4 - 1) + 1 = 10 pixels" in str(refusal.value)
    assert "5 + 2 x 1 = 7" in str(refusal.value)


# --- receptive fields -----------------------------------------------------------------------------------------------


def test_no_layer_sees_one_pixel():
    assert receptive_field([]) == ReceptiveField(size=1, step=1, start=0)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(1, 4), st.integers(1, 3), st.integers(0, 2), st.integers(1, 2)), min_size=1, max_size=3
    ),
    st.integers(0, 5),
)
def test_is_where_the_gradient_flows(layers, unit):
    size = 300  # large enough for three layers
    convolutions = nn.Sequential(
        *(nn.Conv1d(1, 1, k, stride=s, padding=p, dilation=d, bias=False) for k, s, p, d in layers)
    )
    for convolution in convolutions:
        nn.init.ones_(convolution.weight)
    row = torch.ones(1, 1, size, requires_grad=True)
    output = convolutions(row)[0, 0]
    assume(unit < len(output))
    output[unit].backward()
    seen = row.grad[0, 0].nonzero().flatten()
    first, last = receptive_field(layers).span(unit)
    assume(len(seen) > 0)  # a unit may see nothing but padding
    # Dilation and stride may leave holes within the span; its two ends are always read, unless they are padding.
    if first >= 0:
        assert seen[0] == first
    if last < size:
        assert seen[-1] == last


@pytest.mark.parametrize("layer", [5, (5,), (5, 1, 0, 1, 1)])
def test_a_layer_is_a_kernel_and_a_stride(layer):
    with pytest.raises(ValueError, match="A layer is"):
        receptive_field([layer])


def test_a_receptive_field_refuses_what_output_size_refuses():
    with pytest.raises(ValueError, match="stride must be at least 1"):
        receptive_field([(5, 0)])
    with pytest.raises(TypeError, match="kernel_size counts pixels"):
        receptive_field([(2.5, 1)])


# --- parameters and layer tables ------------------------------------------------------------------------------------


def test_counts_only_what_is_trained():
    layer = nn.Linear(3, 4)
    assert count_parameters(layer) == 16
    layer.bias.requires_grad_(False)
    assert count_parameters(layer) == 12
    assert count_parameters(nn.MaxPool2d(2)) == 0


def test_the_table_of_lenet():
    """Facts sheet, section 3: outputs and parameters of BVLC/caffe's lenet_train_test.prototxt."""
    table = layer_table(LeNet(), (1, 28, 28))
    found = [(row.name, row.maps, row.parameters) for row in table.rows]
    assert found == [
        ("input", "1@28x28", 0),
        ("conv1", "20@24x24", 520),
        ("pool1", "20@12x12", 0),
        ("conv2", "50@8x8", 25_050),
        ("pool2", "50@4x4", 0),
        ("fc1", "500", 400_500),
        ("fc2", "10", 5_010),
    ]
    assert table.parameters == 431_080


def count_connections_by_gradient(layer: nn.Module, shape: tuple[int, ...]) -> int:
    """Count the (output unit, input) pairs with a nonzero derivative, and one more for each unit's bias."""
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.fill_(1.0)
    jacobian = torch.autograd.functional.jacobian(layer, torch.ones(1, *shape))
    units = layer(torch.ones(1, *shape)).numel()
    biases = units if getattr(layer, "bias", None) is not None else 0
    return int((jacobian != 0).sum()) + biases


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Conv2d(2, 3, 3), (2, 6, 7)),
        (nn.Conv2d(4, 6, (2, 3), stride=2, bias=False), (4, 7, 8)),
        (nn.Conv2d(4, 6, 3, groups=2, dilation=2), (4, 7, 8)),
        (nn.Linear(12, 5), (12,)),
        (nn.Linear(12, 5, bias=False), (12,)),
        (nn.AvgPool2d(2), (3, 6, 8)),
        (nn.AvgPool2d((2, 3), stride=1), (3, 6, 8)),
    ],
)
def test_connections_are_the_derivatives_that_are_not_zero(layer, shape):
    table = layer_table(layer, shape)
    assert table.connections == count_connections_by_gradient(layer, shape)


@pytest.mark.parametrize("size", [(4, 4), (5, 7), (8, 8), (10, 3), (1, 1)])
def test_adaptive_pooling_reads_overlapping_windows(size):
    pool = nn.AdaptiveMaxPool2d((4, 4))
    average = nn.AdaptiveAvgPool2d((4, 4))  # the same windows, and every pixel of one has a derivative
    assert layer_table(pool, (2, *size)).connections == count_connections_by_gradient(average, (2, *size))


def test_multiply_adds_leave_the_bias_out():
    row = layer_table(nn.Conv2d(2, 3, 5), (2, 9, 9))["layer"]
    assert row.multiply_adds == 3 * 5 * 5 * (2 * 25)
    assert row.connections == 3 * 5 * 5 * (2 * 25 + 1)


class Own(nn.Module):
    def __init__(self):
        super().__init__()
        self.gain = nn.Parameter(torch.ones(3))

    def forward(self, x):
        return x * self.gain


def test_an_unknown_layer_shows_a_question_mark_and_may_say_its_counts():
    table = layer_table(nn.Sequential(Own(), nn.Linear(3, 2)), (3,))
    assert (table["0"].parameters, table["0"].connections, table["0"].multiply_adds) == (3, None, None)
    assert table.connections is None
    assert "?" in str(table).splitlines()[-1]
    Own.connections = lambda self, output_shape: 2 * output_shape[0]
    Own.multiply_adds = lambda self, output_shape: output_shape[0]
    try:
        assert layer_table(Own(), (3,))["layer"].connections == 6
    finally:
        del Own.connections, Own.multiply_adds


def test_a_shared_layer_has_two_rows_and_one_set_of_parameters():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 4)

        def forward(self, x):
            return self.layer(self.layer(x))

    table = layer_table(Twice(), (4,))
    assert [row.parameters for row in table.rows] == [0, 20, 0]
    assert table.parameters == count_parameters(Twice())
    assert table.connections == 40


def test_the_model_is_left_as_it_was():
    model = nn.Sequential(nn.BatchNorm1d(4), nn.Dropout(), nn.Linear(4, 2)).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    layer_table(model, (4,))
    assert model.training and model[1].training
    assert not any(module._forward_hooks for module in model.modules())
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(tensor, before[name])


@pytest.mark.parametrize("shape", [(), (0, 28, 28), (1, 28.0, 28), (True, 28, 28)])
def test_an_input_shape_is_positive_ints(shape):
    with pytest.raises(ValueError, match="without the batch axis"):
        layer_table(LeNet(), shape)


def test_a_refused_input_is_explained_and_leaves_no_hooks():
    model = LeNet()
    with pytest.raises(ValueError, match=r"LeNet cannot take an input of shape \(1, 32, 32\)"):
        layer_table(model, (1, 32, 32))
    assert not any(module._forward_hooks for module in model.modules())


def test_prints_as_aligned_text_and_as_escaped_html():
    table = layer_table(LeNet(), (1, 28, 28))
    lines = str(table).splitlines()
    assert lines[0].split() == ["Layer", "Kind", "Output", "Parameters", "Connections", "Multiply-adds"]
    assert lines[-1].split() == ["total", "431,080", "2,322,950", "2,293,000"]
    assert len({len(line) for line in lines}) == 1
    html = table._repr_html_()
    assert html.count("<tr>") == len(table.rows) + 2
    assert "<th" in html and "431,080" in html
    with pytest.raises(KeyError, match="there are input, conv1"):
        table["conv9"]
