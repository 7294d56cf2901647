"""The compiled training method: the same numbers as plain PyTorch, in the same order, on any thread; bad input."""

import copy
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import nn

from lenet_course import sdlm_compiled
from lenet_course.data import Digits
from lenet_course.lenet import LeNet
from lenet_course.lenet5 import TABLE_1, LeNet5, TableConv2d, map_loss, mse_loss, read_codes, squash
from lenet_course.sdlm import SDLM
from lenet_course.sdlm_compiled import _slope, _squash, distances, train_pass, train_patterns


def network(seed=0):
    torch.manual_seed(seed)
    return LeNet5()


@pytest.fixture(scope="module")
def sizes(train_digits):
    """Step sizes as they are before the first pass."""
    model = network()
    optimizer = SDLM(model, eta=1e-4)
    optimizer.estimate(model.prepare(train_digits.images[:100]))
    return optimizer.step_sizes()


def plain_loop(model, digits, order, sizes, loss):
    """One pattern, one update, by autograd. Returns how many were wrong and the mean loss, each before its update."""
    wrong, total = 0, 0.0
    for number in order:
        outputs = model(model.prepare(digits.images[number : number + 1]))
        label = digits.labels[number : number + 1]
        of_pattern = loss(outputs, label)
        model.zero_grad()
        of_pattern.backward()
        wrong += int(outputs.argmin() != label)
        total += of_pattern.item()
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                parameter -= sizes[name] * parameter.grad
    return wrong, total / len(order)


def assert_same_weights(one, other, **tolerance):
    for (name, first), second in zip(one.named_parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(first, second, **tolerance, msg=lambda text, name=name: f"{name}: {text}")


# --- the same numbers -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "loss"),
    [
        ({}, map_loss),
        ({"j": 30.0}, lambda outputs, labels: map_loss(outputs, labels, j=30.0)),
        ({"loss": "mse"}, mse_loss),
    ],
    ids=["eq. (9)", "eq. (9), j = 30", "eq. (8)"],
)
@pytest.mark.parametrize("seed", [0, 1])
def test_the_same_weights_as_autograd_after_100_patterns(train_digits, sizes, given, loss, seed):
    plain, compiled = network(seed), network(seed)
    order = torch.randperm(1000, generator=torch.Generator().manual_seed(seed))[:100]
    wrong, mean = plain_loop(plain, train_digits, order, sizes, loss)
    seen = train_patterns(compiled, train_digits, order, sizes, **given)
    assert_same_weights(compiled, plain, rtol=1e-5, atol=1e-6)
    for untrained, trained in zip(network(seed).parameters(), compiled.parameters(), strict=True):
        assert (trained - untrained).abs().max() > 1e-3  # a hundred times what rounding may do
    assert (seen.wrong, seen.patterns) == (wrong, 100)
    assert seen.loss == pytest.approx(mean, rel=1e-5)
    assert seen.error == wrong / 100


@example(seed=0, label=8, spread=1.0, j=1e-300)
@example(seed=0, label=8, spread=1.0, j=1e6)
@given(
    seed=st.integers(0, 1000), label=st.integers(0, 9), spread=st.sampled_from([0.3, 1.0, 3.0]), j=st.floats(0.01, 200)
)
@settings(max_examples=25, deadline=None)
def test_a_single_update_is_the_step_size_times_the_gradient(seed, label, spread, j):
    """In double precision: where the right digit is all but certain, the gradient by autograd in float32 is off by 0.4%."""
    model = network(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter *= spread
    image = torch.randint(0, 256, (1, 28, 28), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)
    digits = Digits(image, torch.tensor([label]))
    before, exact = copy.deepcopy(model), copy.deepcopy(model).double()
    map_loss(exact(exact.prepare(image).double()), digits.labels, j=j).backward()
    sizes = {name: torch.full_like(parameter, 0.5) for name, parameter in model.named_parameters()}
    train_patterns(model, digits, torch.tensor([0]), sizes, j=j)
    for name, parameter in exact.named_parameters():
        change = (before.get_parameter(name).double() - model.get_parameter(name).double()).detach()
        scale = float(parameter.grad.abs().max())
        torch.testing.assert_close(change, 0.5 * parameter.grad, rtol=1e-4, atol=1e-5 * scale + 1e-6, msg=name)


@pytest.mark.parametrize("spread", [3, 10, 1000])
@pytest.mark.parametrize("grey", [0, 255, None], ids=["blank", "full", "digit"])
def test_an_update_where_nearly_all_units_saturate(train_digits, spread, grey):
    """Against double precision; in single, a slope near 0 keeps few digits, and large weights multiply its error."""
    image = train_digits.images[:1] if grey is None else torch.full((1, 28, 28), grey, dtype=torch.uint8)
    digits, model = Digits(image, torch.tensor([3])), network()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter *= spread
    exact = copy.deepcopy(model).double()
    outputs = exact(exact.prepare(image).double())
    torch.testing.assert_close(distances(model, image), outputs.float(), rtol=1e-3, atol=1e-3)
    map_loss(outputs, digits.labels).backward()
    largest = max(float(parameter.grad.abs().max()) for parameter in exact.parameters())
    train_patterns(model, digits, torch.tensor([0]), {name: torch.ones_like(p) for name, p in model.named_parameters()})
    for name, before in exact.named_parameters():
        change = (before - model.get_parameter(name)).detach()
        torch.testing.assert_close(change, before.grad, rtol=0, atol=3e-4 * largest + 1e-5 * spread, msg=name)


@pytest.mark.parametrize("grey", [0, 255])
def test_blank_and_full_images(sizes, grey):
    digits = Digits(torch.full((1, 28, 28), grey, dtype=torch.uint8), torch.tensor([3]))
    plain, compiled = network(), network()
    plain_loop(plain, digits, torch.tensor([0]), sizes, map_loss)
    train_patterns(compiled, digits, torch.tensor([0]), sizes)
    assert_same_weights(compiled, plain, rtol=1e-5, atol=1e-6)


def test_each_pattern_is_an_update_of_its_own_so_the_order_matters(train_digits, sizes):
    forwards, backwards, twice = network(), network(), network()
    train_patterns(forwards, train_digits, torch.arange(20), sizes)
    train_patterns(backwards, train_digits, torch.arange(20).flip(0), sizes)
    assert not torch.allclose(forwards.f6.weight, backwards.f6.weight, atol=1e-6)
    train_patterns(twice, train_digits, torch.tensor([5, 5]), sizes)
    single = network()
    train_patterns(single, train_digits, torch.tensor([5]), sizes)
    train_patterns(single, train_digits, torch.tensor([5]), sizes)
    assert_same_weights(twice, single, rtol=0, atol=0)


def test_distances_are_those_of_the_network(train_digits):
    model = network()
    images = train_digits.images[:200]
    expected = model(model.prepare(images)).detach()
    torch.testing.assert_close(distances(model, images), expected, rtol=1e-5, atol=1e-4)
    assert distances(model, images).dtype == torch.float32
    odd = torch.stack([torch.zeros(28, 28), torch.full((28, 28), 255.0), torch.rand(28, 28) * 255]).byte()
    torch.testing.assert_close(distances(model, odd), model(model.prepare(odd)).detach(), rtol=1e-5, atol=1e-4)
    assert distances(model, images[:0]).shape == (0, 10)


def test_squashing_and_its_slope_over_the_whole_range():
    sums = torch.linspace(-100, 100, 20_001, dtype=torch.float64)
    found = torch.tensor([_squash(np.float32(value)) for value in sums], dtype=torch.float64)
    assert (found - squash(sums)).abs().max() < 1e-6
    slopes = torch.tensor([_slope(np.float32(value)) for value in squash(sums)], dtype=torch.float64)
    exact = 1.7159 * 2 / 3 * (1 - torch.tanh(2 / 3 * sums) ** 2)
    assert (slopes - exact).abs().max() < 1e-6


def test_the_same_to_the_last_bit_at_each_repetition_and_in_threads(train_digits, sizes):
    def train(seed):
        model = network_with_seed[seed]
        train_patterns(model, train_digits, torch.arange(300), sizes)
        return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])

    network_with_seed = {seed: network(seed) for seed in (0, 1)}
    one_by_one = [train(seed) for seed in (0, 1)]
    network_with_seed = {seed: network(seed) for seed in (0, 1)}
    with ThreadPoolExecutor(2) as pool:
        at_once = list(pool.map(train, (0, 1)))
    for alone, beside in zip(one_by_one, at_once, strict=True):
        assert torch.equal(alone, beside)


TRAIN_AND_PRINT = """
import hashlib, torch
from lenet_course.data import load_mnist
from lenet_course.lenet5 import LeNet5
from lenet_course.sdlm_compiled import distances, train_patterns
torch.manual_seed(0)
model, digits = LeNet5(), load_mnist("test")
sizes = {name: torch.full_like(parameter, 1e-4) for name, parameter in model.named_parameters()}
seen = train_patterns(model, digits, torch.arange(500), sizes)
weights = torch.cat([parameter.detach().flatten() for parameter in model.parameters()])
outputs = distances(model, digits.images[:100])
print(seen, hashlib.sha256(weights.numpy().tobytes() + outputs.numpy().tobytes()).hexdigest())
"""


def test_results_do_not_depend_on_the_processor(tmp_path, capsys):
    """Compiled for this processor with all that it can, and for the plainest of its kind: the same to the last bit."""
    exec(TRAIN_AND_PRINT, {})
    here = capsys.readouterr().out
    generic = {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": "", "NUMBA_CACHE_DIR": str(tmp_path)}
    plainest = subprocess.run(
        [sys.executable, "-c", TRAIN_AND_PRINT], env=os.environ | generic, capture_output=True, text=True, check=True
    )
    assert "patterns=500" in here
    assert plainest.stdout == here


# --- a pass ---------------------------------------------------------------------------------------------------------


def one_pass(digits, generator_seed):
    model = network()
    seen = train_pass(model, SDLM(model, eta=1e-4), digits, generator=torch.Generator().manual_seed(generator_seed))
    return model, seen


def test_a_pass_draws_500_for_the_curvature_and_then_the_order(train_digits):
    digits = train_digits[:700]
    model, seen = one_pass(digits, 3)
    generator = torch.Generator().manual_seed(3)
    sample, order = torch.randperm(700, generator=generator)[:500], torch.randperm(700, generator=generator)
    by_hand = network()
    optimizer = SDLM(by_hand, eta=1e-4)
    optimizer.estimate(by_hand.prepare(digits.images[sample]))
    assert train_patterns(by_hand, digits, order, optimizer.step_sizes()) == seen
    assert_same_weights(model, by_hand, rtol=0, atol=0)
    assert seen.patterns == 700 and 0 < seen.error < 1


@pytest.mark.parametrize(
    ("given", "loss"),
    [({"j": 3.0}, lambda outputs, labels: map_loss(outputs, labels, j=3.0)), ({"loss": "mse"}, mse_loss)],
    ids=["eq. (9), j = 3", "eq. (8)"],
)
def test_a_pass_is_the_loop_with_the_optimizer(train_digits, given, loss):
    """Fewer digits than the curvature takes: it is estimated on all of them, in the order in which they are drawn."""
    digits, plain, compiled, told = train_digits[:60], network(2), network(2), []
    optimizer = SDLM(compiled, eta=2e-4)
    generator = torch.Generator().manual_seed(7)
    seen = train_pass(compiled, optimizer, digits, generator=generator, after_call=told.append, **given)
    assert told == [60]

    generator = torch.Generator().manual_seed(7)
    by_hand = SDLM(plain, eta=2e-4)
    by_hand.estimate(plain.prepare(digits.images[torch.randperm(60, generator=generator)]))
    total, wrong = 0.0, 0
    for number in torch.randperm(60, generator=generator):
        outputs, label = plain(plain.prepare(digits.images[number : number + 1])), digits.labels[number : number + 1]
        of_pattern = loss(outputs, label)
        by_hand.zero_grad()
        of_pattern.backward()
        by_hand.step()
        total, wrong = total + of_pattern.item(), wrong + int(outputs.argmin() != label)
    assert_same_weights(compiled, plain, rtol=1e-5, atol=1e-6)
    assert seen.loss == pytest.approx(total / 60, rel=1e-5) and seen.wrong == wrong


def test_a_pass_depends_on_its_generator_only(train_digits):
    digits = train_digits[:100]  # fewer than the curvature would take
    assert one_pass(digits, 1)[1] == one_pass(digits, 1)[1]
    assert one_pass(digits, 1)[1] != one_pass(digits, 2)[1]


def test_a_pass_may_stop_early(train_digits):
    digits = train_digits[:700]
    whole, part = network(), network()
    optimizers = [SDLM(model, eta=1e-4) for model in (whole, part)]
    train_pass(whole, optimizers[0], digits, generator=torch.Generator().manual_seed(3))
    seen = train_pass(part, optimizers[1], digits, generator=torch.Generator().manual_seed(3), patterns=50)
    assert seen.patterns == 50 and not torch.equal(part.f6.weight, whole.f6.weight)
    by_hand, generator = network(), torch.Generator().manual_seed(3)
    torch.randperm(700, generator=generator)
    order = torch.randperm(700, generator=generator)[:50]
    train_patterns(by_hand, digits, order, optimizers[1].step_sizes())
    assert_same_weights(part, by_hand, rtol=0, atol=0)


def test_progress_is_told_every_2000_patterns_and_at_the_end(train_digits, sizes):
    told = []
    train_patterns(network(), train_digits, torch.arange(4_500), sizes, after_call=told.append)
    assert told == [2_000, 4_000, 4_500]
    told.clear()
    train_patterns(network(), train_digits, torch.arange(2_000), sizes, after_call=told.append)
    assert told == [2_000]


def test_calls_of_2000_are_seams_that_leave_no_trace(train_digits, sizes, monkeypatch):
    one, other = network(), network()
    whole = train_patterns(one, train_digits, torch.arange(300), sizes)
    monkeypatch.setattr(sdlm_compiled, "PATTERNS_A_CALL", 70)
    parts = train_patterns(other, train_digits, torch.arange(300), sizes)
    assert_same_weights(one, other, rtol=0, atol=0)
    assert (parts.wrong, parts.patterns) == (whole.wrong, 300)
    assert parts.loss == pytest.approx(whole.loss, rel=1e-12)


def test_it_trains_in_place_and_autograd_goes_on_from_there(train_digits, sizes):
    model = network()
    addresses = [parameter.data_ptr() for parameter in model.parameters()]
    sizes_before = {name: size.clone() for name, size in sizes.items()}
    train_patterns(model, train_digits, torch.arange(10), sizes)
    assert [parameter.data_ptr() for parameter in model.parameters()] == addresses
    assert all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())
    assert all(torch.equal(size, sizes_before[name]) for name, size in sizes.items())
    torch.testing.assert_close(model.output.codes, read_codes(), rtol=0, atol=0)
    model.loss(model(model.prepare(train_digits.images[:2])), train_digits.labels[:2]).backward()


def test_stopped_it_keeps_what_was_done(train_digits, sizes):
    def stop(count):
        raise KeyboardInterrupt

    stopped, short = network(), network()
    with pytest.raises(KeyboardInterrupt):
        train_patterns(stopped, train_digits, torch.arange(4_500), sizes, after_call=stop)
    train_patterns(short, train_digits, torch.arange(2_000), sizes)
    assert_same_weights(stopped, short, rtol=0, atol=0)


def test_tensors_that_do_not_lie_in_one_piece(train_digits, sizes):
    apart = Digits(train_digits.images[:20].transpose(1, 2)[::2], train_digits.labels[:20:2])
    together = Digits(apart.images.contiguous(), apart.labels.contiguous())
    order = torch.arange(10)[::3]
    assert not apart.images.is_contiguous() and not apart.labels.is_contiguous() and not order.is_contiguous()
    one, other = network(), network()
    compilations = len(sdlm_compiled._train.signatures)
    train_patterns(one, apart, order, sizes)
    train_patterns(other, together, torch.tensor([0, 3, 6, 9]), sizes)
    assert_same_weights(one, other, rtol=0, atol=0)
    assert torch.equal(distances(one, apart.images), distances(one, together.images))
    assert len(sdlm_compiled._train.signatures) == max(compilations, 1)  # 12 s each


def test_a_whole_number_for_j_is_not_compiled_anew(train_digits, sizes, monkeypatch):
    types = []

    def record(*arguments):
        types.append([numba.typeof(argument) for argument in arguments])
        return 0, 0.0

    monkeypatch.setattr(sdlm_compiled, "_train", record)
    train_patterns(network(), train_digits, torch.arange(5), sizes, j=1.0)
    train_patterns(network(), train_digits, torch.arange(5), sizes, j=1)
    assert types[0] == types[1]


# --- bad input ------------------------------------------------------------------------------------------------------


def train(digits, sizes, model=None, order=None, **given):
    return train_patterns(model or network(), digits, torch.arange(5) if order is None else order, sizes, **given)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda digits, sizes: train(digits, sizes, model=LeNet()), "Only LeNet5 is compiled; got LeNet.*with fit"),
        (
            lambda digits, sizes: train(digits, sizes, model=network().double()),
            "torch.float64 on cpu; compiled training",
        ),
        (
            lambda digits, sizes: train(digits, sizes, model=network().to(memory_format=torch.channels_last)),
            "memory_format=torch.contiguous_format",
        ),
        (lambda digits, sizes: train(digits, sizes, model=network().to("meta")), "on meta; compiled training"),
        (lambda digits, sizes: train(digits, {}), "needs a tensor .* for c1.weight; got None. SDLM.step_sizes"),
        (lambda digits, sizes: train(digits, {**sizes, "f6.bias": torch.ones(83)}), r"\(84,\) for f6.bias; got"),
        (
            lambda digits, sizes: train(digits, {**sizes, "f6.bias": torch.ones(84).double()}),
            "f6.bias is torch.float64",
        ),
        (
            lambda digits, sizes: train(digits, sizes, order=torch.tensor([0, len(digits)])),
            "from 0 to 60000, but there are",
        ),
        (
            lambda digits, sizes: train(digits, {**sizes, "c1.bias": torch.ones(12)[::2]}),
            "c1.bias is .*in the default layout",
        ),
        (lambda digits, sizes: train(digits, sizes, order=torch.tensor([-1])), "from -1 to -1"),
        (lambda digits, sizes: train(digits, sizes, order=torch.arange(5).int()), "got .* torch.int32"),
        (
            lambda digits, sizes: train(digits, sizes, order=torch.tensor([0.0])),
            "int64, N from 1; got .* torch.float32",
        ),
        (lambda digits, sizes: train(digits, sizes, order=torch.tensor([[0]])), r"got \(1, 1\)"),
        (lambda digits, sizes: train(digits, sizes, order=torch.arange(0)), r"got \(0,\)"),
        (lambda digits, sizes: train(digits, sizes, loss="hinge"), "eq. 8.; got 'hinge'"),
        (lambda digits, sizes: train(digits, sizes, j=0), "j must be above 0"),
        (lambda digits, sizes: train(digits, sizes, j=-1.0), "j must be above 0"),
        (lambda digits, sizes: train(digits, sizes, j=float("nan")), "j must be above 0 .*; got nan"),
        (
            lambda digits, sizes: train(Digits(digits.images[:9, :20], digits.labels[:9]), sizes),
            r"raw digits, \(N, 28, 28\) uint8 on the CPU; got \(\d, 20, 28\) uint8",
        ),
        (lambda digits, sizes: train(Digits(digits.images[:9], digits.labels[:9] + 5), sizes), "labels must be 0 to 9"),
        (lambda digits, sizes: train(Digits(digits.images[:9], digits.labels[:9] - 2), sizes), "labels must .*; got -"),
        (
            lambda digits, sizes: train_pass(network(), SDLM(network()), digits[:0], generator=torch.Generator()),
            "there are none",
        ),
        (lambda digits, sizes: distances(LeNet(), digits.images[:3]), "Only LeNet5 is compiled; got LeNet"),
        (lambda digits, sizes: distances(network(), digits.images[:3].float()), r"got \(3, 28, 28\) float32"),
        (lambda digits, sizes: distances(network(), digits.images[0]), r"got \(28, 28\) uint8"),
        (
            lambda digits, sizes: distances(network(), digits.images[:3, :20]),
            r"raw digits, \(N, 28, 28\) uint8 on the CPU; got \(\d, 20, 28\) uint8",
        ),
    ],
)
def test_bad_input_is_answered_in_words(train_digits, sizes, change, complaint):
    with pytest.raises(ValueError, match=complaint):
        change(train_digits, sizes)


# Tables with 60 connections or more: with fewer, a network that slips through would be read beyond the end of its weights.
@pytest.mark.parametrize(
    "table", ["\n".join(reversed(TABLE_1.strip().splitlines())), "\n".join(["X " * 16] * 6)], ids=["other", "dense"]
)
def test_a_network_with_another_table_is_refused(train_digits, sizes, table):
    model = network()
    model.c3 = TableConv2d(table, kernel_size=5)
    before = model.f6.weight.detach().clone()
    for use in (lambda: distances(model, train_digits.images[:1]), lambda: train(train_digits, sizes, model=model)):
        with pytest.raises(ValueError, match="Only LeNet5 with Table I"):
            use()
    assert torch.equal(model.f6.weight, before)


@pytest.mark.parametrize(
    "layers",
    [
        {"c3": nn.Conv2d(6, 16, 5)},
        {"f6": nn.Linear(120, 84, bias=False)},
        {"c5": nn.Conv2d(16, 100, 5), "f6": nn.Linear(100, 84)},
    ],
    ids=["C3 dense", "F6 without bias", "C5 with 100 maps"],
)
def test_a_network_with_other_layers_is_refused_in_words(train_digits, layers):
    model = network()
    for name, layer in layers.items():
        setattr(model, name, layer)
    with pytest.raises(ValueError, match="Only LeNet5"):
        distances(model, train_digits.images[:1])


def test_weights_that_run_away_are_said(train_digits, sizes):
    huge = {name: torch.full_like(size, 1e38) for name, size in sizes.items()}
    with pytest.raises(
        ArithmeticError, match=r"After 2,000 patterns a weight is no longer a finite number.*smaller eta"
    ):
        train(train_digits, huge, order=torch.arange(3_000))
    with pytest.raises(ArithmeticError, match="After 1 patterns"):
        train(train_digits, {**sizes, "s2.bias": torch.full((6,), float("nan"))}, order=torch.arange(1))
