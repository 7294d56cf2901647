import hashlib
import multiprocessing
import os
import pickle

import pytest
import safetensors.torch
import torch
from torch import nn

from lenet_course import weights
from lenet_course.lenet import LeNet
from lenet_course.weights import SHIPPED_FOLDER, WeightsError, architecture, load_weights, own_folder, save_weights

pytestmark = pytest.mark.usefixtures("own_weights")


def state(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def assert_same_weights(one, other):
    assert one.keys() == other.keys()
    for name in one:
        assert torch.equal(one[name], other[name]), name


@pytest.fixture
def shipped(tmp_path, monkeypatch):
    """A shipped folder of the test's own, with the weights of one network."""
    folder = tmp_path / "shipped"
    monkeypatch.setattr(weights, "SHIPPED_FOLDER", folder)
    model = LeNet()
    path = save_weights(model, "lenet", folder=folder)
    (folder / "SHA256SUMS").write_text(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n")
    return model, path


# --- there and back -------------------------------------------------------------------------------------------------


def test_saved_weights_give_the_same_answers(few_digits):
    trained = LeNet()
    path = save_weights(trained, "mine")
    assert path == own_folder() / "mine.safetensors"
    other = LeNet()
    assert load_weights(other, "mine") == path
    assert_same_weights(state(other), state(trained))
    images = trained.prepare(few_digits.images)
    assert torch.equal(other(images), trained(images))


def test_channels_last_weights_come_back_whole():
    trained = LeNet().to(memory_format=torch.channels_last)
    save_weights(trained, "mine")
    other = LeNet()
    load_weights(other, "mine")
    assert_same_weights(state(other), state(trained))


def test_any_size_takes_the_weights_of_28x28_and_the_other_way():
    save_weights(LeNet(), "mine")
    load_weights(LeNet(any_size=True), "mine")


def test_a_file_holds_no_code():
    content = save_weights(LeNet(), "mine").read_bytes()
    with pytest.raises(pickle.UnpicklingError):
        pickle.loads(content)


# --- own before shipped ---------------------------------------------------------------------------------------------


def test_own_weights_take_the_place_of_the_shipped_ones(shipped):
    shipped_model, shipped_path = shipped
    model = LeNet()
    assert load_weights(model, "lenet") == shipped_path
    assert_same_weights(state(model), state(shipped_model))
    own = LeNet()
    own_path = save_weights(own, "lenet")
    assert load_weights(model, "lenet") == own_path
    assert_same_weights(state(model), state(own))
    assert load_weights(model, "lenet", source="shipped") == shipped_path
    assert_same_weights(state(model), state(shipped_model))


def test_an_altered_shipped_file_is_refused(shipped):
    _, path = shipped
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    model = LeNet()
    before = state(model)
    with pytest.raises(WeightsError, match=r"SHA-256 .* `git checkout -- data/weights`"):
        load_weights(model, "lenet")
    assert_same_weights(state(model), before)


def test_a_shipped_file_without_a_sum_is_refused(shipped):
    _, path = shipped
    path.with_name("SHA256SUMS").write_text("")
    with pytest.raises(WeightsError, match="instead of None"):
        load_weights(LeNet(), "lenet")


def test_what_the_course_ships_is_whole():
    files = sorted(path.name for path in SHIPPED_FOLDER.glob("*.safetensors"))
    listed = sorted(line.split()[1] for line in (SHIPPED_FOLDER / "SHA256SUMS").read_text().splitlines())
    assert files == listed and "lenet.safetensors" in files
    assert load_weights(LeNet(), "lenet", source="shipped") == SHIPPED_FOLDER / "lenet.safetensors"


# --- what does not fit ----------------------------------------------------------------------------------------------


class Renamed(nn.Module):
    architecture = "LeNet(relu_after_conv=True)"

    def __init__(self, outputs):
        super().__init__()
        self.fc2 = nn.Linear(500, outputs)
        self.extra = nn.Linear(2, 2)


@pytest.mark.parametrize(
    ("model", "complaints"),
    [
        (
            LeNet(relu_after_conv=False),
            ["made for LeNet(relu_after_conv=True), not LeNet(relu_after_conv=False)"],
        ),
        (LeNet().double(), ["conv1.weight: (20, 1, 5, 5) float32 in the file, (20, 1, 5, 5) float64 in the model"]),
        (
            Renamed(11),
            [
                "fc2.bias: (10,) float32 in the file, (11,) float32 in the model",
                "extra.weight: nothing in the file, (2, 2) float32 in the model",
                "conv1.weight: (20, 1, 5, 5) float32 in the file, nothing in the model",
            ],
        ),
    ],
)
def test_another_network_is_refused_before_it_is_touched(model, complaints):
    save_weights(LeNet(), "mine")
    before = state(model)
    with pytest.raises(WeightsError, match="do not fit this model") as error:
        load_weights(model, "mine")
    for complaint in complaints:
        assert complaint in str(error.value)
    assert_same_weights(state(model), before)


def test_a_foreign_file_without_a_label_is_refused():
    safetensors.torch.save_file(LeNet().state_dict(), own_folder() / "foreign.safetensors")
    with pytest.raises(WeightsError, match="made for an unknown network"):
        load_weights(LeNet(), "foreign")


@pytest.mark.parametrize("content", [b"", b"not weights", b"\xff" * 100])
def test_a_damaged_file_is_named_with_the_way_out(content):
    path = own_folder() / "mine.safetensors"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match="cannot be read as weights .* delete it and save again") as error:
        load_weights(LeNet(), "mine")
    assert str(path) in str(error.value)


def test_a_cut_off_file_is_damaged():
    path = save_weights(LeNet(), "mine")
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(WeightsError, match="cannot be read as weights"):
        load_weights(LeNet(), "mine")


def test_missing_weights_list_those_that_are_there(shipped):
    save_weights(LeNet(), "mine")
    with pytest.raises(WeightsError, match="There are: lenet, mine"):
        load_weights(LeNet(), "absent")
    with pytest.raises(WeightsError, match="no weights called 'lenet' .* There are: mine"):
        load_weights(LeNet(), "lenet", source="own")


@pytest.mark.parametrize("name", ["", "../lenet", "a/b", "lenet.pt", 5, None])
def test_a_name_is_plain(name):
    with pytest.raises(ValueError, match="A name for weights"):
        save_weights(LeNet(), name)
    with pytest.raises(ValueError, match="A name for weights"):
        load_weights(LeNet(), name)


def test_a_source_is_own_or_shipped():
    with pytest.raises(ValueError, match='source is "own", "shipped" or None'):
        load_weights(LeNet(), "lenet", source="mine")


# --- written whole or not at all ------------------------------------------------------------------------------------


def test_a_failed_save_leaves_the_old_file_and_no_rubbish(monkeypatch):
    old = LeNet()
    path = save_weights(old, "mine")

    def half_a_file(tensors, target, metadata):
        with open(target, "wb") as file:
            file.write(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(safetensors.torch, "save_file", half_a_file)
    with pytest.raises(OSError, match="No space left"):
        save_weights(LeNet(), "mine")
    monkeypatch.undo()
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    # monkeypatch.undo() also took the test's folder away: read the file itself.
    assert_same_weights(safetensors.torch.load_file(path), state(old))


def save_and_die(folder):
    os.environ["LENET_COURSE_WEIGHTS"] = str(folder)
    os.replace = lambda source, target: os._exit(9)  # killed after writing, before the file is in its place
    save_weights(LeNet(), "mine")


def test_killed_while_saving_keeps_the_old_weights():
    old = LeNet()
    save_weights(old, "mine")
    process = multiprocessing.get_context("spawn").Process(target=save_and_die, args=(own_folder(),))
    process.start()
    process.join()
    assert process.exitcode == 9
    model = LeNet()
    load_weights(model, "mine")
    assert_same_weights(state(model), state(old))


# --- where own weights live -----------------------------------------------------------------------------------------


def test_the_environment_says_where_own_weights_live(own_weights, monkeypatch):
    assert own_folder() == own_weights
    monkeypatch.delenv("LENET_COURSE_WEIGHTS")
    assert own_folder() == SHIPPED_FOLDER.parent.parent / "my_weights"


def test_a_model_without_a_label_is_known_by_its_class():
    assert architecture(nn.Linear(2, 2)) == "Linear"
    assert architecture(LeNet(relu_after_conv=False)) == "LeNet(relu_after_conv=False)"
