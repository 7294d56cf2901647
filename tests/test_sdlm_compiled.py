"""The compiled training method: the same numbers as plain PyTorch, in the same order, on any thread; bad input."""

import copy
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lenet_course.data import Digits
from lenet_course.lenet import LeNet
from lenet_course.lenet5 import LeNet5, map_loss, mse_loss, squash
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
    assert (seen.wrong, seen.patterns) == (wrong, 100)
    assert seen.loss == pytest.approx(mean, rel=1e-5)
    assert seen.error == wrong / 100


@given(
    seed=st.integers(0, 1000), label=st.integers(0, 9), spread=st.sampled_from([0.3, 1.0, 3.0]), j=st.floats(0.01, 200)
)
@settings(max_examples=25, deadline=None)
def test_a_single_update_is_the_step_size_times_the_gradient(seed, label, spread, j):
    """Also where weights are large and most units saturate."""
    model = network(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter *= spread
    image = torch.randint(0, 256, (1, 28, 28), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)
    digits = Digits(image, torch.tensor([label]))
    before = copy.deepcopy(model)
    map_loss(before(before.prepare(image)), digits.labels, j=j).backward()
    sizes = {name: torch.full_like(parameter, 0.5) for name, parameter in model.named_parameters()}
    train_patterns(model, digits, torch.tensor([0]), sizes, j=j)
    for name, parameter in before.named_parameters():
        change = (parameter - model.get_parameter(name)).detach()
        scale = float(parameter.grad.abs().max())
        torch.testing.assert_close(change, 0.5 * parameter.grad, rtol=1e-3, atol=1e-4 * scale + 1e-6, msg=name)


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


def test_results_do_not_depend_on_the_processor(tmp_path):
    """Compiled for this processor with all that it can, and for the plainest of its kind: the same to the last bit."""
    outputs = [
        subprocess.run(
            [sys.executable, "-c", TRAIN_AND_PRINT], env=environment, capture_output=True, text=True, check=True
        ).stdout
        for environment in (
            dict(os.environ),
            {**os.environ, "NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": "", "NUMBA_CACHE_DIR": str(tmp_path)},
        )
    ]
    assert "patterns=500" in outputs[0]
    assert outputs[0] == outputs[1]


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


def test_a_pass_depends_on_its_generator_only(train_digits):
    digits = train_digits[:100]  # fewer than the curvature would take
    assert one_pass(digits, 1)[1] == one_pass(digits, 1)[1]
    assert one_pass(digits, 1)[1] != one_pass(digits, 2)[1]


def test_progress_is_told_every_2000_patterns_and_at_the_end(train_digits, sizes):
    told = []
    train_patterns(network(), train_digits, torch.arange(4_500), sizes, after_call=told.append)
    assert told == [2_000, 4_000, 4_500]


def test_stopped_it_keeps_what_was_done(train_digits, sizes):
    def stop(count):
        raise KeyboardInterrupt

    stopped, short = network(), network()
    with pytest.raises(KeyboardInterrupt):
        train_patterns(stopped, train_digits, torch.arange(4_500), sizes, after_call=stop)
    train_patterns(short, train_digits, torch.arange(2_000), sizes)
    assert_same_weights(stopped, short, rtol=0, atol=0)


def test_images_that_do_not_lie_in_one_piece(train_digits, sizes):
    apart = Digits(train_digits.images[:20].transpose(1, 2)[::2], train_digits.labels[:20:2])
    together = Digits(apart.images.contiguous(), apart.labels.contiguous())
    assert not apart.images.is_contiguous()
    one, other = network(), network()
    train_patterns(one, apart, torch.arange(10), sizes)
    train_patterns(other, together, torch.arange(10), sizes)
    assert_same_weights(one, other, rtol=0, atol=0)
    assert torch.equal(distances(one, apart.images), distances(one, together.images))


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
        (lambda digits, sizes: train(digits, sizes, order=torch.tensor([-1])), "from -1 to -1"),
        (
            lambda digits, sizes: train(digits, sizes, order=torch.tensor([0.0])),
            "int64, N from 1; got .* torch.float32",
        ),
        (lambda digits, sizes: train(digits, sizes, order=torch.tensor([[0]])), r"got \(1, 1\)"),
        (lambda digits, sizes: train(digits, sizes, order=torch.arange(0)), r"got \(0,\)"),
        (lambda digits, sizes: train(digits, sizes, loss="hinge"), "eq. 8.; got 'hinge'"),
        (lambda digits, sizes: train(digits, sizes, j=0), "j must be above 0"),
        (
            lambda digits, sizes: train(Digits(digits.images[:9, :20], digits.labels[:9]), sizes),
            r"raw digits, \(N, 28, 28\) uint8 on the CPU; got \(\d, 20, 28\) uint8",
        ),
        (lambda digits, sizes: train(Digits(digits.images[:9], digits.labels[:9] + 5), sizes), "labels must be 0 to 9"),
        (
            lambda digits, sizes: distances(network(), digits.images[:3, :20]),
            r"raw digits, \(N, 28, 28\) uint8 on the CPU; got \(\d, 20, 28\) uint8",
        ),
    ],
)
def test_bad_input_is_answered_in_words(train_digits, sizes, change, complaint):
    with pytest.raises(ValueError, match=complaint):
        change(train_digits, sizes)


def test_weights_that_run_away_are_said(train_digits, sizes):
    huge = {name: torch.full_like(size, 1e38) for name, size in sizes.items()}
    with pytest.raises(
        ArithmeticError, match=r"After 2,000 patterns a weight is no longer a finite number.*smaller eta"
    ):
        train(train_digits, huge, order=torch.arange(3_000))
