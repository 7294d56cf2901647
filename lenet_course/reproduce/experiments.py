"""The experiments: which runs each consists of, and the table that it leaves in data/results."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from lenet_course.data import load_mnist
from lenet_course.reproduce.distortions import DISTORTION, MEDIUM, STRONG, WEAK
from lenet_course.reproduce.rejection import rejection_curve
from lenet_course.reproduce.runs import Run, Settings, start, training_digits
from lenet_course.reproduce.tables import write_table
from lenet_course.sdlm import SDLM, eta_of_pass
from lenet_course.sdlm_compiled import distances, train_pass

REJECTION_TARGET = 0.005  # Sec. III-C: how many to reject for 0.5% error on the rest
FIRST_PATTERNS = 2_000


@dataclass(frozen=True)
class Experiment:
    """runs: the settings of all its runs. table: writes its CSV from them, when all have finished."""

    title: str
    runs: Callable[[int | None], list[Settings]]
    table: Callable[[Sequence[Run], Path], None]


# --- Which runs -----------------------------------------------------------------------------------------------------


def figure5(seeds: int | None) -> list[Settings]:
    return [Settings(seed=seed) for seed in range(seeds or 10)]


def figure6(seeds: int | None) -> list[Settings]:
    return [Settings(seed=seed, digits=digits) for digits in (15_000, 30_000, 60_000) for seed in range(seeds or 3)]


def distortions(seeds: int | None) -> list[Settings]:
    return [Settings(seed=seed, distortion=DISTORTION) for seed in range(seeds or 3)]


def choices(seeds: int | None) -> list[Settings]:
    """What the paper leaves open, one thing changed at a time, on 55,000 digits; distortions need all 20 passes to show."""
    base = Settings(validation=True, digits=55_000, passes=5)
    changed = [base]
    changed += [replace(base, eta_factor=factor) for factor in (0.02, 0.05, 0.1, 0.3, 0.5, 1.0)]
    changed += [replace(base, initial="2.4/n", eta_factor=factor) for factor in (0.01, 0.02, 0.05, 0.1, 0.2, 1.0)]
    changed += [replace(base, j=j) for j in (0.1, 3.0, 10.0, 30.0, 100.0)]
    changed += [replace(base, loss="mse"), replace(base, order="same")]
    changed += [replace(base, passes=20, distortion=distortion) for distortion in (None, WEAK, MEDIUM, STRONG)]
    return [replace(settings, seed=seed) for settings in changed for seed in range(seeds or 3)]


# --- What is kept ---------------------------------------------------------------------------------------------------


def write_passes(runs: Sequence[Run], path: Path) -> None:
    """A row for each pass of each run."""
    rows = []
    for run in runs:
        for row in run.rows:
            kept = {key: value for key, value in asdict(row).items() if key not in ("number", "seconds")}
            rows.append({"seed": run.settings.seed, "pass": row.number, **kept, **_settings(run.settings)})
        if run.stopped:
            rows.append({"seed": run.settings.seed, "pass": len(run.rows) + 1, **_settings(run.settings)})
    write_table(path, rows)


def write_last_pass(runs: Sequence[Run], path: Path) -> None:
    """A row for each run, as it was after its last pass; errors are empty for a run whose weights ran away."""
    rows = []
    for run in runs:
        last = {} if run.stopped else {key: getattr(run.rows[-1], key) for key in ("training_error", "error")}
        rows.append({"seed": run.settings.seed, "training_error": "", "error": "", **last, **_settings(run.settings)})
    write_table(path, rows)


def write_rejection(runs: Sequence[Run], path: Path) -> None:
    """A row for each run: which fraction of the test digits to reject for 0.5% error on the rest."""
    test = load_mnist("test")
    rows = []
    for run in runs:
        curve = rejection_curve(distances(run.model, test.images), test.labels)
        rejected = {"error": float(curve.error[0]), "rejected": round(curve.rejected_for(REJECTION_TARGET), 6)}
        rows.append(
            {"seed": run.settings.seed, **rejected, "error_on_rest": REJECTION_TARGET, **_settings(run.settings)}
        )
    write_table(path, rows)


def write_first_patterns(runs: Sequence[Run], path: Path) -> None:
    """A row for each seed of Figure 5: what its first 2,000 patterns gave, for others to check theirs by."""
    write_table(path, [first_patterns(run.settings) for run in runs])


def first_patterns(settings: Settings) -> dict[str, object]:
    """Train on the first 2,000 patterns of a run's first pass, and return what came out."""
    model, generator = start(settings)
    digits = training_digits(settings, load_mnist("train"))
    optimizer = SDLM(model, eta=settings.eta_factor * eta_of_pass(1))
    how = {"loss": settings.loss, "j": settings.j, "patterns": FIRST_PATTERNS}
    seen = train_pass(model, optimizer, digits, generator=generator, **how)
    total = sum(float(parameter.detach().double().abs().sum()) for parameter in model.parameters())
    return {
        "seed": settings.seed,
        "patterns": seen.patterns,
        "wrong": seen.wrong,
        "mean_loss": round(seen.loss, 6),
        "sum_of_absolute_weights": round(total, 4),
        **_settings(settings),
    }


def _settings(settings: Settings) -> dict[str, object]:
    kept = {key: value for key, value in asdict(settings).items() if key not in ("seed", "distortion")}
    distortion = asdict(settings.distortion) if settings.distortion else {}
    return {**kept, "distortion": " ".join(f"{name}={limit:g}" for name, limit in distortion.items())}


EXPERIMENTS = {
    "choices": Experiment("what the paper leaves open, on digits held out of training", choices, write_last_pass),
    "figure5": Experiment("error after each of 20 passes", figure5, write_passes),
    "figure6": Experiment("15,000, 30,000 and 60,000 training digits", figure6, write_last_pass),
    "distortions": Experiment("540,000 distorted digits beside the 60,000", distortions, write_passes),
    "rejection": Experiment("how many to reject for 0.5% error on the rest", figure5, write_rejection),
    "first_patterns": Experiment("the first 2,000 patterns of each seed, to check by", figure5, write_first_patterns),
}


def median_run(runs: Sequence[Run]) -> Run:
    """Return the run whose last test error is the median; of an even number, the lower of the two in the middle."""
    ranked = sorted(runs, key=lambda run: (run.rows[-1].error, run.settings.seed))
    return ranked[(len(ranked) - 1) // 2]
