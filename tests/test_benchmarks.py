"""The benchmarks: that they compare what they say, count right, and write tables that can be read. No time is asserted."""

from __future__ import annotations

import csv
import importlib
import json
import math
import os
import platform
import runpy
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest
import torch

from lenet_course.arithmetic import count_parameters, layer_table
from lenet_course.lenet import LeNet
from lenet_course.training import fit

ROOT = Path(__file__).resolve().parent.parent
BENCHMARKS = ROOT / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

import measuring  # noqa: E402
from measuring import at_least, at_most, figure  # noqa: E402

SCRIPTS = sorted({path.stem for path in BENCHMARKS.glob("*.py")} - {"measuring", "official_example"})
CHAPTERS = sorted((ROOT / "chapters").glob("*.ipynb"))


def load(name):
    return importlib.import_module(name)


# --- turns, medians, targets ----------------------------------------------------------------------------------------


def test_sides_take_turns():
    called, told = [], []

    def side(name):
        def measure():
            called.append(name)
            return {"seconds": float(len(called))}

        return measure

    found = measuring.alternate(
        {"a": side("a"), "b": side("b")}, 3, lambda number, figures: told.append((number, figures["b"]["seconds"]))
    )
    assert called == ["a", "b"] * 3
    assert found == {"a": {"seconds": [1, 3, 5]}, "b": {"seconds": [2, 4, 6]}}
    assert told == [(1, 2), (2, 4), (3, 6)]


def test_a_figure_has_median_and_spread():
    line = figure("x", [3.0, 1.0, 2.00004], "s")
    assert (line.median, line.lowest, line.highest, line.rounds) == (2.0, 1.0, 3.0, 3)
    assert (line.ratio, line.target, line.met, line.kind) == (None, "", "", "measured")


def test_a_ratio_is_the_median_of_the_rounds_ratios():
    """A machine that becomes three times slower in the last rounds changes both sides, and not the ratio."""
    line = figure("x", [1.0, 1.0, 3.0, 3.0, 3.0], "s", against="y", others=[2.0, 2.0, 6.0, 6.0, 6.0])
    assert (line.ratio, line.against) == (0.5, "y")
    with pytest.raises(ValueError):
        figure("x", [1.0], "s", against="y", others=[1.0, 2.0])


@pytest.mark.parametrize(
    ("target", "value", "met", "words"),
    [
        (at_most(0.45), 0.45, "yes", "at most 0.45"),
        (at_most(0.45), 0.46, "no", "at most 0.45"),
        (at_least(20), 20, "yes", "at least 20"),
        (at_least(20), 19.9, "no", "at least 20"),
    ],
)
def test_a_target_is_met_or_missed(target, value, met, words):
    alone = figure("x", [value], "s", target=target)
    assert (alone.met, alone.target) == (met, words)
    # With a ratio, that is what the target is for.
    compared = figure("x", [2 * value], "s", against="y", others=[2.0], target=target)
    assert compared.met == met


def test_the_table_says_what_was_missed_and_what_was_computed():
    lines = [
        figure("fit", [1.0, 2.0], "s", against="usual loop", others=[2.0, 4.0], target=at_most(0.45)),
        figure("example", [3000.0], "s", target=at_least(20), kind="computed"),
    ]
    text = measuring.table("An epoch", lines)
    assert text.splitlines()[0].startswith("An epoch")
    assert "0.5 x usual loop" in text and "at most 0.45: MISSED" in text and "1 to 2" in text
    assert "example (computed)" in text and "3,000 s" in text and "at least 20: met" in text


# --- processes ------------------------------------------------------------------------------------------------------

SCRIPT = f"""
import os, sys
sys.path.insert(0, {str(BENCHMARKS)!r})
from measuring import serve
print("something else")
count = 0
def measure():
    global count
    count += 1
    if count == 3:
        sys.exit(5)
    return {{"count": count, "spin": float(os.environ.get("GOMP_SPINCOUNT", -1)), "words": len(sys.argv)}}
serve(measure)
"""


@pytest.fixture
def script(tmp_path):
    path = tmp_path / "side.py"
    path.write_text(SCRIPT)
    return str(path)


def test_a_side_is_one_process_without_the_courses_settings(script, monkeypatch):
    monkeypatch.setenv("GOMP_SPINCOUNT", "1000")
    side = measuring.Side(script, "a name", "--digits", 5)
    side.wait_until_ready()
    assert side.seconds_to_ready > 0
    assert side.measure() == {"count": 1, "spin": -1, "words": 5}
    assert side.measure()["count"] == 2
    with pytest.raises(measuring.MeasuringError, match="'a name' ended with code 5"):
        side.measure()
    side.close()


def test_a_side_gets_the_settings_that_are_meant_for_it(script):
    side = measuring.Side(script, "a", environment={"GOMP_SPINCOUNT": "7"})
    assert side.measure()["spin"] == 7
    side.close()


def test_processes_take_turns_and_end(script, capsys):
    sides = [measuring.Side(script, name) for name in ("a", "b")]
    found = measuring.alternate_processes(sides, 2)
    assert found["a"]["count"] == found["b"]["count"] == [1, 2]
    assert capsys.readouterr().out.splitlines()[1] == "round 2: a 2 s, b 2 s"
    assert all(side._process.poll() is not None for side in sides)


# --- files ----------------------------------------------------------------------------------------------------------


def test_a_table_keeps_figures_and_the_kind_of_machine(tmp_path):
    path = measuring.write("x", [figure("fit", [1.0, 2.0], "s", target=at_most(3))], tmp_path)
    assert path == tmp_path / "speed_x.csv"
    with path.open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert row["measured"] == "fit" and float(row["median"]) == 1.5 and row["met"] == "yes" and row["rounds"] == "2"
    columns = "measured median unit lowest highest rounds kind against ratio target met note processor cores threads"
    assert list(row)[:15] == columns.split()
    assert row["processor"] and int(row["cores"]) >= 1 and int(row["threads"]) >= 1
    assert {"machine", "torch", "course", "date"} <= set(row)
    assert measuring.read(path) == [row]
    assert measuring.read(tmp_path / "speed_y.csv") == []


def test_a_table_names_no_host_and_no_path(tmp_path):
    text = measuring.write("x", [figure("fit", [1.0], "s")], tmp_path).read_text()
    assert platform.node() not in text
    assert str(ROOT) not in text and str(Path.home()) not in text


# --- an epoch -------------------------------------------------------------------------------------------------------


def test_operations_are_those_of_the_layers():
    """Each multiply-add counts two; backwards twice as many, but for the first layer's inputs, whose gradient nobody needs."""
    table = layer_table(LeNet(), (1, 28, 28))
    one_digit = 2 * (3 * table.multiply_adds - table["conv1"].multiply_adds)
    assert load("epoch").operations(60_000) == 60_000 * one_digit
    assert 60_000 * one_digit == pytest.approx(0.79e12, rel=0.005)


def test_the_floor_makes_the_steps_of_fit(few_digits):
    epoch = load("epoch")
    ours, floor = LeNet(), LeNet()
    floor.load_state_dict(ours.state_dict())
    digits = few_digits[:64]
    history = fit(ours, digits, epochs=3, batch_size=64, learning_rate=epoch.RATE, device="cpu", report=False)
    _, loss = epoch.same_batch(floor, digits, 3)
    assert loss == pytest.approx(sum(history.training_loss) / 3, rel=1e-4)
    for mine, theirs in zip(floor.parameters(), ours.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-6)


def test_the_usual_loop_has_the_same_network(few_digits):
    epoch = load("epoch")
    epoch.check_same_network(LeNet(), LeNet().prepare(few_digits.images))
    with pytest.raises(AssertionError):
        epoch.check_same_network(LeNet(relu_after_conv=False), LeNet().prepare(few_digits.images))


# --- from start to 99.0% --------------------------------------------------------------------------------------------


def test_the_official_example_is_the_published_network():
    official = load("official_example")
    model = official.network()
    assert count_parameters(model) == 320 + 18_496 + 9_216 * 128 + 128 + 1_290
    outputs = model.eval()(torch.zeros(2, 1, 28, 28))
    torch.testing.assert_close(outputs.exp().sum(dim=1), torch.ones(2))
    assert official.STEPS == 938


def test_the_official_example_goes_on_where_it_was_stopped(tmp_path, monkeypatch):
    official = load("official_example")
    train, ends = official.Example.train, []
    monkeypatch.setattr(official.Example, "train", lambda self: train(self, 2))

    def test(self):
        ends.append(self.model[1 - 1].weight.clone())
        return 0.9 + 0.01 * len(ends), 0.0

    monkeypatch.setattr(official.Example, "test", test)
    assert official.epochs_to(0.92, tmp_path / "whole.pt", lambda seen: None) == pytest.approx([0.91, 0.92])
    ends_of_whole, ends[:] = list(ends), []

    class Stop(Exception):
        pass

    def stop(seen):
        raise Stop

    with pytest.raises(Stop):
        official.epochs_to(0.92, tmp_path / "parts.pt", stop)
    told = []
    official.epochs_to(0.92, tmp_path / "parts.pt", lambda seen: told.append(len(seen)))
    assert told == [1, 2]  # what it found, and what it added
    assert torch.equal(ends[-1], ends_of_whole[-1])


def test_the_examples_time_is_computed_from_its_parts():
    to_99 = load("to_99")
    found = {
        "ours": {"seconds": [10.0, 20.0], "accuracy": [0.991, 0.989]},
        "example": {"steps": [7.0, 14.0], "evaluation": [1.0, 2.0]},
    }
    lines = {line.measured: line for line in to_99.figures_of(found, 3.0, 6, 100)}
    whole = lines["PyTorch's example, 6 epochs"]
    first, second = (3 + 6 * (9.38 * steps + 5 * evaluation) for steps, evaluation in ((7, 1), (14, 2)))
    assert (whole.lowest, whole.highest) == (pytest.approx(first, rel=1e-3), pytest.approx(second, rel=1e-3))
    assert whole.kind == "computed" and whole.ratio == pytest.approx((first / 10 + second / 20) / 2, rel=1e-3)
    assert lines["ours, start to accuracy"].met == "yes"
    assert lines["ours, test accuracy"].median == 99.0
    assert "1 of 2 rounds reached 99.0%" in lines["ours, test accuracy"].note


def test_without_the_number_of_epochs_nothing_is_computed(capsys):
    found = {"ours": {"seconds": [10.0], "accuracy": [0.991]}, "example": {"steps": [7.0], "evaluation": [1.0]}}
    assert not any(line.kind == "computed" for line in load("to_99").figures_of(found, 3.0, None, 100))
    assert "--full" in capsys.readouterr().out


def test_the_first_epoch_at_the_goal_counts(tmp_path):
    to_99 = load("to_99")
    assert to_99.epochs_needed(tmp_path) is None
    accuracies = enumerate((0.98, 0.9899, 0.99, 0.991), start=1)
    rows = [{"epoch": number, "test_accuracy": accuracy} for number, accuracy in accuracies]
    measuring.write(to_99.EPOCHS_TABLE, rows[:2], tmp_path)
    assert to_99.epochs_needed(tmp_path) is None
    measuring.write(to_99.EPOCHS_TABLE, rows, tmp_path)
    assert to_99.epochs_needed(tmp_path) == 3


# --- growth ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("width", "parameters"), [(0.5, 109_295), (1.0, 431_080), (2.0, 1_712_150)])
def test_a_scaled_network_is_lenet_with_more_or_fewer_maps(width, parameters, few_digits):
    model = load("growth").scaled_lenet(width)
    assert count_parameters(model) == parameters
    assert model(model.prepare(few_digits.images[:2])).shape == (2, 10)


def test_some_steps_of_fit_are_timed_and_the_rest_is_not_run(few_digits):
    growth = load("growth")
    settings = {"epochs": 1, "batch_size": 16, "device": "cpu", "report": False}
    steps = []

    def counting(*given, after_step, **settings):
        def both(number):
            steps.append(number)
            after_step(number)

        return fit(*given, after_step=both, **settings)

    assert growth.time_steps(counting, LeNet(), few_digits, settings, 4) > 0
    assert steps == list(range(1, growth.WARM_UP + 5))
    with pytest.raises(ValueError, match="ended before step 32"):
        growth.time_steps(fit, LeNet(), few_digits, settings, 30)


def test_the_digits_for_growth_are_mnist_first(tmp_path, train_digits):
    growth = load("growth")
    growth.write_digits(tmp_path / "digits", 100)
    given = SimpleNamespace(file=tmp_path / "digits", digits=50, width=0.5, batch_size=8, slice=16, whole=False)
    assert (tmp_path / "digits").read_bytes() == train_digits.images[:100].numpy().tobytes()
    found = growth.fit_side(given)()
    assert found["seconds_a_digit"] > 0 and found["megabytes"] > 50 and found["parameters"] == 109_295


def test_a_row_of_growth_has_time_and_memory():
    growth = load("growth")
    found = {"seconds_a_digit": [0.001, 0.003, 0.002], "megabytes": [500.0, 501.6, 501.2], "parameters": [431_080] * 3}
    given = SimpleNamespace(whole=False, slice=1024, rounds=3)
    line = growth.row("digits", 15_000, {**growth.USUAL, "digits": 15_000}, found, given)
    assert (line["varied"], line["value"], line["digits"], line["batch_size"]) == ("digits", 15_000, 15_000, 64)
    assert (line["seconds_an_epoch"], line["lowest"], line["highest"]) == (30, 15, 45)
    assert line["peak_megabytes"] == 502 and line["kind"] == "computed from 1024 digits"


# --- chapters and imports -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda path: path.stem)
def test_no_chapter_imports_what_it_does_not_use(chapter):
    imports = load("imports")
    loaded = imports.loaded_by(chapter)
    assert imports.unused_in(chapter, loaded) == []


def test_what_is_loaded_and_not_used_is_found(tmp_path):
    imports = load("imports")
    cells = [nbformat.v4.new_code_cell("import math\nfrom lenet_course.sdlm_compiled import distances\nx = 1")]
    path = tmp_path / "chapter.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    assert imports.import_lines(path) == "import math\nfrom lenet_course.sdlm_compiled import distances"
    assert imports.unused_in(path, ["numba"]) == []
    assert imports.unused_in(path, ["numba", "torchvision"]) == ["torchvision"]


def test_a_chapter_is_run_with_time_and_memory(tmp_path):
    source = "import os\nassert os.environ['LENET_COURSE_WEIGHTS']\nink = bytearray(os.urandom(1)) * 200_000_000"
    path = tmp_path / "chapter.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)]), path)
    code = f"import sys; sys.path.insert(0, {str(BENCHMARKS)!r})\n"
    code += f"import json, pathlib, chapters; print(json.dumps(chapters.run_chapter(pathlib.Path({str(path)!r}))))"
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    found = json.loads(output.splitlines()[-1])
    assert found["seconds"] > 0
    assert 20 < found["megabytes"] < 1000 or os.name == "nt"


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="There is no /proc here.")
def test_children_and_their_memory_are_found():
    chapters = load("chapters")
    code = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'print(1, flush=True); input()'])"
    child = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    child.stdout.readline()
    found = chapters.descendants(os.getpid())
    assert child.pid in found and len(found) >= 2
    assert 1e6 < chapters.memory_of(child.pid) < 1e9
    child.communicate(b"\n")
    assert chapters.memory_of(child.pid) == 0


def test_chapters_that_do_not_fit_are_left_out(tmp_path, monkeypatch, capsys):
    chapters = load("chapters")
    monkeypatch.setattr(chapters, "RESULTS", tmp_path)
    measuring.write("chapters", [figure("a, time", [5.0], "s"), figure("b, time", [50.0], "s")], tmp_path)
    monkeypatch.setattr(chapters, "measure", lambda name: {"seconds": 1.0, "megabytes": 2.0})
    arguments = ["--chapters", "a", "b", "c", "--seconds", "40", "--results", str(tmp_path / "new")]
    monkeypatch.setattr(sys, "argv", ["chapters.py", *arguments])
    chapters.main()
    assert "Left out, since time was short: b, c" in capsys.readouterr().out
    names = [row["measured"] for row in measuring.read(tmp_path / "new" / "speed_chapters.csv")]
    assert names == ["a, time", "a, memory"]


def test_the_95th_percentile_is_a_value_that_was_measured():
    percentile = load("drawing_pad").percentile_95
    assert percentile([float(value) for value in range(1, 21)]) == 19
    assert percentile([3.0]) == 3.0


# --- all of them ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SCRIPTS)
def test_every_benchmark_says_how_it_is_used(name, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [f"{name}.py", "--help"])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(BENCHMARKS / f"{name}.py"), run_name="__main__")
    assert end.value.code == 0
    assert "usage:" in capsys.readouterr().out


def test_all_are_run_but_the_one_that_measures_no_time():
    assert set(load("all").PARTS) == set(SCRIPTS) - {"all", "one_epoch"}


def test_each_is_started_with_its_share(tmp_path):
    command = load("all").command
    assert command("epoch", 5, tmp_path, 100)[-4:] == ["--results", str(tmp_path), "--rounds", "5"]
    assert command("chapters", 5, tmp_path, 99.6)[-2:] == ["--seconds", "100"]


def test_the_summary_has_the_figures_with_a_target_that_were_measured_now(tmp_path):
    run_all = load("all")
    lines = [
        figure("fit", [1.0], "s", against="usual loop", others=[2.0], target=at_most(0.45)),
        figure("usual loop", [2.0], "s"),
        figure("start", [0.1], "s", target=at_most(20), kind="computed"),
    ]
    path = measuring.write("epoch", lines, tmp_path)
    written = path.stat().st_mtime
    found = run_all.rows(["epoch", "busy"], tmp_path, written - 1)
    assert [row["measured"] for row in found] == ["fit", "start"]
    text = run_all.summary(found)
    assert "MISSED  epoch  fit" in text and "0.5 x usual loop" in text and "start (computed)" in text
    assert "1 of 2 targets met." in text
    assert run_all.rows(["epoch"], tmp_path, written + 1) == []
    assert run_all.summary([]) == "No figure with a target was measured."


@pytest.mark.parametrize(
    ("name", "options", "lines"),
    [("epoch", ["--digits", "128"], 6), ("busy", ["--digits", "64"], 6), ("imports", [], 5)],
)
def test_runs_from_a_shell_with_tiny_settings(name, options, lines, tmp_path):
    command = [sys.executable, str(BENCHMARKS / f"{name}.py"), "--rounds", "1", "--results", str(tmp_path), *options]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    rows = measuring.read(tmp_path / f"speed_{name}.csv")
    assert len(rows) == lines
    assert all(0 < float(row["median"]) < math.inf for row in rows)
