"""How do time and memory grow with the number of digits, with the batch size and with the width of the network?

    python benchmarks/growth.py [--rounds 5]       time: some steps of an epoch, from which the epoch is computed
    python benchmarks/growth.py --whole            time: whole epochs, as measured (some minutes a round)
    python benchmarks/growth.py --errors           validation error after an epoch, by batch size, three seeds each

Digits: 15,000 to 240,000, of which all after the first 60,000 are distorted copies. Batch size: 16 to 1,024. Width: LeNet
with half to four times its maps and hidden units. What is not varied is 60,000 digits, batches of 64 and width 1. Each
setting has a process of its own, and those of one row of settings take turns. Memory is the most that the process had
at once, Python and torch included.
"""

from __future__ import annotations

import math
import statistics
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

from measuring import Side, alternate, arguments, peak_megabytes, positive, read, serve, write

USUAL = {"digits": 60_000, "batch_size": 64, "width": 1.0}
VARIED = {
    "digits": (15_000, 30_000, 60_000, 120_000, 240_000),
    "batch_size": (16, 32, 64, 128, 256, 512, 1024),
    "width": (0.5, 1.0, 2.0, 4.0),
}
MOST_DIGITS = 240_000
WARM_UP = 2  # steps before the clock starts
ERRORS_TABLE = "growth_errors"
HELD_OUT = 5_000
SEEDS = 3


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--whole", action="store_true", help="time whole epochs")
    parser.add_argument("--errors", action="store_true", help="validation errors by batch size instead of times")
    parser.add_argument("--slice", type=positive, default=2_048, help="digits that a round trains on (default 2,048)")
    parser.add_argument("--largest", type=positive, default=MOST_DIGITS, help="number of digits (default 240,000)")
    parser.add_argument("--widest", type=float, default=4.0, help="largest width (default 4)")
    for name, value in USUAL.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=value, help=f"default {value:g}")
    parser.add_argument("--file", type=Path, help="where the digits are")
    given = parser.parse_args()
    if given.side:
        serve(fit_side(given))
    elif given.errors:
        errors(given.results)
    else:
        measure(given)


def measure(given) -> None:
    limits = {"digits": given.largest, "width": given.widest}
    rows = []
    with tempfile.TemporaryDirectory(prefix="lenet-course-") as folder:
        file = Path(folder) / "digits"
        write_digits(file, given.largest)
        for varied, values in VARIED.items():
            values = [value for value in values if value <= limits.get(varied, math.inf)]
            measured = measure_row(varied, values, given, file)
            print_rows(measured, varied)
            rows += measured
    write("growth", rows, given.results)


def measure_row(varied: str, values: list[float], given, file: Path) -> list[dict[str, object]]:
    """Measure with each of the values in place of the usual one, in turns."""
    settings = {value: {**USUAL, "digits": min(USUAL["digits"], given.largest), varied: value} for value in values}
    with ExitStack() as stack:
        sides = {}
        for value, setting in settings.items():
            options = [word for name, chosen in setting.items() for word in (f"--{name.replace('_', '-')}", chosen)]
            options += ["--file", file, "--slice", given.slice, *(["--whole"] if given.whole else [])]
            sides[value] = Side(__file__, f"{varied} {value:g}", *options)
            stack.callback(sides[value].close)
        for side in sides.values():
            side.wait_until_ready()
        found = alternate({str(value): side.measure for value, side in sides.items()}, given.rounds)
    return [row(varied, value, settings[value], found[str(value)], given) for value in values]


def row(varied: str, value: float, setting: Mapping[str, float], found, given) -> dict[str, object]:
    epochs = [seconds * setting["digits"] for seconds in found["seconds_a_digit"]]
    return {
        "varied": varied,
        "value": value,
        **setting,
        "parameters": int(found["parameters"][0]),
        "seconds_an_epoch": float(f"{statistics.median(epochs):.4g}"),
        "lowest": float(f"{min(epochs):.4g}"),
        "highest": float(f"{max(epochs):.4g}"),
        "peak_megabytes": round(max(found["megabytes"])),
        "rounds": given.rounds,
        "kind": "measured" if given.whole else f"computed from {given.slice} digits",
    }


def print_rows(rows: list[dict[str, object]], varied: str) -> None:
    name = varied.replace("_", " ")
    print(f"\n{name:>10}  {'s an epoch':>10}  {'lowest, highest':>16}  {'peak MB':>8}  {'parameters':>10}")
    for line in rows:
        spread = f"{line['lowest']:.3g} to {line['highest']:.3g}"
        print(
            f"{line['value']:>10,g}  {line['seconds_an_epoch']:>10.3g}  {spread:>16}  {line['peak_megabytes']:>8,}"
            f"  {line['parameters']:>10,}",
            flush=True,
        )


# --- The sides ------------------------------------------------------------------------------------------------------


class Enough(Exception):
    """Raised after the last step that counts."""


def fit_side(given):
    import lenet_course  # noqa: F401 - before torch: it says how OpenMP threads wait

    # isort: split
    import numpy as np
    import torch

    from lenet_course.arithmetic import count_parameters
    from lenet_course.data import Digits
    from lenet_course.training import fit

    # As many as are used and no more: the file has all of them.
    pixels = np.fromfile(given.file, dtype=np.uint8, count=28 * 28 * given.digits).reshape(-1, 28, 28)
    labels = np.fromfile(labels_of(given.file), dtype=np.int64, count=given.digits)
    digits = Digits(torch.from_numpy(pixels), torch.from_numpy(labels))
    model = scaled_lenet(given.width)
    settings = {"epochs": 1, "batch_size": given.batch_size, "device": "cpu", "report": False}
    steps = max(1, given.slice // given.batch_size)

    def measure() -> dict[str, float]:
        if given.whole:
            seconds, count = fit(model, digits, **settings).seconds[0], len(digits)
        else:
            seconds, count = time_steps(fit, model, digits, settings, steps), steps * given.batch_size
        return {
            "seconds_a_digit": seconds / count,
            "megabytes": peak_megabytes(),
            "parameters": count_parameters(model),
        }

    return measure


def time_steps(fit, model, digits, settings: Mapping[str, object], steps: int) -> float:
    """Return the seconds that `fit` takes for so many steps after the first ones, and end it there."""
    clock = {}

    def after_step(number: int) -> None:
        if number in (WARM_UP, WARM_UP + steps):
            clock[number] = time.perf_counter()
        if number == WARM_UP + steps:
            raise Enough

    try:
        fit(model, digits, **settings, after_step=after_step)
    except Enough:
        return clock[WARM_UP + steps] - clock[WARM_UP]
    raise ValueError(f"An epoch of {len(digits):,} digits ended before step {WARM_UP + steps}.")


def scaled_lenet(width: float):
    """Return LeNet with `width` times its 20 and 50 maps and its 500 hidden units; 1 is LeNet itself."""
    from torch import nn

    from lenet_course.lenet import LeNet

    first, second, hidden = (round(width * count) for count in (20, 50, 500))
    model = LeNet()
    if width != 1:
        model.conv1 = nn.Conv2d(1, first, kernel_size=5)
        model.conv2 = nn.Conv2d(first, second, kernel_size=5)
        model.fc1 = nn.Linear(second * 4 * 4, hidden)
        model.fc2 = nn.Linear(hidden, 10)
    return model


def labels_of(file: Path) -> Path:
    return file.with_name(f"{file.name}.labels")


def write_digits(file: Path, count: int) -> None:
    """Write the training digits, and after them distorted copies, as bare bytes: images in `file`, labels beside it."""
    import lenet_course  # noqa: F401 - before torch: it says how OpenMP threads wait

    # isort: split
    import torch

    from lenet_course.data import Digits, load_mnist
    from lenet_course.reproduce.distortions import Distortion, with_distorted_copies

    train = load_mnist("train")
    digits = train[:count]
    if count > len(train):
        distortion = Distortion(translation=1, scaling=0.05, squeezing=0.05, shear=0.1)
        copies = math.ceil(count / len(train)) - 1
        more: Digits = with_distorted_copies(train, copies, distortion, torch.Generator().manual_seed(0))
        digits = more[:count]
    digits.images.numpy().tofile(file)
    digits.labels.numpy().tofile(labels_of(file))


# --- What a batch size does to the error ----------------------------------------------------------------------------


def errors(folder: Path, sizes=VARIED["batch_size"], seeds: int = SEEDS, count: int = 60_000 - HELD_OUT) -> None:
    """One epoch with each batch size and seed, the rest as in `fit`; a run that has a row is not made again."""
    import lenet_course  # noqa: F401 - before torch: it says how OpenMP threads wait

    # isort: split
    import torch

    from lenet_course.data import load_mnist
    from lenet_course.lenet import LeNet
    from lenet_course.training import evaluate, fit

    train = load_mnist("train")
    columns = ("batch_size", "seed", "validation_error", "seconds")
    rows = [{name: row[name] for name in columns} for row in read(folder / f"speed_{ERRORS_TABLE}.csv")]
    done = {(int(row["batch_size"]), int(row["seed"])) for row in rows}
    for seed in range(seeds):
        for size in sizes:
            if (size, seed) in done:
                continue
            torch.manual_seed(seed)
            model = LeNet()
            generator = torch.Generator().manual_seed(seed)
            digits = train[: 60_000 - HELD_OUT][:count]
            history = fit(model, digits, epochs=1, batch_size=size, generator=generator, device="cpu", report=False)
            error = evaluate(model, train[-HELD_OUT:]).error
            seconds = float(f"{history.seconds[0]:.4g}")
            rows.append({"batch_size": size, "seed": seed, "validation_error": error, "seconds": seconds})
            write(ERRORS_TABLE, rows, folder)
            print(f"batch size {size}, seed {seed}: {100 * error:.2f}% wrong", flush=True)


if __name__ == "__main__":
    main()
