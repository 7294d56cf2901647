"""When does a second machine pay? The arithmetic of data parallelism: every machine computes a share, then all exchange gradients.

Times are in seconds, data in bytes, rates in bytes a second.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Integral, Real

LARGEST_BATCH = 32_768  # the largest power of two among MNIST's 60,000 training digits


@dataclass(frozen=True)
class Step:
    """One training step shared by machines. Times in seconds.

    compute: forward, backward and update on a machine's share of the batch. exchange: until all have the mean gradient.
    alone: the same batch on one machine.
    """

    compute: float
    exchange: float
    alone: float

    @property
    def total(self) -> float:
        """How long the step takes."""
        return self.compute + self.exchange

    @property
    def speed_up(self) -> float:
        """How many times as fast as one machine; below 1 it is slower."""
        if self.total == self.alone:
            return 1.0  # where nothing takes any time as well
        return self.alone / self.total

    @property
    def pays(self) -> bool:
        """Whether the step is over sooner than on one machine."""
        return self.total < self.alone


def exchange_seconds(gradient_bytes: float, machines: int, bandwidth: float, latency: float) -> float:
    """Return how long a ring all-reduce takes: the usual way for all machines to get the mean of their gradients.

    Each machine sends 2 (machines - 1) messages of gradient_bytes / machines to its neighbour; all do so at once.
    bandwidth: bytes a second that a machine sends. latency: seconds until a message starts to arrive.
    The time is that of the wire alone: copies and software come on top. 0 for one machine.
    Raises ValueError for a number of machines below 1, a bandwidth that is not above 0, or anything negative, and TypeError
    for machines that are no whole number.
    """
    _check_count("machines", machines)
    _check_amounts(gradient_bytes=gradient_bytes, latency=latency)
    _check_number("bandwidth", bandwidth)
    if not bandwidth > 0:
        raise ValueError(f"bandwidth is above 0 bytes a second; got {bandwidth}.")
    messages = 2 * (machines - 1)
    return messages * (gradient_bytes / machines / bandwidth + latency)


def shared_step(
    batch_size: int,
    machines: int,
    *,
    seconds_a_digit: float,
    seconds_a_step: float,
    gradient_bytes: float,
    bandwidth: float,
    latency: float,
) -> Step:
    """Return the times of a step in which each machine takes its share of the batch; the largest share counts.

    seconds_a_digit: what each digit of the share adds. seconds_a_step: what a step costs however few digits it has (calls,
    the optimizer). The exchange is assumed to begin when all gradients are there; DistributedDataParallel begins earlier.
    Raises ValueError and TypeError as `exchange_seconds` does, and for a batch size below 1 or that is no whole number.
    """
    _check_count("machines", machines)
    _check_count("batch_size", batch_size)
    _check_amounts(seconds_a_digit=seconds_a_digit, seconds_a_step=seconds_a_step)

    def compute(digits: int) -> float:
        return seconds_a_step + digits * seconds_a_digit

    exchange = exchange_seconds(gradient_bytes, machines, bandwidth, latency)
    return Step(compute(-(-batch_size // machines)), exchange, compute(batch_size))  # the share is rounded up


def smallest_batch(
    machines: int, *, faster_than: float = 1.0, largest: int = LARGEST_BATCH, **settings: float
) -> int | None:
    """Return the smallest power of two as batch size at which a step is more than `faster_than` times as fast as alone.

    largest: where to stop looking; None is returned if no batch up to it will do.
    settings: seconds_a_digit and the other four of `shared_step`, with its errors.
    Doubling a batch never lowers the speed-up, so every larger power of two will do as well.
    """
    _check_count("largest", largest)
    _check_amounts(faster_than=faster_than)
    batch_sizes = [2**exponent for exponent in range(int(largest).bit_length())]
    steps = ((batch_size, shared_step(batch_size, machines, **settings)) for batch_size in batch_sizes)
    return next((batch_size for batch_size, step in steps if step.alone > faster_than * step.total), None)


def _check_count(name: str, count: int) -> None:
    if isinstance(count, bool) or not isinstance(count, Integral):
        raise TypeError(f"{name} is a whole number; got {count!r}.")
    if count < 1:
        raise ValueError(f"{name} is at least 1; got {count}.")


def _check_number(name: str, amount: float) -> None:
    if isinstance(amount, bool) or not isinstance(amount, Real):
        raise TypeError(f"{name} is a number; got {amount!r}.")


def _check_amounts(**amounts: float) -> None:
    for name, amount in amounts.items():
        _check_number(name, amount)
        if not 0 <= amount < math.inf:
            raise ValueError(f"{name} is 0 or more, and finite; got {amount}.")
