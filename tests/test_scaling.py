import math
from dataclasses import FrozenInstanceError
from fractions import Fraction

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lenet_course.scaling import LARGEST_BATCH, Step, exchange_seconds, shared_step, smallest_batch

BYTES = st.floats(0, 4e9)
BANDWIDTH = st.floats(1e6, 1e12)
LATENCY = st.floats(0, 0.1)
MACHINES = st.integers(1, 64)
BATCH = st.integers(1, 100_000)
SETTINGS = st.fixed_dictionaries(
    {
        "seconds_a_digit": st.floats(1e-8, 0.1),
        "seconds_a_step": st.floats(0, 1),
        "gradient_bytes": BYTES,
        "bandwidth": BANDWIDTH,
        "latency": LATENCY,
    }
)
LENET = {
    "seconds_a_digit": 60e-6,
    "seconds_a_step": 1e-3,
    "gradient_bytes": 4 * 431_080,
    "bandwidth": 1e9 / 8,
    "latency": 0.2e-3,
}
SLACK = 1 + 1e-9


def ring(values):
    """All-reduce among machines in a ring, message by message. values: of each machine, one number for each machine.

    Returns what each machine has in the end, and how many messages each has sent.
    """
    machines = len(values)
    have, sent = [list(numbers) for numbers in values], [0] * machines
    for turn in range(2 * (machines - 1)):
        messages = []
        for machine in range(machines):
            part = (machine - turn) % machines
            messages.append(((machine + 1) % machines, part, have[machine][part]))
            sent[machine] += 1
        for to, part, number in messages:  # all at once
            have[to][part] = have[to][part] + number if turn < machines - 1 else number
    return have, sent


# --- the exchange ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("machines", range(1, 9))
def test_a_ring_of_so_many_messages_gives_every_machine_the_sum(machines):
    values = [[Fraction(10**machine * (part + 1)) for part in range(machines)] for machine in range(machines)]
    sums = [sum(numbers[part] for numbers in values) for part in range(machines)]
    have, sent = ring(values)
    assert have == [sums] * machines
    # A message takes 3 s here, and its first byte arrives after 5 s; none waits for another but the one before it.
    gradient_bytes = 30 * machines
    assert exchange_seconds(gradient_bytes, machines, bandwidth=10, latency=5) == sent[0] * (3 + 5)
    assert set(sent) == {sent[0]}


def test_the_exchange_of_lenet_by_hand():
    # 1.72 MB: half of it twice over 125 MB/s, and two latencies.
    assert exchange_seconds(1_724_320, 2, 125e6, 0) == pytest.approx(0.01379456)
    assert exchange_seconds(1_724_320, 2, 125e6, 0.0002) == pytest.approx(0.01419456)
    assert exchange_seconds(1_724_320, 4, 125e6, 0.0002) == pytest.approx(6 * (431_080 / 125e6 + 0.0002))


@given(gradient_bytes=BYTES, bandwidth=BANDWIDTH, latency=LATENCY)
def test_one_machine_exchanges_nothing(gradient_bytes, bandwidth, latency):
    assert exchange_seconds(gradient_bytes, 1, bandwidth, latency) == 0


@given(gradient_bytes=BYTES, more=BYTES, machines=MACHINES, bandwidth=BANDWIDTH, latency=LATENCY, slower=LATENCY)
def test_more_bytes_more_latency_and_less_bandwidth_take_longer(
    gradient_bytes, more, machines, bandwidth, latency, slower
):
    seconds = exchange_seconds(gradient_bytes, machines, bandwidth, latency)
    assert exchange_seconds(gradient_bytes + more, machines, bandwidth, latency) >= seconds
    assert exchange_seconds(gradient_bytes, machines, bandwidth, latency + slower) >= seconds
    assert exchange_seconds(gradient_bytes, machines, bandwidth / 2, latency) >= seconds
    assert exchange_seconds(gradient_bytes, machines + 1, bandwidth, latency) * SLACK >= seconds
    assert exchange_seconds(gradient_bytes, machines, math.inf, latency) == 2 * (machines - 1) * latency


@given(gradient_bytes=BYTES, machines=st.integers(2, 64), bandwidth=BANDWIDTH)
def test_without_latency_more_machines_never_take_twice_as_long_as_two(gradient_bytes, machines, bandwidth):
    two = exchange_seconds(gradient_bytes, 2, bandwidth, 0)
    assert two <= exchange_seconds(gradient_bytes, machines, bandwidth, 0) * SLACK <= 2 * two * SLACK**2


# --- the step -------------------------------------------------------------------------------------------------------


def test_a_step_of_lenet_by_hand():
    step = shared_step(64, 2, **LENET)
    assert step.alone == pytest.approx(0.00484) and step.compute == pytest.approx(0.00292)
    assert step.exchange == pytest.approx(0.01419456) and step.total == pytest.approx(0.01711456)
    assert step.speed_up == pytest.approx(0.2828, abs=1e-4) and not step.pays
    assert shared_step(2048, 2, **LENET).pays


@given(batch_size=BATCH, given_settings=SETTINGS)
def test_one_machine_is_alone(batch_size, given_settings):
    step = shared_step(batch_size, 1, **given_settings)
    assert step.compute == step.alone == step.total
    assert (step.exchange, step.speed_up, step.pays) == (0, 1, False)


@given(batch_size=BATCH, machines=MACHINES, given_settings=SETTINGS)
def test_never_more_than_machines_times_as_fast(batch_size, machines, given_settings):
    step = shared_step(batch_size, machines, **given_settings)
    assert 0 < step.speed_up <= machines * SLACK
    assert step.compute <= step.alone <= machines * step.compute * SLACK
    assert step.pays == (step.total < step.alone)
    assert not step.pays or step.speed_up >= 1


@given(batch_size=BATCH, machines=MACHINES, given_settings=SETTINGS, factor=st.floats(1, 100))
def test_a_better_wire_is_never_slower(batch_size, machines, given_settings, factor):
    total = shared_step(batch_size, machines, **given_settings).total
    for name, better in (
        ("bandwidth", given_settings["bandwidth"] * factor),
        ("latency", given_settings["latency"] / factor),
        ("gradient_bytes", given_settings["gradient_bytes"] / factor),
    ):
        assert shared_step(batch_size, machines, **{**given_settings, name: better}).total <= total * SLACK


@given(batch_size=BATCH, machines=MACHINES, given_settings=SETTINGS)
def test_doubling_the_batch_never_lowers_the_speed_up(batch_size, machines, given_settings):
    once, twice = (shared_step(size, machines, **given_settings).speed_up for size in (batch_size, 2 * batch_size))
    assert twice * SLACK >= once


def test_the_largest_share_counts():
    free_wire = {**LENET, "seconds_a_step": 0, "gradient_bytes": 0, "latency": 0}
    assert shared_step(64, 3, **free_wire).compute == pytest.approx(22 * 60e-6)
    assert shared_step(2, 16, **free_wire).compute == pytest.approx(60e-6)
    assert shared_step(2, 16, **free_wire).speed_up == pytest.approx(2)
    # Beyond where a float could count: the share is not rounded on the way.
    assert shared_step(3 * 10**17 + 1, 3, **{**free_wire, "seconds_a_digit": 1}).compute == 10**17 + 1


def test_where_nothing_takes_time_nothing_is_gained():
    nothing = dict.fromkeys(("seconds_a_digit", "seconds_a_step", "gradient_bytes", "latency"), 0)
    step = shared_step(64, 4, bandwidth=1, **nothing)
    assert (step.total, step.speed_up, step.pays) == (0, 1, False)
    assert shared_step(64, 4, bandwidth=1, **{**nothing, "latency": 1}).speed_up == 0


def test_a_step_stays_as_it_is():
    with pytest.raises(FrozenInstanceError):
        Step(1.0, 2.0, 3.0).compute = 2.0


def test_numbers_of_numpy_count_as_numbers():
    like_numpy = {name: numpy.float64(value) for name, value in LENET.items()}
    assert shared_step(numpy.int64(64), numpy.int64(2), **like_numpy) == shared_step(64, 2, **LENET)


# --- the smallest batch ---------------------------------------------------------------------------------------------


@settings(max_examples=200)
@given(machines=MACHINES, given_settings=SETTINGS, share=st.floats(0, 1.1))
def test_the_smallest_batch_is_the_first_that_is_fast_enough(machines, given_settings, share):
    for faster_than in (1.0, share * machines):
        fast_enough = [
            2**exponent
            for exponent in range(16)
            if (step := shared_step(2**exponent, machines, **given_settings)).alone > faster_than * step.total
        ]
        found = smallest_batch(machines, faster_than=faster_than, **given_settings)
        assert found == (fast_enough[0] if fast_enough else None)
    assert smallest_batch(1, **given_settings) is None


def test_the_smallest_batch_of_lenet():
    assert smallest_batch(2, **LENET) == 512
    assert not shared_step(256, 2, **LENET).pays and shared_step(512, 2, **LENET).pays
    assert smallest_batch(2, largest=511, **LENET) is None and smallest_batch(2, largest=512, **LENET) == 512
    assert smallest_batch(2, faster_than=1.6, **LENET) == 2048
    assert smallest_batch(2, faster_than=2, **LENET) is None  # ideal is never reached
    assert smallest_batch(2, faster_than=0, largest=1, **LENET) == 1
    assert LARGEST_BATCH < 60_000 < 2 * LARGEST_BATCH


# --- bad input ------------------------------------------------------------------------------------------------------

AMOUNTS = ("seconds_a_digit", "seconds_a_step", "gradient_bytes", "latency")


@pytest.mark.parametrize("name", AMOUNTS)
@pytest.mark.parametrize("amount", [-1, -1e-9, math.nan, math.inf])
def test_amounts_that_cannot_be_are_refused(name, amount):
    with pytest.raises(ValueError, match=f"{name} is 0 or more, and finite; got {amount}"):
        shared_step(64, 2, **{**LENET, name: amount})


@pytest.mark.parametrize("bandwidth", [0, -1, math.nan])
def test_a_bandwidth_that_cannot_be_is_refused(bandwidth):
    with pytest.raises(ValueError, match="bandwidth is above 0 bytes a second"):
        shared_step(64, 2, **{**LENET, "bandwidth": bandwidth})


@pytest.mark.parametrize("name", [*AMOUNTS, "bandwidth"])
@pytest.mark.parametrize("amount", ["1", None, True, [1]])
def test_what_is_no_number_is_refused(name, amount):
    with pytest.raises(TypeError, match=f"{name} is a number"):
        shared_step(64, 2, **{**LENET, name: amount})


@pytest.mark.parametrize("name", ["batch_size", "machines"])
def test_counts_that_cannot_be_are_refused(name):
    counts = {"batch_size": 64, "machines": 2}
    for count in (0, -1):
        with pytest.raises(ValueError, match=f"{name} is at least 1; got {count}"):
            shared_step(**{**counts, name: count}, **LENET)
    for count in (2.0, math.nan, "2", True, None):
        with pytest.raises(TypeError, match=f"{name} is a whole number"):
            shared_step(**{**counts, name: count}, **LENET)


def test_the_search_refuses_what_the_step_refuses():
    with pytest.raises(ValueError, match="machines is at least 1"):
        smallest_batch(0, **LENET)
    with pytest.raises(ValueError, match="largest is at least 1"):
        smallest_batch(2, largest=0, **LENET)
    with pytest.raises(ValueError, match="faster_than is 0 or more"):
        smallest_batch(2, faster_than=-1, **LENET)
    with pytest.raises(TypeError, match="latency"):
        smallest_batch(2, **{name: value for name, value in LENET.items() if name != "latency"})
