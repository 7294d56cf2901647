"""A real JupyterLab on this machine, driven by a real Chromium: for the tests beside this file and for screenshots.py.

    with running_lab() as lab, chromium() as browser, notebook_page(lab, browser) as page:
        page.open_chapter("01_output_size")
        page.run_all()

Nothing here writes into the checkout: the lab works on copies of the chapters in a temporary folder, with settings and
weights of its own, whatever the user's are; its kernels import lenet_course from the checkout.
"""

from __future__ import annotations

import importlib.util
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote, urlparse

import nbformat

ROOT = Path(__file__).resolve().parents[2]
CHAPTERS = sorted((ROOT / "chapters").glob("*.ipynb"))
LOOPBACK = ("127.0.0.1", "localhost", "::1")
WIDGET = "application/vnd.jupyter.widget-view+json"
MARK = "LENET_COURSE_BROWSER_TESTS"  # in the environment of all that a lab starts, with the lab's token as its value
PATIENCE = 15  # seconds for a lab to end its kernels and itself
SETTINGS = {
    # All cells stand in the page, not only those in view.
    "notebook-extension/tracker": {"windowingMode": "none"},
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
    "docmanager-extension/plugin": {"autosave": False},
}
# Ends the lab when this process has ended, however it did: then the pipe that is the lab's stdin closes.
SERVER = """
import os, signal, sys, threading

def end_with_the_tests():
    sys.stdin.buffer.read()
    os.kill(os.getpid(), signal.SIGTERM)

threading.Thread(target=end_with_the_tests, daemon=True).start()
from jupyterlab.labapp import main
sys.exit(main())
"""


class LabError(Exception):
    """JupyterLab, its kernel or the page did not do what it should; the message says what is known."""


def why_no_browser(problem: str) -> str:
    return (
        f"{problem} The tests in tests/browser need playwright (in the packages of `python start.py test`) and a "
        "Chromium: apt install chromium, or install Google Chrome, or set CHROMIUM to the path of one."
    )


def find_chromium() -> str:
    """The path of Chromium. Raises LabError, which says how to get one."""
    if importlib.util.find_spec("playwright") is None:
        raise LabError(why_no_browser("playwright is not installed."))
    spec = importlib.util.spec_from_file_location("start", ROOT / "start.py")
    start = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(start)  # it looks as well, and says what it found before the tests begin
    found, problem = start.find_chromium()
    if not found:
        raise LabError(why_no_browser(problem))
    return found


# The lab ------------------------------------------------------------------------------------------------------------


@dataclass
class Lab:
    """A lab that answers. folder: what it shows, with the copies in folder/chapters."""

    url: str
    token: str
    folder: Path
    log: Path
    process: subprocess.Popen

    def ask(self, path: str, method: str = "GET", seconds: float = 20) -> object:
        """What the server's own interface answers to this."""
        request = urllib.request.Request(self.url + path, method=method)
        request.add_header("Authorization", f"token {self.token}")
        with urllib.request.urlopen(request, timeout=seconds) as answer:
            text = answer.read()
        return json.loads(text) if text else None

    def end_kernel(self, number: str) -> None:
        # One that died or was ended in the page is not there any more.
        with suppress(urllib.error.HTTPError):
            self.ask(f"/api/kernels/{number}", "DELETE")

    def copy_of(self, chapter: str) -> str:
        """Copy a chapter from the checkout, as committed, and return its path in the lab."""
        shutil.copy(ROOT / "chapters" / f"{chapter}.ipynb", self.folder / "chapters")
        return f"chapters/{chapter}.ipynb"

    def new_notebook(self, *sources: str) -> str:
        """Make a notebook with these code cells and return its path in the lab."""
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources])
        notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
        name = f"new_{secrets.token_hex(4)}.ipynb"
        nbformat.write(notebook, self.folder / name)
        return name


@contextmanager
def running_lab(command: tuple[str, ...] = (sys.executable, "-c", SERVER), seconds: float = 60) -> Iterator[Lab]:
    """A JupyterLab on a free port of the loopback, which is ended with all that it started at the end of the block.

    command: what to start it with. seconds: how long it may take to answer.
    Raises LabError, with the end of its log, if it ends or does not answer.
    """
    with tempfile.TemporaryDirectory(prefix="lenet-course-lab-", ignore_cleanup_errors=True) as folder:
        here, token = Path(folder).resolve(), secrets.token_hex(16)
        (here / "course" / "chapters").mkdir(parents=True)
        shutil.copytree(ROOT / "pictures", here / "course" / "pictures")  # chapters show some of them
        for name, settings in SETTINGS.items():
            path = here / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(settings), encoding="utf-8")
        lab = None
        for last_try in (False, False, True):
            port = free_port()
            log = here / "lab.log"
            process = start_lab(command, here, token, port, log)
            lab = Lab(f"http://127.0.0.1:{port}", token, here / "course", log, process)
            try:
                wait_for(lab, seconds)
                yield lab
                return
            except PortTaken:
                if last_try:
                    raise
            finally:
                stop(process, token)


class PortTaken(LabError):
    """Another program was faster: between looking for a free port and using it there is a moment."""


def free_port() -> int:
    with socket.socket() as looking:
        looking.bind(("127.0.0.1", 0))
        return looking.getsockname()[1]


def start_lab(command: tuple[str, ...], here: Path, token: str, port: int, log: Path) -> subprocess.Popen:
    arguments = [
        f"--ServerApp.root_dir={here / 'course'}",
        "--ServerApp.ip=127.0.0.1",
        f"--ServerApp.port={port}",
        "--ServerApp.port_retries=0",
        f"--IdentityProvider.token={token}",
        "--LabApp.expose_app_in_browser=True",
        "--LabApp.news_url=None",
        "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
        "--no-browser",
        *(["--allow-root"] if getattr(os, "geteuid", lambda: None)() == 0 else []),
    ]
    with log.open("wb") as output:
        return subprocess.Popen(
            [*command, *arguments],
            cwd=here / "course",
            env=lab_environment(os.environ, here, token),
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def lab_environment(environment, here: Path, token: str) -> dict[str, str]:
    """The environment without the user's Jupyter and with the checkout's lenet_course."""
    kept = {name: value for name, value in environment.items() if not name.startswith(("JUPYTER", "JPY_", "PYTEST_"))}
    python_path = [str(ROOT), *filter(None, [environment.get("PYTHONPATH")])]
    return {
        **kept,
        MARK: token,
        "PYTHONPATH": os.pathsep.join(python_path),
        "LENET_COURSE_WEIGHTS": str(here / "weights"),
        "JUPYTER_CONFIG_DIR": str(here / "config"),
        "JUPYTER_DATA_DIR": str(here / "data"),
        "JUPYTER_RUNTIME_DIR": str(here / "runtime"),
        "JUPYTERLAB_SETTINGS_DIR": str(here / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(here / "workspaces"),
        "IPYTHONDIR": str(here / "ipython"),
        "MPLCONFIGDIR": environment.get("MPLCONFIGDIR", str(here / "matplotlib")),
    }


def wait_for(lab: Lab, seconds: float) -> None:
    """Wait until the lab answers to its token: another program on that port would not."""
    end = time.monotonic() + seconds
    while True:
        with suppress(OSError, ValueError):
            lab.ask("/api/status", seconds=2)
            return
        if lab.process.poll() is not None:
            text = log_end(lab.log)
            kind = PortTaken if "already in use" in text else LabError
            raise kind(f"JupyterLab ended with code {lab.process.returncode} before it answered. Its log:\n{text}")
        if time.monotonic() > end:
            raise LabError(f"JupyterLab did not answer at {lab.url} in {seconds:g} s. Its log:\n{log_end(lab.log)}")
        time.sleep(0.1)


def log_end(log: Path, lines: int = 30) -> str:
    text = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return "\n".join(text[-lines:]) or "(it is empty)"


def stop(process: subprocess.Popen, token: str) -> None:
    """End the lab: first in good order, with which it ends its kernels, then all that is left of it."""
    process.stdin.close()
    try:
        process.wait(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
    if hasattr(os, "killpg"):
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    process.wait(timeout=15)
    for pid in started_by(token):  # kernels are in groups of their own
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def started_by(token: str) -> list[int]:
    """The processes of the lab with this token that still run; known on Linux only, elsewhere []."""
    found = []
    for environment in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError):
            if f"{MARK}={token}".encode() in environment.read_bytes().split(b"\0"):
                found.append(int(environment.parent.name))
    return found


# The browser --------------------------------------------------------------------------------------------------------


@contextmanager
def chromium(path: str | None = None) -> Iterator:
    """The system's Chromium. An event loop runs in this thread until the end of the block."""
    from playwright.sync_api import sync_playwright

    arguments = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-dev-shm-usage"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path or find_chromium(), args=arguments)
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def notebook_page(lab: Lab, browser) -> Iterator[NotebookPage]:
    """A new window, as if no one had been here before; at the end its kernel is ended."""
    context = browser.new_context(viewport={"width": 1200, "height": 1000})
    page = NotebookPage(lab, context.new_page())
    try:
        yield page
    finally:
        context.close()
        if lab.process.poll() is None:
            if page.kernel:
                lab.end_kernel(page.kernel)
            # JupyterLab keeps the theme on the server: the next window starts in the light one again.
            themes = lab.folder.parent / "settings/@jupyterlab/apputils-extension/themes.jupyterlab-settings"
            themes.unlink(missing_ok=True)


# Statuses are kept: a kernel that died is back within a second, and only these tell.
WATCH_KERNEL = """async () => {
    const context = window.jupyterapp.shell.currentWidget.context.sessionContext;
    await context.ready;
    window.courseStatuses = [context.session.kernel.status];
    context.statusChanged.connect((_, status) => window.courseStatuses.push(status));
    return context.session.kernel.id;
}"""
RUN_ALL = """() => {
    const run = window.courseRun = {done: false, right: null};
    const end = right => { run.right = right; run.done = true; };
    window.jupyterapp.commands.execute("notebook:run-all-cells").then(end, error => end(String(error)));
}"""
STATE = """() => {
    const panel = window.jupyterapp.shell.currentWidget;
    const prompts = [...panel.node.querySelectorAll(".jp-CodeCell .jp-InputPrompt")];
    return {
        statuses: window.courseStatuses,
        kernel: panel.context.sessionContext.session?.kernel?.status ?? "none",
        waiting: prompts.filter(prompt => prompt.textContent.includes("*")).length,
        run: window.courseRun ?? {done: true, right: null},
    };
}"""
CELLS = """() => window.jupyterapp.shell.currentWidget.content.widgets.map(cell => ({
    kind: cell.model.type,
    source: cell.model.sharedModel.getSource(),
    count: cell.model.executionCount ?? null,
    outputs: cell.model.outputs?.toJSON() ?? [],
}))"""
# What a reader sees of one cell's outputs, in their order. An output that has no size is not seen.
SEEN = """number => {
    const cell = window.jupyterapp.shell.currentWidget.content.widgets[number].node;
    return [...cell.querySelectorAll(".jp-OutputArea-output")].map(output => {
        const picture = output.querySelector(":scope > img");
        const details = output.querySelector("details");
        // An anywidget has no class of its own; until there is a widget, the panel holds bare words.
        const widget = output.matches(".lm-Panel") ? output.querySelector(":scope > .lm-Widget") : null;
        const box = widget?.getBoundingClientRect();
        return {
            text: output.innerText,
            picture: picture && picture.complete ? picture.naturalWidth * picture.clientWidth : null,
            description: details && details.clientHeight ? details.textContent : null,
            widget: box ? box.width * box.height : null,
        };
    });
}"""


@dataclass
class NotebookPage:
    """JupyterLab in one window.

    problems: what the browser's console calls an error, exceptions in the page, and requests to other machines.
    kernel: the identifier of the open notebook's kernel.
    """

    lab: Lab
    page: object
    problems: list[str] = field(default_factory=list)
    kernel: str = ""

    def __post_init__(self) -> None:
        self.page.on("console", self._hear)
        self.page.on("pageerror", lambda error: self.problems.append(f"exception: {error}"))
        self.page.on("request", self._see)

    def _hear(self, message) -> None:
        if message.type == "error":
            self.problems.append(f"console: {message.text} ({message.location.get('url', '')})")

    def _see(self, request) -> None:
        address = urlparse(request.url)
        if address.scheme not in ("data", "blob") and address.hostname not in LOOPBACK:
            self.problems.append(f"request to another machine: {request.url[:200]}")

    def open_chapter(self, chapter: str) -> None:
        self.open(self.lab.copy_of(chapter))

    def open_new(self, *sources: str) -> None:
        self.open(self.lab.new_notebook(*sources))

    def open(self, path: str, seconds: float = 60) -> None:
        """Open a notebook in place of the one before, and wait for its kernel. Its workspace has no other tabs."""
        if self.lab.process.poll() is not None:
            raise LabError(f"JupyterLab has ended since it was started. Its log:\n{log_end(self.lab.log)}")
        cells = len(nbformat.read(self.lab.folder / path, as_version=4).cells)
        if self.page.url != "about:blank":
            self.page.goto("about:blank")
            self.lab.end_kernel(self.kernel)
        workspace = secrets.token_hex(4)
        self.page.goto(f"{self.lab.url}/lab/workspaces/{workspace}/tree/{quote(path)}?token={self.lab.token}")
        ready = """([path, count]) => {
            const panel = window.jupyterapp?.shell.currentWidget;
            const kernel = panel?.context?.sessionContext?.session?.kernel;
            return panel?.context?.path === path && panel.content.widgets?.length >= count && !!kernel;
        }"""
        self.page.wait_for_function(ready, arg=[path, cells], timeout=1000 * seconds)
        self.kernel = self.page.evaluate(WATCH_KERNEL)
        self.wait_for_idle(seconds)

    def command(self, name: str, **arguments: object) -> None:
        """Start one of JupyterLab's commands; its end is not waited for."""
        script = "([name, given]) => void window.jupyterapp.commands.execute(name, given)"
        self.page.evaluate(script, [name, arguments])

    def run_all(self, seconds: float = 200) -> None:
        """Clear all outputs, run all cells and wait for the end. Raises LabError if the kernel dies on the way."""
        self.page.evaluate("() => window.jupyterapp.commands.execute('notebook:clear-all-cell-outputs')")
        self.page.evaluate(RUN_ALL)
        self.wait_for_idle(seconds)

    def wait_for_idle(self, seconds: float = 60) -> None:
        """Wait until the kernel and every cell have nothing left to do."""
        end = time.monotonic() + seconds
        while True:
            state = self.page.evaluate(STATE)
            if {"dead", "autorestarting"} & {*state["statuses"], state["kernel"]}:
                raise LabError(f"The kernel died. {self._where()} The lab's log:\n{log_end(self.lab.log)}")
            if state["run"]["done"] and state["kernel"] == "idle" and not state["waiting"]:
                return
            if time.monotonic() > end:
                raise LabError(f"Not idle after {seconds:g} s: {state}. {self._where()}")
            self.page.wait_for_timeout(100)

    def _where(self) -> str:
        """The first cell that has not been run to its end."""
        cells = [cell for cell in self.cells() if cell["kind"] == "code" and cell["source"].strip()]
        waiting = [cell["source"] for cell in cells if cell["count"] is None]
        return f"The first cell without a number:\n{waiting[0]}\n" if waiting else "Every cell has a number."

    def run_code(self, source: str, seconds: float = 60) -> list[dict]:
        """Add a code cell at the end, run it, and return its outputs."""
        script = """source => {
            const {content} = window.jupyterapp.shell.currentWidget;
            content.activeCellIndex = content.widgets.length - 1;
            content.mode = "command";
            return window.jupyterapp.commands.execute("notebook:insert-cell-below").then(() => {
                content.activeCell.model.sharedModel.setSource(source);
                const run = window.courseRun = {done: false, right: null};
                const end = right => { run.right = right; run.done = true; };
                window.jupyterapp.commands.execute("notebook:run-cell").then(end, error => end(String(error)));
            });
        }"""
        self.page.evaluate(script, source)
        self.wait_for_idle(seconds)
        return self.cells()[-1]["outputs"]

    def cells(self) -> list[dict]:
        """Every cell as JupyterLab has it: {kind, source, count, outputs}, outputs as in a notebook's file."""
        return self.page.evaluate(CELLS)

    def seen(self, number: int) -> list[dict]:
        """What can be seen of this cell's outputs: {text, picture, description, widget}.

        picture and widget are areas, 0 for what is there and not seen, None for what is not there.
        """
        return self.page.evaluate(SEEN, number)

    def errors(self) -> list[str]:
        """What went wrong in the cells, as the reader sees it."""
        return [
            f"{output['ename']}: {output['evalue']} in\n{cell['source']}"
            for cell in self.cells()
            for output in cell["outputs"]
            if output["output_type"] == "error"
        ]

    def use_theme(self, theme: str) -> None:
        """theme: "light" or "dark"."""
        name = {"light": "JupyterLab Light", "dark": "JupyterLab Dark"}[theme]
        self.command("apputils:change-theme", theme=name)
        light = "true" if theme == "light" else "false"
        self.page.wait_for_selector(f"body[data-jp-theme-light={light}]", state="attached", timeout=20_000)
        self.page.wait_for_timeout(300)  # the style sheet comes after the attribute

    def contrasts(self, selector: str) -> list[tuple[str, float]]:
        """(text, contrast) of all visible text below this selector: 1 is none, 21 is black on white (WCAG 2.1)."""
        return [tuple(found) for found in self.page.evaluate(CONTRASTS, selector)]


# WCAG 2.1, definitions of relative luminance and contrast ratio. Half-transparent grounds are mixed with what they are on.
CONTRASTS = """selector => {
    const rgba = colour => {
        const canvas = window.courseCanvas ??= document.createElement("canvas").getContext(
            "2d", {willReadFrequently: true});
        canvas.clearRect(0, 0, 1, 1);
        canvas.fillStyle = colour;
        canvas.fillRect(0, 0, 1, 1);
        return [...canvas.getImageData(0, 0, 1, 1).data];
    };
    const luminance = colour => {
        const [r, g, b] = colour.slice(0, 3).map(value => value / 255).map(
            value => value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const ground = node => {
        const layers = [];
        for (; node; node = node.parentElement) {
            layers.unshift(rgba(getComputedStyle(node).backgroundColor));
        }
        return layers.reduce(
            (under, [r, g, b, a]) => [r, g, b].map((value, n) => value * a / 255 + under[n] * (1 - a / 255)),
            [255, 255, 255]);
    };
    const found = [];
    for (const root of document.querySelectorAll(selector)) {
        const walker = document.createTreeWalker(root, NodeFilter.SHOW_TEXT);
        while (walker.nextNode()) {
            const text = walker.currentNode.textContent.trim();
            const node = walker.currentNode.parentElement;
            if (!text || !node.getClientRects().length) continue;
            const style = getComputedStyle(node);
            const ink = node instanceof SVGElement ? style.fill : style.color;
            const [low, high] = [luminance(rgba(ink)), luminance(ground(node))].sort((a, b) => a - b);
            found.push([text, (high + 0.05) / (low + 0.05)]);
        }
    }
    return found;
}"""
