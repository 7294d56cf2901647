"""What holds for the package as a whole: which module may import which, and what importing it costs and sets."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import lenet_course

PACKAGE = Path(lenet_course.__file__).parent
# A module imports only those above it. Folders count as one; the last two are for learners, and nothing imports them.
ORDER = (
    "arithmetic",
    "data",
    "drawing",
    "lenet",
    "lenet5",
    "variants",
    "progress",
    "parallel",
    "devices",
    "ranks",
    "evaluation",
    "training",
    "sdlm",
    "sdlm_compiled",
    "units",
    "weights",
    "checkpoints",
    "train",
    "scaling",
    "plots",
    "reproduce",
    "comparison",
    "widgets",
    "exercises",
)


def name_of(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(path):
    """Yield the parts of the package that a module imports, by name."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("lenet_course."):
            yield node.module.split(".")[1]


MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_one_way(path):
    own = ORDER.index(name_of(path))
    for other in imported(path):
        assert ORDER.index(other) <= own, f"{path.name} imports {other}, which stands below it"
        assert other not in ("widgets", "exercises") or other == name_of(path)


def in_a_fresh_python(code, **environment):
    cleared = {name: value for name, value in os.environ.items() if name not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")}
    result = subprocess.run(
        [sys.executable, "-c", code], env={**cleared, **environment}, capture_output=True, text=True, check=True
    )
    return result.stdout.strip()


def test_importing_the_package_imports_neither_torch_nor_matplotlib():
    code = "import sys, lenet_course; print([name for name in ('torch', 'matplotlib', 'numpy') if name in sys.modules])"
    assert in_a_fresh_python(code) == "[]"


def test_it_says_how_threads_wait_before_torch_is_there():
    code = "import os, lenet_course.data; print(os.environ['OMP_WAIT_POLICY'], os.environ['GOMP_SPINCOUNT'])"
    assert in_a_fresh_python(code) == "PASSIVE 1000"
    assert in_a_fresh_python(code, OMP_WAIT_POLICY="ACTIVE") == "ACTIVE 1000"


def test_the_version_is_that_of_the_project():
    import tomllib

    project = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert lenet_course.__version__ == project["version"]
