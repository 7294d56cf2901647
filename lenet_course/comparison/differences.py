"""Differences between two networks over the same seeds, with their uncertainty."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from lenet_course.comparison.rows import REFERENCE
from lenet_course.reproduce.tables import read_results

# 97.5% quantiles of Student's t with 1 to 30 degrees of freedom.
_STUDENT = (
    *(12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228),
    *(2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086),
    *(2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042),
)


@dataclass(frozen=True)
class Difference:
    """A mean difference and its 95% interval, in the unit of what was measured.

    The interval says what other seeds would change, and nothing about other test digits.
    """

    mean: float
    low: float
    high: float

    @property
    def measurable(self) -> bool:
        """True if the interval leaves 0 out."""
        return not self.low <= 0 <= self.high


@dataclass(frozen=True)
class Comparison:
    """A row beside the reference. errors: test errors, fractions, by seed. difference: row minus reference; None for itself."""

    row: str
    exchanged: str
    errors: tuple[float, ...]
    parameters: int
    rate: float
    difference: Difference | None

    @property
    def mean(self) -> float:
        """The mean test error, a fraction."""
        return statistics.fmean(self.errors)

    @property
    def spread(self) -> float:
        """The standard deviation over the seeds, a fraction."""
        return statistics.stdev(self.errors)


def paired_difference(values: Sequence[float], reference: Sequence[float]) -> Difference:
    """Return the mean of values - reference, seed by seed, and its 95% interval by Student's t.

    Both have a value for each seed, in the same order, 2 to 31 of them. Raises ValueError otherwise.
    """
    if len(values) != len(reference) or not 2 <= len(values) <= len(_STUDENT) + 1:
        raise ValueError(
            f"A paired difference takes as many values as reference values, 2 to {len(_STUDENT) + 1} of each; "
            f"got {len(values)} and {len(reference)}."
        )
    differences = [value - other for value, other in zip(values, reference, strict=True)]
    mean = statistics.fmean(differences)
    half = _STUDENT[len(differences) - 2] * statistics.stdev(differences) / math.sqrt(len(differences))
    return Difference(mean, mean - half, mean + half)


def read_comparison() -> dict[str, Comparison]:
    """Return data/results/variants.csv row by row, each beside the reference, in the order of the table.

    Raises ValueError if a row has other seeds than the reference: it could not be paired.
    """
    lines: dict[str, list[dict]] = {}
    for line in read_results("variants"):
        lines.setdefault(line["row"], []).append(line)
    seeds = {row: sorted(int(line["seed"]) for line in own) for row, own in lines.items()}
    if odd := [row for row in lines if seeds[row] != seeds[REFERENCE]]:
        raise ValueError(f"{odd[0]!r} has the seeds {seeds[odd[0]]}, and {REFERENCE!r} {seeds[REFERENCE]}.")
    errors = {
        row: tuple(line["test_error"] for line in sorted(own, key=lambda line: line["seed"]))
        for row, own in lines.items()
    }
    return {
        row: Comparison(
            row,
            own[0]["exchanged"],
            errors[row],
            int(own[0]["parameters"]),
            own[0]["rate"],
            None if row == REFERENCE else paired_difference(errors[row], errors[REFERENCE]),
        )
        for row, own in lines.items()
    }
