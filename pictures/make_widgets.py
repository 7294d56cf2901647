"""Make drawing_pad.png and unit_explorer.png: the widgets of chapter 6 in a real JupyterLab.

    python pictures/make_widgets.py

Needs what the tests in tests/browser need: playwright, and a Chromium.
"""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests" / "browser"))

from lab import chromium, notebook_page, running_lab
from test_drawing_pad_in_the_browser import MAKE as MAKE_PAD
from test_drawing_pad_in_the_browser import Pad

SEVEN = [[(80, 60), (200, 60), (130, 230)], [(100, 150), (195, 150)]]
MAKE_EXPLORER = (
    "from lenet_course.widgets.unit_explorer import unit_explorer\n"
    'unit_explorer(lenet5, load_mnist("test").images[0], "c3", (2, 4, 5))'
)


def main() -> None:
    with running_lab() as lab, chromium() as browser, notebook_page(lab, browser) as page:
        page.page.set_viewport_size({"width": 1500, "height": 1500})
        page.open_new(MAKE_PAD, MAKE_EXPLORER)
        page.run_all()
        pad = Pad(page)
        pad.draw(SEVEN)
        pad.wait_for("It reads a 7")
        page.page.wait_for_timeout(500)
        page.page.locator(".jp-OutputArea-output:has(.lenet-pad)").first.screenshot(path=HERE / "drawing_pad.png")
        explorer = page.page.locator(".jp-OutputArea-output:has(.lenet-unit-panel)").first
        explorer.scroll_into_view_if_needed()
        explorer.screenshot(path=HERE / "unit_explorer.png")


if __name__ == "__main__":
    main()
