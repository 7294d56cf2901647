"""LeNet-5 with parts exchanged: what each exchange changes, and that it changes nothing else."""

import inspect
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from shape_comments import check_shape_comments
from torch import nn
from torch.nn import functional

from lenet_course.arithmetic import count_parameters
from lenet_course.data import pad_1998
from lenet_course.lenet5 import LeNet5, map_loss, mse_loss, read_codes
from lenet_course.variants import PARTS, RETELLINGS, Variant, check_parts
from lenet_course.weights import WeightsError, load_weights, save_weights

# Table I, p. 8: the maps of S2 that each map of C3 reads.
TABLE_I = [
    [0, 1, 2], [1, 2, 3], [2, 3, 4], [3, 4, 5], [0, 4, 5], [0, 1, 5],
    [0, 1, 2, 3], [1, 2, 3, 4], [2, 3, 4, 5], [0, 3, 4, 5], [0, 1, 4, 5], [0, 1, 2, 5],
    [0, 1, 3, 4], [1, 2, 4, 5], [0, 2, 3, 5],
    [0, 1, 2, 3, 4, 5],
]  # fmt: skip

EXCHANGES = [(part, choice) for part, choices in PARTS.items() for choice in choices[1:]]
COMBINATIONS = st.fixed_dictionaries({part: st.sampled_from(choices) for part, choices in PARTS.items()})


@pytest.fixture
def images(few_digits):
    return pad_1998(few_digits.images[:8])


def with_seed(seed, network, **parts):
    torch.manual_seed(seed)
    return network(**parts)


def same_weights(**parts):
    """A variant, and one of LeNet-5's own parts with as many of its weights as it has."""
    variant, published = with_seed(0, Variant, **parts), with_seed(1, Variant)
    own = variant.state_dict()
    shared = {
        key: value for key, value in published.state_dict().items() if key in own and own[key].shape == value.shape
    }
    variant.load_state_dict({**own, **shared})
    return variant, published


def record(net, images):
    """Return {layer: (input, output)} as the images run through the network's own forward."""
    seen = {}

    def keep(name):
        return lambda layer, inputs, output: seen.update({name: (inputs[0].detach(), output.detach())})

    layers = [(name, getattr(net, name)) for name in ("c1", "s2", "c3", "s4", "c5", "f6", "output")]
    hooks = [layer.register_forward_hook(keep(name)) for name, layer in layers]
    try:
        net(images)
    finally:
        for hook in hooks:
            hook.remove()
    return seen


# --- the definition, in functional form -----------------------------------------------------------------------------

SQUASHED = {
    "scaled tanh": lambda a: 1.7159 * (1 - 2 / ((4 / 3 * a).exp() + 1)),
    "tanh": lambda a: 1 - 2 / ((2 * a).exp() + 1),
    "logistic": lambda a: 1 / (1 + (-a).exp()),
    "ReLU": lambda a: a * (a > 0),
}


def windows(x):
    """The four pixels of each 2x2 window, in a new last axis."""
    return torch.stack([x[..., ::2, ::2], x[..., 1::2, ::2], x[..., ::2, 1::2], x[..., 1::2, 1::2]], dim=-1)


def by_hand(net, parts, images):
    """The network that the parts describe, layer by layer, without any of the package's layers."""
    squash = SQUASHED[parts["squashing"]]

    def subsample(layer, x):
        if parts["subsampling"] == "trainable":
            sums = windows(x).sum(dim=-1)
            return squash(layer.coefficient[:, None, None] * sums + layer.bias[:, None, None])
        return windows(x).mean(dim=-1) if parts["subsampling"] == "average" else windows(x).amax(dim=-1)

    def c3(x):
        if parts["c3"] == "dense":
            return functional.conv2d(x, net.c3.weight, net.c3.bias)
        kernels = iter(net.c3.weight)
        maps = []
        for bias, inputs in zip(net.c3.bias, TABLE_I, strict=True):
            kernel = torch.stack([next(kernels) for _ in inputs])
            maps.append(functional.conv2d(x[:, inputs], kernel[None]) + bias)
        return torch.cat(maps, dim=1)

    x = subsample(net.s2, squash(functional.conv2d(images, net.c1.weight, net.c1.bias)))
    x = subsample(net.s4, squash(c3(x)))
    x = squash(x.reshape(len(x), 400) @ net.c5.weight.reshape(120, 400).T + net.c5.bias)
    x = x @ net.f6.weight.T + net.f6.bias
    if parts["output"] == "linear":
        return squash(x) @ net.output.weight.T + net.output.bias
    return ((SQUASHED["scaled tanh"](x)[:, None] - read_codes().to(x)) ** 2).sum(dim=2)


def loss_by_hand(parts, outputs, labels):
    right = outputs[range(len(labels)), labels]
    if parts["output"] == "linear":
        return (outputs.exp().sum(dim=1).log() - right).mean()
    if parts["output"] == "RBF, eq. (8)":
        return right.mean()
    # Distances are in the hundreds: the smallest is taken out of the sum first.
    others = torch.cat([torch.ones_like(outputs[:, :1]), outputs], dim=1)
    smallest = others.min(dim=1).values
    return (right - smallest + (smallest[:, None] - others).exp().sum(dim=1).log()).mean()


@settings(max_examples=80, deadline=None)
@given(parts=COMBINATIONS)
def test_every_combination_computes_what_its_parts_say(few_digits, parts):
    """Outputs, loss and gradients, all in double precision."""
    net = with_seed(0, Variant, **parts)
    images, labels = net.prepare(few_digits.images[:4]).double(), few_digits.labels[:4]
    net = net.double()
    outputs, expected = net(images), by_hand(net, parts, images)
    torch.testing.assert_close(outputs, expected)
    mine, other = net.loss(outputs, labels), loss_by_hand(parts, expected, labels)
    torch.testing.assert_close(mine, other)
    mine = torch.autograd.grad(mine, list(net.parameters()))
    other = torch.autograd.grad(other, list(net.parameters()))
    for (name, _), one, two in zip(net.named_parameters(), mine, other, strict=True):
        assert one.abs().max() > 0, f"{name} does not learn"
        torch.testing.assert_close(one, two)
    right = expected.argmax(dim=1) if parts["output"] == "linear" else expected.argmin(dim=1)
    assert torch.equal(net.decide(outputs), right) and torch.equal(net.predict(images), right)


def test_the_first_choices_are_the_defaults_and_those_of_lenet5():
    defaults = {name: own.default for name, own in inspect.signature(Variant).parameters.items()}
    assert defaults == {part: choices[0] for part, choices in PARTS.items()}
    assert Variant().parts == defaults


# --- Variant() is LeNet5() ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 7])
def test_without_exchange_it_is_lenet5_to_the_last_bit(few_digits, seed):
    variant, published = with_seed(seed, Variant), with_seed(seed, LeNet5)
    assert list(variant.state_dict()) == list(published.state_dict())
    for key, value in published.state_dict().items():
        assert torch.equal(variant.state_dict()[key], value), key

    images, labels = few_digits.images[:64], few_digits.labels[:64]
    assert torch.equal(variant.prepare(images), published.prepare(images))
    images = published.prepare(images)
    losses = [net.loss(net(images), labels) for net in (variant, published)]
    assert torch.equal(variant(images), published(images)) and torch.equal(*losses)
    assert torch.equal(variant.predict(images), published.predict(images))
    mine, other = (
        torch.autograd.grad(one, net.parameters()) for one, net in zip(losses, (variant, published), strict=True)
    )
    assert all(torch.equal(one, two) for one, two in zip(mine, other, strict=True))


def test_drawing_its_weights_leaves_the_generator_where_lenet5_leaves_it():
    assert with_seed(3, lambda: (Variant(), torch.rand(1))[1]) == with_seed(3, lambda: (LeNet5(), torch.rand(1))[1])


# --- one exchange at a time -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parts", "parameters"),
    [
        ({}, 60_000),
        ({"c3": "dense"}, 60_900),  # C3 2,416 instead of 1,516
        ({"subsampling": "average"}, 60_000 - 44),  # S2 has 12, S4 has 32
        ({"subsampling": "max"}, 60_000 - 44),
        ({"output": "linear"}, 60_000 + 850),
        ({"output": "RBF, eq. (8)"}, 60_000),
        ({"squashing": "ReLU"}, 60_000),
        ({"input": "0 to 1"}, 60_000),
        ({"weights": "Glorot"}, 60_000),
        *((parts, 61_706) for parts in RETELLINGS.values()),
    ],
)
def test_parameters(parts, parameters):
    assert count_parameters(Variant(**parts)) == parameters


CHANGED = {"c3": ("c3.",), "subsampling": ("s2.", "s4."), "output": ("output.",)}


@pytest.mark.parametrize(("part", "choice"), EXCHANGES)
def test_an_exchange_changes_its_own_layers_and_no_other(part, choice):
    def shapes(net):
        return {key: value.shape for key, value in net.state_dict().items()}

    published, variant = shapes(Variant()), shapes(Variant(**{part: choice}))
    differ = {key for key in published.keys() | variant.keys() if published.get(key) != variant.get(key)}
    assert all(key.startswith(CHANGED.get(part, "nothing")) for key in differ)
    assert bool(differ) == (part in CHANGED and choice != "RBF, eq. (8)")


@pytest.mark.parametrize(
    ("part", "choice"), [exchange for exchange in EXCHANGES if exchange[0] in ("c3", "subsampling", "squashing")]
)
def test_an_exchange_is_felt(images, part, choice):
    variant, published = same_weights(**{part: choice})
    assert (variant(images) - published(images)).abs().max() > 1e-2


@pytest.mark.parametrize(
    ("part", "choice"),
    [exchange for exchange in EXCHANGES if exchange[0] in ("input", "weights") or "(8)" in exchange[1]],
)
def test_input_first_weights_and_equation_8_leave_the_function_alone(images, part, choice):
    variant, published = same_weights(**{part: choice})
    assert torch.equal(variant(images), published(images))
    assert torch.equal(variant.predict(images), published.predict(images))


@pytest.mark.parametrize(("part", "choice"), [("c3", "Table I"), *EXCHANGES])
def test_shape_comments_hold(part, choice):
    check_shape_comments(Variant(**{part: choice}), torch.rand(3, 1, 32, 32), count=8)


FOLLOWS = {"c1": "s2", "s2": "c3", "c3": "s4", "s4": "c5", "c5": "f6", "f6": "output"}


@pytest.mark.parametrize("squashing", PARTS["squashing"])
@pytest.mark.parametrize("subsampling", PARTS["subsampling"])
@pytest.mark.parametrize("output", PARTS["output"])
def test_what_follows_each_layer(images, squashing, subsampling, output):
    """Each sum is squashed once; nothing follows a pooling; before codes of +-1, F6 keeps the scaled tanh."""
    net = Variant(squashing=squashing, subsampling=subsampling, output=output)
    seen = record(net, images)
    for layer, reader in FOLLOWS.items():
        after = SQUASHED[squashing]
        if layer in ("s2", "s4") and subsampling != "trainable":
            after = torch.clone
        if layer == "f6" and output != "linear":
            after = SQUASHED["scaled tanh"]
        sums, given = seen[layer][1], seen[reader][0]
        torch.testing.assert_close(given, after(sums).reshape(given.shape), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("squashing", PARTS["squashing"])
def test_f6_can_draw_a_code_whatever_the_other_layers_do(images, squashing):
    net = Variant(squashing=squashing)
    net.f6.weight.data.zero_()
    net.f6.bias.data.copy_(net.output.codes[4])
    assert net(images)[:, 4].max() < 1e-6 and net.predict(images).tolist() == [4] * 8


# --- which input moves which output ---------------------------------------------------------------------------------

NETWORKS = {
    "LeNet-5": {},
    "dense": {"c3": "dense"},
    "average": {"subsampling": "average"},
    "max": {"subsampling": "max"},
    **RETELLINGS,
}


@pytest.mark.parametrize("name", NETWORKS)
def test_digits_do_not_mix(images, name):
    net, images = Variant(**NETWORKS[name]).double(), images.double()
    outputs = net(images)
    changed = images.clone()
    changed[3] = 1 - changed[3]
    moved = (net(changed) - outputs).abs().amax(dim=1) > 1e-9
    assert moved.tolist() == [row == 3 for row in range(8)]


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("number", range(6))
def test_which_maps_of_c3_a_map_of_s2_moves(images, name, number):
    def change(layer, inputs, output):
        output = output.clone()
        output[:, number] += 0.5
        return output

    net, images = Variant(**NETWORKS[name]).double(), images.double()
    before = record(net, images)["c3"][1]
    net.s2.register_forward_hook(change)
    moved = (record(net, images)["c3"][1] - before).abs().amax(dim=(0, 2, 3)).gt(1e-9).nonzero().flatten().tolist()
    dense = NETWORKS[name].get("c3") == "dense"
    assert moved == [c3_map for c3_map, inputs in enumerate(TABLE_I) if dense or number in inputs]


@pytest.mark.parametrize("subsampling", PARTS["subsampling"])
@pytest.mark.parametrize(("source", "target", "maps"), [("c1", "s2", 6), ("c3", "s4", 16)])
def test_no_subsampling_mixes_maps(images, subsampling, source, target, maps):
    net, images = Variant(subsampling=subsampling).double(), images.double()
    before = record(net, images)[target][1]
    for number in range(maps):

        def change(layer, inputs, output, number=number):
            output = output.clone()
            output[:, number] += 0.5
            return output

        hook = getattr(net, source).register_forward_hook(change)
        moved = (record(net, images)[target][1] - before).abs().amax(dim=(0, 2, 3)) > 1e-9
        hook.remove()
        assert moved.nonzero().flatten().tolist() == [number]


@settings(max_examples=40, deadline=None)
@given(row=st.integers(0, 31), column=st.integers(0, 31), name=st.sampled_from(list(NETWORKS)))
def test_a_pixel_moves_the_units_whose_field_holds_it_and_no_other(few_digits, row, column, name):
    """A unit of C1 reads 5x5 pixels; one of C3 reads 14x14, and its neighbour those 2 pixels further."""
    net = with_seed(0, Variant, **NETWORKS[name]).double()
    images = torch.rand(1, 1, 32, 32, dtype=torch.float64)
    before = record(net, images)
    images[0, 0, row, column] += 5
    after = record(net, images)
    for layer, size, stride in (("c1", 5, 1), ("c3", 14, 2)):
        moved = (after[layer][1] - before[layer][1])[0].abs().amax(dim=0) > 1e-12
        places = stride * torch.arange(len(moved))
        rows, columns = ((places <= at) & (at < places + size) for at in (row, column))
        field = rows[:, None] & columns[None, :]
        assert not (moved & ~field).any(), layer
        smooth = name in ("LeNet-5", "dense", "average")  # others may leave a pixel out: it was not the largest
        if layer == "c1" or smooth:
            assert torch.equal(moved, field), layer


# --- input ----------------------------------------------------------------------------------------------------------

FRAME = torch.ones(32, 32, dtype=torch.bool)
FRAME[2:-2, 2:-2] = False


@pytest.mark.parametrize(
    ("choice", "border", "paper", "ink"),
    [("-0.1 to 1.175", -0.1, -0.1, 1.175), ("border 0", 0.0, -0.1, 1.175), ("0 to 1", 0.0, 0.0, 255 / 256)],
)
def test_values_of_border_paper_and_ink(choice, border, paper, ink):
    raw = torch.zeros(2, 28, 28, dtype=torch.uint8)
    raw[1] = 255
    prepared = Variant(input=choice).prepare(raw)
    assert prepared.shape == (2, 1, 32, 32) and prepared.dtype == torch.float32
    frames = prepared[:, 0, FRAME]
    assert torch.allclose(frames, torch.full_like(frames, border), rtol=0, atol=1e-7)
    for image, grey in zip(prepared[:, 0, 2:-2, 2:-2], (paper, ink), strict=True):
        assert torch.allclose(image, torch.full_like(image, grey), rtol=0, atol=1e-6)


@pytest.mark.parametrize("choice", PARTS["input"])
def test_every_grey_keeps_its_place_and_the_raw_digits_stay(few_digits, choice):
    raw = few_digits.images[:8].clone()
    prepared = Variant(input=choice).prepare(raw)
    scale, zero = (256, 0) if choice == "0 to 1" else (200, -0.1)  # 255 / 200 - 0.1 = 1.175
    torch.testing.assert_close(prepared[:, 0, 2:-2, 2:-2], raw.float() / scale + zero)
    assert torch.equal(raw, few_digits.images[:8])


@pytest.mark.parametrize("choice", PARTS["input"])
@pytest.mark.parametrize("raw", [torch.zeros(2, 28, 28), torch.zeros(2, 1, 28, 28, dtype=torch.uint8), [[0]]])
def test_only_raw_digits_can_be_prepared(choice, raw):
    with pytest.raises(ValueError, match="expects raw images"):
        Variant(input=choice).prepare(raw)


# --- first weights --------------------------------------------------------------------------------------------------

INPUTS = {"c1": 25, "s2": 4, "s4": 4, "c5": 400, "f6": 120, "output": 84}  # of a unit


def glorot(inputs, fed):
    return math.sqrt(6 / (inputs + fed))


# sqrt(6 / (inputs of a unit + units that one input feeds)). A pixel feeds 25 places in each of the six maps of C1; a unit
# of S2 25 places in each of the ten maps that Table I gives it.
GLOROT = {
    "c1": glorot(25, 150),
    "s2": glorot(4, 1),
    "s4": glorot(4, 1),
    "dense c3": glorot(150, 400),
    "c5": glorot(400, 120),  # its kernels are as large as its maps: a dense layer
    "f6": glorot(120, 84),
    "output": glorot(84, 10),
}


def bounds(net, rule):
    """Yield (parameter, part of it, bound) for all parameters; the units of C3 differ from map to map under Table I."""
    n_rule = {"1/sqrt(n)": lambda n: n**-0.5, "2.4/n": lambda n: 2.4 / n}
    zero_biases = rule == "Glorot"

    def pair(inputs, fed_bound):
        if rule in n_rule:
            return n_rule[rule](inputs), n_rule[rule](inputs)
        return fed_bound, 0.0 if zero_biases else inputs**-0.5

    for name, inputs in INPUTS.items():
        layer = getattr(net, name)
        weight, bias = pair(inputs, GLOROT[name])
        for key, own in layer.named_parameters():
            yield own, slice(None), bias if key == "bias" else weight
    if isinstance(net.c3, nn.Conv2d):
        weight, bias = pair(150, GLOROT["dense c3"])
        yield net.c3.weight, slice(None), weight
        yield net.c3.bias, slice(None), bias
        return
    first = 0
    for number, maps in enumerate(TABLE_I):
        weight, bias = pair(25 * len(maps), glorot(25 * len(maps), 250))
        yield net.c3.weight, slice(first, first + len(maps)), weight
        yield net.c3.bias, slice(number, number + 1), bias
        first += len(maps)


@pytest.mark.parametrize("rule", PARTS["weights"])
@pytest.mark.parametrize(
    "parts", [{}, {"c3": "dense", "subsampling": "max", "output": "linear"}], ids=["LeNet-5", "dense, max, linear"]
)
def test_first_weights_are_uniform_within_the_bound_of_their_layer(rule, parts):
    """Two hundred drawings fill each range from end to end."""
    drawn = {}
    for seed in range(200):
        net = with_seed(seed, Variant, weights=rule, **parts)
        for number, (parameter, part, _) in enumerate(bounds(net, rule)):
            drawn.setdefault(number, []).append(parameter.detach()[part].flatten()[:20].double())
    for number, (_, _, bound) in enumerate(bounds(net, rule)):
        values = torch.cat(drawn[number])
        if bound == 0:
            assert not values.any()
            continue
        share = values / bound
        assert share.min() >= -1 - 1e-6 and share.max() <= 1 + 1e-6
        assert share.min() < -0.9 and share.max() > 0.9
        assert share.mean().abs() < 0.2 and abs(share.square().mean() - 1 / 3) < 0.12


def test_no_parameter_is_left_out_of_the_bounds():
    for parts in ({}, {"c3": "dense", "subsampling": "max", "output": "linear"}):
        net = Variant(**parts)
        assert sum(parameter[part].numel() for parameter, part, _ in bounds(net, "Glorot")) == count_parameters(net)


@pytest.mark.parametrize(
    ("layer", "inputs"),
    [(lambda: nn.Conv2d(6, 16, 5), 150), (lambda: nn.Linear(120, 84), 120)],
    ids=["Conv2d", "Linear"],
)
def test_pytorchs_own_rule_is_one_over_sqrt_n(layer, inputs):
    """As the docstring claims, for weights and biases."""
    drawn = [layer() for _ in range(50)]
    for name in ("weight", "bias"):
        share = torch.cat([getattr(one, name).detach().flatten() for one in drawn]) * math.sqrt(inputs)
        assert 0.99 < share.max() <= 1.00001 and -1.00001 <= share.min() < -0.99
        assert abs(share.square().mean() - 1 / 3) < 0.02


@pytest.mark.parametrize("rule", PARTS["weights"])
def test_the_same_seed_gives_the_same_network(rule):
    def drawn(seed):
        return torch.cat([own.detach().flatten() for own in with_seed(seed, Variant, weights=rule).parameters()])

    assert torch.equal(drawn(7), drawn(7))
    assert (drawn(7) != drawn(8)).float().mean() > 0.99


def test_glorots_codes_stay_those_of_figure_3():
    assert torch.equal(Variant(weights="Glorot").output.codes, read_codes())


# --- re-tellings, written out as their authors do -------------------------------------------------------------------


def d2l():
    """Dive into Deep Learning, section "LeNet": images 28x28, padding 2; xavier_uniform_ on every weight."""
    net = nn.Sequential(
        nn.Conv2d(1, 6, kernel_size=5, padding=2), nn.Sigmoid(), nn.AvgPool2d(kernel_size=2, stride=2),
        nn.Conv2d(6, 16, kernel_size=5), nn.Sigmoid(), nn.AvgPool2d(kernel_size=2, stride=2),
        nn.Flatten(),
        nn.Linear(400, 120), nn.Sigmoid(),
        nn.Linear(120, 84), nn.Sigmoid(),
        nn.Linear(84, 10),
    )  # fmt: skip
    for layer in net:
        if type(layer) in (nn.Linear, nn.Conv2d):
            nn.init.xavier_uniform_(layer.weight)
    return net


def pytorch_tutorial():
    """pytorch.org, "Neural Networks": images 32x32. Its zeros around MNIST come in here by padding."""
    return nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(16 * 5 * 5, 120), nn.ReLU(),
        nn.Linear(120, 84), nn.ReLU(),
        nn.Linear(84, 10),
    )  # fmt: skip


def keras_tutorials():
    """Conv2D(6, 5, activation="tanh", padding="same"), AveragePooling2D(), ..., glorot_uniform and zeros by default."""
    net = nn.Sequential(
        nn.Conv2d(1, 6, 5, padding="same"), nn.Tanh(), nn.AvgPool2d(2),
        nn.Conv2d(6, 16, 5), nn.Tanh(), nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(400, 120), nn.Tanh(),
        nn.Linear(120, 84), nn.Tanh(),
        nn.Linear(84, 10),
    )  # fmt: skip
    for layer in net:
        if hasattr(layer, "weight"):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
    return net


WRITTEN_OUT = {"d2l": d2l, "PyTorch tutorial": pytorch_tutorial, "Keras tutorials": keras_tutorials}


@pytest.mark.parametrize("name", RETELLINGS)
def test_a_retelling_is_the_network_that_its_authors_write(few_digits, name):
    """On 28x28 digits with a padding of 2: the same as 32x32 with a border of 0. Outputs, loss, gradients, answers."""
    net, other = Variant(**RETELLINGS[name]).double(), WRITTEN_OUT[name]().double()
    own = list(net.parameters())
    for one, two in zip(own, other.parameters(), strict=True):
        one.data.copy_(two.data.reshape(one.shape))
    raw, labels = few_digits.images[:32], few_digits.labels[:32]
    outputs, expected = net(net.prepare(raw).double()), other(raw[:, None].double() / 256)
    torch.testing.assert_close(outputs, expected)
    loss, expected_loss = net.loss(outputs, labels), functional.cross_entropy(expected, labels)
    torch.testing.assert_close(loss, expected_loss)
    mine, others = torch.autograd.grad(loss, own), torch.autograd.grad(expected_loss, list(other.parameters()))
    for one, two in zip(mine, others, strict=True):
        torch.testing.assert_close(one, two.reshape(one.shape))
    assert torch.equal(net.decide(outputs), expected.argmax(dim=1))


def widths(networks):
    """The largest absolute value of each parameter over several networks: the bound that it was drawn with, nearly."""
    drawn = [[own.detach().abs().max() for own in net.parameters()] for net in networks]
    return torch.tensor(drawn).amax(dim=0)


@pytest.mark.parametrize("name", ["d2l", "PyTorch tutorial", "Keras tutorials"])
def test_a_retellings_first_weights_are_as_wide_as_its_authors(name):
    torch.manual_seed(0)
    mine = widths(Variant(**RETELLINGS[name]) for _ in range(60))
    theirs = widths(WRITTEN_OUT[name]() for _ in range(60))
    torch.testing.assert_close(mine, theirs, rtol=0.04, atol=0)


# --- outputs --------------------------------------------------------------------------------------------------------


def test_the_answer_is_the_smallest_distance_or_the_largest_score():
    outputs = torch.tensor([[9.0, 8, 7, 6, 1, 3, 4, 5, 90, 2], [0.0, 8, 7, 6, 1, 3, 4, 5, 90, 2]])
    for output in PARTS["output"]:
        assert Variant(output=output).decide(outputs).tolist() == ([8, 8] if output == "linear" else [4, 0])


def test_each_output_has_its_loss():
    outputs, labels = 3 * torch.rand(5, 10), torch.tensor([1, 0, 9, 4, 4])
    losses = {output: Variant(output=output).loss(outputs, labels) for output in PARTS["output"]}
    expected = (map_loss, mse_loss, functional.cross_entropy)
    assert list(losses.values()) == [loss(outputs, labels) for loss in expected]
    assert len({round(loss.item(), 3) for loss in losses.values()}) == 3


@pytest.mark.parametrize("output", PARTS["output"])
def test_predict_in_pieces_is_predict_at_once(few_digits, output):
    net = Variant(output=output)
    for parameter in net.parameters():
        parameter.data *= 3  # so that different digits get different answers
    images = net.prepare(few_digits.images).repeat(5, 1, 1, 1)  # 1,280: more than predict takes at a time
    predictions = net.predict(images)
    assert predictions.dtype == torch.int64 and predictions.shape == (1280,)
    assert torch.equal(predictions, net.decide(net(images)))
    assert torch.equal(predictions, torch.cat([net.predict(some) for some in images.split(333)]))
    assert len(predictions.unique()) > 2


def test_predict_records_no_gradients(images, monkeypatch):
    net, recorded = Variant(), []
    monkeypatch.setattr(net, "decide", lambda outputs: recorded.append(outputs.requires_grad) or outputs.argmin(dim=1))
    net.predict(images)
    assert recorded == [False]


def test_no_images_give_no_answers():
    net = Variant()
    assert net(torch.zeros(0, 1, 32, 32)).shape == (0, 10) and net.predict(torch.zeros(0, 1, 32, 32)).shape == (0,)


# --- what weights are labelled with ---------------------------------------------------------------------------------


def test_the_label_says_what_was_exchanged():
    assert Variant().architecture == Variant(weights="Glorot").architecture == "Variant()"
    parts = {"squashing": "ReLU", "c3": "dense", "weights": "2.4/n"}
    assert Variant(**parts).architecture == "Variant(c3='dense', squashing='ReLU')"
    exchanged = [Variant(**{part: choice}).architecture for part, choice in EXCHANGES if part != "weights"]
    assert len({"Variant()", *exchanged}) == 1 + len(exchanged)


def test_saved_weights_come_back_and_only_into_the_same_network(own_weights, images):
    net = Variant(squashing="logistic")
    save_weights(net, "logistic")
    other = Variant(squashing="logistic", weights="Glorot")  # first weights do not matter any more
    load_weights(other, "logistic")
    assert torch.equal(other(images), net(images))
    with pytest.raises(WeightsError, match=r"made for Variant\(squashing='logistic'\), not Variant\(\)"):
        load_weights(Variant(), "logistic")


# --- bad input ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("choice", ["grouped", "", None, 3, ["dense"]])
def test_a_choice_that_there_is_not_is_answered_with_those_there_are(part, choice):
    with pytest.raises(ValueError) as error:
        Variant(**{part: choice})
    assert str(error.value) == f"{part} can be {', '.join(repr(one) for one in PARTS[part])}; got {choice!r}."


def test_a_choice_of_another_part_is_none():
    with pytest.raises(ValueError, match="c3 can be 'Table I', 'dense'; got 'max'"):
        Variant(c3="max")


def test_an_unknown_part_is_answered_with_those_there_are():
    with pytest.raises(ValueError) as error:
        check_parts({"c3": "dense", "c4": "dense"})
    assert str(error.value) == (
        "There is no part 'c4' to exchange. There are: c3, subsampling, squashing, output, input, weights."
    )


@pytest.mark.parametrize("parts", [{}, *RETELLINGS.values()])
def test_parts_that_there_are_pass_as_they_are(parts):
    assert check_parts(parts) is parts


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize(
    ("images", "got"),
    [
        (torch.zeros(2, 1, 28, 28), "(2, 1, 28, 28) float32"),
        (torch.zeros(2, 32, 32), "(2, 32, 32) float32"),
        (torch.zeros(32, 32), "(32, 32) float32"),
        (torch.zeros(2, 3, 32, 32), "(2, 3, 32, 32) float32"),
        (torch.zeros(2, 1, 36, 36), "(2, 1, 36, 36) float32"),
        (torch.zeros(2, 1, 32, 32, dtype=torch.uint8), "(2, 1, 32, 32) uint8"),
        (torch.zeros(2, 1, 32, 32, dtype=torch.int64), "(2, 1, 32, 32) int64"),
        (torch.tensor(0.0), "() float32"),
        ([[0.0]], "a list"),
    ],
)
def test_wrong_images_are_answered_in_words(name, images, got):
    with pytest.raises(ValueError) as error:
        Variant(**NETWORKS[name])(images)
    assert str(error.value) == (
        f"A Variant expects floating-point images (N, 1, 32, 32); got {got}. "
        "Use model.prepare(images) on raw 28x28 digits: each variant has an input of its own."
    )


@pytest.mark.parametrize("choice", PARTS["input"])
def test_pixels_that_were_not_scaled_are_answered_in_words(few_digits, choice):
    unscaled = functional.pad(few_digits.images[:2, None].float(), (2, 2, 2, 2))
    with pytest.raises(ValueError) as error:
        Variant(input=choice)(unscaled)
    assert f"A Variant expects pixels scaled to about {choice}; got values from 0 to 255." in str(error.value)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_one_pixel_that_is_no_number_is_noticed(images, bad):
    images[1, 0, 5, 5] = bad
    with pytest.raises(ValueError, match=f"got values from .*{abs(bad)}"):
        Variant()(images)
