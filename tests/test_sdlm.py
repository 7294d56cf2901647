"""The training method of 1998: second derivatives against exact ones and slow loops, steps, the schedule."""

import copy
import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.func import functional_call, jacrev

from lenet_course.data import load_mnist
from lenet_course.lenet5 import LeNet5, RBFOutput, ScaledTanh, Subsampling, TableConv2d, mse_loss, squash
from lenet_course.sdlm import MU_1998, SCHEDULE_1998, SDLM, diagonal_curvature, eta_of_pass


@pytest.fixture(scope="module")
def digits():
    return load_mnist("train")[:600]


def network(*layers, seed=0):
    torch.manual_seed(seed)
    net = nn.Sequential(*layers).double()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(torch.randn_like(parameter))
    return net


def exact_gauss_newton(net, images):
    """The diagonal of J^T J, mean over the images, J by autograd: the second derivative of half the sum of squares."""
    parameters = dict(net.named_parameters())
    jacobian = jacrev(lambda weights: functional_call(net, weights, (images,)).flatten(1))(parameters)
    return {name: value.square().sum(dim=(0, 1)).detach() / len(images) for name, value in jacobian.items()}


def assert_same(found, expected):
    assert set(found) == set(expected)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, msg=lambda text, name=name: f"{name}: {text}")


# --- where the method is exact --------------------------------------------------------------------------------------

# With one dense layer, or two with any squashing between, a hidden unit reaches an output by one path only: there are no
# cross terms to drop.


@given(seed=st.integers(0, 10_000), sizes=st.tuples(*[st.integers(1, 5)] * 4), bias=st.booleans())
@settings(max_examples=25, deadline=None)
def test_exact_for_one_and_two_dense_layers(seed, sizes, bias):
    count, inputs, hidden, outputs = sizes
    images = torch.randn(count, inputs, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    one = network(nn.Linear(inputs, outputs, bias=bias), seed=seed)
    assert_same(diagonal_curvature(one, images), exact_gauss_newton(one, images))
    two = network(
        nn.Linear(inputs, hidden, bias), ScaledTanh(), nn.Linear(hidden, outputs, bias), ScaledTanh(), seed=seed
    )
    assert_same(diagonal_curvature(two, images), exact_gauss_newton(two, images))


def test_exact_for_convolutions_whose_weights_are_used_once():
    """A kernel as large as its input stands at one place: nothing is shared."""
    images = torch.randn(3, 2, 4, 4, dtype=torch.float64)
    net = network(nn.Conv2d(2, 3, kernel_size=4), ScaledTanh(), nn.Flatten(), nn.Linear(3, 2))
    assert_same(diagonal_curvature(net, images), exact_gauss_newton(net, images))
    table = network(TableConv2d("X . X\nX X .", kernel_size=4), ScaledTanh(), nn.Flatten(), nn.Linear(3, 2))
    assert_same(diagonal_curvature(table, images), exact_gauss_newton(table, images))


@given(
    seed=st.integers(0, 10_000),
    stride=st.integers(1, 3),
    padding=st.integers(0, 2),
    dilation=st.integers(1, 2),
    groups=st.sampled_from([1, 2]),
    bias=st.booleans(),
)
@settings(max_examples=25, deadline=None)
def test_exact_for_a_last_convolution_with_any_settings(seed, stride, padding, dilation, groups, bias):
    """A kernel serves many outputs, but each of its weights no output more than once: no cross terms."""
    images = torch.randn(2, 2, 5, 6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    kernel = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    net = network(nn.Conv2d(2, 4, (2, 3), **kernel, bias=bias), ScaledTanh(), seed=seed)
    assert_same(diagonal_curvature(net, images), exact_gauss_newton(net, images))


@pytest.mark.parametrize("layer", [TableConv2d("X . X\nX X .", kernel_size=2), Subsampling(2)])
def test_exact_for_a_last_table_or_subsampling(layer):
    """As for a convolution; and the coefficient stands once in each output, before the sum of a window."""
    net = network(layer, ScaledTanh())
    images = torch.randn(3, 2, 4, 6, dtype=torch.float64)
    assert_same(diagonal_curvature(net, images), exact_gauss_newton(net, images))


@pytest.mark.parametrize("padding", [{"padding": "same"}, {"padding": 1, "padding_mode": "circular"}])
def test_a_convolution_with_another_kind_of_padding_is_refused(padding):
    net = network(nn.Conv2d(2, 3, kernel_size=3, **padding))
    with pytest.raises(TypeError, match="no rule for the curvature of a Conv2d with padding.*give padding as numbers"):
        diagonal_curvature(net, torch.randn(2, 2, 5, 5, dtype=torch.float64))


def test_below_the_distance_it_is_the_second_derivative_of_the_right_ones_distance():
    """E = y_D = sum (x - w)^2, so each output of F6 has 2; half the sum of squares of x - w has 1."""
    net = network(nn.Linear(7, 84), ScaledTanh(), RBFOutput())
    images = torch.randn(4, 7, dtype=torch.float64)
    f6 = exact_gauss_newton(net[:2], images)
    assert_same(diagonal_curvature(net, images), {name: 2 * value for name, value in f6.items()})


def test_for_the_last_layer_of_lenet5_it_is_the_exact_one():
    net, images = LeNet5().double(), torch.rand(5, 1, 32, 32, dtype=torch.float64)
    found = diagonal_curvature(net, images)
    below = images
    for layer in net.chain()[:-3]:
        below = layer(below)
    f6 = exact_gauss_newton(nn.Sequential(net.f6, ScaledTanh()), below.detach())
    torch.testing.assert_close(found["f6.weight"], 2 * f6["0.weight"])
    torch.testing.assert_close(found["f6.bias"], 2 * f6["0.bias"])
    # C5's weights stand at one place, and reach each output of F6 by one path: exact as well.
    to_c5 = images
    for layer in net.chain()[:8]:
        to_c5 = layer(to_c5)
    c5 = exact_gauss_newton(nn.Sequential(net.c5, ScaledTanh(), nn.Flatten(), net.f6, ScaledTanh()), to_c5.detach())
    torch.testing.assert_close(found["c5.weight"], 2 * c5["0.weight"])
    torch.testing.assert_close(found["c5.bias"], 2 * c5["0.bias"])
    # S4's coefficient reaches an output of F6 by 25 places and 120 units.
    to_s4 = images
    for layer in net.chain()[:6]:
        to_s4 = layer(to_s4)
    above = nn.Sequential(net.s4, ScaledTanh(), net.c5, ScaledTanh(), nn.Flatten(), net.f6, ScaledTanh())
    s4 = exact_gauss_newton(above, to_s4.detach())
    assert not torch.allclose(found["s4.coefficient"], 2 * s4["0.coefficient"], rtol=0.2)


# --- where it drops terms -------------------------------------------------------------------------------------------


def test_three_dense_layers_drop_cross_terms_and_follow_eq_27():
    net = network(nn.Linear(3, 4), ScaledTanh(), nn.Linear(4, 5), ScaledTanh(), nn.Linear(5, 2))
    images = torch.randn(6, 3, dtype=torch.float64)
    found = diagonal_curvature(net, images)
    exact = exact_gauss_newton(net, images)
    assert_same({name: found[name] for name in found if name[0] in "24"}, {n: exact[n] for n in exact if n[0] in "24"})
    assert not torch.allclose(found["0.weight"], exact["0.weight"], rtol=0.05)

    expected = torch.zeros(4, 3, dtype=torch.float64)
    for image in images:
        a = net[0](image).detach()
        b = net[2](squash(a)).detach()
        h_b = [slope(b[k]) ** 2 * sum(net[4].weight[o, k] ** 2 for o in range(2)) for k in range(5)]
        for i in range(4):
            h_a = slope(a[i]) ** 2 * sum(net[2].weight[k, i] ** 2 * h_b[k] for k in range(5))
            expected[i] += (h_a * image**2).detach() / 6
    torch.testing.assert_close(found["0.weight"], expected)


def slope(a):
    return 1.7159 * 2 / 3 * (1 - torch.tanh(2 / 3 * a) ** 2)


# --- shared weights: the sum over connections (eq. 23 and 25) -------------------------------------------------------


# The slow way: every unit and every connection is written down, with the number of the weight that it uses.
NO_WEIGHT = -1


def product(*sizes):
    return itertools.product(*(range(size) for size in sizes))


def wiring(layer, shape):
    """Return one or two stages, each a list of (target unit, source unit, number of the weight).

    Units are numbered through; the source after the last stands for the 1 of a bias. Weights are numbered through all
    parameters of the layer; NO_WEIGHT is a connection that just passes its value on.
    """
    one = math.prod(shape)
    if isinstance(layer, nn.Linear):
        out, sources = layer.weight.shape
        stage = [(o, i, o * sources + i) for o, i in product(out, sources)]
        if layer.bias is not None:
            stage += [(o, one, layer.weight.numel() + o) for o in range(out)]
        return [stage]

    maps, height, width = shape
    if isinstance(layer, Subsampling):
        h, w = height // 2, width // 2
        adders = [
            ((m * h + y) * w + x, (m * height + 2 * y + dy) * width + 2 * x + dx, NO_WEIGHT)
            for m, y, x, dy, dx in product(maps, h, w, 2, 2)
        ]
        scaled = [(unit, unit, unit // (h * w)) for unit in range(maps * h * w)]
        biases = [(unit, maps * h * w, maps + unit // (h * w)) for unit in range(maps * h * w)]
        return [adders, scaled + biases]

    if isinstance(layer, TableConv2d):
        size, stride, padding, out = layer.kernel_size, 1, 0, layer.out_maps
        pairs = list(zip(layer.output_maps.tolist(), layer.input_maps.tolist(), strict=True))
    else:
        size, stride, padding, out = layer.kernel_size[0], layer.stride[0], layer.padding[0], layer.out_channels
        pairs = list(product(out, maps))
    h, w = ((side + 2 * padding - size) // stride + 1 for side in (height, width))
    stage = []
    for (pair, (m, k)), y, x in itertools.product(enumerate(pairs), range(h), range(w)):
        for ky, kx in product(size, size):
            row, column = y * stride + ky - padding, x * stride + kx - padding
            if 0 <= row < height and 0 <= column < width:
                stage.append(((m * h + y) * w + x, (k * height + row) * width + column, (pair * size + ky) * size + kx))
    if layer.bias is not None:
        stage += [(unit, one, layer.weight.numel() + unit // (h * w)) for unit in range(out * h * w)]
    return [stage]


def unit_by_unit(net, layers, images):
    """App. C on the wiring. On the way it checks that the wiring computes what the layers compute."""
    steps, x, as_computed = [], images.flatten(1), images
    for layer in layers:
        shape, as_computed = as_computed.shape[1:], layer(as_computed).detach()
        if isinstance(layer, ScaledTanh | RBFOutput):
            steps.append((layer, x, None))
        elif not isinstance(layer, nn.Flatten):
            weights = torch.cat([parameter.detach().flatten() for parameter in layer.parameters()])
            weights = torch.cat([weights, weights.new_ones(1)])  # the last, for NO_WEIGHT
            for stage in wiring(layer, shape):
                targets, sources, numbers = torch.tensor(stage).T
                numbers = numbers % len(weights)
                x = torch.cat([x, x.new_ones(len(x), 1)], dim=1)
                steps.append((layer, x, (targets, sources, numbers, weights)))
                x = x.new_zeros(len(x), int(targets.max()) + 1).index_add(1, targets, weights[numbers] * x[:, sources])
            torch.testing.assert_close(x, as_computed.flatten(1))
        x = as_computed.flatten(1) if isinstance(layer, ScaledTanh | RBFOutput) else x

    names = {parameter: name for name, parameter in net.named_parameters()}
    result = {name: torch.zeros_like(parameter) for name, parameter in net.named_parameters()}
    h = torch.ones_like(x)
    for layer, x, connections in reversed(steps):
        if isinstance(layer, RBFOutput):
            h = torch.full_like(x, 2)
        elif isinstance(layer, ScaledTanh):
            h = slope(x) ** 2 * h
        else:
            targets, sources, numbers, weights = connections
            own = torch.zeros_like(weights).index_add(0, numbers, (h[:, targets] * x[:, sources] ** 2).sum(dim=0))
            h = torch.zeros_like(x).index_add(1, sources, weights[numbers] ** 2 * h[:, targets])[:, :-1]
            parameters = list(layer.parameters())
            parts = own[:-1].split([parameter.numel() for parameter in parameters])
            for parameter, part in zip(parameters, parts, strict=True):
                result[names[parameter]] += part.reshape(parameter.shape) / len(images)
    return result


@pytest.mark.parametrize(
    "layers",
    [
        (nn.Conv2d(2, 3, 3), ScaledTanh(), nn.Conv2d(3, 2, 2)),
        (nn.Conv2d(2, 3, 2, bias=False), ScaledTanh(), nn.Conv2d(3, 2, 3, stride=2, padding=1)),
        (nn.Conv2d(2, 2, 3, padding=1), ScaledTanh(), TableConv2d("X . X\nX X .", 3), ScaledTanh(), Subsampling(3)),
        (Subsampling(2), ScaledTanh(), TableConv2d("X X\n. X", 2), ScaledTanh(), nn.Flatten(), nn.Linear(8, 3)),
        (nn.Conv2d(2, 3, 3, stride=3), ScaledTanh(), nn.Flatten(), nn.Linear(12, 84), ScaledTanh(), RBFOutput()),
    ],
    ids=["convolutions", "stride and padding", "table and subsampling", "subsampling first", "distance"],
)
def test_shared_weights_get_the_sum_over_connections_at_every_depth(layers):
    net = network(*layers)
    images = torch.randn(3, 2, 6, 6, dtype=torch.float64)
    assert_same(diagonal_curvature(net, images), unit_by_unit(net, layers, images))


def test_lenet5_unit_by_unit(digits):
    net = LeNet5().double()
    images = net.prepare(digits.images[:2]).double()
    assert_same(diagonal_curvature(net, images), unit_by_unit(net, net.chain(), images))


def test_a_layer_that_stands_twice_gets_the_sum_of_both_places():
    layer = nn.Linear(3, 3)
    net = network(layer, ScaledTanh(), layer)
    images = torch.randn(4, 3, dtype=torch.float64)
    assert_same(diagonal_curvature(net, images), unit_by_unit(net, list(net), images))


def test_a_convolution_with_a_table_sums_only_over_its_connections():
    table = TableConv2d("X . X\nX X .", kernel_size=2)
    net = network(table)
    images = torch.randn(2, 2, 4, 4, dtype=torch.float64)
    expected = torch.zeros_like(table.weight)
    for pair, (_, k) in enumerate(zip(table.output_maps, table.input_maps, strict=True)):
        for ky in range(2):
            for kx in range(2):
                expected[pair, ky, kx] = images[:, k, ky : ky + 3, kx : kx + 3].square().sum() / 2
    found = diagonal_curvature(net, images)
    torch.testing.assert_close(found["0.weight"], expected.detach())
    assert found["0.bias"].tolist() == [9.0] * 3


def test_subsampling_sums_over_its_units_and_passes_on_the_squared_coefficient():
    """To the coefficient, the input of a unit is the sum of its window."""
    net = network(Subsampling(2))
    images = torch.randn(3, 2, 4, 6, dtype=torch.float64)
    windows = images.unfold(2, 2, 2).unfold(3, 2, 2).sum(dim=(4, 5))
    found = diagonal_curvature(net, images)
    torch.testing.assert_close(found["0.coefficient"], windows.square().sum(dim=(0, 2, 3)) / 3)
    assert found["0.bias"].tolist() == [6.0, 6.0]

    deep = network(nn.Conv2d(1, 2, kernel_size=1), Subsampling(2))
    below = torch.randn(3, 1, 4, 6, dtype=torch.float64)
    of_kernel = below.square().sum() / 3 * deep[1].coefficient.detach() ** 2
    torch.testing.assert_close(diagonal_curvature(deep, below)["0.weight"].flatten(), of_kernel)


def test_squashing_passes_on_the_squared_slope():
    net = network(nn.Linear(2, 2), ScaledTanh())
    images = torch.randn(1, 2, dtype=torch.float64)
    a = net[0](images).detach()
    torch.testing.assert_close(diagonal_curvature(net, images)["0.bias"], slope(a[0]) ** 2)


# --- what callers can rely on ---------------------------------------------------------------------------------------


def test_curvature_is_like_the_parameters_and_leaves_no_trace(digits):
    net = LeNet5()
    before = copy.deepcopy(net.state_dict())
    found = diagonal_curvature(net, net.prepare(digits.images[:10]))
    assert list(found) == [name for name, _ in net.named_parameters()]
    for name, parameter in net.named_parameters():
        assert found[name].shape == parameter.shape and found[name].dtype == parameter.dtype
        assert (found[name] >= 0).all() and found[name].sum() > 0 and not found[name].requires_grad
        assert parameter.grad is None
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())


def test_curvature_is_a_mean_over_the_images(digits):
    net = LeNet5().double()
    images = net.prepare(digits.images[:6]).double()
    whole, left, right = (diagonal_curvature(net, part) for part in (images, images[:3], images[3:]))
    assert_same(whole, {name: (left[name] + right[name]) / 2 for name in whole})


def test_no_images_is_an_error():
    with pytest.raises(ValueError, match=r"there are none: got \(0, 1, 32, 32\)"):
        diagonal_curvature(LeNet5(), torch.zeros(0, 1, 32, 32))


def test_a_chain_that_is_not_what_forward_does_is_an_error():
    class Forgetful(LeNet5):
        def chain(self):
            return super().chain()[:-1]

    class Doubling(LeNet5):
        def forward(self, images):
            return 2 * super().forward(images)

    for network_type in (Forgetful, Doubling):
        with pytest.raises(ValueError, match=f"{network_type.__name__}.chain.. gives other outputs than its forward"):
            diagonal_curvature(network_type(), torch.zeros(1, 1, 32, 32))


def test_a_network_that_ran_away_is_not_told_that_its_chain_is_wrong():
    net = LeNet5()
    with torch.no_grad():
        net.f6.bias[0] = math.nan
    with pytest.raises(ArithmeticError, match="outputs are no finite numbers: its weights have run away"):
        diagonal_curvature(net, torch.zeros(1, 1, 32, 32))


def test_a_layer_without_a_rule_is_an_error():
    with pytest.raises(TypeError, match="no rule for the curvature of a ReLU"):
        diagonal_curvature(nn.Sequential(nn.Linear(2, 2), nn.ReLU()), torch.zeros(1, 2))


# --- the optimizer --------------------------------------------------------------------------------------------------


def small(images=None):
    net = network(nn.Linear(3, 2), ScaledTanh(), nn.Linear(2, 2)).float()
    return net, torch.randn(20, 3, generator=torch.Generator().manual_seed(1))


def test_a_step_is_eta_over_mu_plus_h_times_the_gradient():
    net, images = small()
    optimizer = SDLM(net, eta=0.01, mu=0.1)
    optimizer.estimate(images)
    h = diagonal_curvature(copy.deepcopy(net).double(), images.double())
    before = {name: parameter.detach().clone() for name, parameter in net.named_parameters()}
    net(images).square().sum().backward()
    assert optimizer.step() is None
    for name, parameter in net.named_parameters():
        size = (0.01 / (0.1 + h[name])).float()
        torch.testing.assert_close(parameter.detach(), before[name] - size * parameter.grad)
        assert torch.equal(optimizer.step_sizes()[name], size)


def test_eta_can_change_between_passes_and_the_curvature_stays():
    net, images = small()
    optimizer = SDLM(net, eta=0.01)
    optimizer.estimate(images)
    before = optimizer.step_sizes()
    optimizer.eta = 0.02
    assert optimizer.eta == 0.02
    for name, size in optimizer.step_sizes().items():
        torch.testing.assert_close(size, 2 * before[name])


def test_the_curvature_stays_during_a_pass_and_a_new_estimate_replaces_it():
    net, images = small()
    optimizer = SDLM(net)
    optimizer.estimate(images[:10])
    first = optimizer.step_sizes()
    net(images).square().sum().backward()
    optimizer.step()
    assert all(torch.equal(first[name], size) for name, size in optimizer.step_sizes().items())
    optimizer.estimate(images[10:])
    fresh = SDLM(net)
    fresh.estimate(images[10:])
    for name, size in fresh.step_sizes().items():
        assert torch.equal(optimizer.step_sizes()[name], size)
    assert not torch.allclose(first["0.weight"], optimizer.step_sizes()["0.weight"], rtol=0.01)


def test_a_saved_state_goes_on_where_it_was():
    """To rounding: PyTorch converts what it loads to the parameters' dtype, and the curvature is kept in float64."""
    net, images = small()
    optimizer = SDLM(net, eta=0.03, mu=0.2)
    optimizer.estimate(images)
    loaded = SDLM(net)
    loaded.load_state_dict(optimizer.state_dict())
    assert loaded.eta == 0.03
    for name, size in optimizer.step_sizes().items():
        torch.testing.assert_close(loaded.step_sizes()[name], size, rtol=1e-6, atol=0)
    net(images).sum().backward()
    before = net[0].weight.detach().clone()
    size, gradient = optimizer.step_sizes()["0.weight"], net[0].weight.grad
    loaded.step()
    torch.testing.assert_close(net[0].weight.detach(), before - size * gradient)


def test_gradients_add_up_until_they_are_cleared():
    net, images = small()
    optimizer = SDLM(net)
    optimizer.estimate(images)
    net(images).sum().backward()
    once = net[0].weight.grad.clone()
    optimizer.step()
    assert torch.equal(net[0].weight.grad, once)
    optimizer.zero_grad()
    assert all(parameter.grad is None for parameter in net.parameters())


def test_a_parameter_without_a_gradient_stays():
    net, images = small()
    optimizer = SDLM(net)
    optimizer.estimate(images)
    before = net[2].weight.detach().clone()
    net[:2](images).sum().backward()
    optimizer.step()
    assert torch.equal(net[2].weight, before)


def test_a_closure_is_called_and_its_loss_returned():
    net, images = small()
    optimizer = SDLM(net)
    optimizer.estimate(images)

    def closure():
        optimizer.zero_grad()
        loss = net(images).square().sum()
        loss.backward()
        return loss

    first = optimizer.step(closure)
    assert closure() < first


def test_estimating_changes_neither_values_nor_dtypes(digits):
    net = LeNet5()
    before = copy.deepcopy(net.state_dict())
    SDLM(net).estimate(net.prepare(digits.images[:20]))
    for name, value in net.state_dict().items():
        assert torch.equal(value, before[name]) and value.dtype == torch.float32


@pytest.mark.parametrize("use", [lambda optimizer: optimizer.step(), lambda optimizer: optimizer.step_sizes()])
def test_without_an_estimate_it_says_what_to_call(use):
    net, images = small()
    net(images).sum().backward()
    with pytest.raises(RuntimeError, match=r"call optimizer.estimate\(images\) with about 500"):
        use(SDLM(net))


@pytest.mark.parametrize("settings", [{"eta": 0}, {"eta": -1.0}, {"mu": 0.0}, {"eta": float("nan")}])
def test_rates_must_be_above_0(settings):
    with pytest.raises(ValueError, match="eta and mu must be above 0; got"):
        SDLM(small()[0], **settings)


def test_a_valley_is_crossed_in_one_step_along_each_axis():
    """A dense layer from one-hot inputs: the loss is a sum over single weights, of different curvature."""
    net = network(nn.Linear(3, 1, bias=False))
    images = torch.diag(torch.tensor([1.0, 10.0, 100.0], dtype=torch.float64))
    optimizer = SDLM(net, eta=1.0, mu=1e-12)
    optimizer.estimate(images)
    (net(images).square().sum() / 2 / 3).backward()
    optimizer.step()
    assert net[0].weight.abs().max() < 1e-9


def test_lenet5_learns_from_a_few_hundred_digits(digits):
    torch.manual_seed(0)
    net = LeNet5()
    optimizer = SDLM(net, eta=1e-4)
    optimizer.estimate(net.prepare(digits.images[:100]))
    prepared = net.prepare(digits.images)
    before = mse_loss(net(prepared), digits.labels)
    for number in range(300):
        loss = net.loss(net(prepared[number : number + 1]), digits.labels[number : number + 1])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert mse_loss(net(prepared), digits.labels) < 0.7 * before
    assert (net.predict(prepared) == digits.labels).float().mean() > 0.4


# --- the schedule ---------------------------------------------------------------------------------------------------


def test_the_schedule_is_the_papers():
    etas = [eta_of_pass(number) for number in range(1, 21)]
    assert etas == [5e-4] * 2 + [2e-4] * 3 + [1e-4] * 3 + [5e-5] * 4 + [1e-5] * 8
    assert sum(passes for passes, _ in SCHEDULE_1998) == 20
    assert eta_of_pass(100) == 1e-5 and MU_1998 == 0.02


def test_a_schedule_of_ones_own():
    assert [eta_of_pass(number, [(1, 0.5), (2, 0.1)]) for number in (1, 2, 3, 4)] == [0.5, 0.1, 0.1, 0.1]


@pytest.mark.parametrize("number", [0, -1])
def test_passes_are_counted_from_1(number):
    with pytest.raises(ValueError, match=f"counted from 1; got {number}"):
        eta_of_pass(number)
