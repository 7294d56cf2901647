"""The command python -m lenet_course.train, by one process: what it makes, and going on where it was stopped."""

import os
import pickle
import random
import re
import signal
import subprocess
import sys
import time

import pytest
import torch

from lenet_course import train
from lenet_course.checkpoints import CheckpointError, compare_settings, read_checkpoint, write_checkpoint
from lenet_course.data import load_mnist
from lenet_course.lenet import LeNet
from lenet_course.lenet5 import LeNet5
from lenet_course.training import Training, fit
from lenet_course.weights import load_weights, own_folder

pytestmark = pytest.mark.usefixtures("own_weights", "_threads")

SETTINGS = ["--threads", "1", "--device", "cpu", "--train-digits", "300", "--batch-size", "64", "--validation", "100"]
STEPS_AN_EPOCH = 5  # the last batch has 44 digits


@pytest.fixture
def _threads():
    """The command says how many threads this process has; the tests after it keep their own number."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def quick(monkeypatch):
    """Only 500 test digits, so that a training of a second is not followed by two of testing."""
    monkeypatch.setattr(
        train, "load_mnist", lambda split: load_mnist(split)[:500] if split == "test" else load_mnist(split)
    )


def weights_of(model):
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def saved_weights(folder, network=LeNet, name="lenet"):
    os.environ["LENET_COURSE_WEIGHTS"] = str(folder)  # own_weights puts it back
    model = network()
    load_weights(model, name, source="own")
    return weights_of(model)


def numbers(history):
    """What must be the same however often a training was stopped: all but the seconds."""
    return history.training_loss, history.validation_error, history.steps


# --- a Training goes on as if it had not been stopped -----------------------------------------------------------------


def new_training(digits, network=LeNet, rate=0.1):
    torch.manual_seed(4)
    generator = torch.Generator().manual_seed(5)
    return Training(
        network(), digits, epochs=3, batch_size=50, learning_rate=rate, generator=generator, device="cpu"
    )  # six steps an epoch, the last of 6 digits


def run(training, digits, **settings):
    return training.run(validation=digits[:20], report=False, progress_bar=False, **settings)


class Killed(BaseException):
    pass


@pytest.fixture(scope="module")
def unbroken(few_digits):
    torch.set_num_threads(1)
    training = new_training(few_digits)
    return numbers(run(training, few_digits)), weights_of(training.model)


@pytest.mark.parametrize("step", [1, 4, 5, 6, 7, 12, 17, 18])
def test_stopped_after_any_step_it_ends_with_the_same_numbers(unbroken, few_digits, tmp_path, step):
    path = tmp_path / "checkpoint.pt"

    def write_and_die(made):
        if made == step:
            write_checkpoint(path, {}, training.state_dict())
            raise Killed

    training = new_training(few_digits)
    with pytest.raises(Killed):
        run(training, few_digits, after_step=write_and_die)
    resumed = new_training(few_digits)
    resumed.load_state_dict(read_checkpoint(path.read_bytes(), path)["training"])
    history = run(resumed, few_digits)
    assert (numbers(history), len(history.seconds)) == (unbroken[0], 3)
    assert torch.equal(weights_of(resumed.model), unbroken[1])


@pytest.mark.parametrize("epoch", [1, 3])
def test_stopped_between_two_epochs_it_ends_with_the_same_numbers(unbroken, few_digits, tmp_path, epoch):
    path = tmp_path / "checkpoint.pt"

    def write_and_die():
        if len(training.history.training_loss) == epoch:
            write_checkpoint(path, {}, training.state_dict())
            raise Killed

    training = new_training(few_digits)
    with pytest.raises(Killed):
        run(training, few_digits, after_epoch=write_and_die)
    resumed = new_training(few_digits)
    resumed.load_state_dict(read_checkpoint(path.read_bytes(), path)["training"])
    assert resumed.finished == (epoch == 3)
    assert numbers(run(resumed, few_digits)) == unbroken[0]
    assert torch.equal(weights_of(resumed.model), unbroken[1])


def test_lenet5_goes_on_too(few_digits, tmp_path):
    path = tmp_path / "checkpoint.pt"
    training = new_training(few_digits, LeNet5, 0.003)
    run(training, few_digits, after_step=lambda step: step == 8 and write_checkpoint(path, {}, training.state_dict()))
    resumed = new_training(few_digits, LeNet5, 0.003)
    resumed.load_state_dict(read_checkpoint(path.read_bytes(), path)["training"])
    assert numbers(run(resumed, few_digits)) == numbers(training.history)
    assert torch.equal(weights_of(resumed.model), weights_of(training.model))


def test_interrupted_and_run_again_it_ends_with_the_same_numbers(unbroken, few_digits):
    training = new_training(few_digits)
    history = run(training, few_digits, after_step=lambda step: step == 8 and os.kill(os.getpid(), signal.SIGINT))
    assert history.stopped == "interrupted after step 8 of 18" and not training.finished
    assert numbers(run(training, few_digits)) == unbroken[0]
    assert training.history.stopped is None and training.finished
    assert torch.equal(weights_of(training.model), unbroken[1])


# --- checkpoints ------------------------------------------------------------------------------------------------------


@pytest.fixture
def checkpoint(few_digits, tmp_path):
    path = tmp_path / "checkpoint.pt"
    write_checkpoint(path, {"seed": 4}, new_training(few_digits).state_dict(), job="j")
    return path


def test_a_checkpoint_comes_back(checkpoint):
    found = read_checkpoint(checkpoint.read_bytes(), checkpoint)
    assert found["settings"] == {"seed": 4} and found["job"] == "j"
    assert found["training"]["history"]["steps"] == 0
    assert [path.name for path in checkpoint.parent.iterdir()] == [checkpoint.name]


def one_bit_turned(content):
    turned = bytearray(content)
    turned[len(content) // 2] ^= 1
    return bytes(turned)


DAMAGES = {
    "empty": lambda content: b"",
    "text": lambda content: b"not a checkpoint",
    "cut off": lambda content: content[:-1000],
    "half": lambda content: content[: len(content) // 2],
    "one bit": one_bit_turned,
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_checkpoint_is_named_with_the_way_out(checkpoint, damage):
    content = damage(checkpoint.read_bytes())
    with pytest.raises(CheckpointError, match=r"checkpoint.pt cannot be read as a checkpoint \(.*--anew"):
        read_checkpoint(content, checkpoint)


def test_a_file_with_code_in_it_is_not_run(tmp_path):
    class Code:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "it ran"),)

    for content in (pickle.dumps(Code()), pickled_by_torch(tmp_path / "code.pt", {"format": 1, "training": Code()})):
        with pytest.raises(CheckpointError, match="cannot be read"):
            read_checkpoint(content, "code.pt")
    assert not (tmp_path / "it ran").exists()


def pickled_by_torch(path, content):
    torch.save(content, path)
    return path.read_bytes()


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ({"format": 2}, "another version of the course .format 2; this one reads 1"),
        ({"format": 1}, "parts are missing"),
        ([1, 2], "cannot be read"),
    ],
)
def test_a_checkpoint_of_another_kind_is_refused(tmp_path, content, complaint):
    with pytest.raises(CheckpointError, match=complaint):
        read_checkpoint(pickled_by_torch(tmp_path / "other.pt", content), "other.pt")


def test_each_setting_that_differs_is_named():
    compare_settings("c.pt", {"seed": 1, "batch_size": 64}, {"seed": 1, "batch_size": 64})
    with pytest.raises(CheckpointError) as error:
        compare_settings(
            "c.pt", {"seed": 1, "batch_size": 64, "model": "lenet"}, {"seed": 2, "batch_size": 32, "model": "lenet"}
        )
    assert "  --seed: 1 in the checkpoint, 2 now\n  --batch-size: 64 in the checkpoint, 32 now\n" in str(error.value)
    assert "model" not in str(error.value)


# --- the command ------------------------------------------------------------------------------------------------------


def test_it_trains_as_fit_does_reports_and_saves(quick, capsys):
    assert train.main([*SETTINGS, "--epochs", "2"]) == 0
    digits = load_mnist()
    torch.manual_seed(0)
    model = LeNet()
    history = fit(model, digits[:300], epochs=2, validation=digits[-100:], device="cpu", report=False)
    assert torch.equal(saved_weights(own_folder()), weights_of(model))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "lenet, seed 0, on the CPU, 1 thread: 300 training digits, 2 epochs of 5 steps"
    for line, loss, error in zip(lines[1:3], history.training_loss, history.validation_error, strict=True):
        assert f"training loss {loss:.4f}, validation error {100 * error:.2f}%" in line
    assert re.fullmatch(r"Test error \d+\.\d+%: \d+ of 500 digits wrong\.", lines[3])
    assert lines[4] == f"The weights are in {own_folder() / 'lenet.safetensors'}. To use them:"


def test_what_it_says_at_the_end_can_be_run(quick, capsys):
    assert train.main([*SETTINGS, "--model", "lenet5", "--epochs", "1", "--validation", "0", "--seed", "3"]) == 0
    out = capsys.readouterr().out
    assert "validation error" not in out
    names = {}
    exec("\n".join(line.strip() for line in out.splitlines() if line.startswith("  ")), names)
    assert torch.equal(weights_of(names["model"]), saved_weights(own_folder(), LeNet5, "lenet5"))


def test_another_folder_is_named_in_how_to_use_the_weights(quick, capsys, tmp_path):
    assert train.main([*SETTINGS, "--epochs", "1", "--out", str(tmp_path / "out")]) == 0
    assert f"LENET_COURSE_WEIGHTS={tmp_path / 'out'}" in capsys.readouterr().out
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["lenet.checkpoint.pt", "lenet.safetensors"]


@pytest.fixture
def stopped_at(monkeypatch):
    """Send Ctrl-C in the middle of a step."""

    def stop_at(number):
        original = Training.step

        def step(self, batch):
            if self.history.steps + 1 == number:
                os.kill(os.getpid(), signal.SIGINT)
            original(self, batch)

        monkeypatch.setattr(Training, "step", step)
        return lambda: monkeypatch.setattr(Training, "step", original)

    return stop_at


def test_ctrl_c_writes_a_checkpoint_and_says_how_to_go_on(quick, capsys, stopped_at, tmp_path):
    arguments = [*SETTINGS, "--epochs", "2"]
    train.main([*arguments, "--out", str(tmp_path / "whole")])
    no_more = stopped_at(7)
    capsys.readouterr()
    assert train.main([*arguments, "--out", str(tmp_path / "a folder")]) == 130
    out = capsys.readouterr().out
    assert "Training interrupted after step 7 of 10. The checkpoint is" in out
    command = re.search(r"To go on: python -m lenet_course.train (.*)", out).group(1)
    assert command.endswith("--epochs 2 --out '" + str(tmp_path / "a folder") + "' --resume")
    assert not (tmp_path / "a folder" / "lenet.safetensors").exists()
    no_more()
    assert train.main([*arguments, "--out", str(tmp_path / "a folder"), "--resume"]) == 0
    assert "Going on after step 7 of 10, from" in capsys.readouterr().out
    assert torch.equal(saved_weights(tmp_path / "a folder"), saved_weights(tmp_path / "whole"))


def test_ctrl_c_while_it_measures_loses_nothing(quick, capsys, monkeypatch, tmp_path):
    def interrupted(*arguments, **settings):
        raise KeyboardInterrupt

    monkeypatch.setattr(train, "evaluate", interrupted)
    assert train.main([*SETTINGS, "--epochs", "1"]) == 130
    assert "the same command with --resume goes on from it" in capsys.readouterr().err
    monkeypatch.undo()
    os.environ["LENET_COURSE_WEIGHTS"] = str(tmp_path)
    assert train.main([*SETTINGS, "--epochs", "1", "--resume"]) == 0
    assert "Finished after step 5 of 5, from" in capsys.readouterr().out


def test_an_unfinished_training_is_not_lost_by_chance(quick, capsys, stopped_at):
    no_more = stopped_at(2)
    train.main([*SETTINGS, "--epochs", "1"])
    no_more()
    capsys.readouterr()
    assert train.main([*SETTINGS, "--epochs", "1"]) == 2
    assert re.search(
        "not finished, after step 2. --resume goes on with it; --anew begins again", capsys.readouterr().err
    )
    assert train.main([*SETTINGS, "--epochs", "1", "--anew"]) == 0
    assert train.main([*SETTINGS, "--epochs", "1"]) == 0  # a finished one is in nobody's way


def test_going_on_needs_the_same_settings(quick, capsys, stopped_at):
    no_more = stopped_at(2)
    train.main([*SETTINGS, "--epochs", "1"])
    no_more()
    checkpoint = own_folder() / "lenet.checkpoint.pt"
    before = checkpoint.read_bytes()
    changed = ["--epochs", "4", "--seed", "9", "--learning-rate", "0.05"]
    assert train.main([*SETTINGS, *changed, "--resume"]) == 2
    message = capsys.readouterr().err
    for line in (
        "--epochs: 1 in the",
        "--seed: 0 in the checkpoint, 9 now",
        "--learning-rate: 0.1 in the checkpoint, 0.05",
    ):
        assert line in message
    assert "batch-size" not in message and "--anew" in message
    assert checkpoint.read_bytes() == before


def test_nothing_to_go_on_from(quick, capsys):
    assert train.main([*SETTINGS, "--resume"]) == 2
    assert "There is no checkpoint to go on from: " in capsys.readouterr().err


@pytest.mark.parametrize("more", [[], ["--resume"]])
def test_a_damaged_checkpoint_is_not_written_over(quick, capsys, more):
    path = own_folder() / "lenet.checkpoint.pt"
    path.write_bytes(b"half of a file")
    assert train.main([*SETTINGS, *more]) == 2
    assert "lenet.checkpoint.pt cannot be read as a checkpoint" in capsys.readouterr().err
    assert path.read_bytes() == b"half of a file"


def test_weights_that_run_away_end_it(quick, capsys):
    assert train.main([*SETTINGS, "--epochs", "5", "--learning-rate", "1e12"]) == 1
    assert "ran away" in capsys.readouterr().err


def test_a_full_disk_ends_it_with_a_message(quick, capsys, monkeypatch):
    def full(*paths):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    assert train.main([*SETTINGS, "--epochs", "1"]) == 1
    assert "No space left on device" in capsys.readouterr().err
    assert list(own_folder().iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--model", "alexnet"], "invalid choice: 'alexnet'"),
        (["--epochs", "0"], "0 is not 1 or more"),
        (["--epochs", "many"], "invalid number value: 'many'"),
        (["--learning-rate", "nan"], "nan is not above 0, and finite"),
        (["--train-digits", "55001"], "55,001 to train on and 5,000 for validation are too many"),
        (["--validation", "60000"], "0 to train on and 60,000 for validation are too many"),
        (["--device", "abacus"], "'abacus' is not a device"),
        (["--resume", "--anew"], "give one of them"),
        (["--res"], "unrecognized arguments: --res"),
    ],
)
def test_wrong_arguments(capsys, arguments, complaint):
    with pytest.raises(SystemExit) as stop:
        train.main(arguments)
    assert stop.value.code == 2
    assert complaint in capsys.readouterr().err


def test_help_teaches(capsys):
    with pytest.raises(SystemExit) as stop:
        train.main(["--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    for part in ("examples:", "torchrun --standalone", "--resume", "exit status:", "0.003 for lenet5"):
        assert part in text


def test_defaults_are_those_of_the_chapters():
    settings = train._settings(train._parser().parse_args([]))
    assert settings == train.Settings("lenet", 3, 0, 64, 0.1, 55_000, 5_000)
    settings = train._settings(train._parser().parse_args(["--model", "lenet5", "--validation", "0"]))
    assert (settings.learning_rate, settings.train_digits) == (0.003, 60_000)


# --- killed -----------------------------------------------------------------------------------------------------------

LONGER = [
    *("--threads", "1", "--device", "cpu", "--train-digits", "3200", "--batch-size", "32", "--validation", "100"),
    *("--epochs", "2", "--checkpoint-every", "7"),
]


def start(arguments):
    return subprocess.Popen(
        [sys.executable, "-m", "lenet_course.train", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def wait_for_step(process, checkpoint, step):
    """Wait until a checkpoint of that step or a later one is there, and return its step."""
    while process.poll() is None:
        if checkpoint.is_file():
            made = read_checkpoint(checkpoint.read_bytes(), checkpoint)["training"]["history"]["steps"]
            if made >= step:
                return made
        time.sleep(0.02)
    pytest.fail(f"it ended before step {step}: {process.communicate()[0]}")


def test_killed_at_any_moment_it_ends_with_the_same_weights(tmp_path):
    assert train.main([*LONGER, "--out", str(tmp_path / "whole")]) == 0
    out, moments = tmp_path / "out", random.Random(time.time())
    resume = []
    for step in (1, 90):
        process = start([*LONGER, "--out", out, *resume])
        wait_for_step(process, out / "lenet.checkpoint.pt", step)
        time.sleep(moments.uniform(0, 0.2))
        process.kill()
        process.communicate()
        assert process.returncode == -signal.SIGKILL
        resume = ["--resume"]
    assert not (out / "lenet.safetensors").exists()
    (out / f"lenet.checkpoint.pt.{process.pid}.part").write_bytes(b"half of a file")  # as if killed while writing
    assert train.main([*LONGER, "--out", str(out), "--resume"]) == 0
    assert torch.equal(saved_weights(out), saved_weights(tmp_path / "whole"))
    assert sorted(path.name for path in out.iterdir()) == ["lenet.checkpoint.pt", "lenet.safetensors"]


def test_ctrl_c_from_a_shell(tmp_path):
    process = start([*LONGER, "--out", tmp_path])
    wait_for_step(process, tmp_path / "lenet.checkpoint.pt", 1)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    stopped = int(re.search(r"Training interrupted after step (\d+) of 200", out).group(1))
    content = (tmp_path / "lenet.checkpoint.pt").read_bytes()
    assert read_checkpoint(content, "")["training"]["history"]["steps"] == stopped
    assert "Traceback" not in out
