import math
from decimal import Decimal, localcontext
from itertools import combinations

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from shape_comments import check_shape_comments
from torch import nn
from torch.nn import functional

from lenet_course.arithmetic import count_parameters, layer_table
from lenet_course.data import pad_1998
from lenet_course.lenet import LeNet
from lenet_course.lenet5 import (
    TABLE_1,
    LeNet5,
    RBFOutput,
    Subsampling,
    TableConv2d,
    draw_weights,
    map_loss,
    mse_loss,
    squash,
)
from lenet_course.training import evaluate, fit
from lenet_course.weights import WeightsError, load_weights, save_weights

# Table I, p. 8: the maps of S2 that each map of C3 reads. Written here once more, in another form than in the package.
TABLE_I = [
    [0, 1, 2], [1, 2, 3], [2, 3, 4], [3, 4, 5], [0, 4, 5], [0, 1, 5],
    [0, 1, 2, 3], [1, 2, 3, 4], [2, 3, 4, 5], [0, 3, 4, 5], [0, 1, 4, 5], [0, 1, 2, 5],
    [0, 1, 3, 4], [1, 2, 4, 5], [0, 2, 3, 5],
    [0, 1, 2, 3, 4, 5],
]  # fmt: skip

# Figure 3, p. 8: a digit's 12 rows of 7 pixels, the leftmost pixel in bit 6; ink is 1.
FIGURE_3_HEX = """
    3E 00 1C 36 63 63 63 63 36 1C 00 00
    0C 1C 3C 0C 0C 0C 0C 0C 0C 3F 00 00
    3E 00 3E 63 43 06 1C 30 60 7F 00 00
    7F 03 06 0C 1E 03 03 03 63 3E 00 00
    3E 00 00 33 33 73 63 63 67 3F 03 03
    3E 00 7F 60 60 3C 1E 03 63 3E 00 00
    1E 30 60 60 7E 73 63 63 73 3E 00 00
    7F 03 03 06 0C 0C 18 18 18 18 00 00
    3E 63 63 63 3E 63 63 63 63 3E 00 00
    3E 67 63 63 67 3F 03 03 06 3C 00 00
"""

# Layer by layer, p. 7 and 8: maps, parameters, connections.
PAPER = {
    "c1": ("6@28x28", 156, 122_304),
    "s2": ("6@14x14", 12, 5_880),
    "c3": ("16@10x10", 1_516, 151_600),
    "s4": ("16@5x5", 32, 2_000),
    "c5": ("120@1x1", 48_120, 48_120),
    "f6": ("84", 10_164, 10_164),
    "output": ("10", 0, 840),
}


def as_table(in_maps, inputs_of):
    """Write lists of the input maps that each output map reads as a grid of X and dots."""
    return "\n".join(" ".join(".X"[number in inputs] for inputs in inputs_of) for number in range(in_maps))


ONE_CONNECTION_MORE = as_table(6, [[0, 1, 2, 5], *TABLE_I[1:]])
ONE_CONNECTION_MOVED = as_table(6, [[0, 1, 5], *TABLE_I[1:]])


@pytest.fixture
def net():
    return LeNet5()


@pytest.fixture
def images(few_digits):
    return pad_1998(few_digits.images[:8])


def record(net, images):
    """Return {layer: (input, output)} as the images run through the network's own forward."""
    seen = {}

    def keep(name):
        return lambda layer, inputs, output: seen.update({name: (inputs[0].detach(), output.detach())})

    hooks = [layer.register_forward_hook(keep(name)) for name, layer in net.named_children()]
    try:
        net(images)
    finally:
        for hook in hooks:
            hook.remove()
    return seen


def maps_moved(net, images, source, number, target):
    """Return the maps of layer `target` that change when one map of layer `source` does, in the running network."""

    def change(layer, inputs, output):
        output = output.clone()
        output[:, number] += 0.5
        return output

    before = record(net, images)[target][1]
    hook = getattr(net, source).register_forward_hook(change)
    try:
        after = record(net, images)[target][1]
    finally:
        hook.remove()
    return (after - before).abs().amax(dim=(0, 2, 3)).gt(1e-12).nonzero().flatten().tolist()


def paper_forward(net, images):
    """The network as the paper's text reads, map by map and window by window."""
    x = squash_by_hand(functional.conv2d(images, net.c1.weight, net.c1.bias))
    x = subsample(x, net.s2.coefficient, net.s2.bias)
    kernels = iter(net.c3.weight)
    maps = []
    for bias, inputs in zip(net.c3.bias, TABLE_I, strict=True):
        kernel = torch.stack([next(kernels) for _ in inputs])
        maps.append(functional.conv2d(x[:, inputs], kernel[None]) + bias)
    x = squash_by_hand(torch.cat(maps, dim=1))
    x = subsample(x, net.s4.coefficient, net.s4.bias)
    x = squash_by_hand(x.reshape(len(x), 400) @ net.c5.weight.reshape(120, 400).T + net.c5.bias)
    x = squash_by_hand(x @ net.f6.weight.T + net.f6.bias)
    return torch.stack([((x - code) ** 2).sum(dim=1) for code in codes_by_hand().to(x)], dim=1)


def squash_by_hand(a):
    """Eq. (6), by exponentials instead of tanh."""
    return 1.7159 * (1 - 2 / ((4 / 3 * a).exp() + 1))


def subsample(x, coefficients, biases):
    sums = x[:, :, ::2, ::2] + x[:, :, 1::2, ::2] + x[:, :, ::2, 1::2] + x[:, :, 1::2, 1::2]
    maps = [squash_by_hand(c * one + b) for c, b, one in zip(coefficients, biases, sums.unbind(dim=1), strict=True)]
    return torch.stack(maps, dim=1)


def bitmaps():
    """The codes of Figure 3, each as an integer of 84 bits, the top left pixel first."""
    return [
        int("".join(f"{int(row, 16):07b}" for row in line.split()), 2) for line in FIGURE_3_HEX.strip().splitlines()
    ]


def codes_by_hand():
    return torch.tensor([[1.0 if bit == "1" else -1.0 for bit in f"{code:084b}"] for code in bitmaps()])


# --- the network as the paper has it --------------------------------------------------------------------------------


def test_shape_comments_hold(net):
    check_shape_comments(net, torch.rand(3, 1, 32, 32), count=9)


def test_computes_what_the_paper_says(net, images):
    net, images = net.double(), images.double()
    torch.testing.assert_close(net(images), paper_forward(net, images))


def test_gradients_are_those_of_the_paper(net, images):
    net, images, labels = net.double(), images.double(), torch.arange(8)
    mine = torch.autograd.grad(mse_loss(net(images), labels), list(net.parameters()))
    plain = torch.autograd.grad(paper_forward(net, images)[range(8), labels].mean(), list(net.parameters()))
    for (name, _), one, other in zip(net.named_parameters(), mine, plain, strict=True):
        assert one.abs().max() > 0, f"{name} does not learn"
        torch.testing.assert_close(one, other)


def test_the_chain_does_what_forward_does(net, images):
    chain = net.chain()
    assert all(isinstance(step, nn.Module) for step in chain)
    x = images
    for step in chain:
        x = step(x)
    torch.testing.assert_close(x, net(images), rtol=0, atol=0)
    assert {id(p) for p in nn.Sequential(*chain).parameters()} == {id(p) for p in net.parameters()}


def test_digits_do_not_mix(net, images):
    """Each image has its distances for itself: changing one moves no other's."""
    distances = net(images)
    changed = images.clone()
    changed[3] = 1 - changed[3]
    moved = (net(changed) - distances).abs().amax(dim=1) > 1e-4
    assert moved.tolist() == [row == 3 for row in range(8)]


def test_squash_keeps_plus_and_minus_one_and_stays_within_its_amplitude():
    ends = squash(torch.tensor([1.0, -1.0, 0.0, 100.0, -100.0], dtype=torch.float64))
    torch.testing.assert_close(ends, torch.tensor([1.0, -1, 0, 1.7159, -1.7159]).double(), rtol=0, atol=1e-5)
    sums = torch.linspace(-5, 5, 101, dtype=torch.float64).reshape(1, 101)
    torch.testing.assert_close(squash(sums), squash_by_hand(sums))


# --- which map reads which ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", range(6))
def test_a_map_of_s2_moves_the_maps_of_c3_that_table_1_gives(net, images, number):
    readers = [c3_map for c3_map, inputs in enumerate(TABLE_I) if number in inputs]
    assert len(readers) == 10
    assert maps_moved(net.double(), images.double(), "s2", number, "c3") == readers


@pytest.mark.parametrize(
    ("table", "moved"), [(ONE_CONNECTION_MORE, 5), (ONE_CONNECTION_MOVED, 5), (ONE_CONNECTION_MOVED, 2)]
)
def test_an_altered_table_moves_other_maps(net, images, table, moved):
    """The test above can fail: one connection more or less shows, and in the map concerned alone."""
    net.c3 = TableConv2d(table, kernel_size=5)
    readers = [c3_map for c3_map, inputs in enumerate(TABLE_I) if moved in inputs]
    assert set(maps_moved(net.double(), images.double(), "s2", moved, "c3")) ^ set(readers) == {0}


@pytest.mark.parametrize(("source", "target", "maps"), [("c1", "s2", 6), ("c3", "s4", 16)])
def test_subsampling_never_mixes_maps(net, images, source, target, maps):
    net, images = net.double(), images.double()
    assert [maps_moved(net, images, source, number, target) for number in range(maps)] == [[n] for n in range(maps)]


# --- subsampling ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("layer", "reader"), [("s2", "c3"), ("s4", "c5")])
def test_without_a_coefficient_a_unit_gives_its_squashed_bias(net, images, layer, reader):
    subsampling = getattr(net, layer)
    subsampling.coefficient.data[4] = 0
    maps = record(net, images)[reader][0]
    torch.testing.assert_close(maps[:, 4], squash(subsampling.bias[4]).expand_as(maps[:, 4]))
    assert (maps.amax(dim=(0, 2, 3)) > maps.amin(dim=(0, 2, 3)) + 1e-3).tolist() == [
        number != 4 for number in range(maps.shape[1])
    ]


def test_a_unit_adds_its_window_and_windows_do_not_overlap():
    """Doubling one input moves one output, by the coefficient times the input: its sum moves, where a mean moves a quarter."""
    layer = Subsampling(3).double()
    maps = torch.rand(1, 3, 6, 8, dtype=torch.float64) + 0.5
    before = layer(maps)
    assert before.shape == (1, 3, 3, 4)
    for number, row, column in torch.cartesian_prod(torch.arange(3), torch.arange(6), torch.arange(8)).tolist():
        doubled = maps.clone()
        doubled[0, number, row, column] *= 2
        expected = torch.zeros_like(before)
        expected[0, number, row // 2, column // 2] = layer.coefficient[number] * maps[0, number, row, column]
        torch.testing.assert_close(layer(doubled) - before, expected, rtol=0, atol=1e-12)


def test_the_bias_is_added_not_multiplied():
    layer = Subsampling(2)
    layer.bias.data = torch.tensor([0.25, -3.0])
    torch.testing.assert_close(layer(torch.zeros(1, 2, 2, 2)).flatten(), torch.tensor([0.25, -3.0]))


# --- output ---------------------------------------------------------------------------------------------------------


def test_the_codes_are_those_of_figure_3(net):
    assert net.output.codes.shape == (10, 84)
    assert torch.equal(net.output.codes, codes_by_hand())


def test_distances_between_codes(net):
    """An output of F6 equal to a code is at distance 0 from it, and from another code at 4 for each pixel that differs."""
    pixels = {(a, b): (bitmaps()[a] ^ bitmaps()[b]).bit_count() for a, b in combinations(range(10), 2)}
    distances = net.output(net.output.codes)
    assert distances.diagonal().tolist() == [0] * 10
    for (a, b), count in pixels.items():
        assert distances[a, b] == distances[b, a] == 4 * count
    assert distances[6, 8] == 48 and distances[0, 4] == distances[8, 9] == 72
    assert [pair for pair, count in pixels.items() if count <= 12] == [(6, 8)]
    assert max(pixels.values()) == 50
    assert int((net.output.codes == net.output.codes[0]).all(dim=0).sum()) == 14


def test_distances_are_squares_summed_over_any_leading_axes():
    output = RBFOutput()
    f6 = torch.randn(2, 3, 84)
    expected = [[sum((x - c) ** 2 for x, c in zip(f6[1, 2], code, strict=True)) for code in codes_by_hand()]]
    assert output(f6).shape == (2, 3, 10)
    torch.testing.assert_close(output(f6)[1, 2], torch.tensor(expected[0]))


@pytest.mark.parametrize("digit", range(10))
def test_a_network_that_draws_a_digit_answers_it(net, images, digit):
    """squash(1) = 1: F6 without weights and with a code for its biases draws that code."""
    net.f6.weight.data.zero_()
    net.f6.bias.data.copy_(net.output.codes[digit])
    distances = net(images)
    assert distances[:, digit].max() < 1e-6
    torch.testing.assert_close(distances, net.output(net.output.codes)[[digit] * 8], rtol=1e-4, atol=1e-4)
    assert net.predict(images).tolist() == [digit] * 8


def test_the_answer_is_the_smallest_distance(net):
    distances = torch.tensor([[9.0, 8, 7, 6, 1, 3, 4, 5, 90, 2], [0.0, 8, 7, 6, 1, 3, 4, 5, 90, 2]])
    assert net.decide(distances).tolist() == [4, 0]


def test_predict_in_pieces_is_predict_at_once(net, few_digits):
    draw_weights(net, lambda n: 4 / math.sqrt(n))  # large ones, so that different digits get different answers
    images = net.prepare(few_digits.images).repeat(5, 1, 1, 1)  # 1,280: more than predict takes at a time
    predictions = net.predict(images)
    assert predictions.dtype == torch.int64 and predictions.shape == (1280,)
    assert torch.equal(predictions, net(images).argmin(dim=1))
    assert torch.equal(predictions, torch.cat([net.predict(some) for some in images.split(333)]))
    assert len(predictions.unique()) > 3


def test_predict_records_no_gradients(net, images, monkeypatch):
    recorded = []
    monkeypatch.setattr(net, "decide", lambda outputs: recorded.append(outputs.requires_grad) or outputs.argmin(dim=1))
    net.predict(images)
    assert recorded == [False]


def test_codes_cannot_be_trained(net, images):
    names = [f"{layer}.{own}" for layer in ("c1", "c3", "c5", "f6") for own in ("weight", "bias")]
    names += [f"{layer}.{own}" for layer in ("s2", "s4") for own in ("coefficient", "bias")]
    assert sorted(dict(net.named_parameters())) == sorted(names)
    assert sorted(net.state_dict()) == sorted([*names, "output.codes"])
    net.requires_grad_(True)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9, weight_decay=0.1)
    for _ in range(2):
        net.loss(net(images), torch.arange(8)).backward()
        optimizer.step()
    draw_weights(net)
    assert net.output.codes.grad is None and not net.output.codes.requires_grad
    assert torch.equal(net.output.codes, codes_by_hand())


def test_the_state_dict_takes_the_codes_along(net, images):
    other = LeNet5()
    other.output.codes.zero_()
    other.load_state_dict(net.state_dict())
    assert torch.equal(other.output.codes, codes_by_hand())
    assert torch.equal(other(images), net(images))


# --- counts ---------------------------------------------------------------------------------------------------------


def count_connections(net, image):
    """Return {layer: connections}, counted from the running network.

    For each layer how many pairs of an input and an output move together (entries of the Jacobian that are not 0), and
    how many pairs of a bias and an output.
    """
    counts = {}
    for name, (x, _) in record(net, image).items():
        layer = getattr(net, name)
        count = torch.func.jacrev(layer)(x).count_nonzero()
        if hasattr(layer, "bias"):
            with_bias = torch.func.jacrev(
                lambda bias, layer=layer, x=x: torch.func.functional_call(layer, {"bias": bias}, (x,))
            )
            count += with_bias(layer.bias).count_nonzero()
        counts[name] = int(count)
    return counts


@torch.no_grad()
def test_connections_of_the_running_network(net, images):
    counted = count_connections(net, images[:1])
    assert counted == {name: connections for name, (_, _, connections) in PAPER.items()}
    assert sum(counted.values()) == 340_908


@torch.no_grad()
def test_an_altered_table_has_another_number_of_connections(net, images):
    """Counting notices: each of the 100 units of one map reads 25 inputs more. A dense C3 has 241,600."""
    net.c3 = TableConv2d(ONE_CONNECTION_MORE, kernel_size=5)
    assert count_connections(net, images[:1])["c3"] == 151_600 + 100 * 25
    net.c3 = nn.Conv2d(6, 16, kernel_size=5)
    assert count_connections(net, images[:1])["c3"] == 241_600


def test_parameters_of_every_layer(net):
    assert {name: count_parameters(layer) for name, layer in net.named_children()} == {
        name: parameters for name, (_, parameters, _) in PAPER.items()
    }
    assert count_parameters(net) == 60_000


def test_the_layer_table_says_the_same(net):
    table = layer_table(net, (1, 32, 32))
    for name, (maps, parameters, connections) in PAPER.items():
        assert (table[name].maps, table[name].parameters, table[name].connections) == (maps, parameters, connections)
    assert (table.parameters, table.connections) == (60_000, 340_908)
    # As many as connections, without the biases of the units below the output.
    units_with_bias = 6 * 28 * 28 + 6 * 14 * 14 + 16 * 10 * 10 + 16 * 5 * 5 + 120 + 84
    assert table.multiply_adds == 340_908 - units_with_bias


# --- convolution over a table ---------------------------------------------------------------------------------------


@st.composite
def grids(draw):
    """Lists of the input maps that each output map reads, with the number of input maps."""
    in_maps = draw(st.integers(1, 6))
    inputs = st.lists(st.integers(0, in_maps - 1), min_size=1, max_size=in_maps, unique=True).map(sorted)
    return in_maps, draw(st.lists(inputs, min_size=1, max_size=7))


@settings(max_examples=150, deadline=None)
@given(grid=grids(), kernel_size=st.integers(1, 3))
@example(grid=(6, TABLE_I), kernel_size=5)
def test_equals_a_dense_convolution_with_zeros(grid, kernel_size):
    in_maps, inputs_of = grid
    layer = TableConv2d(as_table(in_maps, inputs_of), kernel_size).double()
    dense = nn.Conv2d(in_maps, len(inputs_of), kernel_size, dtype=torch.float64)
    dense.weight.data.zero_()
    dense.bias.data.copy_(layer.bias.data)
    pairs = [(output, number) for output, inputs in enumerate(inputs_of) for number in inputs]
    assert layer.weight.shape == (len(pairs), kernel_size, kernel_size)
    for kernel, (output, number) in zip(layer.weight.data, pairs, strict=True):
        dense.weight.data[output, number] = kernel
    torch.testing.assert_close(layer.dense_weight().data, dense.weight.data, rtol=0, atol=0)

    maps = torch.randn(2, in_maps, 7, 6, dtype=torch.float64)
    one, other = maps.clone().requires_grad_(), maps.clone().requires_grad_()
    torch.testing.assert_close(layer(one), dense(other))
    layer(one).square().sum().backward()
    dense(other).square().sum().backward()
    torch.testing.assert_close(one.grad, other.grad)
    torch.testing.assert_close(layer.bias.grad, dense.bias.grad)
    connected = torch.stack([dense.weight.grad[pair] for pair in pairs])
    torch.testing.assert_close(layer.weight.grad, connected)


def test_absent_connections_stay_absent_in_training(net, images):
    absent = torch.tensor([[number not in inputs for number in range(6)] for inputs in TABLE_I])
    before = net.c3.dense_weight().detach()
    assert before[absent].count_nonzero() == 0
    assert before[~absent].numel() == net.c3.weight.numel() == 1_516 - 16
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9, weight_decay=0.1)
    for _ in range(3):
        net.loss(net(images), torch.arange(8)).backward()
        optimizer.step()
    after = net.c3.dense_weight().detach()
    assert after[absent].count_nonzero() == 0
    assert (after != before)[~absent].all()


# --- larger images --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(32, 32), (36, 36), (32, 44)])
def test_a_larger_image_is_read_at_every_place_4_pixels_apart(net, size):
    net = net.double()
    images = torch.rand(2, 1, *size, dtype=torch.float64)
    maps = net.forward_maps(images)
    down, across = size[0] // 4 - 7, size[1] // 4 - 7
    assert maps.shape == (2, 10, down, across)
    for row in range(down):
        for column in range(across):
            crop = images[:, :, 4 * row : 4 * row + 32, 4 * column : 4 * column + 32]
            torch.testing.assert_close(maps[:, :, row, column], net(crop))
    assert (maps.flatten(start_dim=2).std(dim=2, correction=0) > 1e-3).all() or size == (32, 32)


# --- initial weights ------------------------------------------------------------------------------------------------


def inputs_of_each_unit(net):
    """(parameter, part of it, inputs of the units it belongs to), for all parameters; C3's differ from map to map."""
    for name, inputs in {"c1": 25, "s2": 4, "s4": 4, "c5": 400, "f6": 120}.items():
        for own in getattr(net, name).parameters():
            yield own, slice(None), inputs
    first = 0
    for number, maps in enumerate(TABLE_I):
        yield net.c3.weight, slice(first, first + len(maps)), 25 * len(maps)
        yield net.c3.bias, slice(number, number + 1), 25 * len(maps)
        first += len(maps)


@pytest.mark.parametrize(
    ("rule", "bound"),
    [((), lambda n: n**-0.5), ((lambda n: 2.4 / n,), lambda n: 2.4 / n), ((lambda n: n,), lambda n: n)],
    ids=["gblearn", "paper", "number of inputs"],
)
def test_weights_are_uniform_within_the_bound_of_their_unit(net, rule, bound):
    """Two hundred drawings fill the range from end to end, also for the parameters of which there are few."""
    parts = list(inputs_of_each_unit(net))
    drawn = [[] for _ in parts]
    for _ in range(200):
        draw_weights(net, *rule)
        for values, (parameter, part, _) in zip(drawn, parts, strict=True):
            values.append(parameter.detach()[part].flatten()[:20].clone())
    for values, (_, _, inputs) in zip(drawn, parts, strict=True):
        share = torch.cat(values).double() / bound(inputs)
        assert share.min() >= -1 - 1e-6 and share.max() <= 1 + 1e-6
        assert share.min() < -0.95 and share.max() > 0.95
        assert share.mean().abs() < 0.15 and abs(share.square().mean() - 1 / 3) < 0.1


def test_a_new_network_has_the_bounds_of_the_authors_code():
    for parameter, part, inputs in inputs_of_each_unit(LeNet5()):
        assert parameter[part].abs().max() <= 1.000001 / math.sqrt(inputs)
        assert parameter[part].abs().max() > 0.7 / math.sqrt(inputs) or parameter[part].numel() < 20


def test_layers_on_their_own_are_drawn_too():
    table = TableConv2d(TABLE_1, kernel_size=5)
    subsampling = Subsampling(100)
    assert 0.45 < subsampling.coefficient.abs().max() <= 0.5 and 0.45 < subsampling.bias.abs().max() <= 0.5
    assert 0.11 < table.weight[:3].abs().max() <= 1 / math.sqrt(75)
    assert 0.077 < table.weight[-6:].abs().max() <= 1.000001 / math.sqrt(150)


def test_the_same_seed_gives_the_same_network():
    def drawn(seed, **rule):
        torch.manual_seed(seed)
        net = LeNet5()
        draw_weights(net, **rule)
        return torch.cat([own.detach().flatten() for own in net.parameters()])

    assert torch.equal(drawn(7), drawn(7))
    assert (drawn(7) != drawn(8)).float().mean() > 0.999
    paper = {"bound": lambda n: 2.4 / n}
    assert torch.equal(drawn(7, **paper), drawn(7, **paper))


# --- losses ---------------------------------------------------------------------------------------------------------


def eq_9(distances, labels, j):
    """Return eq. (9) and its gradient by the distances, with 50 digits."""
    with localcontext() as context:
        context.prec = 50
        total, gradient = Decimal(0), []
        for row, label in zip(distances, labels, strict=True):
            row = [Decimal(y) for y in row]
            inside = (-Decimal(j)).exp() + sum((-y).exp() for y in row)
            total += row[label] + inside.ln()
            gradient.append(
                [float(((digit == label) - (-y).exp() / inside) / len(labels)) for digit, y in enumerate(row)]
            )
        return float(total / len(labels)), gradient


NEAR = [0.5, 3.0, 1.25, 7.0, 2.0, 9.0, 4.0, 1.0, 6.0, 0.25]


@pytest.mark.parametrize("j", [0.01, 1.0, 50.0, 5000.0])
@pytest.mark.parametrize(
    ("distances", "labels"),
    [
        ([NEAR], [3]),
        ([NEAR, NEAR[::-1]], [0, 9]),
        ([[300.0] * 10], [4]),
        ([[1000.0] * 10], [4]),
        ([[0.0] + [1000.0] * 9], [0]),
        ([[0.0] + [1000.0] * 9], [7]),
        ([[1000.0, 300.0, 999.0, *NEAR[:7]], [300.0] * 10, NEAR], [0, 1, 2]),
    ],
)
def test_map_loss_is_eq_9(distances, labels, j):
    expected, gradient = eq_9(distances, labels, j)
    for dtype, tolerance in ((torch.float64, 1e-11), (torch.float32, 2e-4)):
        y = torch.tensor(distances, dtype=dtype, requires_grad=True)
        loss = map_loss(y, torch.tensor(labels), j=j)
        assert loss.shape == () and loss.dtype == dtype
        assert loss.item() == pytest.approx(expected, rel=tolerance, abs=tolerance)
        loss.backward()
        torch.testing.assert_close(y.grad, torch.tensor(gradient, dtype=dtype), rtol=tolerance, atol=tolerance)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.floats(0, 2000), min_size=10, max_size=10),
    st.integers(0, 9),
    st.floats(1e-3, 3000),
)
def test_map_loss_is_eq_9_at_any_distance(distances, label, j):
    expected, gradient = eq_9([distances], [label], j)
    y = torch.tensor([distances], dtype=torch.float64, requires_grad=True)
    loss = map_loss(y, torch.tensor([label]), j=j)
    assert loss.item() == pytest.approx(expected, rel=1e-9, abs=1e-9) and loss.item() > -1e-9
    loss.backward()
    torch.testing.assert_close(y.grad, torch.tensor(gradient, dtype=torch.float64), rtol=1e-9, atol=1e-9)


def test_map_loss_with_a_far_rubbish_class_is_the_cross_entropy_of_the_negative_distances():
    distances, labels = 20 * torch.rand(16, 10), torch.randint(10, (16,))
    expected = functional.cross_entropy(-distances, labels)
    torch.testing.assert_close(map_loss(distances, labels, j=1e6), expected)
    assert abs(map_loss(distances, labels, j=1.0) - expected) > 0.1


def test_map_loss_far_from_every_code_is_the_mean_distance_less_j():
    """exp(-j) alone is left in the logarithm, so that the pull to the right code is that of eq. (8)."""
    distances, labels = 100 + 200 * torch.rand(16, 10, dtype=torch.float64), torch.randint(10, (16,))
    torch.testing.assert_close(map_loss(distances, labels, j=3.0), mse_loss(distances, labels) - 3)


def test_map_loss_keeps_away_from_wrong_codes_and_mse_loss_does_not():
    distances = torch.full((1, 10), 5.0)
    nearer = distances.clone()
    nearer[0, 8] = 1.0
    label = torch.tensor([6])
    assert map_loss(nearer, label) > map_loss(distances, label) + 0.1
    assert mse_loss(nearer, label) == mse_loss(distances, label) == 5


def test_mse_loss_is_the_mean_distance_of_the_right_codes():
    distances = torch.arange(30.0).reshape(3, 10).requires_grad_()
    loss = mse_loss(distances, torch.tensor([2, 0, 9]))
    assert loss.item() == pytest.approx((2 + 10 + 29) / 3)
    loss.backward()
    expected = torch.zeros(3, 10)
    expected[0, 2] = expected[1, 0] = expected[2, 9] = 1 / 3
    torch.testing.assert_close(distances.grad, expected)


def test_the_networks_own_loss_is_eq_9_with_j_1(net, images):
    distances = net(images).detach()
    expected, _ = eq_9(distances.tolist(), range(8), 1)
    assert net.loss(distances, torch.arange(8)).item() == pytest.approx(expected, rel=1e-5)


# --- at work with the rest of the package and of torch --------------------------------------------------------------


def test_prepares_as_the_paper_does(net, few_digits):
    prepared = net.prepare(few_digits.images[:8])
    assert prepared.shape == (8, 1, 32, 32)
    assert torch.equal(prepared, pad_1998(few_digits.images[:8]))


def test_double_precision_gives_the_same_distances(net, images):
    single = net(images)
    double = net.double()(images.double())
    assert double.dtype == torch.float64 and single.dtype == torch.float32
    torch.testing.assert_close(single.double(), double, rtol=1e-4, atol=1e-4)


def test_many_networks_can_run_as_one_batch(net, images):
    nets = [net, LeNet5(), LeNet5()]
    parameters, buffers = torch.func.stack_module_state(nets)

    def distances(parameters, buffers, images):
        return torch.func.functional_call(net, (parameters, buffers), (images,))

    together = torch.func.vmap(distances, in_dims=(0, 0, None))(parameters, buffers, images)
    each_its_own = torch.func.vmap(distances)(parameters, buffers, images[:6].reshape(3, 2, 1, 32, 32))
    for number, one in enumerate(nets):
        torch.testing.assert_close(together[number], one(images), rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(each_its_own[number], one(images[2 * number :][:2]), rtol=1e-4, atol=1e-4)


def test_gradients_of_single_patterns_by_vmap(net, images):
    net, images, labels = net.double(), images.double(), torch.arange(8)
    parameters = dict(net.named_parameters())

    def loss(parameters, image, label):
        return net.loss(torch.func.functional_call(net, parameters, (image[None],)), label[None])

    gradients = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0, 0))(parameters, images, labels)
    single = torch.autograd.grad(net.loss(net(images[5:6]), labels[5:6]), list(net.parameters()))
    for name, expected in zip(parameters, single, strict=True):
        torch.testing.assert_close(gradients[name][5], expected)


def test_fit_and_evaluate_take_it(net, few_digits):
    digits = few_digits[:64]
    before = evaluate(net, digits)
    history = fit(net, digits, epochs=20, batch_size=16, learning_rate=0.001, device="cpu", report=False)
    after = evaluate(net, digits)
    assert history.steps == 80 and history.training_loss[-1] < 0.6 * history.training_loss[0]
    assert after.error < 0.5 < before.error
    distances = net(net.prepare(digits.images))
    assert torch.equal(after.predictions, distances.argmin(dim=1))
    assert after.loss == pytest.approx(eq_9(distances.tolist(), digits.labels.tolist(), 1)[0], rel=1e-4)
    assert torch.equal(net.output.codes, codes_by_hand())


def test_saved_weights_give_the_same_distances(own_weights, net, images):
    path = save_weights(net, "five")
    other = LeNet5()
    assert not torch.allclose(other(images), net(images))
    assert load_weights(other, "five") == path
    assert torch.equal(other(images), net(images))
    with pytest.raises(WeightsError, match=r"made for LeNet5\(\), not LeNet\(relu_after_conv=True\)"):
        load_weights(LeNet(), "five")


# --- bad input ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "shape",
    [(2, 1, 28, 28), (2, 32, 32), (32, 32), (1024,), (2, 3, 32, 32), (1, 2, 32, 32), (2, 1, 36, 36), (2, 1, 32, 36)],
)
def test_a_wrong_shape_is_answered_in_words(net, shape):
    with pytest.raises(ValueError) as error:
        net(torch.zeros(shape))
    assert str(error.value) == (
        f"LeNet5 expects images of shape (N, 1, 32, 32); got {shape}. Use lenet_course.data.pad_1998(images) on raw "
        "28x28 digits, and model.forward_maps(images) for larger images."
    )


@pytest.mark.parametrize(
    "shape",
    [
        (2, 1, 33, 33),
        (2, 1, 34, 34),
        (2, 1, 36, 34),
        (2, 1, 35, 36),
        (2, 1, 28, 28),
        (2, 36, 36),
        (2, 3, 36, 36),
        (40,),
    ],
)
def test_a_larger_image_must_fit_in_steps_of_4(net, shape):
    with pytest.raises(ValueError) as error:
        net.forward_maps(torch.zeros(shape))
    assert str(error.value) == (
        f"LeNet5 expects images of shape (N, 1, height, width) with sizes 32, 36, 40, ...; got {shape}. "
        "Use lenet_course.data.pad_1998(images) on raw 28x28 digits."
    )


@pytest.mark.parametrize("method", ["forward", "forward_maps", "predict"])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.bool])
def test_a_wrong_dtype_is_answered_in_words(net, method, dtype):
    got = str(dtype).removeprefix("torch.")
    with pytest.raises(
        ValueError, match=rf"expects floating-point images .* got \(2, 1, 32, 32\) {got}\. Use .*pad_1998\(images\)"
    ):
        getattr(net, method)(torch.zeros(2, 1, 32, 32, dtype=dtype))


def test_raw_digits_are_sent_to_pad_1998(net, few_digits):
    with pytest.raises(ValueError, match=r"got \(2, 28, 28\) uint8\. Use lenet_course\.data\.pad_1998\(images\)"):
        net(few_digits.images[:2])


def test_what_is_no_tensor_is_answered_in_words(net):
    with pytest.raises(ValueError, match="got a list"):
        net([[0.0]])


@pytest.mark.parametrize("method", ["forward", "forward_maps"])
def test_pixels_that_were_not_scaled_are_answered_in_words(net, few_digits, method):
    unscaled = functional.pad(few_digits.images[:2, None].float(), (2, 2, 2, 2))
    with pytest.raises(ValueError) as error:
        getattr(net, method)(unscaled)
    assert "LeNet5 expects pixels scaled to about -0.1 to 1.175; got values from 0 to 255." in str(error.value)
    assert "Use lenet_course.data.pad_1998(images) on raw 28x28 digits" in str(error.value)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_one_pixel_that_is_no_number_is_noticed(net, images, bad):
    images[1, 0, 5, 5] = bad
    with pytest.raises(ValueError, match=f"got values from .*{abs(bad)}"):
        net(images)


def test_no_images_give_no_distances(net):
    assert net(torch.zeros(0, 1, 32, 32)).shape == (0, 10)
    assert net.predict(torch.zeros(0, 1, 32, 32)).shape == (0,)


@pytest.mark.parametrize(
    "shape", [(2, 6, 13, 14), (2, 6, 14, 13), (2, 5, 14, 14), (2, 1, 14, 14), (6, 14, 14), (2, 6, 14)]
)
def test_subsampling_takes_its_number_of_maps_in_even_sizes(shape):
    with pytest.raises(ValueError) as error:
        Subsampling(6)(torch.zeros(shape))
    assert str(error.value) == f"Subsampling expects (N, 6, height, width), both sizes even; got {shape}."


@pytest.mark.parametrize(
    "table", ["X a\n. X", "x .\n. x", "1 0\n0 1", "X .\n. X X", "X .\n\n. X", "XX\n.X", "", " \n "]
)
def test_a_table_is_a_grid_of_x_and_dots(table):
    with pytest.raises(ValueError) as error:
        TableConv2d(table, kernel_size=5)
    assert str(error.value) == (
        f"A table has lines of X and ., parted by blanks and equally many in each; got:\n{table}"
    )


def test_an_output_map_without_input_is_named():
    with pytest.raises(ValueError, match=r"column\) needs at least one X; there is none in column \[1, 3\]"):
        TableConv2d("X . X .\nX . . .", kernel_size=5)


@pytest.mark.parametrize("loss", [mse_loss, map_loss, LeNet5().loss])
@pytest.mark.parametrize(
    ("distances", "got"),
    [
        (torch.zeros(3, 84), r"\(3, 84\) float32"),
        (torch.zeros(10), r"\(10,\) float32"),
        (torch.zeros(3, 10, 1), r"\(3, 10, 1\) float32"),
        (torch.zeros(3, 10, dtype=torch.int64), r"\(3, 10\) int64"),
    ],
)
def test_a_loss_takes_ten_distances_an_image(loss, distances, got):
    with pytest.raises(ValueError, match=rf"takes distances \(N, 10\), the output of LeNet5; got {got}"):
        loss(distances, torch.zeros(3, dtype=torch.int64))


@pytest.mark.parametrize("loss", [mse_loss, map_loss, LeNet5().loss])
@pytest.mark.parametrize(
    ("labels", "got"),
    [
        (torch.zeros(3, 1, dtype=torch.int64), r"\(3, 1\) int64"),
        (torch.zeros(2, dtype=torch.int64), r"\(2,\) int64"),
        (torch.tensor(1), r"\(\) int64"),
        (torch.zeros(3, 10), r"\(3, 10\) float32"),
        (torch.zeros(3), r"\(3,\) float32"),
        (torch.zeros(3, dtype=torch.uint8), r"\(3,\) uint8"),
        (torch.zeros(3, dtype=torch.int32), r"\(3,\) int32"),
    ],
)
def test_a_loss_takes_one_label_an_image(loss, labels, got):
    with pytest.raises(ValueError, match=rf"as many labels as distances, \(3,\) int64; got {got}"):
        loss(torch.zeros(3, 10), labels)


@pytest.mark.parametrize("j", [0, -1.0, math.nan])
def test_j_is_above_0(j):
    with pytest.raises(ValueError, match=rf"j must be above 0 \(eq. 9\); got {j}"):
        map_loss(torch.ones(3, 10), torch.zeros(3, dtype=torch.int64), j=j)
