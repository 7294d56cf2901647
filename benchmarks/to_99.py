"""How long is it from the start of a process to 99.0% of the test digits right, here and in PyTorch's own example?

    python benchmarks/to_99.py [--rounds 5] [--steps 100]
    python benchmarks/to_99.py --full       how many epochs the example needs; stopped, it goes on from the last one
    python benchmarks/to_99.py --choose     settings for our side, on the last 5,000 training digits

Our side is a process that starts, imports, reads and verifies the digits, trains and evaluates on the test digits; the
clock stands outside of it. Each round has another seed. --choose compares settings on training digits that are held out.
The example (official_example.py) takes many minutes, so its time is computed: its start as measured, then its epochs (as
counted once by --full) times what steps and evaluation take, measured here in turns with our side.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path

from measuring import (
    REPLY,
    RESULTS,
    ROOT,
    MeasuringError,
    Side,
    alternate,
    arguments,
    at_least,
    at_most,
    figure,
    finish,
    plain_environment,
    positive,
    read,
    serve,
    write,
)

GOAL = 0.99
SETTINGS = {"epochs": 2, "batch_size": 128, "learning_rate": 0.1}
# What --choose compares: (epochs, batch size, learning rate).
CANDIDATES = ((1, 64, 0.1), (1, 32, 0.05), (1, 32, 0.1), (2, 128, 0.1), (2, 128, 0.2), (2, 256, 0.1), (2, 256, 0.2))
HELD_OUT = 5_000
TEST_BATCHES = 2  # thousands of test digits that a round of the example evaluates
CHECKPOINT = ROOT / "my_runs" / "official_example.pt"
EPOCHS_TABLE, CHOICES_TABLE = "official_epochs", "to_99_choices"


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--steps", type=positive, default=100, help="of the example in each round (default 100)")
    parser.add_argument("--digits", type=positive, default=60_000, help="for our side (fewer will not reach 99.0%%)")
    parser.add_argument("--seed", type=int, default=0, help="of our side's first process (default 0)")
    parser.add_argument("--full", action="store_true", help="run the example until it reaches 99.0%%")
    parser.add_argument("--choose", action="store_true", help="compare settings for our side")
    parser.add_argument("--seeds", type=positive, default=5, help="with --choose (default 5)")
    given = parser.parse_args()
    if given.side == "ours":
        print(f"{REPLY}{ours(given.seed, given.digits)}", flush=True)
    elif given.side == "example":
        serve(example_side(given.steps))
    elif given.full:
        count_epochs(given.results)
    elif given.choose:
        choose(given.seeds, given.results)
    else:
        measure(given)


def ours(seed: int, count: int) -> float:
    """Train and return the test accuracy, as a learner would write it."""
    import lenet_course  # noqa: F401 - before torch: it says how OpenMP threads wait

    # isort: split
    import torch

    from lenet_course.data import load_mnist
    from lenet_course.lenet import LeNet
    from lenet_course.training import evaluate, fit

    torch.manual_seed(seed)
    model = LeNet()
    fit(
        model,
        load_mnist("train")[:count],
        **SETTINGS,
        generator=torch.Generator().manual_seed(seed),
        device="cpu",
        report=False,
    )
    return evaluate(model, load_mnist("test")).accuracy


def example_side(steps: int):
    from official_example import Example

    example = Example()

    def measure() -> dict[str, float]:
        return {"steps": example.train(steps), "evaluation": example.test(TEST_BATCHES)[1]}

    return measure


def time_ours(seed: int, count: int) -> dict[str, float]:
    """Start our side and return the seconds until its accuracy is there, and the accuracy."""
    command = [sys.executable, __file__, "--side", "ours", "--seed", str(seed), "--digits", str(count)]
    start = time.perf_counter()
    process = subprocess.Popen(command, env=plain_environment(), stdout=subprocess.PIPE, encoding="utf-8")
    seconds, accuracy = float("nan"), float("nan")
    for line in process.stdout:
        if line.startswith(REPLY):
            seconds, accuracy = time.perf_counter() - start, float(line.removeprefix(REPLY))
    process.stdout.close()
    if process.wait() != 0:
        raise MeasuringError(f"Our side ended with code {process.returncode}.")
    return {"seconds": seconds, "accuracy": accuracy}


def measure(given) -> None:
    seeds = iter(range(given.seed, given.seed + given.rounds))

    def report(number: int, figures) -> None:
        mine = figures["ours"]
        print(
            f"round {number}: ours {mine['seconds']:.1f} s, {100 * mine['accuracy']:.2f}% right; "
            f"example {figures['example']['steps']:.1f} s for {given.steps} steps",
            flush=True,
        )

    example = Side(__file__, "example", "--steps", given.steps)
    try:
        example.wait_until_ready()
        sides = {"ours": lambda: time_ours(next(seeds), given.digits), "example": example.measure}
        found = alternate(sides, given.rounds, report)
    finally:
        example.close()
    epochs = epochs_needed(given.results) or epochs_needed(RESULTS)
    finish(
        "to_99", "From start to 99.0%", figures_of(found, example.seconds_to_ready, epochs, given.steps), given.results
    )


def figures_of(found, seconds_to_ready: float, epochs: int | None, steps: int) -> list:
    from official_example import STEPS

    mine, example = found["ours"], found["example"]
    reached = sum(accuracy >= GOAL for accuracy in mine["accuracy"])
    settings = ", ".join(f"{name} {value}" for name, value in SETTINGS.items())
    note = f"{reached} of {len(mine['accuracy'])} rounds reached 99.0%; {settings}"
    accuracies = [100 * accuracy for accuracy in mine["accuracy"]]
    figures = [
        figure("ours, start to accuracy", mine["seconds"], "s", target=at_most(20), note=note),
        figure("ours, test accuracy", accuracies, "%", target=at_least(100 * GOAL), note=note),
    ]
    if epochs is not None:
        whole = [
            seconds_to_ready + epochs * (STEPS / steps * some + 10 / TEST_BATCHES * evaluation)
            for some, evaluation in zip(example["steps"], example["evaluation"], strict=True)
        ]
        figures.append(
            figure(
                f"PyTorch's example, {epochs} epochs",
                whole,
                "s",
                against="ours",
                others=mine["seconds"],
                target=at_least(20),
                kind="computed",
                note=f"start + {epochs} x ({STEPS / steps:.3g} x the steps below + 10 evaluations of a thousand)",
            )
        )
    else:
        print("How many epochs the example needs is not known: python benchmarks/to_99.py --full counts them.")
    start = statistics.median([seconds_to_ready])
    return [
        *figures,
        figure("PyTorch's example, start", [start], "s"),
        figure(f"PyTorch's example, {steps} steps", example["steps"], "s"),
        figure(f"PyTorch's example, {TEST_BATCHES},000 test digits", example["evaluation"], "s"),
    ]


# --- How many epochs the example needs ------------------------------------------------------------------------------


def count_epochs(folder: Path) -> None:
    from official_example import epochs_to

    def report(accuracies: list[float]) -> None:
        print(f"epoch {len(accuracies)}: {100 * accuracies[-1]:.2f}% of the test digits right", flush=True)
        rows = [{"epoch": number, "test_accuracy": value} for number, value in enumerate(accuracies, start=1)]
        write(EPOCHS_TABLE, rows, folder)

    epochs_to(GOAL, CHECKPOINT, report)


def epochs_needed(folder: Path) -> int | None:
    """Return the first epoch of the example with 99.0% or more; None if none was seen."""
    for row in read(folder / f"speed_{EPOCHS_TABLE}.csv"):
        if float(row["test_accuracy"]) >= GOAL:
            return int(row["epoch"])
    return None


# --- Which settings our side has ------------------------------------------------------------------------------------


def choose(seeds: int, folder: Path) -> None:
    """Train with all candidates and seeds on 55,000 digits; a run that has a row is not made again."""
    import lenet_course  # noqa: F401 - before torch: it says how OpenMP threads wait

    # isort: split
    import torch

    from lenet_course.data import load_mnist
    from lenet_course.lenet import LeNet
    from lenet_course.training import evaluate, fit

    train = load_mnist("train")
    names = ("epochs", "batch_size", "learning_rate", "seed")
    kept = read(folder / f"speed_{CHOICES_TABLE}.csv")
    rows = [{**{name: row[name] for name in names}, "validation_error": row["validation_error"]} for row in kept]
    done = {tuple(float(row[name]) for name in names) for row in rows}
    for seed in range(seeds):
        for epochs, batch_size, rate in CANDIDATES:
            if (epochs, batch_size, rate, seed) in done:
                continue
            torch.manual_seed(seed)
            model = LeNet()
            generator = torch.Generator().manual_seed(seed)
            settings = {"epochs": epochs, "batch_size": batch_size, "learning_rate": rate}
            fit(model, train[:-HELD_OUT], **settings, generator=generator, device="cpu", report=False)
            error = evaluate(model, train[-HELD_OUT:]).error
            rows.append({**settings, "seed": seed, "validation_error": error})
            write(CHOICES_TABLE, rows, folder)
            print(f"seed {seed}, {settings}: {100 * error:.2f}% wrong", flush=True)
    for candidate in CANDIDATES:
        errors = [
            float(row["validation_error"])
            for row in rows
            if tuple(float(row[name]) for name in names[:3]) == tuple(map(float, candidate))
        ]
        print(f"{candidate}: {100 * statistics.mean(errors):.3f}% wrong, mean of {len(errors)} seeds")


if __name__ == "__main__":
    main()
