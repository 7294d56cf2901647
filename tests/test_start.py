"""start.py, without a network and without installing anything.

Most tests hand it a Runner in place of the function that starts programs: it records each command and answers
as it is told.
"""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parent.parent
BADGES_UNSET = "<!-- address: badges -->\nRun `python start.py address OWNER/NAME`.\n<!-- /address -->"


def load_start():
    spec = importlib.util.spec_from_file_location("start", PROJECT / "start.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


start = load_start()


class Runner:
    """Stands in for start.run. answers: (words, returncode, output), the first whose words are all there counts.

    An answer is used as often as it fits, or `times` times where a fourth entry says so.
    """

    def __init__(self, *answers):
        self.answers = [[*answer, *[10**9] * (4 - len(answer))] for answer in answers]
        self.commands, self.environments, self.quiet = [], [], []

    def __call__(self, command, cwd=None, quiet=True, env=None):
        self.commands.append([str(word) for word in command])
        self.environments.append(env or {})
        self.quiet.append(quiet)
        line = self.line(self.commands[-1])
        if "-m venv" in line:
            fake_venv(Path(command[-1]))
        for answer in self.answers:
            words, code, output, left = answer
            if words in line and left > 0:
                answer[3] -= 1
                return subprocess.CompletedProcess(command, code, output)
        return subprocess.CompletedProcess(command, 0, WORKS if "PROBE" in line else "")

    @staticmethod
    def line(command):
        return " ".join(command)

    def lines(self):
        """The commands without the path of python, and "probe" for the probe."""
        return ["probe" if "-P" in command else self.line(command[1:]) for command in self.commands]


def probed(**problems):
    report = {"python": "3.11.0", "device": "CPU, 2 threads", "data": "verified", "versions": {}}
    report["versions"] = {module.split(".")[0]: "1.0" for module in start.MODULES if module not in problems}
    report["problems"] = {name.replace("_", " "): why for name, why in problems.items()}
    return "a warning\n\nPROBE " + json.dumps(report)


WORKS = probed()
NO_OPERATOR = "RuntimeError: operator torchvision::nms does not exist"
MIXED = probed(torchvision=NO_OPERATOR, torchvision_operator=NO_OPERATOR)  # as a real mixed pair reports it


def fake_venv(venv: Path) -> None:
    """What `python -m venv --clear` leaves, without its weight."""
    shutil.rmtree(venv, ignore_errors=True)
    start.venv_python(venv).parent.mkdir(parents=True)
    start.venv_python(venv).write_text("not a program")
    folder = venv / ("Lib/site-packages" if os.name == "nt" else "lib/python3.11/site-packages")
    folder.mkdir(parents=True)


def add_package(folder: Path, name: str, *, without=(), lost=()) -> Path:
    """A package as pip leaves it: its module, and a .dist-info whose RECORD lists it."""
    module, _, _ = name.partition("-")
    dist_info = folder / f"{name}.dist-info"
    dist_info.mkdir()
    files = {"METADATA": "", "INSTALLER": "pip\n"}
    files["RECORD"] = f'{module}.py,sha256=x,1\n__pycache__/{module}.pyc,,\n"{module},1.txt",,\n'
    for file, text in files.items():
        if file not in without:
            (dist_info / file).write_text(text)
    for file in (f"{module}.py", f"{module},1.txt"):
        if file not in lost:
            (folder / file).write_text("x")
    return dist_info


@pytest.fixture
def project(tmp_path):
    """A small copy of the project: start.py, pyproject.toml, README.md and two chapters."""
    for name in ("start.py", "pyproject.toml"):
        shutil.copy(PROJECT / name, tmp_path / name)
    pyproject = tmp_path / "pyproject.toml"
    unset = start.PROJECT_LINE.sub(r'\1"https://github.com/OWNER/NAME"', pyproject.read_text(encoding="utf-8"))
    pyproject.write_text(unset, encoding="utf-8")
    (tmp_path / "README.md").write_text(f"# Course – 20×20\n\n{BADGES_UNSET}\n\nEnd.\n", encoding="utf-8")
    (tmp_path / "chapters").mkdir()
    for name in ("01_output_size", "02_lenet"):
        (tmp_path / "chapters" / f"{name}.ipynb").write_text(notebook(), encoding="utf-8", newline="\n")
    return tmp_path


def notebook(source='import sys\nCOURSE = "https://github.com/OWNER/NAME"  # set by start.py\nx = 1'):
    cells = [
        {"cell_type": "markdown", "metadata": {}, "source": ['COURSE = "https://github.com/a/prose"\n', "×"]},
        {"cell_type": "code", "metadata": {}, "source": source.splitlines(keepends=True), "outputs": []},
        {"cell_type": "code", "metadata": {}, "source": ['COURSE = "https://github.com/a/later"'], "outputs": []},
    ]
    return json.dumps({"cells": cells, "nbformat": 4}, indent=1, ensure_ascii=False) + "\n"


@pytest.fixture
def venv(project):
    fake_venv(project / ".venv")
    return project / ".venv"


@pytest.fixture
def no_cpu_attempt(monkeypatch):
    monkeypatch.setattr(start, "wants_cpu_build", lambda venv: False)


def call(project, *arguments, run=None):
    return start.main(list(arguments), root=project, run=run or Runner())


def snapshot(folder):
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture(autouse=True)
def _keep_sigterm():
    """main() takes SIGTERM for itself; the test run keeps its own."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


# The arguments --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [[], ["lap"], ["lab", "--port", "none"], ["lab", "--port", "0"], ["lab", "--port", "65536"], ["address"]],
)
def test_wrong_arguments_end_with_a_message_and_start_nothing(project, arguments, capsys):
    runner = Runner()
    with pytest.raises(SystemExit) as stop:
        call(project, *arguments, run=runner)
    assert stop.value.code == 2
    assert "usage:" in capsys.readouterr().err
    assert runner.commands == []


def test_an_old_python_is_told_which_one_is_needed(capsys):
    assert start.main(["lab"], version=(3, 8, 18)) == 1
    assert capsys.readouterr().out == "This course needs Python 3.11 or later, this is 3.8.18.\n"


def test_old_pythons_can_read_the_file():
    ast.parse((PROJECT / "start.py").read_text(encoding="utf-8"), feature_version=(3, 8))


def test_only_the_standard_library_is_imported():
    tree = ast.parse((PROJECT / "start.py").read_text(encoding="utf-8"))
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert names <= sys.stdlib_module_names


def test_started_programs_have_passive_openmp_threads_unless_the_user_chose():
    assert start.child_environment({"A": "1"}) == {"A": "1", "OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "1000"}
    assert start.child_environment({"OMP_WAIT_POLICY": "ACTIVE"})["OMP_WAIT_POLICY"] == "ACTIVE"


def test_run_gives_the_output_the_code_and_the_environment(tmp_path, monkeypatch):
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    code = "import os, sys; print(os.environ['OMP_WAIT_POLICY'], os.environ['EXTRA'], os.getcwd()); sys.exit(3)"
    result = start.run([sys.executable, "-c", code], cwd=tmp_path, env={"EXTRA": "more"})
    assert result.returncode == 3
    assert result.stdout.split() == ["PASSIVE", "more", str(tmp_path.resolve())]


def test_run_of_what_is_not_there_is_a_failure_and_no_traceback(tmp_path):
    result = start.run([str(tmp_path / "python")], cwd=tmp_path)
    assert result.returncode == 127
    assert str(tmp_path / "python") in result.stdout


# The stamp ------------------------------------------------------------------------------------------------


def test_a_finished_setup_is_not_repeated(project, no_cpu_attempt):
    start.set_up(project, Runner())
    again = Runner()
    assert start.set_up(project, again) == start.venv_python(project / ".venv")
    assert again.commands == []


@pytest.mark.parametrize("change", ["pyproject", "step", "python", "place", "no python", "not JSON", "no stamp"])
def test_the_stamp_notices_what_changed(project, no_cpu_attempt, monkeypatch, change):
    start.set_up(project, Runner())
    assert start.is_set_up(project)
    stamp = project / ".venv" / start.STAMP
    if change == "pyproject":
        with (project / "pyproject.toml").open("a") as file:
            file.write("# more\n")
    elif change == "step":
        monkeypatch.setattr(start, "INSTALL_STEP", start.INSTALL_STEP + 1)
    elif change == "python":
        monkeypatch.setattr(sys, "version_info", (3, 99, 0))
    elif change == "place":
        project = project.rename(project.with_name("moved"))
    elif change == "no python":
        start.venv_python(project / ".venv").unlink()
    elif change == "not JSON":
        stamp.write_text("{")
    else:
        stamp.unlink()
    assert not start.is_set_up(project)


def test_the_stamp_is_gone_while_setup_works(project, no_cpu_attempt):
    start.set_up(project, Runner())
    (project / "pyproject.toml").write_text((project / "pyproject.toml").read_text() + "# more\n")

    def killed(command, **settings):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        start.set_up(project, killed)
    assert not (project / ".venv" / start.STAMP).exists()


# What an interruption leaves ------------------------------------------------------------------------------


def test_half_written_packages_are_removed_and_whole_ones_stay(tmp_path):
    whole = add_package(tmp_path, "whole-1.0")
    add_package(tmp_path, "torch-2.4", without=("INSTALLER",))
    add_package(tmp_path, "numpy-2.0", without=("INSTALLER", "RECORD"))
    add_package(tmp_path, "tqdm-4.0", without=("RECORD",))
    add_package(tmp_path, "lost-1.0", lost=("lost.py",))
    (tmp_path / "~orch" / "lib").mkdir(parents=True)
    (tmp_path / "~ile.py").write_text("")
    before = snapshot(whole)

    removed = start.remove_half_written(tmp_path)

    assert removed == [
        "lost-1.0.dist-info",
        "numpy-2.0.dist-info",
        "torch-2.4.dist-info",
        "tqdm-4.0.dist-info",
        "~ile.py",
        "~orch",
    ]
    assert not any((tmp_path / name).exists() for name in removed)
    assert snapshot(whole) == before
    assert start.remove_half_written(tmp_path) == []


def test_setup_removes_half_written_packages_before_pip_runs(project, venv, no_cpu_attempt):
    (folder,) = start.site_packages(venv)
    half = add_package(folder, "torch-2.4", without=("INSTALLER",))

    class Watching(Runner):
        def __call__(self, command, **settings):
            if "install" in command:
                assert not half.exists()
            return super().__call__(command, **settings)

    runner = Watching()
    start.set_up(project, runner)
    assert any("install" in command for command in runner.commands)


def test_interrupted_setup_goes_on_without_a_new_venv(project, venv, no_cpu_attempt):
    runner = Runner()
    start.set_up(project, runner)
    install = "-m pip --disable-pip-version-check install --quiet -e .[test]"
    assert runner.lines() == ["-m pip --version", install, "probe"]
    assert start.is_set_up(project)


@pytest.mark.parametrize("answer", [1, 127])
def test_a_venv_whose_python_or_pip_does_not_run_is_rebuilt(project, venv, no_cpu_attempt, answer):
    runner = Runner(("pip --version", answer, ""))
    start.set_up(project, runner)
    assert runner.commands[1] == [start.base_python(), "-m", "venv", "--clear", str(venv)]


@pytest.mark.parametrize("left", ["empty", "without pip"])
def test_a_real_venv_that_was_left_half_made_is_rebuilt(project, no_cpu_attempt, left):
    """The venv is made for real; only what would need a network is answered by a Runner."""
    venv = project / ".venv"
    if left == "empty":
        venv.mkdir()
    else:
        made = [start.base_python(), "-m", "venv", "--without-pip", str(venv)]
        subprocess.run(made, check=True, capture_output=True)
        assert start.venv_python(venv).exists()
    assert not start.has_pip(project, start.run)

    answers = Runner()

    def run(command, **settings):
        needs_network = "install" in command or "-P" in command
        return answers(command, **settings) if needs_network else start.run(command, **settings)

    python = start.set_up(project, run)

    assert answers.lines()[-1] == "probe"
    assert start.has_pip(project, start.run)
    version = start.run([str(python), "-c", "import sys; print(sys.version_info[:2])"], cwd=project)
    assert version.stdout.strip() == str(sys.version_info[:2])


def test_a_missing_ensurepip_names_the_package_to_install(project):
    output = "The virtual environment was not created successfully because ensurepip is not available.\n"
    with pytest.raises(start.SetupError, match="apt install python3-venv"):
        start.make_venv(project, Runner(("-m venv", 1, output)))


def test_another_failure_to_make_a_venv_gives_its_reason(project):
    with pytest.raises(start.SetupError, match="No space left on device"):
        start.make_venv(project, Runner(("-m venv", 1, "Error: [Errno 28] No space left on device\n")))


def test_the_base_python_is_outside_of_any_venv():
    made = subprocess.run(
        [start.base_python(), "-c", "import sys; print(sys.prefix == sys.base_prefix)"],
        check=True,
        capture_output=True,
        text=True,
    )
    assert made.stdout.strip() == "True"


# What does not work is mended -----------------------------------------------------------------------------


def test_a_package_that_does_not_load_is_installed_again(project, venv, no_cpu_attempt):
    runner = Runner(("PROBE", 0, probed(matplotlib="ImportError: half of it"), 1))
    start.set_up(project, runner)
    again = "-m pip --disable-pip-version-check install --quiet --force-reinstall --no-deps matplotlib"
    assert again in runner.lines()
    assert "-m venv" not in "\n".join(runner.lines())
    assert start.is_set_up(project)


def test_the_venv_is_rebuilt_once_when_mending_does_not_help(project, venv, no_cpu_attempt):
    runner = Runner(("PROBE", 0, probed(matplotlib="ImportError: half of it"), 2))
    start.set_up(project, runner)
    assert sum("-m venv --clear" in line for line in runner.lines()) == 1
    assert start.is_set_up(project)


def test_setup_gives_up_after_one_rebuild_and_says_what_failed(project, venv, no_cpu_attempt, capsys):
    runner = Runner(("PROBE", 0, probed(matplotlib="ImportError: half of it")))
    assert call(project, "lab", run=runner) == 1
    assert sum("-m venv --clear" in line for line in runner.lines()) == 1
    assert "matplotlib: ImportError: half of it" in capsys.readouterr().err
    assert not start.is_set_up(project)
    assert not any("jupyterlab" in line for line in runner.lines())


def test_a_python_that_crashes_in_the_probe_counts_as_not_working(project, venv):
    report = start.probe(project, Runner(("PROBE", -11, "PROBE {}\nFatal error")))
    assert report["problems"] == {"python in .venv": "ended with code -11: Fatal error"}


def test_a_mixed_pair_is_replaced_from_one_place(project, venv, no_cpu_attempt):
    runner = Runner(("PROBE", 0, MIXED, 1))
    start.set_up(project, runner)
    assert runner.lines()[2:] == [
        "probe",
        "-m pip uninstall --yes --quiet torch torchvision",
        "-m pip --disable-pip-version-check install --quiet torch>=2.4 torchvision>=0.19",
        "probe",
    ]
    assert start.is_set_up(project)


def test_nobody_is_left_without_torch_when_the_default_place_does_not_answer(project, venv, no_cpu_attempt):
    runner = Runner(("PROBE", 0, MIXED, 1), ("--quiet torch>=2.4", 1, "ERROR: no answer"))
    start.set_up(project, runner)
    assert start.CPU_INDEX in runner.lines()[-2]
    assert start.is_set_up(project)


def test_without_a_network_a_changed_pyproject_does_not_keep_the_course_closed(project, venv, no_cpu_attempt, capsys):
    runner = Runner(("-e .[test]", 1, "ERROR: no answer"))
    assert call(project, "lab", run=runner) == 0
    assert "pip did not finish (ERROR: no answer)" in capsys.readouterr().out
    assert "-m venv" not in "\n".join(runner.lines())
    assert not start.is_set_up(project)  # so that the next call tries again


def test_without_a_network_a_first_setup_says_what_to_do(project, no_cpu_attempt, capsys):
    runner = Runner(("-e .[test]", 1, "ERROR: no answer"), ("PROBE", 0, probed(torch="ModuleNotFoundError: x")))
    assert call(project, "lab", run=runner) == 1
    assert "ERROR: no answer Look at the network" in capsys.readouterr().err
    assert sum("-m venv" in line for line in runner.lines()) == 1  # what came so far is kept


# The CPU build --------------------------------------------------------------------------------------------


def test_the_driver_is_found_in_each_of_its_three_places():
    for place in ("/proc/driver/nvidia/version", "/dev/nvidia0"):
        assert start.has_nvidia_driver(which=lambda name: None, exists=lambda path, at=place: path == at)
    which = {"nvidia-smi": "/usr/bin/nvidia-smi"}.get
    assert start.has_nvidia_driver(which=which, exists=lambda path: False)
    assert not start.has_nvidia_driver(which=lambda name: None, exists=lambda path: False)


@pytest.mark.parametrize(
    ("system", "driver", "there", "wanted"),
    [
        ("Linux", False, [], True),
        ("Linux", True, [], False),
        ("Darwin", False, [], False),
        ("Windows", False, [], False),
        ("Linux", False, ["torch-2.4.0"], False),
        ("Linux", False, ["torch-2.4.0+cpu", "torchvision-0.19.0+cpu"], False),
        ("Linux", False, ["torch-2.4.0+cpu"], True),  # the other half, from the same place
        ("Linux", False, ["torchvision-0.19.0"], True),
    ],
)
def test_when_the_cpu_build_is_asked_for(venv, system, driver, there, wanted):
    (folder,) = start.site_packages(venv)
    for name in there:
        add_package(folder, name)
    assert start.wants_cpu_build(venv, system=system, driver=lambda: driver) is wanted


def test_the_cpu_attempt_is_one_short_try_at_that_index_alone(project):
    runner = Runner()
    assert start.install_cpu_build(project, "python", runner)
    index = "https://download.pytorch.org/whl/cpu"
    assert runner.commands == [
        [
            *["python", "-m", "pip", "--isolated", "--disable-pip-version-check", "install", "--quiet"],
            *["--retries", "0", "--timeout", "10", "--index-url", index, "torch>=2.4", "torchvision>=0.19"],
        ]
    ]
    assert runner.environments == [{"PIP_CONFIG_FILE": os.devnull}]
    assert runner.quiet == [True]


def test_a_failed_cpu_attempt_takes_one_line_and_the_default_build_follows(project, venv, monkeypatch, capsys):
    monkeypatch.setattr(start, "has_nvidia_driver", lambda: False)
    monkeypatch.setattr(start, "wants_cpu_build", lambda venv: True)
    output = "WARNING: Retrying\nERROR: Could not find a version\nERROR: No matching distribution for torch\n"
    runner = Runner((start.CPU_INDEX, 1, output))
    start.set_up(project, runner)
    attempt, install = runner.lines()[1:3]
    assert start.CPU_INDEX in attempt
    assert install.endswith("install --quiet -e .[test]")
    assert start.is_set_up(project)
    printed = capsys.readouterr().out
    assert "(ERROR: No matching distribution for torch). Going on with the default build." in printed
    assert "Retrying" not in printed


# lab ------------------------------------------------------------------------------------------------------


def test_root_is_allowed_and_nobody_else_needs_to_be(project):
    def command(user_id):
        return start.lab_command(Path("python"), project, user_id=user_id)

    assert "--allow-root" in command(0)
    assert "--allow-root" not in command(1000)


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="Windows has no root")
def test_lab_asks_the_system_who_it_is(project, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert "--allow-root" in start.lab_command(Path("python"), project)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert "--allow-root" not in start.lab_command(Path("python"), project)


def test_lab_opens_the_first_chapter_without_news(project, no_cpu_attempt):
    runner = Runner()
    assert call(project, "lab", "--no-browser", "--port", "8931", run=runner) == 0
    command = runner.commands[-1]
    assert command[:3] == [str(start.venv_python(project / ".venv")), "-m", "jupyterlab"]
    assert {
        f"--ServerApp.root_dir={project}",
        "--LabApp.default_url=/lab/tree/chapters/01_output_size.ipynb",
        "--LabApp.news_url=None",
        "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
        "--no-browser",
        "--ServerApp.port=8931",
    } <= set(command)
    assert runner.quiet[-1] is False


def test_lab_opens_a_browser_unless_told_otherwise(project, no_cpu_attempt):
    runner = Runner()
    call(project, "lab", run=runner)
    assert not {word for word in runner.commands[-1] if "--no-browser" in word or "ServerApp.port" in word}


def interrupted_at(word):
    answers = Runner()

    def run(command, **settings):
        if word in command:
            raise KeyboardInterrupt
        return answers(command, **settings)

    return run


def test_ctrl_c_in_lab_is_a_clean_end(project, no_cpu_attempt, capsys):
    assert call(project, "lab", run=interrupted_at("jupyterlab")) == 0
    assert capsys.readouterr().out.endswith("JupyterLab has ended.\n")


def test_ctrl_c_during_setup_says_that_it_goes_on_later(project, no_cpu_attempt, capsys):
    assert call(project, "lab", run=interrupted_at("install")) == 130
    assert "The same command goes on from here" in capsys.readouterr().out


# test -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("failing", ["-m ruff check", "-m pytest tests", None])
def test_every_step_runs_although_one_fails(project, no_cpu_attempt, failing, capsys):
    runner = Runner((failing, 1, "")) if failing else Runner()
    assert call(project, "test", run=runner) == (1 if failing else 0)
    assert runner.lines()[-4:] == [
        "-u -m ruff check .",
        "-u -m ruff format --check .",
        "-u -m pytest tests",
        "-u -m pytest --nbval chapters/",
    ]
    summary = capsys.readouterr().out.splitlines()[-4:]
    assert [bool(re.search(r"\d+\.\d s$", line)) for line in summary] == [True] * 4
    assert sum(line.startswith("FAILED") for line in summary) == (1 if failing else 0)


@pytest.mark.parametrize("there", start.BROWSERS)
def test_a_chromium_is_found_under_each_of_its_names(there):
    assert start.find_chromium({}, {there: f"/usr/bin/{there}"}.get) == (f"/usr/bin/{there}", "")


def test_the_users_choice_of_a_chromium_goes_first_and_is_not_replaced():
    programs = {"chromium": "/usr/bin/chromium", "/opt/mine": "/opt/mine"}
    assert start.find_chromium({"CHROMIUM": "/opt/mine"}, programs.get) == ("/opt/mine", "")
    found, problem = start.find_chromium({"CHROMIUM": "/opt/gone"}, programs.get)
    assert found == ""
    assert problem == "CHROMIUM is set to /opt/gone, which is not a program."


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({}, "No chromium, chromium-browser or google-chrome on the PATH. The tests in a browser will be skipped"),
        ({"CI_BROWSER": "required"}, "The tests in a browser will fail, as CI_BROWSER=required."),
        ({"CHROMIUM": "/gone"}, "CHROMIUM is set to /gone, which is not a program. The tests in a browser will be"),
    ],
)
def test_what_becomes_of_the_tests_in_a_browser_is_one_line(environment, words):
    line = start.browser_line(environment, which=lambda name: None)
    assert words in line
    assert "\n" not in line
    assert "/usr/bin/chromium" in start.browser_line({}, {"chromium": "/usr/bin/chromium"}.get)


def test_test_says_first_whether_there_is_a_browser(project, no_cpu_attempt, monkeypatch, capsys):
    monkeypatch.setenv("CHROMIUM", "/gone")
    call(project, "test")
    printed = capsys.readouterr().out
    assert printed.index("CHROMIUM is set to /gone") < printed.index("Running ruff check")


# bench ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [0, 1])
def test_bench_runs_all_benchmarks_in_the_venv_and_ends_with_their_code(project, venv, no_cpu_attempt, code):
    runner = Runner(("all.py", code, ""))
    assert call(project, "bench", run=runner) == code
    python = str(start.venv_python(venv))
    assert runner.commands[-1] == [python, "-u", str(project / "benchmarks" / "all.py")]
    assert runner.quiet[-1] is False
    assert (PROJECT / "benchmarks" / "all.py").is_file()


def test_ctrl_c_during_bench_is_said(project, no_cpu_attempt, capsys):
    assert call(project, "bench", run=interrupted_at(str(project / "benchmarks" / "all.py"))) == 130
    assert "tables of those that were done are kept" in capsys.readouterr().out


# doctor ---------------------------------------------------------------------------------------------------


def run_doctor(project):
    """doctor as a learner starts it; its code, its rows {thing: line}, all it printed."""
    command = [sys.executable, str(project / "start.py"), "doctor"]
    result = subprocess.run(command, cwd=project, capture_output=True, encoding="utf-8")
    assert "Traceback" not in result.stdout + result.stderr
    rows = {line[9:31].strip(): line for line in result.stdout.splitlines()[1:]}
    return result.returncode, rows


def test_doctor_with_nothing_installed(project):
    code, rows = run_doctor(project)
    assert code == 1
    assert rows["Python"].startswith("ok ")
    assert "python start.py lab makes it" in rows[".venv"]
    for thing in ("torch", "device", "torchvision operator", "data", "jupyterlab", "widgets", "other packages"):
        assert rows[thing].startswith("MISSING ")
        assert "python start.py lab" in rows[thing]
    assert "GB" in rows["free disk space"]
    assert not (project / ".venv").exists()


def test_doctor_with_a_python_that_does_not_run(project, venv):
    code, rows = run_doctor(project)
    assert code == 1
    assert rows[".venv"].startswith("MISSING ")
    assert "python start.py lab rebuilds it" in rows[".venv"]


def test_doctor_with_a_venv_without_packages(project):
    made = [start.base_python(), "-m", "venv", "--without-pip", str(project / ".venv")]
    subprocess.run(made, check=True, capture_output=True)
    code, rows = run_doctor(project)
    assert code == 1
    assert "No module named 'torch'" in rows["torch"]
    assert "the course's package does not load" in rows["data"]


def rows_of(output, set_up_done=True, free=100.0):
    report = json.loads(output.split("PROBE ")[1])
    return {name: (found, advice) for name, found, advice in start.doctor_rows(report, set_up_done, free)}


def test_doctor_is_content_when_all_is_there():
    rows = rows_of(WORKS)
    assert all(advice == "" for _, advice in rows.values())
    assert rows["device"][0] == "CPU, 2 threads"
    assert rows["widgets"][0] == "ipywidgets 1.0, jupyterlab_widgets 1.0"


def test_doctor_repeats_what_the_course_says_about_a_missing_file():
    report = json.loads(WORKS.split("PROBE ")[1])
    report["data"], report["problems"] = "", {"data": "DataFileError: t10k is missing: get it so and so."}
    rows = rows_of("PROBE " + json.dumps(report))
    assert rows["data"] == ("not as it should be", "t10k is missing: get it so and so.")
    assert [name for name, (_, advice) in rows.items() if advice] == ["data"]


def test_doctor_names_a_mixed_pair_an_unfinished_setup_and_a_full_disk():
    assert "nms does not exist" in rows_of(MIXED)["torchvision operator"][0]
    assert "matching pair" in rows_of(MIXED)["torchvision operator"][1]
    assert rows_of(WORKS, set_up_done=False)[".venv"][1]
    assert "make room" in rows_of(WORKS, free=0.4)["free disk space"][1]


@pytest.mark.parametrize(("problems", "code"), [(False, 0), (True, 1)])
def test_doctor_ends_with_1_when_something_is_missing(project, venv, no_cpu_attempt, problems, code):
    start.set_up(project, Runner())
    runner = Runner(("PROBE", 0, MIXED if problems else WORKS))
    assert call(project, "doctor", run=runner) == code
    assert len(runner.commands) == 1  # the probe, and one process is all it takes
    assert runner.commands[0][-1] == "doctor"


def test_the_probe_runs_and_reports_what_is_not_there():
    modules = "json,no_such_module"
    command = [sys.executable, "-I", "-S", "-c", start.PROBE, modules]
    result = subprocess.run(command, check=True, capture_output=True, text=True)
    report = json.loads(result.stdout.split("PROBE ")[1])
    assert report["versions"] == {"json": "?"}
    assert report["problems"]["no_such_module"] == "ModuleNotFoundError: No module named 'no_such_module'"
    assert report["problems"]["torchvision operator"] == "ModuleNotFoundError: No module named 'torch'"


# address --------------------------------------------------------------------------------------------------


def addresses(root: Path) -> dict:
    """Where each file says that the repository is; the placeholder where a README has no badges yet."""
    found = {}
    pyproject = (root / "pyproject.toml").read_text(encoding="utf-8")
    found["pyproject.toml"] = re.search(r'^Repository = "https://github.com/(.*)"', pyproject, re.MULTILINE)[1]
    block = start.BADGES.search((root / "README.md").read_text(encoding="utf-8"))
    assert block, "README.md needs the markers <!-- address: badges --> and <!-- /address -->"
    in_badges = re.findall(r"mybinder\.org/v2/gh/([^/]+/[^/]+)/|/github/([^/]+/[^/]+)/blob/", block[2])
    names = {first or second for first, second in in_badges} or {"OWNER/NAME"}
    (found["README.md"],) = names
    for path in sorted((root / "chapters").glob("*.ipynb")):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        source = "".join(next(cell for cell in cells if cell["cell_type"] == "code")["source"])
        (found[path.name],) = re.findall(r'^COURSE = "https://github.com/(.*?)"', source, re.MULTILINE)
    return found


def test_the_project_itself_has_one_address():
    found = addresses(PROJECT)
    assert len(set(found.values())) == 1, found


def test_address_is_written_in_all_three_places(project):
    assert set(addresses(project).values()) == {"OWNER/NAME"}
    assert call(project, "address", "ada/lenet-course") == 0
    assert set(addresses(project).values()) == {"ada/lenet-course"}

    readme = (project / "README.md").read_text(encoding="utf-8")
    assert "OWNER/NAME" not in readme
    binder = "https://mybinder.org/v2/gh/ada/lenet-course/HEAD?labpath=chapters%2F01_output_size.ipynb"
    assert f"({binder})" in readme
    colab = "https://colab.research.google.com/github/ada/lenet-course/blob/main/chapters/01_output_size.ipynb"
    assert f"({colab})" in readme
    assert readme.startswith("# Course – 20×20\n\n<!--")
    assert readme.endswith("-->\n\nEnd.\n")


def test_address_changes_one_line_of_a_chapter_and_no_other_byte(project):
    chapter = project / "chapters" / "02_lenet.ipynb"
    before = chapter.read_bytes()
    call(project, "address", "ada/lenet-course")
    assert chapter.read_bytes() == before.replace(b"OWNER/NAME", b"ada/lenet-course")


def test_address_twice_is_the_same_as_once(project, capsys):
    call(project, "address", "ada/lenet-course")
    once = snapshot(project)
    assert call(project, "address", "ada/lenet-course") == 0
    assert snapshot(project) == once
    assert "nothing changed" in capsys.readouterr().out


def test_address_can_be_changed_later(project):
    call(project, "address", "ada/lenet-course")
    assert call(project, "address", "grace-h/le.net_2") == 0
    assert set(addresses(project).values()) == {"grace-h/le.net_2"}


@pytest.mark.parametrize(
    "wrong",
    [
        "OWNER/NAME",
        "ada",
        "ada/",
        "/lenet",
        "ada/lenet/more",
        "https://github.com/ada/lenet",
        "ada-/lenet",
        "a--da/lenet",
        "a" * 40 + "/lenet",
        "ada/..",
        "ada/lenet.git",
        "ada/le net",
        'ada/le"net',
        "ada/lenet\n",
        "adä/lenet",
    ],
)
def test_a_wrong_address_touches_nothing_and_shows_a_right_one(project, wrong, capsys):
    before = snapshot(project)
    assert call(project, "address", wrong) == 1
    assert snapshot(project) == before
    assert "for example: python start.py address ada/lenet-course" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("README.md", "# no markers\n"),
        ("README.md", BADGES_UNSET + "\n" + BADGES_UNSET),
        ("README.md", None),
        ("pyproject.toml", "[project]\n"),
        ("chapters/02_lenet.ipynb", "{"),
        ("chapters/02_lenet.ipynb", "[]"),
        ("chapters/02_lenet.ipynb", notebook("x = 1")),
        ("chapters/02_lenet.ipynb", '{"cells": []}'),
    ],
)
def test_a_file_without_a_place_for_the_address_leaves_all_as_they_were(project, name, content, capsys):
    if content is None:
        (project / name).unlink()
    else:
        (project / name).write_text(content, encoding="utf-8")
    before = snapshot(project)
    assert call(project, "address", "ada/lenet-course") == 1
    assert snapshot(project) == before
    assert name in capsys.readouterr().err


def test_a_disk_that_fills_up_leaves_all_as_they_were(project, monkeypatch, capsys):
    before = snapshot(project)
    write = Path.write_bytes

    def full_at_the_last(path, content):
        if "02_lenet" in path.name:
            raise OSError(28, "No space left on device")
        return write(path, content)

    monkeypatch.setattr(Path, "write_bytes", full_at_the_last)
    assert call(project, "address", "ada/lenet-course") == 1
    assert snapshot(project) == before
    assert "No space left" in capsys.readouterr().err


# Files beside start.py ------------------------------------------------------------------------------------


def test_ci_runs_what_a_maintainer_runs():
    lines = (PROJECT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "#!/bin/bash"
    assert [line for line in lines if "start.py" in line] == ["python3 start.py test"]


def fake_ci(tmp_path, **programs):
    """Run .ci/run where there are only these programs, written as lines of shell; what they wrote down."""
    (tmp_path / ".ci").mkdir()
    shutil.copy(PROJECT / ".ci" / "run", tmp_path / ".ci" / "run")
    (tmp_path / "bin").mkdir()
    log = tmp_path / "log"
    for name, lines in {"python3": 'echo "python3 $* CI_BROWSER=$CI_BROWSER"', **programs}.items():
        path = tmp_path / "bin" / name.replace("_", "-")
        path.write_text(f"#!/bin/bash\n{{\n{lines}\n}} | tee -a {log}\nexit ${{PIPESTATUS[0]}}\n")
        path.chmod(0o755)
    for name in ("bash", "dirname", "tee"):
        (tmp_path / "bin" / name).symlink_to(shutil.which(name))
    environment = {"PATH": str(tmp_path / "bin")}
    result = subprocess.run(["bash", ".ci/run"], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return log.read_text().splitlines(), result


TESTS, TESTS_REQUIRED = "python3 start.py test CI_BROWSER=", "python3 start.py test CI_BROWSER=required"
INSTALL = "-qq install --yes --no-install-recommends chromium chromium-driver fonts-dejavu"
bash_only = pytest.mark.skipif(os.name == "nt", reason=".ci/run is a bash script.")


@bash_only
@pytest.mark.parametrize("programs", [{"id": "echo 1000", "apt_get": "echo apt $*"}, {"id": "echo 0"}])
def test_ci_without_apt_or_root_installs_nothing_and_requires_no_browser(tmp_path, programs):
    lines, _ = fake_ci(tmp_path, **programs)
    assert lines[1:] == [TESTS]


@bash_only
def test_ci_installs_chromium_quietly_and_requires_it(tmp_path):
    lines, result = fake_ci(tmp_path, id="echo 0", apt_get='echo "apt $*"')
    assert lines[1:] == [f"apt {INSTALL}", TESTS_REQUIRED]
    assert "apt" not in result.stdout + result.stderr


@bash_only
def test_ci_goes_on_when_apt_fails(tmp_path):
    lines, result = fake_ci(tmp_path, id="echo 0", apt_get='echo "apt $*"; (exit 100)')
    assert lines[1:] == [f"apt {INSTALL}", "apt -qq update", TESTS_REQUIRED]
    assert result.stderr == ".ci/run: apt-get could not install Chromium\n"


def test_everything_that_pyproject_asks_for_is_checked_by_the_probe():
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    asked = project["dependencies"] + project["optional-dependencies"]["test"]
    names = {re.split(r"[^\w-]", line)[0] for line in asked}
    assert names <= {module.split(".")[0] for module in start.MODULES}


def test_conda_gets_the_same_packages_as_pip():
    environment = (PROJECT / "environment.yml").read_text(encoding="utf-8")
    listed = set(re.findall(r"^ +- ([\w-]+)", environment, re.MULTILINE))
    names = {module.split(".")[0] for module in start.MODULES}
    renamed = {"torch": "pytorch-cpu"}
    brought_along = {"ipykernel", "jupyterlab_widgets", "lenet_course"}
    assert {renamed.get(name, name) for name in names - brought_along} <= listed


def test_nbval_reads_both_rules_of_the_sanitize_file():
    plugin = pytest.importorskip("nbval.plugin")
    rules = plugin.get_sanitize_patterns((PROJECT / "tests/nbval_sanitize.cfg").read_text(encoding="utf-8"))
    text = "<LeNet at 0x7f3a10bc> took 12.3 s, 850 ms a step; 99.1 share, 5 shapes, 0x10"
    for pattern, replacement in rules:
        text = re.sub(pattern, replacement, text)
    assert text == "<LeNet at ADDRESS> took N s, N s a step; 99.1 share, 5 shapes, 0x10"


def test_modes_are_those_of_the_help_text():
    parsed = [start.parse(line) for line in (["lab"], ["test"], ["bench"], ["doctor"], ["address", "a/b"])]
    assert [options.mode for options in parsed] == ["lab", "test", "bench", "doctor", "address"]
    assert vars(parsed[0]) == {"mode": "lab", "no_browser": False, "port": None}
