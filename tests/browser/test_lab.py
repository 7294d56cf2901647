"""lab.py itself: what it says when something does not start, what it notices, and that it leaves nothing behind."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
from pathlib import Path

import lab as helper
import pytest
from lab import ROOT, LabError, find_chromium, lab_environment, running_lab, started_by

linux = pytest.mark.skipif(
    not Path("/proc").is_dir(), reason="What a lab started is known from /proc, so on Linux only."
)


@pytest.fixture
def page(shared_page):
    return shared_page


def all_ended(token, seconds=30):
    end = time.monotonic() + seconds
    while started_by(token) and time.monotonic() < end:
        time.sleep(0.2)
    return not started_by(token)


# The lab ------------------------------------------------------------------------------------------------------------


def test_a_lab_that_ends_at_once_is_an_error_with_its_log():
    words = "import sys; print('no such extension'); sys.exit(3)"
    with (
        pytest.raises(LabError, match=r"ended with code 3 before it answered[\s\S]*no such extension"),
        running_lab((sys.executable, "-c", words)),
    ):
        pass


@pytest.mark.skipif(os.name == "nt", reason="os.kill with signal 0 ends a process on Windows.")
def test_a_lab_that_does_not_answer_is_an_error_with_its_log_and_is_ended():
    words = "import os, sys; print('pid', os.getpid(), flush=True); sys.stdin.read()"
    with (
        pytest.raises(LabError, match=r"did not answer at http://127\.0\.0\.1:\d+ in 3 s") as error,
        running_lab((sys.executable, "-c", words), seconds=3),
    ):
        pass
    (line,) = [line for line in str(error.value).splitlines() if line.startswith("pid ")]
    with pytest.raises(ProcessLookupError):
        os.kill(int(line.split()[1]), 0)


@linux
def test_a_lab_that_heeds_nothing_is_ended_with_what_it_started(monkeypatch):
    monkeypatch.setattr(helper, "PATIENCE", 1)
    words = (
        "import signal, subprocess, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'], start_new_session=True);"
        "time.sleep(60)"
    )
    tokens = []
    monkeypatch.setattr(helper, "wait_for", lambda lab, seconds: time.sleep(2))
    with running_lab((sys.executable, "-c", words)) as lab:
        tokens.append(lab.token)
        assert len(started_by(lab.token)) == 2
    assert all_ended(tokens[0], seconds=5)


def test_when_another_program_was_faster_another_port_is_taken(monkeypatch):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = other.getsockname()[1]
        ports = [taken, helper.free_port()]
        monkeypatch.setattr(helper, "free_port", lambda: ports.pop(0))
        with running_lab() as lab:
            assert not lab.url.endswith(f":{taken}")
            assert "version" in lab.ask("/api/status") or lab.ask("/api/status")
    assert ports == []


def test_two_labs_at_once_keep_apart(lab):
    with running_lab() as other:
        assert other.url != lab.url and other.folder != lab.folder
        assert lab.ask("/api/kernels") == other.ask("/api/kernels") == []
        other.token, token = lab.token, other.token
        with pytest.raises(urllib.error.HTTPError, match="403"):
            other.ask("/api/status")
        other.token = token
    assert not other.folder.exists()
    lab.ask("/api/status")


@linux
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left_when_the_tests_are_ended_from_outside(number, tmp_path):
    words = (
        "import time; from lab import running_lab, started_by\n"
        "with running_lab() as lab:\n"
        "    lab.ask('/api/kernels', 'POST'); time.sleep(2)\n"
        "    print(lab.token, len(started_by(lab.token)), flush=True); time.sleep(60)"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(helper.__file__).parent), "TMPDIR": str(tmp_path)}
    with subprocess.Popen([sys.executable, "-c", words], env=environment, stdout=subprocess.PIPE, text=True) as tests:
        token, processes = tests.stdout.readline().split()
        assert int(processes) >= 2
        tests.send_signal(number)
    assert all_ended(token)


def test_the_users_jupyter_does_not_matter(tmp_path):
    users = {"JUPYTER_CONFIG_PATH": "/theirs", "JPY_PARENT_PID": "7", "PYTHONPATH": "/mine", "PATH": "/bin"}
    found = lab_environment(users, tmp_path, "x")
    assert not {"JUPYTER_CONFIG_PATH", "JPY_PARENT_PID"} & set(found)
    assert found["PATH"] == "/bin"
    assert found["PYTHONPATH"].split(os.pathsep) == [str(ROOT), "/mine"]
    folders = {name for name in found if found[name].startswith(str(tmp_path))}
    assert {"JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "LENET_COURSE_WEIGHTS"} <= folders


# The page -----------------------------------------------------------------------------------------------------------


def test_kernels_take_the_package_from_the_checkout_and_write_elsewhere(page, lab):
    page.open_new("1 + 1")
    page.run_all()
    assert page.cells()[0]["outputs"][0]["data"]["text/plain"] == "2"
    source = "import os, lenet_course\n[lenet_course.__file__, os.environ['LENET_COURSE_WEIGHTS'], os.getcwd()]"
    (output,) = page.run_code(source)
    package, weights, folder = json.loads(output["data"]["text/plain"].replace("'", '"'))
    assert Path(package).is_relative_to(ROOT)
    assert Path(weights).parent == lab.folder.parent
    assert Path(folder) == lab.folder


def test_an_error_in_a_cell_is_found(page):
    page.open_new("1 / 0", "'not run'")
    page.run_all()
    assert page.errors() == ["ZeroDivisionError: division by zero in\n1 / 0"]
    assert page.cells()[1]["count"] is None


def test_a_cell_that_does_not_end_is_said_with_its_source(page):
    page.open_new("1", "import time\ntime.sleep(600)")
    with pytest.raises(LabError, match=r"Not idle after 3 s[\s\S]*time\.sleep\(600\)"):
        page.run_all(seconds=3)


def test_a_kernel_that_dies_is_said_and_not_waited_for(page):
    page.open_new("import os\nos._exit(1)", "'after'")
    with pytest.raises(LabError, match="The kernel died"):
        page.run_all(seconds=60)
    page.problems.clear()  # JupyterLab tells the console that it gave up the cells


def test_what_is_on_the_console_or_asks_another_machine_is_a_problem(page):
    page.open_new("1")
    page.page.evaluate("console.error('a word')")
    page.page.evaluate("void setTimeout(() => { throw new Error('thrown'); })")
    page.page.evaluate("fetch('http://192.0.2.1/x', {signal: AbortSignal.timeout(200)}).catch(() => null)")
    page.page.wait_for_timeout(500)
    problems = "\n".join(page.problems)
    page.problems.clear()
    assert "console: a word" in problems
    assert "exception: thrown" in problems
    assert "request to another machine: http://192.0.2.1/x" in problems


def test_a_picture_is_seen_only_with_its_size_and_its_description(page):
    head = "import matplotlib.pyplot as plt\nfrom lenet_course import plots\nax = plt.subplots()[1]\n"
    hidden = "from IPython.display import HTML\nHTML('<style>.jp-RenderedImage img {display: none}</style>')"
    page.open_new(head + "plots.describe(ax, 'Two axes without a line.')\nplots.show(ax)", head + "plt.show()")
    page.run_all()
    shown, described = page.seen(0)
    assert shown["picture"] > 0 and shown["description"] is None
    assert described["description"] == "Description of the pictureTwo axes without a line."
    (bare,) = page.seen(1)
    assert bare["picture"] > 0
    page.run_code(hidden)
    assert page.seen(0)[0]["picture"] == 0


def test_a_widget_without_its_model_is_not_seen(page):
    bundle = {"application/vnd.jupyter.widget-view+json": {"model_id": "gone", "version_major": 2, "version_minor": 0}}
    script = "export default {render({el}) {el.textContent = 'drawn'}}"
    own = f"import anywidget\nclass Own(anywidget.AnyWidget):\n    _esm = {script!r}\nOwn()"
    page.open_new("import ipywidgets\nipywidgets.HTML('here')", f"display({bundle!r}, raw=True)", own)
    page.run_all()
    page.page.wait_for_timeout(2_000)
    assert page.seen(0)[0]["widget"] > 0
    assert "here" in page.seen(0)[0]["text"]
    (gone,) = page.seen(1)
    assert gone["widget"] is None and "widget" in gone["text"]  # "Loading widget..." or that there is an error
    (drawn,) = page.seen(2)
    assert drawn["widget"] > 0 and drawn["text"] == "drawn"
    page.problems.clear()  # JupyterLab tells the console as well


def test_contrast_is_measured_against_the_ground_below(page):
    grey = "<p id='x' style='color: #767676; background: white'>grey</p>"
    white = "<svg id='y' style='background: black'><text y='20' style='fill: white'>white</text></svg>"
    page.open_new(f"from IPython.display import HTML\nHTML({grey + white!r})")
    page.run_all()
    ((_, faint),) = page.contrasts(".jp-OutputArea-output p")
    ((_, full),) = page.contrasts(".jp-OutputArea-output svg")
    assert faint == pytest.approx(4.54, abs=0.01)
    assert full == pytest.approx(21)


# Without a Chromium -------------------------------------------------------------------------------------------------


def test_a_chromium_that_is_not_there_is_said_with_what_to_do(monkeypatch):
    monkeypatch.setenv("CHROMIUM", "/no/such/chromium")
    with pytest.raises(LabError, match=r"CHROMIUM is set to /no/such/chromium.*apt install chromium"):
        find_chromium()


@pytest.mark.parametrize(("required", "outcome"), [("", "1 skipped"), ("required", "1 error")])
def test_without_a_chromium_tests_are_skipped_unless_they_are_required(required, outcome):
    environment = {**os.environ, "CHROMIUM": "/no/such/chromium", "CI_BROWSER": required}
    test = "tests/browser/test_lab.py::test_an_error_in_a_cell_is_found"
    command = [sys.executable, "-m", "pytest", "-rs", "-p", "no:cacheprovider", test]
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, encoding="utf-8")
    assert outcome in result.stdout.splitlines()[-1]
    assert "apt install chromium" in result.stdout
