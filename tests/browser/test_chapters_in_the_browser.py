"""Every chapter as a learner sees it: opened in JupyterLab, all cells run, looked at in Chromium.

That nothing is on the browser's console and no other machine is asked for anything is seen to by the fixture `page`.
"""

import pytest
from lab import CHAPTERS, WIDGET


@pytest.mark.parametrize("chapter", [path.stem for path in CHAPTERS])
def test_a_chapter_runs_and_all_of_it_is_seen(page, chapter):
    page.open_chapter(chapter)
    for number, cell in enumerate(page.cells()):  # as committed: a widget has only its words, as no kernel knows it
        assert not [output["text"] for output in page.seen(number) if is_trouble(output["text"])], cell["source"]
    page.run_all(seconds=240)
    assert page.errors() == []
    cells = page.cells()
    code = [cell for cell in cells if cell["kind"] == "code"]
    assert [cell["count"] for cell in code] == list(range(1, len(code) + 1))

    for number, cell in enumerate(cells):
        pictures = [output for output in cell["outputs"] if "image/png" in output.get("data", {})]
        if "plots.show(" in cell["source"] and cell["kind"] == "code":
            assert pictures, f"No picture below:\n{cell['source']}"
        if pictures:
            check_pictures(page.seen(number), len(pictures), cell["source"])
        widgets = [output for output in cell["outputs"] if WIDGET in output.get("data", {})]
        if widgets:
            # A widget comes a moment after the kernel is idle: its parts are asked for one by one.
            page.page.wait_for_function(
                "number => !window.jupyterapp.shell.currentWidget.content.widgets[number].node.innerText"
                ".includes('Loading widget')",
                arg=number,
                timeout=20_000,
            )
            check_widgets(page.seen(number), len(widgets), cell["source"])


def check_pictures(seen, how_many, source):
    """Each picture has a size on the page and, just below it, a description that can be unfolded."""
    shown = [place for place, output in enumerate(seen) if output["picture"]]
    assert len(shown) == how_many, source
    for place in shown:
        description = (seen[place + 1 : place + 2] or [{}])[0].get("description") or ""
        name, _, words = description.partition("Description of the picture")
        assert name == "" and len(words) > 20, f"{description!r} below\n{source}"


def check_widgets(seen, how_many, source):
    assert sum(bool(output["widget"]) for output in seen) == how_many, source
    assert not [output["text"] for output in seen if is_trouble(output["text"])], source


def is_trouble(text):
    return any(words in text for words in ("Error displaying widget", "Loading widget", "Traceback (most recent"))


# That these checks can fail -----------------------------------------------------------------------------------------

PICTURE = {"text": "", "picture": 90_000, "description": None, "widget": None}
WORDS = {**PICTURE, "picture": None, "description": "Description of the pictureA curve that falls and rises."}
EMPTY = {**WORDS, "description": "Description of the picture"}
MADE = {**PICTURE, "picture": None, "widget": 4_000}


def test_pictures_that_are_right_pass():
    check_pictures([PICTURE, WORDS, PICTURE, WORDS], 2, "")


@pytest.mark.parametrize(
    "seen",
    [
        [{**PICTURE, "picture": 0}, WORDS],
        [{**PICTURE, "picture": None}, WORDS],
        [PICTURE],
        [PICTURE, PICTURE, WORDS],
        [PICTURE, EMPTY],
        [WORDS, PICTURE],
    ],
)
def test_a_picture_that_is_not_seen_or_not_described_fails(seen):
    with pytest.raises(AssertionError):
        check_pictures(seen, 1, "")


@pytest.mark.parametrize("wrong", [{"widget": 0}, {"widget": None}, {"text": "Error displaying widget: gone"}])
def test_a_widget_that_is_not_seen_fails(wrong):
    check_widgets([MADE], 1, "")
    with pytest.raises(AssertionError):
        check_widgets([{**MADE, **wrong}], 1, "")
