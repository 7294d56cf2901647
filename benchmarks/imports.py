"""How long does importing the course take, torch apart? And what do a chapter's imports load that it does not use?

    python benchmarks/imports.py [--rounds 5] [--chapters]

Each round is a new process that imports, one after the other and each timed by itself: the package, torch, the course's
modules for training, then what the first training adds (torch's first optimizer, torchvision for reading the digits).
--chapters runs the import lines of each chapter in a process of its own and lists the large packages that came with them.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

from measuring import REPLY, ROOT, MeasuringError, alternate, arguments, at_most, figure, finish, plain_environment

STEPS = {
    "import lenet_course": "import lenet_course",
    "import torch": "import torch",
    "the course's modules for training": "\n".join(
        f"import lenet_course.{name}" for name in ("arithmetic", "data", "lenet", "lenet5", "training", "weights")
    ),
    "torch's first optimizer": "torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)",
    "import torchvision": "import torchvision",
}
TARGETS = {"import lenet_course": at_most(0.1), "the course's modules for training": at_most(0.1)}
PROGRAM = """
import json, time
seconds = {}
for name, step in STEPS.items():
    start = time.perf_counter()
    exec(step)
    seconds[name] = time.perf_counter() - start
print("MEASURED " + json.dumps(seconds))
"""
# Packages that take long to load, and the words by which a chapter says that it uses them: names of ours or their own.
VISION = ("torchvision", "load_mnist", "distortions")  # torchvision reads the digits
COMPILER = (
    "torch.compile",
    "fit",
    "SDLM",
    "torch.optim",
)  # torch loads its compiler with the first optimizer of any kind
USED_BY = {
    "torchvision": VISION,
    "torch._dynamo": (*VISION, *COMPILER),  # torchvision loads it too
    "sympy": (*VISION, *COMPILER),  # comes with it
    "numba": ("numba", "sdlm_compiled"),
    "matplotlib": ("matplotlib", "plots"),
    "ipywidgets": ("ipywidgets", "lenet_course.widgets"),
    "anywidget": ("anywidget", "drawing_pad", "unit_explorer"),
    "pandas": ("pandas",),
    "scipy": ("scipy",),
    "sklearn": ("sklearn",),
}


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--chapters", action="store_true", help="also list what each chapter's imports load")
    given = parser.parse_args()
    found = alternate({"python": time_steps}, given.rounds)["python"]
    finish(
        "imports",
        "Importing",
        [figure(name, found[name], "s", target=TARGETS.get(name)) for name in STEPS],
        given.results,
    )
    if given.chapters:
        for path in sorted((ROOT / "chapters").glob("*.ipynb")):
            loaded = loaded_by(path)
            unused = unused_in(path, loaded)
            print(f"{path.stem}: {', '.join(loaded) or 'nothing large'}; not used: {', '.join(unused) or 'none'}")


def time_steps() -> dict[str, float]:
    """Return the seconds of each step, in one new process."""
    return in_a_new_python(f"STEPS = {STEPS!r}\n{PROGRAM}")


def loaded_by(chapter: Path) -> list[str]:
    """Return the large packages that are loaded after the chapter's import lines, run alone in a new process."""
    lines = import_lines(chapter)
    code = f"import json, sys\n{lines}\n"
    code += f"print({REPLY!r} + json.dumps([name for name in {list(USED_BY)!r} if name in sys.modules]))"
    return in_a_new_python(code)


def unused_in(chapter: Path, loaded: list[str]) -> list[str]:
    """Return which of the loaded packages the chapter's code does not name, nor a part of the course that needs them."""
    text = code_of(chapter)
    return [name for name in loaded if not any(re.search(rf"\b{re.escape(word)}\b", text) for word in USED_BY[name])]


def import_lines(chapter: Path) -> str:
    """Return the import lines at the left edge of the chapter's code, in order."""
    return "\n".join(line for line in code_of(chapter).splitlines() if re.match(r"(from|import) ", line))


def code_of(chapter: Path) -> str:
    cells = json.loads(chapter.read_text(encoding="utf-8"))["cells"]
    return "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")


def in_a_new_python(code: str):
    result = subprocess.run(
        [sys.executable, "-c", code], env=plain_environment(), stdout=subprocess.PIPE, encoding="utf-8", check=False
    )
    for line in result.stdout.splitlines():
        if line.startswith(REPLY):
            return json.loads(line.removeprefix(REPLY))
    raise MeasuringError(f"A new Python ended with code {result.returncode} and no figures.")


if __name__ == "__main__":
    main()
