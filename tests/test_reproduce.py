"""The reproduction: runs that go on where they were stopped, distortions, rejection, tables, the command."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lenet_course.data import Digits, load_mnist
from lenet_course.reproduce import __main__ as command
from lenet_course.reproduce import experiments, paper, runs, tables
from lenet_course.reproduce.distortions import Distortion, random_affine, warp, with_distorted_copies
from lenet_course.reproduce.experiments import EXPERIMENTS, first_patterns, median_run
from lenet_course.reproduce.rejection import rejection_curve
from lenet_course.reproduce.runs import PassRow, Run, Settings, run, start, training_digits
from lenet_course.reproduce.side_by_side import run_all
from lenet_course.sdlm import eta_of_pass

SMALL = Settings(digits=300, passes=3)


def numbers(finished):
    """What must be the same however often a run was stopped: all but the seconds."""
    return [replace(row, seconds=0) for row in finished.rows]


def weights(finished):
    return torch.cat([parameter.detach().flatten() for parameter in finished.model.parameters()])


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A small run that nobody stopped."""
    return run(SMALL, tmp_path_factory.mktemp("whole"))


# --- runs -----------------------------------------------------------------------------------------------------------


def test_a_run_has_a_row_for_each_pass_with_the_schedules_rate(whole):
    assert [row.number for row in whole.rows] == [1, 2, 3]
    assert [row.eta for row in whole.rows] == [0.2 * eta_of_pass(number) for number in (1, 2, 3)]
    assert all(0 < row.training_error < 1 and 0 < row.error < 1 and row.training_loss > 0 for row in whole.rows)


def test_the_same_settings_give_the_same_numbers_and_another_seed_others(whole, tmp_path):
    assert numbers(run(SMALL, tmp_path)) == numbers(whole)
    other = run(replace(SMALL, seed=1), tmp_path)
    assert numbers(other) != numbers(whole)
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("stopped_in", [1, 2, 3])
def test_stopped_within_a_pass_it_ends_with_the_same_numbers(whole, tmp_path, monkeypatch, stopped_in):
    real, calls = runs.train_pass, []

    def stopped(*arguments, **settings):
        calls.append(1)
        result = real(*arguments, **settings)  # the weights have moved, and nobody has written them down
        if len(calls) == stopped_in:
            raise KeyboardInterrupt
        return result

    monkeypatch.setattr(runs, "train_pass", stopped)
    with pytest.raises(KeyboardInterrupt):
        run(SMALL, tmp_path)
    monkeypatch.setattr(runs, "train_pass", real)
    reported = []
    resumed = run(SMALL, tmp_path, report=lambda current: reported.append(len(current.rows)))
    assert reported == list(range(stopped_in, 4))
    assert numbers(resumed) == numbers(whole)
    assert torch.equal(weights(resumed), weights(whole))


def test_a_finished_run_is_read_and_not_trained_again(whole, tmp_path, monkeypatch):
    run(SMALL, tmp_path)
    monkeypatch.setattr(runs, "train_pass", None)
    again = run(SMALL, tmp_path)
    assert numbers(again) == numbers(whole) and torch.equal(weights(again), weights(whole))


def test_a_crash_while_writing_leaves_the_checkpoint_of_the_pass_before(whole, tmp_path, monkeypatch):
    with pytest.raises(RuntimeError):
        run(SMALL, tmp_path, report=_raise_after(2))
    (path,) = tmp_path.iterdir()
    before = path.read_bytes()
    monkeypatch.setattr(os, "replace", _no_space)
    with pytest.raises(OSError):
        run(SMALL, tmp_path)
    monkeypatch.undo()
    assert path.read_bytes() == before
    assert numbers(run(SMALL, tmp_path)) == numbers(whole)


def _raise_after(passes):
    def report(current):
        if len(current.rows) == passes:
            raise RuntimeError

    return report


def _no_space(*paths):
    raise OSError("No space left on device")


def test_a_damaged_checkpoint_is_named_and_not_overwritten(tmp_path):
    path = tmp_path / f"{SMALL.name}.safetensors"
    path.write_bytes(b"half of a file")
    with pytest.raises(ValueError, match=f"{path.name} is not a checkpoint.*Delete it"):
        run(SMALL, tmp_path)
    assert path.read_bytes() == b"half of a file"


def test_weights_that_run_away_end_a_run_and_are_remembered(tmp_path, monkeypatch):
    def run_away(*arguments, **settings):
        raise ArithmeticError("too large")

    monkeypatch.setattr(runs, "train_pass", run_away)
    assert run(SMALL, tmp_path).stopped == "too large"
    monkeypatch.setattr(runs, "train_pass", None)
    assert run(SMALL, tmp_path).stopped == "too large"


def test_start_leaves_the_callers_generator_alone():
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    start(SMALL)
    assert torch.equal(torch.rand(1), expected)


def test_first_weights_follow_the_rule():
    model, _ = start(replace(SMALL, initial="2.4/n"))
    assert 2.3 / 400 < model.c5.weight.abs().max() <= 2.4 / 400
    model, _ = start(SMALL)
    assert 0.049 < model.c5.weight.abs().max() <= 0.05


def test_validation_digits_are_never_trained_on():
    train = load_mnist("train")
    used = training_digits(Settings(validation=True, digits=55_000), train)
    assert torch.equal(used.images, train.images[:55_000])
    few = training_digits(Settings(validation=True, digits=2_000), train)
    held_out = {image.numpy().tobytes() for image in train.images[55_000:]}
    assert sum(image.numpy().tobytes() in held_out for image in few.images) == 0


def test_fewer_digits_are_drawn_by_the_seed():
    train = load_mnist("train")
    one, same, other = (training_digits(Settings(seed=seed, digits=100), train) for seed in (1, 1, 2))
    assert torch.equal(one.images, same.images) and not torch.equal(one.images, other.images)
    assert len(one) == 100


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        ({"digits": 0}, "digits are 1 to 60,000"),
        ({"digits": 60_001}, "got 60,001"),
        ({"digits": 56_000, "validation": True}, "digits are 1 to 55,000"),
        ({"passes": 0}, "passes 1 or more"),
        ({"initial": "zero"}, "Unknown initial"),
        ({"order": "sorted"}, "Unknown initial or order"),
    ],
)
def test_settings_that_make_no_sense(wrong, complaint):
    with pytest.raises(ValueError, match=complaint):
        Settings(**wrong)


def test_names_tell_runs_apart():
    changed = [{"seed": 1}, {"passes": 4}, {"j": 2.0}, {"loss": "mse"}, {"distortion": experiments.WEAK}]
    names = {SMALL.name, *(replace(SMALL, **change).name for change in changed)}
    assert len(names) == 1 + len(changed)


# --- distortions ----------------------------------------------------------------------------------------------------

NONE = Distortion(translation=0, scaling=0, squeezing=0, shear=0)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def blob(height=28, width=28):
    image = torch.zeros(1, height, width, dtype=torch.uint8)
    image[0, 10:18, 12:16] = 255
    return image


def test_no_distortion_changes_nothing():
    images = load_mnist("test").images[:20]
    assert torch.equal(warp(images, random_affine(20, NONE, generator())), images)


def test_whole_pixels_are_moved_exactly():
    affine = torch.tensor([[[1.0, 0.0, -2.0], [0.0, 1.0, 3.0]]])  # takes its grey from 2 to the left and 3 below
    assert torch.equal(warp(blob(), affine), torch.roll(blob(), shifts=(-3, 2), dims=(1, 2)))


def test_squeezing_makes_wide_flat_or_narrow_tall_about_the_centre():
    def sides(affine):
        ink = warp(blob(), affine)[0] > 127
        return int(ink.any(dim=0).sum()), int(ink.any(dim=1).sum())

    wide = torch.tensor([[[1 / 2, 0.0, 0.0], [0.0, 2.0, 0.0]]])
    narrow = torch.tensor([[[2.0, 0.0, 0.0], [0.0, 1 / 2, 0.0]]])
    assert sides(wide) == (8, 4) and sides(narrow) == (2, 16)


def test_shear_moves_rows_sideways_and_none_up_or_down():
    affine = torch.tensor([[[1.0, -0.5, 0.0], [0.0, 1.0, 0.0]]])
    sheared = warp(blob(), affine)[0].double()
    assert torch.equal(sheared.sum(dim=1) > 0, blob()[0].sum(dim=1) > 0)
    middles = (sheared[10:18] * torch.arange(28.0)).sum(dim=1) / sheared[10:18].sum(dim=1)
    assert torch.allclose(middles.diff(), torch.full((7,), 0.5, dtype=torch.float64), atol=0.02)


@given(
    seed=st.integers(0, 2**31),
    limits=st.tuples(st.floats(0, 3), st.floats(0, 0.4), st.floats(0, 0.4), st.floats(0, 0.5)),
)
def test_affine_maps_stay_within_their_ranges(seed, limits):
    translation, scaling, squeezing, shear = limits
    affine = random_affine(50, Distortion(*limits), generator(seed))
    forwards = torch.linalg.inv(affine[:, :, :2])
    width, height = forwards[:, 0, 0], forwards[:, 1, 1]
    slack = 1e-9
    assert (forwards[:, 1, 0].abs() < slack).all()
    assert ((width * height).sqrt() - 1).abs().max() <= scaling + slack
    squeeze = (width / height).sqrt()
    assert torch.maximum(squeeze, 1 / squeeze).max() <= 1 + squeezing + slack
    assert (forwards[:, 0, 1] / height).abs().max() <= shear + slack
    moved = -(forwards @ affine[:, :, 2:])
    assert moved.abs().max() <= translation + 1e-6


def test_distorted_copies_keep_their_labels_and_the_originals_come_first():
    digits = load_mnist("test")[:30]
    more = with_distorted_copies(digits, 2, experiments.STRONG, generator())
    assert len(more) == 90
    assert torch.equal(more.images[:30], digits.images) and torch.equal(more.labels, digits.labels.repeat(3))
    assert not torch.equal(more.images[30:60], more.images[60:])
    again = with_distorted_copies(digits, 2, experiments.STRONG, generator())
    assert torch.equal(more.images, again.images)


def test_warp_wants_a_map_for_each_image():
    with pytest.raises(ValueError, match=r"each of the 1 images; got \(2, 2, 3\)"):
        warp(blob(), random_affine(2, NONE, generator()))


def test_a_run_with_distortions_sees_every_pattern_twice_in_twenty_passes(tmp_path, monkeypatch):
    few = Digits(*(tensor[:40] for tensor in (load_mnist("train").images, load_mnist("train").labels)))
    seen = []

    def look(model, optimizer, digits, **settings):
        seen.append(digits.images.flatten(1))
        raise ArithmeticError("enough")

    monkeypatch.setattr(runs, "train_pass", look)
    settings = Settings(digits=40, distortion=experiments.STRONG)
    pool = with_distorted_copies(few, 9, experiments.STRONG, generator())
    current = Run(settings, [], start(settings)[0])
    for number in range(20):
        current.rows = [PassRow(n + 1, 0, 0, 0, 0, 0) for n in range(number)]
        runs._one_pass(current, runs.SDLM(current.model), pool, generator(), few)
    assert all(len(part) == 40 for part in seen)
    everything = torch.cat(seen).unique(dim=0, return_counts=True)
    expected = pool.images.flatten(1).unique(dim=0, return_counts=True)
    assert torch.equal(everything[0], expected[0]) and torch.equal(everything[1], 2 * expected[1])


# --- rejection ------------------------------------------------------------------------------------------------------


def test_the_least_certain_are_rejected_first():
    distances = torch.full((4, 10), 50.0)
    distances[:, 1] = torch.tensor([10.0, 10.0, 10.0, 10.0])
    distances[:, 2] = torch.tensor([11.0, 30.0, 12.0, 40.0])  # gaps 1, 20, 2, 30
    curve = rejection_curve(distances, torch.tensor([2, 1, 2, 1]))  # the two with small gaps are wrong
    assert curve.rejected.tolist() == [0, 0.25, 0.5, 0.75]
    assert curve.error.tolist() == pytest.approx([0.5, 1 / 3, 0, 0])
    assert curve.rejected_for(0.4) == 0.25 and curve.rejected_for(0.005) == 0.5 and curve.rejected_for(0.5) == 0


def test_the_order_of_the_digits_does_not_matter():
    distances = torch.rand(200, 10, generator=generator())
    labels = torch.randint(0, 10, (200,), generator=generator(1))
    order = torch.randperm(200, generator=generator(2))
    one, other = rejection_curve(distances, labels), rejection_curve(distances[order], labels[order])
    assert torch.allclose(one.error, other.error)
    assert one.error[0] == (distances.argmin(dim=1) != labels).double().mean()


def test_an_error_that_cannot_be_reached_is_said():
    curve = rejection_curve(torch.tensor([[1.0, 2.0]]), torch.tensor([1]))
    with pytest.raises(ValueError, match=r"down to 0.50%"):
        curve.rejected_for(0.005)


@pytest.mark.parametrize("shapes", [((4,), (4,)), ((4, 1), (4,)), ((4, 10), (3,)), ((0, 10), (0,))])
def test_rejection_wants_distances_and_labels(shapes):
    with pytest.raises(ValueError, match=r"distances \(N, 10\) and N labels"):
        rejection_curve(torch.zeros(shapes[0]), torch.zeros(shapes[1], dtype=torch.int64))


# --- experiments and tables -----------------------------------------------------------------------------------------


def test_experiments_have_the_runs_that_they_name():
    assert [settings.seed for settings in EXPERIMENTS["figure5"].runs(None)] == list(range(10))
    assert all(settings == Settings(seed=settings.seed) for settings in EXPERIMENTS["figure5"].runs(None))
    sizes = [(settings.digits, settings.seed) for settings in EXPERIMENTS["figure6"].runs(None)]
    assert sizes == [(digits, seed) for digits in (15_000, 30_000, 60_000) for seed in range(3)]
    assert len(EXPERIMENTS["distortions"].runs(None)) == 3
    for settings in EXPERIMENTS["choices"].runs(None):
        assert settings.validation, "a choice must not be made on the test digits"
    for name in set(EXPERIMENTS) - {"choices"}:
        assert not any(settings.validation for settings in EXPERIMENTS[name].runs(None))


def test_the_tables_of_a_small_experiment(whole, tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "RESULTS_FOLDER", tmp_path)
    experiments.write_passes([whole], tmp_path / "passes.csv")
    rows = tables.read_results("passes")
    assert [row["pass"] for row in rows] == [1, 2, 3]
    assert [row["error"] for row in rows] == [row.error for row in whole.rows]
    assert {
        "eta",
        "training_error",
        "training_loss",
        "digits",
        "j",
        "loss",
        "machine",
        "torch",
        "course",
        "date",
    } <= set(rows[0])
    experiments.write_last_pass([whole], tmp_path / "last.csv")
    assert [row["error"] for row in tables.read_results("last")] == [whole.rows[-1].error]
    experiments.write_rejection([whole], tmp_path / "rejection.csv")
    (row,) = tables.read_results("rejection")
    assert row["error"] == pytest.approx(whole.rows[-1].error) and row["error"] < row["rejected"] < 1


def test_a_run_that_ran_away_has_a_row_without_numbers(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "RESULTS_FOLDER", tmp_path)
    lost = Run(SMALL, [], start(SMALL)[0], stopped="too large")
    experiments.write_passes([lost], tmp_path / "passes.csv")
    experiments.write_last_pass([lost], tmp_path / "last.csv")
    assert [(row["pass"], row["seed"]) for row in tables.read_results("passes")] == [(1, 0)]
    assert tables.read_results("last")[0]["error"] == ""


def test_a_table_that_is_not_there_names_those_that_are():
    with pytest.raises(FileNotFoundError, match=r"no table 'nothing'.*lenet_one_epoch"):
        tables.read_results("nothing")


def test_the_median_run_is_one_of_the_runs():
    made = [
        Run(Settings(seed=seed), [PassRow(1, 0, 0, 0, error, 0)], None) for seed, error in enumerate((0.3, 0.1, 0.2))
    ]
    assert median_run(made).settings.seed == 2
    assert median_run(made[:2]).settings.seed == 1


def test_the_papers_82_errors_are_82():
    assert len(paper.FIGURE_8.split()) == 82
    assert all(right != answer for right, answer in (pair.split(">") for pair in paper.FIGURE_8.split()))


def test_the_first_2000_patterns_of_a_recorded_seed_give_the_recorded_numbers():
    recorded = {row["seed"]: row for row in tables.read_results("lenet5_first_patterns")}
    found = first_patterns(Settings(seed=3))
    for name in ("patterns", "wrong"):
        assert found[name] == recorded[3][name]
    assert found["mean_loss"] == pytest.approx(recorded[3]["mean_loss"], abs=2e-5)
    assert found["sum_of_absolute_weights"] == pytest.approx(recorded[3]["sum_of_absolute_weights"], abs=2e-3)


# --- the command ----------------------------------------------------------------------------------------------------


def test_runs_side_by_side_give_what_one_alone_gives(whole, tmp_path):
    both = run_all([SMALL, replace(SMALL, seed=1)], tmp_path, workers=2, report=False)
    assert numbers(both[0]) == numbers(whole)
    assert both[1].settings.seed == 1


def test_the_command_runs_writes_its_table_and_goes_on(tmp_path, monkeypatch, capsys):
    small = replace(
        EXPERIMENTS["figure5"], runs=lambda seeds: [replace(SMALL, seed=seed) for seed in range(seeds or 2)]
    )
    monkeypatch.setitem(EXPERIMENTS, "figure5", small)
    places = ["--folder", str(tmp_path / "runs"), "--results", str(tmp_path), "--workers", "1"]
    command.main(["figure5", "--seeds", "1", *places])
    assert "lenet5_figure5.csv" in capsys.readouterr().out
    monkeypatch.setattr(tables, "RESULTS_FOLDER", tmp_path)
    assert [row["seed"] for row in tables.read_results("lenet5_figure5")] == [0, 0, 0]
    command.main(["figure5", *places])
    assert [row["seed"] for row in tables.read_results("lenet5_figure5")] == [0, 0, 0, 1, 1, 1]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT for a process group")
@pytest.mark.parametrize("seconds", [0.3, 6])  # while the process of the run starts, and while it trains
def test_ctrl_c_says_that_the_same_command_goes_on(tmp_path, seconds):
    places = ["--folder", str(tmp_path), "--results", str(tmp_path)]
    process = subprocess.Popen(
        [sys.executable, "-m", "lenet_course.reproduce", "figure5", "--workers", "1", *places],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert "figure5" in process.stdout.readline()
    time.sleep(seconds)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "The same command goes on" in errors and "Traceback" not in errors


@pytest.mark.parametrize("arguments", [[], ["figure7"], ["figure5", "--seeds", "0"], ["figure5", "--workers", "x"]])
def test_a_wrong_command_line_is_answered_with_the_usage(arguments, capsys):
    with pytest.raises(SystemExit):
        command.main(arguments)
    assert "usage: python -m lenet_course.reproduce" in capsys.readouterr().err
