"""The comparison of LeNet-5 with its variants: rows, the search for a rate, runs, tables, differences, the command."""

import math
import os
import signal
import statistics
import tempfile
import threading
from concurrent.futures import Future
from functools import partial
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lenet_course import sdlm_compiled
from lenet_course.arithmetic import count_parameters
from lenet_course.comparison import __main__ as command
from lenet_course.comparison import differences, live, runs, tables
from lenet_course.comparison.differences import Comparison, Difference, paired_difference, read_comparison
from lenet_course.comparison.rows import LADDER, REFERENCE, ROWS, Row
from lenet_course.comparison.runs import (
    CHOICE_SEEDS,
    ETAS,
    LEARNED_NOTHING,
    PASSES,
    SEEDS,
    WIDE,
    Result,
    Run,
    chosen_rate,
    finished,
    next_runs,
    read_result,
    run,
    steps_of,
    train_row,
)
from lenet_course.data import load_mnist
from lenet_course.lenet import LeNet
from lenet_course.lenet5 import LeNet5, map_loss
from lenet_course.reproduce import tables as csv_tables
from lenet_course.reproduce.distortions import DISTORTION, with_distorted_copies
from lenet_course.sdlm import SDLM
from lenet_course.variants import PARTS, RETELLINGS, Variant, check_parts

error_on = runs.test_error  # by another name: pytest would take it for a test

# A row of each kind: by batches, with AdamW, with distorted digits, digit by digit in two ways, and the other network.
KINDS = (
    REFERENCE,
    "AdamW",
    "distorted digits",
    "1998, a step for each weight",
    "1998, one step for all",
    "20-50-500-10, Caffe's",
)
GOOD_RATE = {"1998, a step for each weight": 0.3, "20-50-500-10, Caffe's": 0.01, "linear, cross-entropy": 0.1}


def rate_of(row):
    return GOOD_RATE.get(row, 0.001)


@pytest.fixture(autouse=True)
def _threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def small_mnist(monkeypatch, train_digits):
    """300 digits to train on, 100 held out, 200 to test: runs take a moment."""
    splits = {"train": train_digits[:400], "test": load_mnist("test")[:200]}
    monkeypatch.setattr(runs, "HELD_OUT", 100)
    for module in (runs, tables, live):
        monkeypatch.setattr(module, "load_mnist", splits.get)
    return splits


def weights_in(path):
    return safetensors.torch.load_file(path)


def vector(model):
    return torch.cat([own.detach().flatten() for own in model.parameters()])


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


# --- rows -----------------------------------------------------------------------------------------------------------

WHAT = {
    "Table I": ("c3",),
    "subsampling": ("subsampling",),
    "squashing": ("squashing",),
    "output": ("output",),
    "input": ("input",),
    "first weights": ("weights",),
}


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_a_row_exchanges_what_it_says_and_nothing_else(row):
    reference = ROWS[REFERENCE]
    assert ROWS[row.name] is row and (row.exchanged == "") == (row is reference)
    if row.network == "Variant":
        check_parts(row.parts)
        assert all(choice != PARTS[part][0] for part, choice in row.parts.items())
    if row.exchanged in WHAT:
        assert tuple(row.parts) == WHAT[row.exchanged]
    elif row.exchanged == "several":
        assert row.parts == RETELLINGS[row.name]
    elif row.exchanged != "all":
        assert row.parts == {}
    assert (row.method != reference.method) == (row.exchanged == "training")
    assert row.distorted == (row.exchanged == "digits")
    assert (row.network != "Variant") == (row.exchanged == "all")


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_a_search_begins_with_three_neighbours_of_the_ladder(row):
    place = LADDER.index(row.first_rates[0])
    assert row.first_rates == LADDER[place : place + 3]


def test_the_ladder_goes_up_in_even_steps():
    steps = [math.log10(high / low) for low, high in pairwise(LADDER)]
    assert min(steps) > 0.45 and max(steps) < 0.55
    assert set(WIDE) < set(LADDER) and list(WIDE) == sorted(WIDE)


@pytest.mark.parametrize(
    ("name", "network", "parameters"),
    [
        (REFERENCE, Variant, 60_000),
        ("C3 dense", Variant, 60_900),
        ("max pooling", Variant, 59_956),
        ("linear, cross-entropy", Variant, 60_850),
        ("1998, a step for each weight", LeNet5, 60_000),
        ("1998, one step for all", LeNet5, 60_000),
        ("AdamW", Variant, 60_000),
        ("d2l", Variant, 61_706),
        ("20-50-500-10, three ReLUs", LeNet, 431_080),
        ("20-50-500-10, Caffe's", LeNet, 431_080),
    ],
)
def test_a_row_builds_its_network(name, network, parameters):
    model = ROWS[name].build()
    assert type(model) is network and count_parameters(model) == parameters
    if network is Variant:
        assert model.parts == Variant(**ROWS[name].parts).parts


def test_the_two_networks_of_caffe_differ_in_their_relus():
    plain, three = ROWS["20-50-500-10, Caffe's"].build(), ROWS["20-50-500-10, three ReLUs"].build()
    three.load_state_dict(plain.state_dict())
    images = torch.rand(2, 1, 28, 28)
    for model, relu_after_conv in ((plain, False), (three, True)):
        other = LeNet(relu_after_conv=relu_after_conv)
        other.load_state_dict(plain.state_dict())
        assert torch.equal(model(images), other(images))
    assert not torch.allclose(plain(images), three(images))


def test_a_seed_gives_the_methods_of_1998_the_first_weights_of_the_reference():
    states = []
    for name in (REFERENCE, "AdamW", "1998, a step for each weight", "1998, one step for all"):
        torch.manual_seed(4)
        states.append(ROWS[name].build().state_dict())
    assert all(same(states[0], other) for other in states[1:])


# --- the search for a rate ------------------------------------------------------------------------------------------

ROW = Row("row", "", first_rates=(0.003, 0.01, 0.03))


def outcome(error):
    return Result(error, 1.0, diverged=error == 1)


def search(row, error_of, results=()):
    """Do what is asked for until nothing is; return all results, and what was asked for each time."""
    results, asked = dict(results), []
    while wanted := next_runs(row, results):
        assert len(asked) < 20, "the search does not end"
        assert len(set(wanted)) == len(wanted) and not set(wanted) & set(results)
        asked.append(wanted)
        results |= {one: outcome(error_of(one)) for one in wanted}
    return results, asked


def rates(asked):
    return [sorted({one.rate for one in wanted}) for wanted in asked]


def test_it_starts_with_three_rates_and_three_seeds():
    wanted = next_runs(ROW, {})
    assert set(wanted) == {Run("row", rate, seed) for rate in (0.003, 0.01, 0.03) for seed in range(3)}
    assert len(wanted) == 9 and chosen_rate(ROW, {}) is None


def test_the_best_in_the_middle_is_chosen_and_gets_the_other_seeds():
    results, asked = search(ROW, _falling_to(0.01))
    assert rates(asked) == [[0.003, 0.01, 0.03], [0.01]]
    assert asked[1] == [Run("row", 0.01, seed) for seed in range(3, 10)]
    assert chosen_rate(ROW, results) == 0.01


def test_it_goes_on_while_the_best_is_at_the_edge():
    results, asked = search(ROW, _falling_to(0.3))
    assert rates(asked) == [[0.003, 0.01, 0.03], [0.1], [0.3], [1.0], [0.3]]
    assert [len(wanted) for wanted in asked] == [9, 3, 3, 3, 7]
    assert chosen_rate(ROW, results) == 0.3
    results, asked = search(ROW, _falling_to(0.0003))
    assert rates(asked) == [[0.003, 0.01, 0.03], [0.001], [0.0003], [0.0001], [0.0003]]
    assert chosen_rate(ROW, results) == 0.0003


def _falling_to(best):
    """Errors that fall towards one rate of the ladder from both sides."""
    return lambda one: 0.01 + 0.02 * abs(LADDER.index(one.rate) - LADDER.index(best))


@pytest.mark.parametrize("end", [LADDER[0], LADDER[-1]])
def test_at_an_end_of_the_ladder_one_neighbour_is_enough(end):
    results, _ = search(ROW, _falling_to(end))
    assert chosen_rate(ROW, results) == end
    assert sum(one.rate == end for one in results) == SEEDS


def test_of_equal_rates_the_largest():
    flat = {0.003: 0.1, 0.01: 0.1, 0.03: 0.2}
    results, asked = search(ROW, lambda one: flat.get(one.rate, 0.3))
    assert chosen_rate(ROW, results) == 0.01 and rates(asked) == [[0.003, 0.01, 0.03], [0.01]]


def test_a_rate_is_judged_by_the_mean_of_its_first_three_seeds():
    errors = {0.003: (0.3, 0.3, 0.3), 0.01: (0.1, 0.1, 0.4), 0.03: (0.19, 0.19, 0.19)}
    results = {Run("row", rate, seed): outcome(error) for rate, own in errors.items() for seed, error in enumerate(own)}
    results |= {Run("row", 0.1, seed): outcome(0.3) for seed in range(3)}
    assert chosen_rate(ROW, results) == 0.03
    results |= {Run("row", 0.01, seed): outcome(0.0) for seed in range(3, 10)}  # later seeds choose nothing
    assert chosen_rate(ROW, results) == 0.03


def test_one_seed_that_ran_away_counts_as_all_wrong():
    errors = {0.003: (0.2, 0.2, 0.2), 0.01: (0.01, 0.01, 1.0), 0.03: (0.3, 0.3, 0.3)}
    results, _ = search(ROW, lambda one: errors.get(one.rate, (0.4,) * 10)[one.seed] if one.seed < 3 else 0.1)
    assert chosen_rate(ROW, results) == 0.003


def test_rates_that_ran_away_are_left_behind():
    results, asked = search(ROW, lambda one: 1.0 if one.rate >= 0.01 else 0.1 if one.rate == 0.003 else 0.2)
    assert chosen_rate(ROW, results) == 0.003
    assert rates(asked) == [[0.003, 0.01, 0.03], [0.001], [0.003]]


def test_a_network_that_has_learned_nothing_is_tried_with_all_of_the_wide_range():
    results, asked = search(ROW, lambda one: 0.1 if one.rate == 3.0 else 0.9)
    assert LEARNED_NOTHING < 0.9 and set(WIDE) <= {one.rate for one in results}
    assert rates(asked)[1] == [rate for rate in WIDE if rate not in ROW.first_rates]
    assert chosen_rate(ROW, results) == 3.0


@pytest.mark.parametrize("error", [0.9, 1.0])
def test_the_search_ends_where_no_rate_teaches_anything(error):
    results, _ = search(ROW, lambda one: error)
    assert chosen_rate(ROW, results) in WIDE
    assert sum(one.rate == chosen_rate(ROW, results) for one in results) == SEEDS


def test_another_rows_results_do_not_count():
    results, _ = search(Row("other", ""), _falling_to(0.01))
    assert next_runs(ROW, results) == next_runs(ROW, {}) and chosen_rate(ROW, results) is None


def test_a_run_that_was_killed_is_asked_for_again():
    results, _ = search(ROW, _falling_to(0.01))
    for lost in results:
        rest = {one: result for one, result in results.items() if one != lost}
        assert search(ROW, _falling_to(0.01), rest)[0] == results
    for lost in (Run("row", 0.01, 0), Run("row", 0.01, 9), Run("row", 0.03, 2)):
        assert next_runs(ROW, {one: result for one, result in results.items() if one != lost}) == [lost]


@pytest.mark.parametrize("seeds", [1, 2, 3, 5])
def test_fewer_seeds_still_choose_with_three(seeds):
    results, rate = {}, 0.01
    while wanted := next_runs(ROW, results, seeds=seeds):
        results |= {one: outcome(_falling_to(rate)(one)) for one in wanted}
    assert chosen_rate(ROW, results) == rate
    assert sum(one.rate == rate for one in results) == max(seeds, CHOICE_SEEDS)


ERRORS = st.lists(st.sampled_from([0.0, 0.01, 0.02, 0.05, 0.3, 0.6, 0.9, 1.0]), min_size=13, max_size=13)
FIRST = st.integers(0, len(LADDER) - 3)


@settings(max_examples=150, deadline=None)
@given(errors=ERRORS, first=FIRST)
@example(errors=[0.9] * 13, first=0)
@example(errors=[1.0] * 13, first=10)
@example(errors=[0.01] * 13, first=5)
def test_whatever_the_errors_the_search_ends_with_a_rate_that_no_neighbour_beats(errors, first):
    row = Row("row", "", first_rates=LADDER[first : first + 3])
    results, _ = search(row, lambda one: errors[LADDER.index(one.rate)])
    place, tried = LADDER.index(chosen_rate(row, results)), {LADDER.index(one.rate) for one in results}
    assert set(range(first, first + 3)) <= tried
    assert all(errors[place] <= errors[other] for other in tried)
    if errors[place] <= LEARNED_NOTHING:
        assert {max(place - 1, 0), min(place + 1, 12)} <= tried
    for other in tried:
        seeds = sorted(one.seed for one in results if one.rate == LADDER[other])
        assert seeds == list(range(SEEDS if other == place else CHOICE_SEEDS))


@settings(max_examples=100, deadline=None)
@given(errors=ERRORS.map(lambda errors: [error / 2 for error in errors]), first=FIRST, data=st.data())
def test_stopped_anywhere_it_goes_on_to_the_same_end(errors, first, data):
    row = Row("row", "", first_rates=LADDER[first : first + 3])

    def error_of(one):
        return errors[LADDER.index(one.rate)]

    whole, asked = search(row, error_of)
    number = data.draw(st.integers(0, len(asked) - 1))
    done = [one for wanted in asked[:number] for one in wanted]
    done += data.draw(st.lists(st.sampled_from(asked[number]), unique=True))  # of the runs under way, these had ended
    assert search(row, error_of, {one: whole[one] for one in done})[0] == whole


def test_every_run_has_a_file_name_of_its_own():
    names = [Run(row, rate, seed).file_name for row in ROWS for rate in LADDER for seed in range(SEEDS)]
    assert len(set(names)) == len(ROWS) * len(LADDER) * SEEDS
    assert all(name == name.strip() and not set(name) & set(' /\\:*?"<>|,') for name in names)


# --- training a row -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("digits", [1, 64, 65, 150])
def test_as_many_steps_as_promised_are_made_and_told(train_digits, name, digits):
    row, told = ROWS[name], []
    torch.manual_seed(0)
    train_row(row, row.build(), train_digits[:digits], rate_of(name), torch.Generator().manual_seed(0), told.append)
    assert sum(told) == steps_of(row, digits) and min(told) > 0


@pytest.mark.parametrize("name", ["1998, a step for each weight", "1998, one step for all"])
def test_the_methods_of_1998_tell_every_2000_patterns(train_digits, name):
    told = []
    torch.manual_seed(0)
    train_row(ROWS[name], LeNet5(), train_digits[:2300], rate_of(name), torch.Generator().manual_seed(0), told.append)
    assert told == [2000, 300] * PASSES and sum(told) == steps_of(ROWS[name], 2300)


@settings(deadline=None)
@given(digits=st.integers(1, 60_000))
def test_every_row_looks_at_three_times_as_many_digits_as_there_are(digits):
    for row in ROWS.values():
        steps, rest = steps_of(row, digits), PASSES * digits / row.batch_size
        assert rest <= steps < rest + PASSES
        assert steps == PASSES * digits or not row.pattern_by_pattern


def one_cycle_by_hand(model, digits, optimizer, rate, epochs, generator):
    steps = epochs * math.ceil(len(digits) / 64)
    cycle = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=rate, total_steps=steps, pct_start=0.15, cycle_momentum=False
    )
    for _ in range(epochs):
        for batch in torch.randperm(len(digits), generator=generator).split(64):
            optimizer.zero_grad()
            model.loss(model(model.prepare(digits.images[batch])), digits.labels[batch]).backward()
            optimizer.step()
            cycle.step()


@pytest.mark.parametrize("name", ["C3 dense", "AdamW", "distorted digits"])
def test_a_row_by_batches_is_trained_as_this_loop_does(train_digits, name):
    """Three passes with momentum 0.9, or AdamW; distorted digits: one pass over the digits and two copies of each."""
    row, digits, rate = ROWS[name], train_digits[:150], 0.003
    torch.manual_seed(1)
    mine = row.build()
    torch.manual_seed(1)
    other = row.build()
    train_row(row, mine, digits, rate, torch.Generator().manual_seed(5))

    generator, epochs = torch.Generator().manual_seed(5), 3
    if name == "distorted digits":
        digits, epochs = with_distorted_copies(digits, 2, DISTORTION, generator), 1
    if name == "AdamW":
        optimizer = torch.optim.AdamW(other.parameters(), lr=rate, weight_decay=0.01)
    else:
        optimizer = torch.optim.SGD(other.parameters(), lr=rate, momentum=0.9)
    first = vector(other)
    one_cycle_by_hand(other, digits, optimizer, rate, epochs, generator)
    mine, other = (vector(model) for model in (mine, other))
    torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-5)
    assert (mine - first).abs().max() > 1e-3


@pytest.mark.parametrize("name", ["1998, a step for each weight", "1998, one step for all"])
def test_a_row_digit_by_digit_is_trained_as_this_loop_does(train_digits, name):
    """Passes with the first, the middle and the last eta of the paper; "one step" keeps their proportions."""
    row, digits, rate = ROWS[name], train_digits[:12], 0.3 if "each" in name else 0.003
    torch.manual_seed(1)
    mine = row.build()
    torch.manual_seed(1)
    other = LeNet5()
    first = vector(other)
    train_row(row, mine, digits, rate, torch.Generator().manual_seed(5))

    generator, own = torch.Generator().manual_seed(5), SDLM(other)
    plain = torch.optim.SGD(other.parameters(), lr=rate)
    for eta in (0.0005, 0.0001, 0.00001):
        optimizer = plain
        plain.param_groups[0]["lr"] = rate * eta / 0.0005
        if "each" in name:
            optimizer, own.eta = own, rate * eta
            own.estimate(other.prepare(digits.images[torch.randperm(12, generator=generator)]))
        for number in torch.randperm(12, generator=generator).tolist():
            one = digits[number : number + 1]
            optimizer.zero_grad()
            map_loss(other(other.prepare(one.images)), one.labels).backward()
            optimizer.step()
    mine, other = (vector(model) for model in (mine, other))
    torch.testing.assert_close(mine, other, rtol=1e-3, atol=1e-5)
    assert (mine - first).abs().max() > 1e-3
    assert pytest.approx((0.0005, 0.0001, 0.00001)) == ETAS


# --- runs -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", KINDS)
def test_a_run_leaves_weights_and_result_and_is_the_same_to_the_last_bit_each_time(small_mnist, tmp_path, name):
    wanted = Run(name, rate_of(name), 0)
    result, again = (run(wanted, tmp_path / folder, digits=130) for folder in ("one", "other"))
    one, other = (tmp_path / folder / wanted.file_name for folder in ("one", "other"))
    assert same(weights_in(one), weights_in(other)) and result.validation_error == again.validation_error
    assert 0 < result.validation_error < 1 and not result.diverged and result.seconds > 0
    assert read_result(one) == result
    run(Run(name, rate_of(name), 1), tmp_path / "one", digits=130)
    assert not same(weights_in(one), weights_in(one.with_name(Run(name, rate_of(name), 1).file_name)))
    assert not list(tmp_path.rglob("*.part"))


def test_the_validation_error_is_that_of_the_digits_held_out(small_mnist, tmp_path):
    wanted = Run(REFERENCE, 0.003, 0)
    result = run(wanted, tmp_path, digits=300)
    assert result.validation_error == error_on(wanted, tmp_path, small_mnist["train"][-100:])
    model = LeNet5()
    model.load_state_dict(weights_in(tmp_path / wanted.file_name))
    test = small_mnist["test"]
    wrong = model(model.prepare(test.images)).argmin(dim=1) != test.labels
    assert error_on(wanted, tmp_path, test) == int(wrong.sum()) / 200


def test_it_learns(small_mnist, tmp_path):
    assert run(Run("linear, cross-entropy", 0.1, 0), tmp_path, digits=300).validation_error < 0.6


def test_a_run_that_the_folder_has_is_not_done_again(small_mnist, tmp_path, monkeypatch):
    wanted = Run(REFERENCE, 0.003, 0)
    result = run(wanted, tmp_path, digits=70)
    before = (tmp_path / wanted.file_name).read_bytes()
    monkeypatch.setattr(runs, "train_row", None)
    assert run(wanted, tmp_path, digits=70) == result
    assert (tmp_path / wanted.file_name).read_bytes() == before


def test_the_callers_generator_is_left_alone(small_mnist, tmp_path):
    wanted = Run("distorted digits", 0.003, 3)
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    run(wanted, tmp_path, digits=70)
    error_on(wanted, tmp_path, small_mnist["test"])
    assert torch.equal(torch.rand(1), expected)


def test_what_the_caller_drew_before_does_not_matter(small_mnist, tmp_path):
    torch.manual_seed(99)
    one = run(Run(REFERENCE, 0.003, 0), tmp_path / "one", digits=70)
    torch.manual_seed(100)
    other = run(Run(REFERENCE, 0.003, 0), tmp_path / "other", digits=70)
    assert one.validation_error == other.validation_error


def test_held_out_digits_are_not_trained_on(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(runs, "train_row", lambda row, model, digits, *rest: seen.append(digits))
    monkeypatch.setattr(runs, "evaluate", lambda model, digits: seen.append(digits) or SimpleNamespace(error=0.5))
    run(Run(REFERENCE, 0.003, 0), tmp_path)
    train = load_mnist("train")
    assert [len(digits) for digits in seen] == [55_000, 5_000]
    assert torch.equal(seen[0].images, train.images[:55_000]) and torch.equal(seen[1].images, train.images[55_000:])


def test_weights_that_ran_away_are_recorded(small_mnist, tmp_path):
    wanted = Run("20-50-500-10, Caffe's", 1e6, 0)
    result = run(wanted, tmp_path, digits=300)
    assert (result.validation_error, result.diverged) == (1.0, True)
    assert read_result(tmp_path / wanted.file_name) == result
    assert run(wanted, tmp_path, digits=300) == result


@pytest.mark.parametrize("name", ["1998, a step for each weight", "1998, one step for all"])
def test_so_are_those_of_the_methods_of_1998(small_mnist, tmp_path, monkeypatch, name):
    def run_away(*arguments, **settings):
        raise ArithmeticError("too large")

    monkeypatch.setattr(sdlm_compiled, "train_pass", run_away)
    monkeypatch.setattr(sdlm_compiled, "train_patterns", run_away)
    result = run(Run(name, 10.0, 0), tmp_path, digits=300)
    assert (result.validation_error, result.diverged) == (1.0, True)
    assert finished(tmp_path, [name]) == {Run(name, 10.0, 0): result}


def test_a_run_that_is_killed_leaves_nothing(small_mnist, tmp_path):
    def killed(steps):
        raise KeyboardInterrupt

    wanted = Run(REFERENCE, 0.003, 0)
    with pytest.raises(KeyboardInterrupt):
        run(wanted, tmp_path, digits=130, after_steps=killed)
    assert not list(tmp_path.iterdir()) and finished(tmp_path, [REFERENCE]) == {}


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT for one process")
def test_half_a_training_is_not_kept_as_a_run(small_mnist, tmp_path):
    """`fit` ends quietly at Ctrl-C, with the weights of that step."""

    def ctrl_c(steps):
        os.kill(os.getpid(), signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # in the background, a shell may have it ignored
    try:
        with pytest.raises(KeyboardInterrupt):
            run(Run(REFERENCE, 0.003, 0), tmp_path, digits=130, after_steps=ctrl_c)
    finally:
        signal.signal(signal.SIGINT, before)
    assert not list(tmp_path.iterdir())


def test_finished_finds_the_runs_of_the_rows_asked_for(small_mnist, tmp_path):
    made = {
        one: run(one, tmp_path, digits=10)
        for one in (Run(REFERENCE, 0.003, 0), Run(REFERENCE, 10.0, 9), Run("AdamW", 1e-5, 2))
    }
    run(Run(REFERENCE, 0.003, 10), tmp_path, digits=10)  # an eleventh seed is none of the comparison
    (tmp_path / f"{Run(REFERENCE, 0.003, 1).file_name}.77.part").write_bytes(b"half")
    assert finished(tmp_path, list(ROWS)) == made
    assert finished(tmp_path, ["AdamW"]) == {Run("AdamW", 1e-5, 2): made[Run("AdamW", 1e-5, 2)]}
    assert finished(tmp_path, []) == finished(tmp_path / "nowhere", list(ROWS)) == {}


# --- tables ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def small_comparison(small_mnist, tmp_path, monkeypatch):
    """Three rows and three seeds, complete: every run of the chosen rate with its weights."""
    rows = {name: ROWS[name] for name in (REFERENCE, "C3 dense", "20-50-500-10, Caffe's")}
    monkeypatch.setattr(tables, "ROWS", rows)
    monkeypatch.setattr(tables, "SEEDS", 3)
    monkeypatch.setattr(csv_tables, "RESULTS_FOLDER", tmp_path)
    results = {}
    for row in rows.values():
        low, rate, high = row.first_rates
        for seed in range(3):
            results[Run(row.name, rate, seed)] = run(Run(row.name, rate, seed), tmp_path / "runs", digits=20)
            results[Run(row.name, low, seed)] = Result(0.99, 1.0)
            results[Run(row.name, high, seed)] = Result(1.0, 1.0, diverged=True)
    monkeypatch.setattr(runs, "LEARNED_NOTHING", 1.0)  # on twenty digits nobody learns much
    return results


def test_the_tables_of_a_small_comparison(small_comparison, small_mnist, tmp_path):
    paths = tables.write_tables(small_comparison, tmp_path / "runs", tmp_path)
    assert paths == (tmp_path / "variants.csv", tmp_path / "variants_rates.csv")
    lines = csv_tables.read_results("variants")
    assert [(line["row"], line["seed"]) for line in lines] == [
        (name, seed) for name in tables.ROWS for seed in range(3)
    ]
    for line in lines:
        row = ROWS[line["row"]]
        one = Run(row.name, row.first_rates[1], int(line["seed"]))
        assert line["rate"] == one.rate and line["validation_error"] == small_comparison[one].validation_error
        assert line["test_error"] == error_on(one, tmp_path / "runs", small_mnist["test"])
        assert line["exchanged"] == row.exchanged and line["method"] == row.method and line["network"] == row.network
        assert (line["passes"], line["digits"], line["batch_size"]) == (3, 55_000, 64)
        assert line["distorted"] == "False"
        assert {"machine", "torch", "course", "date"} <= line.keys()
    first = {line["row"]: line for line in reversed(lines)}
    assert [int(line["parameters"]) for line in first.values()][::-1] == [60_000, 60_900, 431_080]
    assert first[REFERENCE]["parts"] == "" and first["C3 dense"]["parts"] == "c3=dense"
    assert first["20-50-500-10, Caffe's"]["parts"] == "relu_after_conv=False"

    compared = read_comparison()
    assert list(compared) == list(tables.ROWS)
    assert compared["C3 dense"].errors == tuple(line["test_error"] for line in lines if line["row"] == "C3 dense")


def test_the_table_of_rates_has_every_run_and_no_number_where_weights_ran_away(small_comparison, tmp_path):
    tables.write_rates(small_comparison, tmp_path / "variants_rates.csv")
    lines = csv_tables.read_results("variants_rates")
    found = {Run(line["row"], line["rate"], int(line["seed"])): line["validation_error"] for line in lines}
    assert found == {
        one: "" if result.diverged else result.validation_error for one, result in small_comparison.items()
    }
    order = [(list(ROWS).index(line["row"]), line["rate"], line["seed"]) for line in lines]
    assert order == sorted(order) and len(lines) == 27


@pytest.mark.parametrize("missing", [("C3 dense", 0, 1), ("C3 dense", 1, 2), (REFERENCE, 2, 0)])
def test_a_row_that_is_not_complete_is_named_and_no_table_written(small_comparison, tmp_path, missing):
    row, place, seed = missing
    del small_comparison[Run(row, ROWS[row].first_rates[place], seed)]
    with pytest.raises(ValueError, match=f"The row '{row}' is not complete. `python -m lenet_course.comparison`"):
        tables.write_tables(small_comparison, tmp_path / "runs", tmp_path)
    assert not list(tmp_path.glob("*.csv"))


def test_a_seed_that_is_missing_from_the_chosen_rate_is_noticed(small_comparison, tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "SEEDS", 4)
    with pytest.raises(ValueError, match="The row 'LeNet-5' is not complete"):
        tables.write_tables(small_comparison, tmp_path / "runs", tmp_path)


# --- differences ----------------------------------------------------------------------------------------------------


def test_a_difference_worked_out_by_hand():
    """Differences 1, 3, 2, 2: mean 2, standard deviation sqrt(2/3), and t = 3.182 with three degrees of freedom."""
    found = paired_difference([11, 23, 32, 42], [10, 20, 30, 40])
    half = 3.182 * math.sqrt(2 / 3) / 2
    assert found.mean == 2 and found.low == pytest.approx(2 - half) and found.high == pytest.approx(2 + half)


PAIRS = st.lists(st.tuples(st.floats(-1, 1), st.floats(-1, 1)), min_size=2, max_size=31)


def close(found, mean, low, high):
    return (found.mean, found.low, found.high) == pytest.approx((mean, low, high), abs=1e-9)


@settings(max_examples=100, deadline=None)
@given(pairs=PAIRS)
def test_the_interval_is_that_of_a_paired_t_test(pairs):
    values, reference = np.array(pairs).T
    found, d = paired_difference(list(values), list(reference)), values - reference
    assert found.mean == pytest.approx(d.mean(), abs=1e-9)
    assert found.high - found.mean == pytest.approx(found.mean - found.low, abs=1e-9)
    assert found.low <= found.mean <= found.high
    quantile = _quantile(len(pairs))
    assert found.high == pytest.approx(d.mean() + quantile * d.std(ddof=1) / math.sqrt(len(d)), abs=1e-9)


def _quantile(count):
    """The factor that paired_difference used, from differences of mean 0 whose standard error is known."""
    values = [(-1) ** number for number in range(count)]
    found = paired_difference(values, [0] * count)
    return (found.high - found.mean) * math.sqrt(count) / statistics.stdev(values)


@pytest.mark.parametrize("freedom", range(1, 31))
def test_quantiles_hold_95_percent_of_students_t(freedom):
    """By Simpson's rule over the density, from 0 to the quantile."""
    constant = math.gamma((freedom + 1) / 2) / (math.sqrt(freedom * math.pi) * math.gamma(freedom / 2))
    quantile = _quantile(freedom + 1)
    places = np.linspace(0, quantile, 4001)
    density = constant * (1 + places**2 / freedom) ** (-(freedom + 1) / 2)
    area = (density[0] + 4 * density[1::2].sum() + 2 * density[2:-1:2].sum() + density[-1]) * quantile / 4000 / 3
    assert 2 * area == pytest.approx(0.95, abs=7e-5)  # a quantile has three digits after the point


@settings(max_examples=100, deadline=None)
@given(pairs=PAIRS, data=st.data())
def test_what_seeds_have_in_common_does_not_matter(pairs, data):
    values, reference = zip(*pairs, strict=True)
    found = paired_difference(values, reference)
    shifts = data.draw(st.lists(st.floats(-100, 100), min_size=len(pairs), max_size=len(pairs)))
    moved = paired_difference(
        [value + shift for value, shift in zip(values, shifts, strict=True)],
        [value + shift for value, shift in zip(reference, shifts, strict=True)],
    )
    assert close(moved, found.mean, found.low, found.high)


@settings(max_examples=100, deadline=None)
@given(pairs=PAIRS, factor=st.floats(0.01, 100))
def test_swapping_turns_the_sign_and_units_scale(pairs, factor):
    values, reference = zip(*pairs, strict=True)
    found = paired_difference(values, reference)
    assert close(paired_difference(reference, values), -found.mean, -found.high, -found.low)
    scaled = paired_difference([factor * value for value in values], [factor * value for value in reference])
    assert (scaled.mean, scaled.low, scaled.high) == pytest.approx(
        (factor * found.mean, factor * found.low, factor * found.high), abs=1e-7
    )


@pytest.mark.parametrize("count", [3, 10])
def test_95_of_100_intervals_hold_the_truth(count):
    random = np.random.default_rng(0)
    held = 0
    for _ in range(2000):
        seeds = random.normal(0, 5, count)  # large, and the same for both: pairing takes them away
        values, reference = seeds + random.normal(0.3, 1, count), seeds + random.normal(0, 1, count)
        found = paired_difference(values.tolist(), reference.tolist())
        held += found.low <= 0.3 <= found.high
    assert held / 2000 == pytest.approx(0.95, abs=0.02)  # four standard errors


def test_equal_differences_leave_no_doubt():
    assert paired_difference([3, 4, 5], [1, 2, 3]) == Difference(2, 2, 2)
    assert paired_difference([1, 2], [1, 2]) == Difference(0, 0, 0)


@pytest.mark.parametrize(
    ("low", "high", "measurable"),
    [
        (0.1, 0.3, True),
        (-0.3, -0.1, True),
        (-0.1, 0.1, False),
        (0.0, 0.1, False),
        (-0.1, 0.0, False),
        (0.0, 0.0, False),
    ],
)
def test_a_difference_is_measurable_if_its_interval_leaves_0_out(low, high, measurable):
    assert Difference((low + high) / 2, low, high).measurable is measurable


@pytest.mark.parametrize(("values", "reference"), [(3, 4), (1, 1), (0, 0), (32, 32), (10, 9)])
def test_differences_take_2_to_31_pairs(values, reference):
    with pytest.raises(ValueError) as error:
        paired_difference([0.5] * values, [0.5] * reference)
    assert str(error.value) == (
        f"A paired difference takes as many values as reference values, 2 to 31 of each; got {values} and {reference}."
    )


CSV = """row,exchanged,seed,test_error,parameters,rate
C3 dense,Table I,1,0.011,60900,0.003
LeNet-5,,2,0.013,60000,0.001
C3 dense,Table I,0,0.012,60900,0.003
LeNet-5,,0,0.010,60000,0.001
LeNet-5,,1,0.010,60000,0.001
C3 dense,Table I,2,0.016,60900,0.003
"""


def test_a_table_is_read_row_by_row_and_seed_by_seed(tmp_path, monkeypatch):
    monkeypatch.setattr(csv_tables, "RESULTS_FOLDER", tmp_path)
    (tmp_path / "variants.csv").write_text(CSV)
    compared = read_comparison()
    assert list(compared) == ["C3 dense", "LeNet-5"]
    dense = compared["C3 dense"]
    expected = paired_difference([0.012, 0.011, 0.016], [0.010, 0.010, 0.013])  # 0.002, 0.001, 0.003
    assert dense == Comparison("C3 dense", "Table I", (0.012, 0.011, 0.016), 60_900, 0.003, expected)
    assert expected.mean == pytest.approx(0.002) and isinstance(dense.parameters, int)
    assert compared["LeNet-5"] == Comparison("LeNet-5", "", (0.010, 0.010, 0.013), 60_000, 0.001, None)
    assert dense.mean == pytest.approx(0.013) and dense.spread == pytest.approx(math.sqrt(7) / 1000)


def test_a_table_that_is_not_there_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(csv_tables, "RESULTS_FOLDER", tmp_path)
    with pytest.raises(FileNotFoundError, match="no table 'variants'"):
        differences.read_comparison()


# --- training now ---------------------------------------------------------------------------------------------------


class Display:
    def __init__(self, title, steps):
        self.title, self.steps, self.advanced, self.closed = title, steps, 0, False

    def advance(self):
        self.advanced += 1

    def close(self):
        self.closed = True


@pytest.fixture
def displays(monkeypatch):
    made = []
    monkeypatch.setattr(live, "progress", lambda title, steps: made.append(Display(title, steps)) or made[-1])
    return made


@pytest.mark.parametrize("row", ["linear, cross-entropy", "1998, a step for each weight"])
def test_seeds_side_by_side_give_what_each_gives_alone(small_mnist, tmp_path, displays, row):
    threads = torch.get_num_threads()
    errors = live.train_seeds(row, rate_of(row), (1, 0), digits=130)
    assert torch.get_num_threads() == threads
    alone = []
    for seed in (1, 0):
        wanted = Run(row, rate_of(row), seed)
        run(wanted, tmp_path, digits=130)
        alone.append(error_on(wanted, tmp_path, small_mnist["test"]))
    assert errors == alone and errors[0] != errors[1]
    (display,) = displays
    assert display.title == row and display.steps == 2 * steps_of(ROWS[row], 130)
    assert display.closed and display.advanced <= display.steps


def test_the_display_ends_full_however_fast_the_last_steps_were(small_mnist, displays, monkeypatch):
    monkeypatch.setattr(runs, "test_error", lambda *arguments: 0.25)
    monkeypatch.setattr(runs, "evaluate", lambda model, digits: SimpleNamespace(error=0.5))
    assert live.train_seeds(REFERENCE, 0.003, [0, 1], digits=130) == [0.25, 0.25]
    assert displays[0].advanced == displays[0].steps == 18


def test_the_callers_generator_is_left_alone_by_threads_too(small_mnist, displays):
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    live.train_seeds(REFERENCE, 0.003, [3, 4], digits=20)
    assert torch.equal(torch.rand(1), expected)


def test_weights_that_ran_away_are_said(small_mnist, displays):
    with pytest.raises(ArithmeticError, match="Caffe's ran away at the rate 1e\\+06.*Try a smaller rate"):
        live.train_seeds("20-50-500-10, Caffe's", 1e6, [0], digits=300)


def test_stopped_it_ends_its_threads_and_leaves_nothing_behind(small_mnist, displays, monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    def interrupted(seconds):
        raise KeyboardInterrupt

    before = threading.active_count()
    monkeypatch.setattr(live, "time", SimpleNamespace(sleep=interrupted))
    with pytest.raises(KeyboardInterrupt):
        live.train_seeds(REFERENCE, 0.003, [0, 1], digits=300)
    assert threading.active_count() == before and not list(tmp_path.iterdir()) and displays[0].closed


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"row": "LeNet-6"}, "There is no row 'LeNet-6'. There are: LeNet-5, C3 dense"),
        ({"digits": 0}, "digits are 1 to 55,000, and seeds at least one, each once; got 0 and "),
        ({"digits": 55_001}, "got 55001 and "),
        ({"seeds": []}, r"got 10 and \[\]"),
    ],
)
def test_seeds_that_cannot_be_trained(displays, settings, complaint):
    with pytest.raises(ValueError, match=complaint):
        live.train_seeds(**{"row": REFERENCE, "rate": 0.01, "seeds": [0], "digits": 10, **settings})
    assert not displays


# --- the command ----------------------------------------------------------------------------------------------------


class Here:
    """A pool that does each call at once, in this process; keeps the calls."""

    calls: list

    def __init__(self, workers):
        self.workers = workers

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def submit(self, function, *arguments):
        self.calls.append(arguments[0])
        future = Future()
        future.set_result(function(*arguments))
        return future


@pytest.fixture
def here(small_mnist, tmp_path, monkeypatch):
    """The command with two rows, few digits and no other process. Returns the runs that it did."""
    rows = {name: ROWS[name] for name in ("linear, cross-entropy", "PyTorch tutorial")}
    monkeypatch.setattr(Here, "calls", [], raising=False)
    monkeypatch.setattr(command, "WorkerPool", Here)
    monkeypatch.setattr(command, "run", partial(run, digits=20))
    for module in (command, tables):
        monkeypatch.setattr(module, "ROWS", rows)
    monkeypatch.setattr(csv_tables, "RESULTS_FOLDER", tmp_path)
    monkeypatch.setattr(runs, "LEARNED_NOTHING", 1.0)  # on twenty digits nobody learns much
    return Here.calls


def places(tmp_path):
    return ["--workers", "1", "--folder", str(tmp_path / "runs"), "--results", str(tmp_path)]


def test_the_command_does_all_runs_writes_the_tables_and_goes_on(here, tmp_path, capsys):
    command.main(places(tmp_path))
    said = capsys.readouterr().out
    assert "variants.csv" in said and "variants_rates.csv" in said
    assert "  PyTorch tutorial, rate 0.01, seed 0: validation error " in said
    assert said.count("PyTorch tutorial: all seeds, rate ") == 1
    done = list(here)
    assert len(set(done)) == len(done) and {one.row for one in done} == {"linear, cross-entropy", "PyTorch tutorial"}
    lines = csv_tables.read_results("variants")
    assert [line["seed"] for line in lines] == 2 * list(range(10))
    table = (tmp_path / "variants.csv").read_text()

    here.clear()
    command.main(places(tmp_path))
    assert here == [] and (tmp_path / "variants.csv").read_text() == table

    rate = lines[0]["rate"]
    lost = [Run("linear, cross-entropy", rate, 2), Run("linear, cross-entropy", rate, 7)]
    for one in lost:
        (tmp_path / "runs" / one.file_name).unlink()
    command.main(places(tmp_path))
    assert here == lost and (tmp_path / "variants.csv").read_text() == table


def test_one_row_alone_leaves_no_table(here, tmp_path, capsys):
    command.main(["PyTorch tutorial", "PyTorch tutorial", *places(tmp_path)])
    assert "The tables are written when all rows are run together." in capsys.readouterr().out
    assert {one.row for one in here} == {"PyTorch tutorial"} and len(set(here)) == len(here)
    assert not list(tmp_path.glob("*.csv"))


def test_a_run_that_ran_away_is_said(here, tmp_path, monkeypatch, capsys):
    def run_away(one, folder):
        return Result(1.0, 2.0, diverged=True) if one.rate > 0.03 else Result(0.1 if one.rate == 0.01 else 0.2, 2.0)

    monkeypatch.setattr(command, "run", run_away)
    results = command.run_rows(["PyTorch tutorial"], tmp_path, 1)
    assert results[Run("PyTorch tutorial", 0.1, 0)].diverged and len(results) == 4 * 3 + 7
    said = capsys.readouterr().out
    assert "  PyTorch tutorial, rate 0.1, seed 0: ran away, 2.0 s" in said
    assert said.endswith("PyTorch tutorial: all seeds, rate 0.01\n")
    assert command.run_rows(["PyTorch tutorial"], tmp_path, 1, report=False) == results
    assert capsys.readouterr().out == ""


def test_ctrl_c_says_that_the_same_command_goes_on(here, tmp_path, monkeypatch):
    def interrupted(one, folder):
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "run", interrupted)
    with pytest.raises(SystemExit, match="Stopped. The same command goes on with the runs that are missing."):
        command.main(places(tmp_path))
    assert not list(tmp_path.glob("*.csv"))


def test_help_lists_the_rows(capsys):
    with pytest.raises(SystemExit) as end:
        command.main(["--help"])
    said = capsys.readouterr().out
    assert end.value.code == 0 and all(f"\n  {name}\n" in f"{said}\n" for name in ROWS)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["LeNet-6"], "there is no row 'LeNet-6'; --help lists them"),
        ([REFERENCE, ""], "there is no row ''"),
        (["--workers", "0"], "0 is not 1 or more"),
        (["--workers", "many"], "invalid positive value: 'many'"),
    ],
)
def test_a_wrong_command_line_is_answered_with_the_usage(arguments, complaint, capsys):
    with pytest.raises(SystemExit) as end:
        command.main(arguments)
    said = capsys.readouterr().err
    assert end.value.code == 2 and "usage: python -m lenet_course.comparison" in said and complaint in said
