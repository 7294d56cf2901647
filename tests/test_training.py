import math
import os
import re
import signal
import threading

import pytest
import torch
from jupyter_client.manager import start_new_kernel
from torch import nn

from lenet_course import training
from lenet_course.data import Digits
from lenet_course.lenet import LeNet
from lenet_course.training import TrainingDiverged, available_devices, choose_device, evaluate, fit


def seeded(seed=0):
    torch.manual_seed(seed)
    return LeNet()


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def weights_of(model):
    return [parameter.detach().clone() for parameter in model.parameters()]


class Nearest(nn.Module):
    """A network whose answer is its smallest output and whose loss is its own, as LeNet-5's are."""

    def __init__(self):
        super().__init__()
        self.centres = nn.Parameter(torch.rand(10, 784))

    def prepare(self, images):
        return images.float() / 255

    def forward(self, images):
        return ((images.flatten(1)[:, None] - self.centres) ** 2).sum(dim=2)

    def loss(self, distances, labels):
        return distances.gather(1, labels[:, None]).mean()

    def decide(self, distances):
        return distances.argmin(dim=1)


# --- learning -------------------------------------------------------------------------------------------------------


def test_learns_a_batch_by_heart(few_digits):
    model = seeded()
    history = fit(model, few_digits, epochs=20, batch_size=32, report=False)
    assert evaluate(model, few_digits).error == 0
    assert history.training_loss[-1] < 0.2 < history.training_loss[0]
    assert len(history.training_loss) == len(history.seconds) == 20
    assert history.steps == 20 * 8 and history.stopped is None


def test_trains_any_network_with_its_own_loss_and_answer(few_digits):
    model = Nearest()
    before = evaluate(model, few_digits)
    fit(model, few_digits, epochs=25, learning_rate=0.3, schedule="constant", momentum=0, report=False)
    after = evaluate(model, few_digits)
    assert after.loss < before.loss
    assert after.error < 0.3 < before.error


def test_is_the_loop_of_the_textbook(few_digits):
    """One epoch of fit against the plain loop, without channels-last, bytes or a schedule."""
    mine, plain = seeded(), seeded()
    fit(mine, few_digits, epochs=2, batch_size=100, learning_rate=0.01, schedule="constant", weight_decay=1e-3,
        generator=generator(3), report=False)  # fmt: skip
    optimizer = torch.optim.SGD(plain.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-3)
    order = generator(3)
    for _ in range(2):
        for batch in torch.randperm(256, generator=order).split(100):
            loss = nn.functional.cross_entropy(plain(few_digits.images[batch, None] / 256), few_digits.labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    for one, other in zip(mine.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_one_cycle_rises_and_falls_over_the_whole_training(few_digits, monkeypatch):
    rates = []
    original = torch.optim.SGD.step

    def step(self, *arguments):
        rates.append(self.param_groups[0]["lr"])
        return original(self, *arguments)

    monkeypatch.setattr(torch.optim.SGD, "step", step)
    fit(seeded(), few_digits, epochs=5, batch_size=16, learning_rate=0.04, report=False)
    assert len(rates) == 80
    peak = rates.index(max(rates))
    assert max(rates) == pytest.approx(0.04, rel=1e-2)
    assert rates[: peak + 1] == sorted(rates[: peak + 1]) and rates[peak:] == sorted(rates[peak:], reverse=True)
    assert rates[0] < 0.004 and rates[-1] < 0.0004 and 8 < peak < 16
    rates.clear()
    fit(seeded(), few_digits, epochs=1, batch_size=16, learning_rate=0.04, schedule="constant", report=False)
    assert set(rates) == {0.04}


def test_a_training_of_one_step_works(few_digits):
    history = fit(seeded(), few_digits[:1], epochs=1, report=False)
    assert history.steps == 1


def test_the_same_generator_gives_the_same_weights(few_digits):
    def trained(seed):
        model = seeded()
        fit(model, few_digits, epochs=1, generator=generator(seed), report=False)
        return model.fc2.weight

    assert torch.equal(trained(1), trained(1))
    assert not torch.equal(trained(1), trained(2))
    model = seeded()
    fit(model, few_digits, epochs=1, report=False)  # no generator: seed 0
    assert torch.equal(model.fc2.weight, trained(0))


def test_the_global_generator_is_left_alone(few_digits):
    model = seeded()
    torch.manual_seed(5)
    before = torch.get_rng_state()
    fit(model, few_digits, epochs=1, report=False)
    assert torch.equal(torch.get_rng_state(), before)


def test_validation_is_measured_and_not_trained_on(few_digits):
    train, validation = few_digits[:200], few_digits[200:]
    model, alone = seeded(), seeded()
    history = fit(model, train, epochs=2, validation=validation, report=False)
    fit(alone, train, epochs=2, report=False)
    assert history.validation_error[-1] == evaluate(model, validation).error
    assert len(history.validation_error) == 2
    assert torch.equal(model.fc1.weight, alone.fc1.weight)


def test_training_loss_is_the_mean_over_digits_not_batches(few_digits):
    digits = few_digits[:65]  # a batch of 64, and one of a single digit
    model = seeded()
    expected = evaluate(model, digits).loss
    history = fit(model, digits, epochs=1, learning_rate=1e-12, schedule="constant", report=False)
    assert history.training_loss[0] == pytest.approx(expected, rel=1e-4)


def test_after_step_sees_every_step(few_digits):
    seen = []
    fit(seeded(), few_digits, epochs=2, after_step=seen.append, report=False)
    assert seen == list(range(1, 9))


def test_reports_a_line_an_epoch_or_nothing(few_digits, capsys):
    fit(seeded(), few_digits, epochs=2, validation=few_digits[:50])
    lines = [line for line in capsys.readouterr().out.splitlines() if line]
    assert [line.split(":")[0] for line in lines] == ["Epoch 1 of 2", "Epoch 2 of 2"]
    assert all("training loss " in line and "validation error " in line and line.endswith(" s") for line in lines)
    fit(seeded(), few_digits, epochs=1, report=False)
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""


# --- stopping -------------------------------------------------------------------------------------------------------


def test_ctrl_c_keeps_the_weights_of_the_last_whole_step(few_digits, capsys):
    at_step_5 = seeded()
    fit_until(at_step_5, few_digits, 5, signal_at=None)
    model = seeded()
    history = fit_until(model, few_digits, 5, signal_at=5)
    assert history.steps == 5
    assert history.stopped == "interrupted after step 5 of 80"
    assert len(history.training_loss) == 1  # the first epoch had four steps
    assert "The model keeps the weights of that step" in capsys.readouterr().out
    for one, other in zip(model.parameters(), at_step_5.parameters(), strict=True):
        assert torch.equal(one, other)


def fit_until(model, digits, step, *, signal_at):
    """Train; at `signal_at` send Ctrl-C from within backward, where a KeyboardInterrupt would break the step in two."""

    class Enough(Exception):
        pass

    made = 0

    def interrupt(gradient):
        if made + 1 == signal_at:
            os.kill(os.getpid(), signal.SIGINT)

    def count(number):
        nonlocal made
        made = number
        if signal_at is None and number == step:
            raise Enough

    model.fc1.weight.register_hook(interrupt)
    try:
        return fit(model, digits, epochs=20, after_step=count, report=False)
    except Enough:
        return None


def test_an_interrupt_after_an_epoch_keeps_its_history(few_digits):
    def interrupt(step):
        if step == 10:
            os.kill(os.getpid(), signal.SIGINT)

    history = fit(seeded(), few_digits, epochs=20, validation=few_digits, after_step=interrupt, report=False)
    assert len(history.training_loss) == len(history.validation_error) == 2
    assert history.steps == 10


def test_a_second_ctrl_c_stops_at_once_and_the_handler_comes_back(few_digits):
    before = signal.getsignal(signal.SIGINT)

    def interrupt_twice(step):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        for _ in range(1000):  # let both arrive
            pass

    with pytest.raises(KeyboardInterrupt):
        fit(seeded(), few_digits, epochs=1, after_step=interrupt_twice, report=False)
    assert signal.getsignal(signal.SIGINT) is before


def test_the_stop_button_of_a_notebook_stops_it():
    """The real thing: a kernel, and the interrupt that JupyterLab sends it."""
    kernel, client = start_new_kernel(kernel_name="python3")
    try:
        client.execute(
            "import torch\n"
            "from lenet_course.data import load_mnist\n"
            "from lenet_course.lenet import LeNet\n"
            "from lenet_course.training import fit\n"
            "history = fit(LeNet(), load_mnist()[:640], epochs=10_000)\n"
            "print('stopped:', history.stopped, len(history.training_loss) > 0)"
        )
        printed, interrupted = "", False
        while "stopped:" not in printed:
            message = client.get_iopub_msg(timeout=60)
            assert message["msg_type"] != "error", message["content"]
            printed += message["content"].get("text", "")
            if not interrupted and "Epoch 2 of" in printed:
                kernel.interrupt_kernel()
                interrupted = True
        assert re.search(r"stopped: interrupted after step \d+ of 100,000 True", printed)
    finally:
        client.stop_channels()
        kernel.shutdown_kernel(now=True)


def test_works_off_the_main_thread(few_digits):
    histories = []
    thread = threading.Thread(target=lambda: histories.append(fit(seeded(), few_digits, epochs=1, report=False)))
    thread.start()
    thread.join()
    assert histories[0].steps == 4


def test_a_loss_that_is_no_number_stops_at_once(few_digits):
    model = seeded()
    with torch.no_grad():
        model.fc2.bias[3] = math.nan
    before = weights_of(model)
    with pytest.raises(
        TrainingDiverged, match="became nan at step 1:.* learning_rate of 0.005 instead of 0.05"
    ) as error:
        fit(model, few_digits, epochs=1, learning_rate=0.05, report=False)
    assert error.value.history.stopped == "diverged at step 1"
    assert error.value.history.steps == 0
    for one, other in zip(model.parameters(), before, strict=True):
        assert torch.equal(one.nan_to_num(), other.nan_to_num())


def test_a_rate_that_is_far_too_high_diverges(few_digits):
    with pytest.raises(TrainingDiverged, match="ran away"):
        fit(seeded(), few_digits, epochs=5, learning_rate=1e12, schedule="constant", report=False)


# --- settings -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"epochs": 0}, "epochs and batch_size must be at least 1; got 0 and 64"),
        ({"epochs": 1, "batch_size": 0}, "got 1 and 0"),
        ({"epochs": 1, "learning_rate": 0}, "learning_rate must be above 0"),
        ({"epochs": 1, "learning_rate": math.nan}, "learning_rate must be above 0, and finite; got nan"),
        ({"epochs": 1, "schedule": "cosine"}, '"one-cycle" or "constant"; got \'cosine\''),
        ({"epochs": 1, "device": "abacus"}, "'abacus' is not a device"),
    ],
)
def test_settings_that_make_no_sense(few_digits, settings, complaint):
    with pytest.raises(ValueError, match=complaint):
        fit(seeded(), few_digits, report=False, **settings)


def test_no_digits_no_training_and_no_evaluation(few_digits):
    with pytest.raises(ValueError, match="train is empty"):
        fit(seeded(), few_digits[:0], epochs=1)
    with pytest.raises(ValueError, match="digits is empty"):
        evaluate(seeded(), few_digits[:0])


# --- devices --------------------------------------------------------------------------------------------------------


@pytest.fixture
def pretend(monkeypatch):
    def have(cuda=False, mps=False, gpus=1):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus if cuda else 0)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)

    return have


@pytest.mark.parametrize(
    ("there", "expected"),
    [({}, "cpu"), ({"mps": True}, "mps"), ({"cuda": True}, "cuda"), ({"cuda": True, "mps": True}, "cuda")],
)
def test_cuda_then_mps_then_cpu(pretend, there, expected):
    pretend(**there)
    assert choose_device() == torch.device(expected)
    assert available_devices()[-1] == "cpu"


def test_a_device_that_is_asked_for_is_taken(pretend):
    pretend(cuda=True, gpus=2)
    assert choose_device("cpu") == torch.device("cpu")
    assert choose_device("cuda:1") == choose_device(torch.device("cuda", 1)) == torch.device("cuda:1")


@pytest.mark.parametrize(
    ("there", "asked", "complaint"),
    [
        ({}, "cuda", "There is no cuda here. This machine has: cpu"),
        ({"mps": True}, "cuda:0", "This machine has: mps, cpu"),
        ({"cuda": True, "gpus": 2}, "cuda:2", "only 2 GPUs, counted from cuda:0"),
        ({}, 3.5, "is not a device"),
    ],
)
def test_a_device_that_is_not_there_lists_those_that_are(pretend, there, asked, complaint):
    pretend(**there)
    with pytest.raises(ValueError, match=complaint):
        choose_device(asked)


def test_digits_and_model_go_to_the_device_together(few_digits, monkeypatch):
    """Stand-in for a GPU: the 'meta' device refuses to mix with the CPU, and loses every number."""
    monkeypatch.setattr(training, "choose_device", torch.device)
    model = seeded()
    monkeypatch.setattr(training, "_finite", lambda *arguments: 1.0)
    monkeypatch.setattr(torch.Tensor, "item", lambda self: 1.0)
    fit(model, few_digits, epochs=1, device="meta", report=False)
    assert {parameter.device.type for parameter in model.parameters()} == {"meta"}


# --- evaluation -----------------------------------------------------------------------------------------------------


def test_evaluation_agrees_with_counting_by_hand(few_digits):
    model = seeded()
    fit(model, few_digits, epochs=1, report=False)
    found = evaluate(model, few_digits, batch_size=100)
    answers = model.predict(model.prepare(few_digits.images))
    assert torch.equal(found.predictions, answers)
    assert found.error == pytest.approx(float((answers != few_digits.labels).float().mean()))
    assert found.accuracy == pytest.approx(1 - found.error)
    for right, answer in [(3, 3), (4, 9), (7, 1)]:
        assert found.confusion[right, answer] == int(((few_digits.labels == right) & (answers == answer)).sum())
    assert found.confusion.sum() == 256 and found.confusion.dtype == torch.int64
    loss = nn.functional.cross_entropy(model(model.prepare(few_digits.images)), few_digits.labels)
    assert found.loss == pytest.approx(loss.item(), rel=1e-5)


@pytest.mark.parametrize("batch_size", [1, 64, 256, 1000])
def test_evaluation_does_not_depend_on_the_batch_size(few_digits, batch_size):
    model, reference = seeded(), evaluate(seeded(), few_digits)
    found = evaluate(model, few_digits, batch_size=batch_size)
    assert torch.equal(found.predictions, reference.predictions)
    assert found.loss == pytest.approx(reference.loss, rel=1e-5)


def test_evaluation_changes_nothing(few_digits):
    model = seeded().train()
    before = weights_of(model)
    evaluation = evaluate(model, few_digits)
    assert model.training
    for one, other in zip(model.parameters(), before, strict=True):
        assert torch.equal(one, other)
    assert not evaluation.predictions.requires_grad


def test_evaluation_takes_digits_of_any_size():
    model = LeNet(any_size=True)
    digits = Digits(torch.zeros(3, 32, 40, dtype=torch.uint8), torch.tensor([1, 2, 3]))
    assert evaluate(model, digits).predictions.shape == (3,)


def test_adamw_is_torchs_own(few_digits):
    """Its first step moves every weight by the rate, whatever the gradient's size: that is Adam, and not SGD."""
    torch.manual_seed(0)
    model = LeNet()
    before = [parameter.detach().clone() for parameter in model.parameters()]
    settings = {"batch_size": len(few_digits), "learning_rate": 0.002, "schedule": "constant", "report": False}
    fit(model, few_digits, epochs=1, optimizer="adamw", **settings)
    moved = torch.cat([(a.detach() - b).abs().flatten() for a, b in zip(model.parameters(), before, strict=True)])
    assert moved.max() == pytest.approx(0.002, rel=1e-3)
    assert moved[moved > 1e-6].median() == pytest.approx(0.002, rel=0.01)


def test_an_optimizer_that_there_is_not(few_digits):
    with pytest.raises(ValueError, match='optimizer is "sgd" or "adamw"; got .adam.'):
        fit(LeNet(), few_digits, epochs=1, optimizer="adam")
