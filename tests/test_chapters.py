"""What every chapter must be, beyond running (nbval checks that): whole, short-celled, described, solvable."""

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from lenet_course.exercises.checking import RIGHT

ROOT = Path(__file__).resolve().parent.parent
CHAPTERS = sorted((ROOT / "chapters").glob("*.ipynb"))
IGNORED = "nbval-ignore-output"


def code(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def prose(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "markdown"]


@pytest.fixture(params=CHAPTERS, ids=lambda path: path.stem)
def chapter(request):
    return nbformat.read(request.param, as_version=4)


def test_there_are_chapters():
    assert [path.stem for path in CHAPTERS][:3] == ["01_output_size", "02_lenet", "03_training"]


# --- outputs are those of one clean run -----------------------------------------------------------------------------


def test_is_a_valid_notebook_with_unique_cell_ids(chapter):
    nbformat.validate(chapter)
    ids = [cell.id for cell in chapter.cells]
    assert len(set(ids)) == len(ids)


def test_every_code_cell_was_run_once_from_top_to_bottom(chapter):
    """A cell without an execution count passes nbval without any comparison."""
    assert [cell.execution_count for cell in code(chapter)] == list(range(1, len(code(chapter)) + 1))


def test_no_errors_no_warnings_no_paths_in_the_outputs(chapter):
    for cell in code(chapter):
        for output in cell.outputs:
            assert output.output_type != "error", cell.source
            assert output.get("name") != "stderr", output
            assert not re.search(r"(/tmp|/root|/work|/home|/Users|C:\\\\)[/\\\\]", json.dumps(output)), cell.source


def test_at_most_one_cell_in_ten_is_not_compared_and_the_next_one_asserts(chapter):
    cells = code(chapter)
    ignored = [number for number, cell in enumerate(cells) if IGNORED in cell.metadata.get("tags", [])]
    assert len(ignored) <= len(cells) / 10
    for number in ignored:
        assert "assert" in cells[number + 1].source
    assert not any("NBVAL_" in cell.source for cell in cells)
    assert all(set(cell.metadata.get("tags", [])) <= {IGNORED} for cell in cells)


# --- it reads well --------------------------------------------------------------------------------------------------


def test_cells_are_short_and_lines_fit_the_window(chapter):
    for cell in code(chapter):
        lines = cell.source.splitlines()
        assert len(lines) <= 20, cell.source
        assert max(map(len, lines)) <= 100, max(lines, key=len)


def test_text_and_code_take_turns(chapter):
    assert len(prose(chapter)) >= 0.7 * len(code(chapter))
    assert 2 * sum(has_picture(cell) for cell in code(chapter)) >= 0.3 * len(code(chapter))


def has_picture(cell):
    return any("image/png" in output.get("data", {}) for output in cell.outputs)


def test_every_picture_has_a_description(chapter):
    for cell in code(chapter):
        outputs = [output for output in cell.outputs if "data" in output]
        for number, output in enumerate(outputs):
            if "image/png" in output.data:
                assert len(output.metadata["image/png"]["alt"]) > 20
                assert "Description of the picture" in outputs[number + 1].data["text/html"]


def test_has_the_skeleton(chapter):
    text = "\n".join(cell.source for cell in prose(chapter))
    title = prose(chapter)[0].source.splitlines()[0]
    assert re.fullmatch(r"# \d\. .*\?", title)
    for part in (
        "**You will be able to**",
        "**You need**",
        "**It takes**",
        "## Play",
        "## Exercises",
        "## Summary",
        "## Sources",
        "**Next:**",
    ):
        assert part in text, part
    summary = text.split("## Summary")[1].split("## Sources")[0]
    assert re.findall(r"^(\d)\. ", summary, re.MULTILINE) == ["1", "2", "3"]


def test_links_lead_somewhere(chapter):
    for cell in prose(chapter):
        for target in re.findall(r"\]\(([^)#]+)\)", cell.source):
            assert target.startswith("https://") or (ROOT / "chapters" / target).is_file(), target


def test_imports_are_explicit_and_used(chapter):
    for cell in code(chapter):
        for node in ast.walk(ast.parse(re.sub(r";\s*$", "", cell.source))):
            assert not (isinstance(node, ast.ImportFrom) and node.names[0].name == "*"), cell.source


# --- exercises ------------------------------------------------------------------------------------------------------

SOLUTION = re.compile(r"<details><summary>Solution</summary>.*?```python\n(.*?)```.*?</details>", re.DOTALL)


def exercises(notebook):
    """Yield (source of the exercise's cell, source of its solution)."""
    for cell, after in zip(notebook.cells, notebook.cells[1:], strict=False):
        if cell.cell_type == "code" and re.search(r"^check\.\w+\(", cell.source, re.MULTILINE):
            solution = SOLUTION.search(after.source)
            assert solution, f"No solution below:\n{cell.source}"
            yield cell.source, solution[1]


def test_every_exercise_has_a_solution_that_its_check_accepts(chapter):
    found = list(exercises(chapter))
    assert len(found) >= 3
    namespace = {}
    imports = [line for cell in code(chapter) for line in cell.source.splitlines() if re.match(r"(from|import) ", line)]
    exec("\n".join(imports), namespace)
    for source, solution in found:
        exec(solution, namespace)
        call = re.search(r"^check\.\w+\(.*\)$", source, re.MULTILINE)[0]
        verdict = eval(call, namespace)
        assert verdict.outcome == RIGHT, verdict


def test_exercises_are_committed_unsolved(chapter):
    for cell in code(chapter):
        if "check." in cell.source:
            assert "Not attempted yet" in cell.outputs[-1].data["text/plain"]


# --- the first cell: Colab ------------------------------------------------------------------------------------------


def first_cell(path):
    return code(nbformat.read(path, as_version=4))[0]


def test_the_first_cell_is_the_same_everywhere_and_silent():
    assert len({first_cell(path).source for path in CHAPTERS}) == 1
    assert all(first_cell(path).outputs == [] for path in CHAPTERS)


def test_one_address_in_pyproject_and_in_the_chapters():
    import tomllib

    address = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]["Repository"]
    assert f'\nCOURSE = "{address}"\n' in first_cell(CHAPTERS[0]).source


STAND_IN = """
import sys, types
sys.path = [entry for entry in sys.path if entry != {root!r}]
sys.meta_path = [finder for finder in sys.meta_path if "editable" not in getattr(finder, "__module__", "") + repr(finder)]
if {colab}:
    sys.modules["google"] = types.ModuleType("google")
    sys.modules["google.colab"] = types.ModuleType("google.colab")
import subprocess
calls, run = [], subprocess.run
def record(command, **settings):
    calls.append(command)
    if "pip" not in command:  # git for real; pip would change this environment
        return run(command, **settings)
subprocess.run = record
source = open({cell!r}).read()
for _ in range(2):
    exec(source, {{}})
import lenet_course
print(lenet_course.__file__)
for call in calls:
    print(call[1:])
"""


def run_first_cell(folder, *, colab, address):
    """Run the cell in a Python that does not have the course, in `folder`."""
    source = re.sub(r'COURSE = ".*"', f'COURSE = "{address}"', first_cell(CHAPTERS[0]).source)
    (folder / "cell.py").write_text(source)
    (folder / "run.py").write_text(STAND_IN.format(root=str(ROOT), colab=colab, cell=str(folder / "cell.py")))
    # An editable install adds its folder by a .pth file or a finder: -S would lose torch too, so the script removes both.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run([sys.executable, "run.py"], cwd=folder, env=environment, capture_output=True, text=True)


@pytest.fixture
def published(tmp_path):
    """A repository with this checkout's package, as its public address would have it."""
    folder = tmp_path / "published"
    folder.mkdir()
    for name in ("pyproject.toml", "lenet_course"):
        subprocess.run(["cp", "-r", str(ROOT / name), str(folder)], check=True)
    identity = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
    for command in (["init", "-q"], ["add", "."], [*identity, "commit", "-qm", "All of it"]):
        subprocess.run(["git", *command], cwd=folder, check=True)
    return folder.as_uri()


def test_on_colab_the_first_cell_fetches_the_course_once(tmp_path, published):
    result = run_first_cell(tmp_path, colab=True, address=published)
    assert result.returncode == 0, result.stderr
    where, *calls = result.stdout.splitlines()
    assert Path(where) == tmp_path / "lenet-course" / "lenet_course" / "__init__.py"
    assert len(calls) == 2  # the second run of the cell found the package
    assert "clone" in calls[0] and published in calls[0]
    assert "'--no-deps', '-e', 'lenet-course'" in calls[1] and "torch" not in calls[1]


def test_on_colab_a_wrong_address_is_an_error(tmp_path):
    result = run_first_cell(tmp_path, colab=True, address=(tmp_path / "nowhere").as_uri())
    assert result.returncode != 0 and "git" in result.stderr


def test_elsewhere_without_the_package_it_says_how_to_start(tmp_path):
    result = run_first_cell(tmp_path, colab=False, address="https://github.com/OWNER/NAME")
    assert result.returncode != 0 and "python start.py lab" in result.stderr
    assert not (tmp_path / "lenet-course").exists()
