"""Make pictures of each chapter's figures and widgets, in the light and the dark theme.

    python tests/browser/screenshots.py FOLDER                  every chapter
    python tests/browser/screenshots.py FOLDER 01_output_size   one

Each chapter is run once. FOLDER/01_output_size/light/05.png is what stands below the fifth code cell; page.png is what
a learner sees on opening the chapter.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from lab import CHAPTERS, WIDGET, LabError, chromium, notebook_page, running_lab

THEMES = ("light", "dark")


def take(page, chapter: str, folder: Path) -> list[Path]:
    """Run a chapter and write the pictures; return their paths."""
    page.open_chapter(chapter)
    page.run_all(seconds=400)
    for error in page.errors():
        print(f"{chapter}: {error}", file=sys.stderr)
    cells = page.cells()
    numbers = [number for number, cell in enumerate(cells) if cell["kind"] == "code"]
    written = []
    for theme in THEMES:
        page.use_theme(theme)
        place = folder / chapter / theme
        place.mkdir(parents=True, exist_ok=True)
        page.page.evaluate("() => { document.querySelector('.jp-WindowedPanel-outer').scrollTop = 0; }")
        page.page.wait_for_timeout(500)
        written.append(place / "page.png")
        page.page.screenshot(path=written[-1])
        for count, number in enumerate(numbers, start=1):
            if any({"image/png", WIDGET} & set(output.get("data", {})) for output in cells[number]["outputs"]):
                written.append(place / f"{count:02}.png")
                cell = page.page.locator(".jp-NotebookPanel .jp-Notebook-cell").nth(number)
                cell.locator(".jp-Cell-outputArea").screenshot(path=written[-1])
    return written


def main(arguments: list[str] | None = None) -> int:
    names = [path.stem for path in CHAPTERS]
    parser = argparse.ArgumentParser(description="Make pictures of the chapters' figures and widgets in both themes.")
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    parser.add_argument("chapters", nargs="*", metavar="CHAPTER", help=f"from {', '.join(names)}; all if none is given")
    options = parser.parse_args(arguments)
    unknown = [name for name in options.chapters if name not in names]
    if unknown:
        parser.error(f"{unknown[0]!r} is not a chapter; there are {', '.join(names)}")
    try:
        with running_lab() as lab, chromium() as browser:
            for chapter in options.chapters or names:
                with notebook_page(lab, browser) as page:
                    written = take(page, chapter, options.folder)
                    for problem in page.problems:
                        print(f"{chapter}: {problem}", file=sys.stderr)
                print(f"{chapter}: {len(written)} pictures in {options.folder / chapter}", flush=True)
    except LabError as error:
        print(f"screenshots.py: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
