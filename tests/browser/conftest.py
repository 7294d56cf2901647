"""Fixtures for the tests in a real browser; see lab.py for what they hand out.

Without a Chromium these tests are skipped, and the reason says how to get one; with CI_BROWSER=required they fail.
"""

import os
from pathlib import Path

import pytest
from lab import LabError, chromium, find_chromium, notebook_page, running_lab

HERE = Path(__file__).resolve().parent


def pytest_collection_modifyitems(items):
    for item in items:
        if HERE in item.path.parents:
            item.add_marker("browser")


@pytest.fixture(scope="session")
def chromium_path():
    try:
        return find_chromium()
    except LabError as error:
        if os.environ.get("CI_BROWSER") == "required":
            pytest.fail(f"CI_BROWSER=required. {error}", pytrace=False)
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def lab(chromium_path):
    """One JupyterLab for all tests."""
    with running_lab() as lab:
        yield lab


@pytest.fixture(scope="module")
def browser(chromium_path):
    """One Chromium for each module: its event loop must not run while other tests want one of their own."""
    with chromium(chromium_path) as browser:
        yield browser


@pytest.fixture(scope="module")
def window(lab, browser):
    with notebook_page(lab, browser) as page:
        yield page


@pytest.fixture
def shared_page(window):
    """As `page`, but one window for all tests of a module, which saves seconds a test: each opens what it needs."""
    window.problems.clear()
    yield window
    assert window.problems == []


@pytest.fixture
def page(lab, browser):
    """A NotebookPage. At the end there must be nothing in its .problems; a test that expects some clears them."""
    with notebook_page(lab, browser) as page:
        yield page
        problems = list(page.problems)
    assert problems == []
