import nbformat
from nbclient import NotebookClient

from lenet_course.progress import progress


def test_in_a_terminal_it_is_a_bar_that_goes_away(capsys):
    display = progress("Training", 3)
    for _ in range(3):
        display.advance()
    display.close()
    captured = capsys.readouterr()
    assert captured.out == "" and "Training" in captured.err and "/3" in captured.err


def test_not_shown_it_says_nothing(capsys):
    display = progress("Training", 3, shown=False)
    display.advance()
    display.close()
    assert capsys.readouterr() == ("", "")


def test_in_a_notebook_it_is_a_widget_that_prints_nothing():
    source = """
from lenet_course.progress import progress
display = progress("Training <b>", 3)
first = display._view.value
for _ in range(3):
    display.advance()
display.close()
assert 'value="0" max="3"' in first and "Training &lt;b&gt;: step 0 of 3" in first
assert 'value="3" max="3"' in display._view.value and "step 3 of 3" in display._view.value
"""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)])
    NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    (output,) = notebook.cells[0].outputs
    assert "application/vnd.jupyter.widget-view+json" in output.data
    assert output.data["text/plain"] == "(Training <b>: the progress shows here while it runs.)"
