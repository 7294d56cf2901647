"""Set up the course and run it, on Linux, macOS and Windows, with nothing but Python.

    python start.py lab                  open the course in JupyterLab
    python start.py test                 run every check
    python start.py bench                measure how fast it is, side by side, in under 10 minutes
    python start.py doctor               say what is there, and what to do about what is missing
    python start.py address OWNER/NAME   write the repository's address where it is needed

The first call makes .venv beside this file and installs the packages into it; later calls find it done.
An interrupted set-up goes on with the next call. This file keeps to syntax that old Pythons can read, so
that they can say which Python is needed.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent
OLDEST_PYTHON = (3, 11)
INSTALL_STEP = 1  # raise it when the set-up below changes, so that every .venv is looked at again
STAMP = "lenet_course_stamp.json"
FIRST_CHAPTER = "chapters/01_output_size.ipynb"
CPU_INDEX = "https://download.pytorch.org/whl/cpu"
PAIR = ("torch", "torchvision")
OPERATOR = "torchvision operator"
MODULES = (
    *PAIR,
    "jupyterlab.labapp",
    "ipykernel",
    "ipywidgets",
    "anywidget",
    "jupyterlab_widgets",
    "matplotlib",
    "numpy",
    "numba",
    "safetensors",
    "tqdm",
    "pytest",
    "nbval",
    "hypothesis",
    "ruff",
    "nbformat",
    "nbclient",
    "playwright.sync_api",
    "lenet_course",
)


class SetupError(Exception):
    """The set-up cannot go on; the message says what to do."""


class Terminated(KeyboardInterrupt):
    """Somebody ended this program with SIGTERM, which the programs it started did not hear."""


# Small things ---------------------------------------------------------------------------------------------


def say(text: str) -> None:
    print(text, flush=True)


def run(command, cwd=ROOT, quiet=True, env=None) -> subprocess.CompletedProcess:
    """Run a command to its end. With quiet its output is in .stdout, otherwise it goes to the terminal.

    A command that cannot be started has returncode 127. A long quiet one says every 20 s that it is alive.
    """
    environment = {**child_environment(os.environ), **(env or {})}
    output = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT} if quiet else {}
    try:
        process = subprocess.Popen(
            command,
            cwd=cwd,
            env=environment,
            stdin=subprocess.DEVNULL if quiet else None,
            encoding="utf-8",
            errors="replace",
            **output,
        )
    except OSError as error:
        return subprocess.CompletedProcess(command, 127, f"{command[0]}: {error}")
    started = time.monotonic()
    try:
        while True:
            try:
                text, _ = process.communicate(timeout=20 if quiet else None)
                return subprocess.CompletedProcess(command, process.returncode, text or "")
            except subprocess.TimeoutExpired:
                say(f"  ... {time.monotonic() - started:.0f} s")
    except KeyboardInterrupt as stop:
        let_end(process, terminate=isinstance(stop, Terminated))
        raise


def let_end(process, terminate: bool) -> None:
    """Give a program time to end by itself: it heard the same Ctrl-C. A second Ctrl-C ends it at once."""
    try:
        if terminate:
            process.terminate()
        process.wait(timeout=15)
    except (subprocess.TimeoutExpired, KeyboardInterrupt):
        process.kill()
        process.wait()


def child_environment(environment) -> dict:
    """The environment for everything started from here.

    OpenMP threads that spin while they wait made a training step 25 times slower on a busy machine; threads that sleep
    at once cost a quarter of the time on a quiet one (lenet_course/__init__.py says more).
    """
    return {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "1000", **environment}


def reason(output: str) -> str:
    """The one line of a program's output that says why it failed."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if line.lower().startswith("error")]
    return (errors or lines or ["it said nothing"])[-1][:200]


def write_all(contents: dict) -> None:
    """Write {path: bytes}: every file beside its place first, then all are moved there."""
    written = []
    try:
        for path, content in contents.items():
            beside = path.with_name(path.name + ".part")
            written.append((beside, path))
            beside.write_bytes(content)
            if path.exists():
                shutil.copymode(path, beside)
        for beside, path in written:
            os.replace(beside, path)
    finally:
        for beside, _ in written:
            beside.unlink(missing_ok=True)


# The set-up -----------------------------------------------------------------------------------------------


def set_up(root: Path, run=run) -> Path:
    """Make .venv or mend it, and return its python. Does nothing when the stamp says that all is done."""
    venv = root / ".venv"
    if is_set_up(root):
        return venv_python(venv)
    (venv / STAMP).unlink(missing_ok=True)
    for last_try in (False, True):
        if last_try or not has_pip(root, run):
            make_venv(root, run)
        problems = install_and_check(root, run)
        if not problems:
            return venv_python(venv)
        what = "; ".join(f"{name}: {why}" for name, why in problems.items())
        if not last_try:
            say(f"This .venv does not work ({what}). Starting over with a new one ...")
    raise SetupError(
        f"the packages are installed but do not work. {what}. Delete .venv and try once more; "
        "if that does not help, report these lines."
    )


def is_set_up(root: Path) -> bool:
    """Whether set-up finished for this project as it is now. Reads two small files and starts nothing."""
    try:
        stamp = json.loads((root / ".venv" / STAMP).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return stamp == stamp_for(root) and venv_python(root / ".venv").exists()


def stamp_for(root: Path) -> dict:
    pyproject = (root / "pyproject.toml").read_bytes()
    return {
        "pyproject": hashlib.sha256(pyproject).hexdigest(),
        "step": INSTALL_STEP,
        "python": ".".join(map(str, sys.version_info[:2])),
        # An editable install holds the folder's path: a project that was moved is installed again.
        "place": str(root),
    }


def venv_python(venv: Path, windows: bool = os.name == "nt") -> Path:
    return venv / ("Scripts/python.exe" if windows else "bin/python")


def base_python() -> str:
    """The Python outside of any virtual environment: .venv's own cannot rebuild .venv."""
    return getattr(sys, "_base_executable", None) or sys.executable


def has_pip(root: Path, run) -> bool:
    python = venv_python(root / ".venv")
    return python.exists() and run([str(python), "-m", "pip", "--version"], cwd=root).returncode == 0


def make_venv(root: Path, run) -> None:
    say("Making .venv (once, takes a minute) ...")
    made = run([base_python(), "-m", "venv", "--clear", str(root / ".venv")], cwd=root)
    if made.returncode == 0:
        return
    if "ensurepip is not available" in made.stdout or "No module named" in made.stdout:
        raise SetupError(
            "this Python came without the parts that make a virtual environment. "
            "On Debian and Ubuntu: apt install python3-venv; then run this again."
        )
    raise SetupError(f"could not make .venv: {reason(made.stdout)}")


def install_and_check(root: Path, run) -> dict:
    """Install what is missing, try it, mend it once. Returns what still does not work, {} when all does."""
    python = str(venv_python(root / ".venv"))
    for folder in site_packages(root / ".venv"):
        remove_half_written(folder)
    if wants_cpu_build(root / ".venv"):
        install_cpu_build(root, python, run)
    say("Installing the packages (once, takes minutes, needs the network) ...")
    pip = run(pip_install(python, "-e", ".[test]"), cwd=root)
    say("Checking that they work ...")
    problems = probe(root, run)["problems"]
    if pip.returncode != 0:
        if not problems:
            # Say pyproject.toml changed and there is no network. No stamp: the next call tries again.
            say(f"pip did not finish ({reason(pip.stdout)}). What the course needs is there: going on.")
            return {}
        if "Traceback (most recent call last)" not in pip.stdout:
            raise SetupError(
                f"pip could not install the packages: {reason(pip.stdout)} "
                "Look at the network and the free disk space, then run this again: it goes on from here."
            )
    if problems:
        mend(root, python, run, problems)
        problems = probe(root, run)["problems"]
    if not problems:
        stamp = json.dumps(stamp_for(root), indent=1)
        write_all({root / ".venv" / STAMP: stamp.encode("utf-8")})
    return problems


def pip_install(python: str, *what: str) -> list:
    return [python, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", *what]


def site_packages(venv: Path) -> list:
    return [*venv.glob("lib/python*/site-packages"), *venv.glob("Lib/site-packages")]


def remove_half_written(folder: Path) -> list:
    """Remove the traces of packages that pip did not finish, so that it installs them again.

    pip writes INSTALLER and RECORD last, and renames to "~..." what it is about to delete. Returns the names.
    """
    halves = [path for path in sorted(folder.glob("*.dist-info")) if not is_whole(path)]
    halves += sorted(folder.glob("~*"))
    for path in halves:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
    return [path.name for path in halves]


def is_whole(dist_info: Path) -> bool:
    """Whether a package was written to its end and every file that it lists is still there."""
    if not all((dist_info / name).is_file() for name in ("METADATA", "INSTALLER", "RECORD")):
        return False
    with (dist_info / "RECORD").open(encoding="utf-8", newline="") as record:
        names = [row[0] for row in csv.reader(record) if row]
    # Bytecode comes and goes.
    return all((dist_info.parent / name).exists() for name in names if not name.endswith(".pyc"))


def has_nvidia_driver(which=shutil.which, exists=os.path.exists) -> bool:
    return bool(which("nvidia-smi") or exists("/proc/driver/nvidia/version") or exists("/dev/nvidia0"))


def wants_cpu_build(venv: Path, system=None, driver=has_nvidia_driver) -> bool:
    """Whether to ask for PyTorch's CPU build: on Linux the default one brings gigabytes for NVIDIA cards.

    Not when torch is there already, unless it is a CPU build whose torchvision is missing: then the other
    half should come from the same place.
    """
    if (system or platform.system()) != "Linux" or driver():
        return False
    torch, vision = (installed_version(venv, name) for name in PAIR)
    return not torch or (torch.endswith("+cpu") and not vision)


def installed_version(venv: Path, name: str) -> str:
    found = [path for folder in site_packages(venv) for path in folder.glob(name + "-*.dist-info")]
    return found[0].name[len(name) + 1 : -len(".dist-info")] if found else ""


def pair_requirements(root: Path) -> list:
    """The lines for torch and torchvision in pyproject.toml."""
    import tomllib  # not at the top: Pythons before 3.11 do not have it and should get as far as main()

    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return [line for line in project["dependencies"] if re.split(r"[^\w-]", line)[0] in PAIR]


def install_cpu_build(root: Path, python: str, run) -> bool:
    """One short attempt, from that index alone: a torch and a torchvision from two places do not fit."""
    say("No NVIDIA driver here: asking for PyTorch's smaller CPU build ...")
    command = [python, "-m", "pip", "--isolated", "--disable-pip-version-check", "install", "--quiet"]
    command += ["--retries", "0", "--timeout", "10", "--index-url", CPU_INDEX, *pair_requirements(root)]
    # --isolated leaves out the user's settings but not the machine's; a null file leaves out both.
    attempt = run(command, cwd=root, env={"PIP_CONFIG_FILE": os.devnull})
    if attempt.returncode != 0:
        say(f"Not to be had from there ({reason(attempt.stdout)}). Going on with the default build.")
    return attempt.returncode == 0


def mend(root: Path, python: str, run, problems: dict) -> None:
    say("Mending: " + "; ".join(f"{name} ({why})" for name, why in problems.items()) + " ...")
    if {*PAIR, OPERATOR} & set(problems):
        mend_pair(root, python, run)
    others = [name.split(".")[0] for name in problems if name in MODULES[len(PAIR) : -1]]
    if others:
        run(pip_install(python, "--force-reinstall", "--no-deps", *others), cwd=root)
    if "lenet_course" in problems:
        run(pip_install(python, "--force-reinstall", "--no-deps", "-e", "."), cwd=root)


def mend_pair(root: Path, python: str, run) -> None:
    """Install torch and torchvision anew, both from one place.

    A CPU torch beside a CUDA torchvision installs without complaint, then "operator torchvision::nms does
    not exist". Should the default place not answer, the other is asked: nobody is left without torch.
    """
    run([python, "-m", "pip", "uninstall", "--yes", "--quiet", *PAIR], cwd=root)
    if run(pip_install(python, *pair_requirements(root)), cwd=root).returncode != 0:
        install_cpu_build(root, python, run)


# What works in .venv --------------------------------------------------------------------------------------

PROBE = r"""
import importlib, importlib.metadata, json, sys

report = {"python": sys.version.split()[0], "device": "", "data": "", "versions": {}, "problems": {}}

def attempt(name, action):
    try:
        return action()
    except Exception as error:
        report["problems"][name] = " ".join(f"{type(error).__name__}: {error}".split())

def operator():
    import torch, torchvision
    box, score = torch.tensor([[0.0, 0.0, 1.0, 1.0]]), torch.ones(1)
    if torchvision.ops.nms(box, score, 0.5).tolist() != [0]:
        raise RuntimeError("torchvision.ops.nms gave a wrong answer")

def device():
    import torch
    if torch.cuda.is_available():
        return "CUDA: " + torch.cuda.get_device_name()
    return "MPS" if torch.backends.mps.is_available() else f"CPU, {torch.get_num_threads()} threads"

def data():
    from lenet_course.data import verify_mnist
    verify_mnist()
    return "verified"

for module in sys.argv[1].split(","):
    if attempt(module, lambda: importlib.import_module(module)):
        name = module.split(".")[0]
        try:
            report["versions"][name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            report["versions"][name] = "?"
attempt("torchvision operator", operator)
if sys.argv[2:] == ["doctor"]:
    report["device"] = attempt("device", device) or ""
    report["data"] = attempt("data", data) or ""
print("\nPROBE " + json.dumps(report))
"""


def probe(root: Path, run, *extra: str) -> dict:
    """Import everything and run one torchvision operator, in one process of .venv's python.

    Returns {"python", "device", "data", "versions", "problems": {name: why}}.
    """
    python = str(venv_python(root / ".venv"))
    # -P: without it the project's folder itself is searched, and lenet_course looks installed when it is not.
    result = run([python, "-P", "-c", PROBE, ",".join(MODULES), *extra], cwd=root)
    lines = [line for line in result.stdout.splitlines() if line.startswith("PROBE ")]
    if result.returncode == 0 and lines:
        return json.loads(lines[-1][len("PROBE ") :])
    why = f"ended with code {result.returncode}: {reason(result.stdout)}"
    return {"python": "", "device": "", "data": "", "versions": {}, "problems": {"python in .venv": why}}


# python start.py lab --------------------------------------------------------------------------------------


def lab(root: Path, options, run) -> int:
    command = lab_command(set_up(root, run), root, options.no_browser, options.port)
    say("Starting JupyterLab; Ctrl-C ends it ...")
    try:
        return run(command, cwd=root, quiet=False).returncode
    except KeyboardInterrupt:
        say("JupyterLab has ended.")
        return 0


def lab_command(python: Path, root: Path, no_browser=False, port=None, user_id=None) -> list:
    command = [str(python), "-m", "jupyterlab", f"--ServerApp.root_dir={root}"]
    command += [f"--LabApp.default_url=/lab/tree/{FIRST_CHAPTER}"]
    # Both would go to the network and ask questions on the first page that a learner sees.
    command += ["--LabApp.news_url=None"]
    command += ["--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate"]
    command += ["--ServerApp.answer_yes=True"]  # one Ctrl-C is enough
    if user_id is None and hasattr(os, "geteuid"):
        user_id = os.geteuid()
    if user_id == 0:
        command += ["--allow-root"]
    if no_browser:
        command += ["--no-browser"]
    if port is not None:
        command += [f"--ServerApp.port={port}"]
    return command


# python start.py test -------------------------------------------------------------------------------------

STEPS = (
    ("ruff", "check", "."),
    ("ruff", "format", "--check", "."),
    ("pytest", "tests"),
    ("pytest", "--nbval", "chapters/"),
)


BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def find_chromium(environment=os.environ, which=shutil.which) -> tuple:
    """(path, "") of the Chromium that tests/browser uses, or ("", why there is none)."""
    chosen = environment.get("CHROMIUM")
    found = [path for path in map(which, [chosen] if chosen else BROWSERS) if path]
    if found:
        return found[0], ""
    if chosen:
        return "", f"CHROMIUM is set to {chosen}, which is not a program."
    return "", f"No {', '.join(BROWSERS[:-1])} or {BROWSERS[-1]} on the PATH."


def browser_line(environment=os.environ, which=shutil.which) -> str:
    """What will become of tests/browser, in one line."""
    found, problem = find_chromium(environment, which)
    if found:
        return f"The chapters will also be run in a browser: {found}"
    if environment.get("CI_BROWSER") == "required":
        return f"{problem} The tests in a browser will fail, as CI_BROWSER=required."
    return f"{problem} The tests in a browser will be skipped; apt install chromium or CHROMIUM=/path/of/one runs them."


def checks(root: Path, options, run) -> int:
    python = str(set_up(root, run))
    say(browser_line())
    results = []
    for step in STEPS:
        say(f"\nRunning {' '.join(step)} ...")
        started = time.monotonic()
        code = run([python, "-u", "-m", *step], cwd=root, quiet=False).returncode
        results.append((" ".join(step), code, time.monotonic() - started))
    say("")
    for name, code, seconds in results:
        say(f"{'ok' if code == 0 else 'FAILED':8}{name:26}{seconds:8.1f} s")
    return int(any(code != 0 for _, code, _ in results))


# python start.py bench ------------------------------------------------------------------------------------


def bench(root: Path, options, run) -> int:
    python = str(set_up(root, run))
    say("Measuring; it takes minutes, and wants the machine for itself ...")
    try:
        return run([python, "-u", str(root / "benchmarks" / "all.py")], cwd=root, quiet=False).returncode
    except KeyboardInterrupt:
        say("\nStopped. A benchmark begins anew; the tables of those that were done are kept.")
        return 130


# python start.py doctor -----------------------------------------------------------------------------------


def doctor(root: Path, options, run) -> int:
    say("Looking at what is there ...")
    there = venv_python(root / ".venv").exists()
    report = probe(root, run, "doctor") if there else None
    rows = doctor_rows(report, is_set_up(root), free_gigabytes(root))
    for name, found, advice in rows:
        say(f"{'MISSING' if advice else 'ok':9}{name:22}{found}" + (f"; {advice}" if advice else ""))
    return int(any(advice for _, _, advice in rows))


def free_gigabytes(folder: Path) -> float:
    return shutil.disk_usage(folder).free / 1e9


def doctor_rows(report, set_up_done: bool, free: float) -> list:
    """(thing, what was found, what to do or "") for each thing that the course needs.

    report: what probe gave, or None without .venv. free: gigabytes.
    """
    running = ".".join(map(str, sys.version_info[:3]))
    rows = [("Python", running, "")]
    mends = "python start.py lab installs what is missing"
    if report is None:
        rows.append((".venv", "not there, or without a python", "python start.py lab makes it"))
        report = {"problems": {}, "versions": {}, "device": "", "data": ""}
    elif "python in .venv" in report["problems"]:
        rows.append((".venv", report["problems"]["python in .venv"], "python start.py lab rebuilds it"))
    elif not set_up_done:
        rows.append((".venv", "set-up did not finish, or the project changed since", mends))
    else:
        rows.append((".venv", f"Python {report['python']}", ""))

    versions, problems = report["versions"], report["problems"]
    rows.append(modules_row("torch", ["torch"], versions, problems, mends))
    device = report["device"]
    rows.append(("device", device or "not known without torch", "" if device else mends))
    if "torch" in versions and OPERATOR in problems:
        rows.append((OPERATOR, problems[OPERATOR], "python start.py lab installs a matching pair"))
    else:
        rows.append(modules_row(OPERATOR, ["torchvision"], versions, problems, mends))
    rows.append(data_row(report["data"], problems, mends))
    rows.append(modules_row("jupyterlab", ["jupyterlab.labapp", "ipykernel"], versions, problems, mends))
    rows.append(modules_row("widgets", ["ipywidgets", "jupyterlab_widgets"], versions, problems, mends))
    named = ("jupyterlab.labapp", "ipykernel", "ipywidgets", "jupyterlab_widgets")
    others = [module for module in MODULES[len(PAIR) :] if module not in named]
    rows.append(modules_row("other packages", others, versions, problems, mends))
    needed = 1 if set_up_done else 8 if platform.system() == "Linux" else 3
    low = f"make room: {needed} GB are needed" if free < needed else ""
    rows.append(("free disk space", f"{free:.1f} GB", low))
    return rows


def modules_row(name: str, modules: list, versions: dict, problems: dict, advice: str) -> tuple:
    """One row for several modules: their versions, or what keeps the first bad one from loading."""
    missing = [module for module in modules if module.split(".")[0] not in versions]
    if missing:
        bad = missing[0]
        return (name, f"{bad.split('.')[0]}: {problems.get(bad, 'not installed')}", advice)
    found = [f"{module.split('.')[0]} {versions[module.split('.')[0]]}" for module in modules]
    return (name, ", ".join(found), "")


def data_row(found: str, problems: dict, mends: str) -> tuple:
    if found:
        return ("data", found, "")
    why = problems.get("data", "")
    if not why or why.startswith(("ModuleNotFoundError", "ImportError")):
        return ("data", "not looked at: the course's package does not load", mends)
    # The course's own message says what to do with the files.
    return ("data", "not as it should be", why.partition(": ")[2])


# python start.py address ----------------------------------------------------------------------------------

BADGES = re.compile(r"(<!-- address: badges -->)(.*?)(<!-- /address -->)", re.DOTALL)
PROJECT_LINE = re.compile(r'^(Repository = )"https://github\.com/[^"\n]*"', re.MULTILINE)
COURSE_LINE = re.compile(r'^(COURSE = )"https://github\.com/[^"\n]*"', re.MULTILINE)


def address(root: Path, options, run) -> int:
    wanted = check_address(options.address)
    say(f"Writing https://github.com/{wanted} into pyproject.toml, README.md and the chapters ...")
    contents = address_files(root, wanted)
    write_all(contents)
    changed = ", ".join(path.relative_to(root).as_posix() for path in contents)
    say(f"Changed: {changed}." if contents else "It was there already; nothing changed.")
    return 0


def check_address(text: str) -> str:
    owner_name = r"(?!-)(?!.*--)[A-Za-z0-9-]{1,39}(?<!-)/(?!\.{1,2}$)(?!.*\.git$)[A-Za-z0-9._-]{1,100}"
    if not re.fullmatch(owner_name, text) or text == "OWNER/NAME":
        raise ValueError(
            f"{text!r} is not the owner and name of a GitHub repository. "
            "Give both with a slash between, for example: python start.py address ada/lenet-course"
        )
    return text


def address_files(root: Path, wanted: str) -> dict:
    """{path: new content} of each file that changes. Raises ValueError where there is no place for it."""
    new = {root / "pyproject.toml": set_line, root / "README.md": set_badges}
    new.update((path, set_notebook) for path in sorted((root / "chapters").glob("*.ipynb")))
    contents = {}
    for path, change in new.items():
        try:
            before = path.read_bytes()
            after = change(before.decode("utf-8"), wanted).encode("utf-8")
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path.relative_to(root).as_posix()}: {error}. Nothing was changed.") from error
        if after != before:
            contents[path] = after
    return contents


def replace_once(pattern, text: str, put, what: str) -> str:
    after, count = pattern.subn(put, text)
    if count != 1:
        raise ValueError(f"expected {what} once, found it {count} times")
    return after


def set_line(text: str, wanted: str) -> str:
    put = rf'\g<1>"https://github.com/{wanted}"'
    return replace_once(PROJECT_LINE, text, put, 'a line Repository = "https://github.com/..."')


def set_badges(text: str, wanted: str) -> str:
    newline = "\r\n" if "\r\n" in text else "\n"
    put = newline.join(["", *badges(wanted), ""])
    what = "the markers <!-- address: badges --> and <!-- /address -->"
    return replace_once(BADGES, text, lambda found: found[1] + put + found[3], what)


def badges(wanted: str) -> list:
    binder = f"https://mybinder.org/v2/gh/{wanted}/HEAD?labpath={FIRST_CHAPTER.replace('/', '%2F')}"
    colab = f"https://colab.research.google.com/github/{wanted}/blob/main/{FIRST_CHAPTER}"
    return [
        f"[![Open in Binder](https://mybinder.org/badge_logo.svg)]({binder})",
        f"[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]({colab})",
    ]


def set_notebook(text: str, wanted: str) -> str:
    """Change the COURSE line in the first code cell; the rest stays as Jupyter wrote it."""
    notebook = json.loads(text)
    cell = next((cell for cell in notebook["cells"] if cell["cell_type"] == "code"), {"source": []})
    source = "".join(cell["source"])
    what = 'a line COURSE = "https://github.com/..." in the first code cell'
    put = rf'\g<1>"https://github.com/{wanted}"'
    changed = replace_once(COURSE_LINE, source, put, what)
    if changed == source:
        return text
    cell["source"] = changed if isinstance(cell["source"], str) else changed.splitlines(keepends=True)
    return json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"


# ----------------------------------------------------------------------------------------------------------


def parse(arguments) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="start.py", description="Set up the course and run it.")
    modes = parser.add_subparsers(dest="mode", required=True, metavar="lab | test | bench | doctor | address")
    lab_mode = modes.add_parser("lab", help="open the course in JupyterLab")
    lab_mode.add_argument("--no-browser", action="store_true", help="print the address instead")
    lab_mode.add_argument("--port", type=port_number, help="default: the first free one from 8888")
    modes.add_parser("test", help="run every check")
    modes.add_parser("bench", help="measure how fast it is, in under 10 minutes")
    modes.add_parser("doctor", help="say what is there, and what to do about what is missing")
    address_mode = modes.add_parser("address", help="write the repository's address where it is needed")
    address_mode.add_argument("address", metavar="OWNER/NAME")
    return parser.parse_args(arguments)


def port_number(text: str) -> int:
    if not (text.isdecimal() and 1 <= int(text) <= 65535):
        raise argparse.ArgumentTypeError(f"a port is a number from 1 to 65535, such as 8888; got {text!r}")
    return int(text)


def end_on_sigterm(signum, frame):
    raise Terminated


def main(arguments=None, root: Path = ROOT, run=run, version=sys.version_info) -> int:
    if tuple(version[:2]) < OLDEST_PYTHON:
        say("This course needs Python 3.11 or later, this is {}.{}.{}.".format(*version[:3]))
        return 1
    options = parse(arguments)
    modes = {"lab": lab, "test": checks, "bench": bench, "doctor": doctor, "address": address}
    mode = modes[options.mode]
    signal.signal(signal.SIGTERM, end_on_sigterm)
    try:
        return mode(root, options, run)
    except (SetupError, ValueError, OSError) as error:
        print(f"start.py: {error}", file=sys.stderr, flush=True)
        return 1
    except KeyboardInterrupt:
        say("\nStopped. The same command goes on from here.")
        return 130


if __name__ == "__main__":
    sys.exit(main())
