import pytest
import torch
from hypothesis import settings

from lenet_course.data import Digits, load_mnist

# The same examples at every run: a test that passes here passes in continuous integration.
settings.register_profile("course", derandomize=True)
settings.load_profile("course")


@pytest.fixture(scope="session")
def train_digits() -> Digits:
    return load_mnist("train")


@pytest.fixture(scope="session")
def few_digits(train_digits) -> Digits:
    return train_digits[:256]


@pytest.fixture
def own_weights(tmp_path, monkeypatch):
    """An empty folder for a learner's own weights."""
    monkeypatch.setenv("LENET_COURSE_WEIGHTS", str(tmp_path))
    return tmp_path


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)
