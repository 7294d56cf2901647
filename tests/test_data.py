import functools
import gzip
import hashlib
import http.server
import math
import os
import subprocess
import sys
import threading

import pytest
import torch
from torchvision.datasets import MNIST

from lenet_course import data
from lenet_course.data import (
    DATA_FOLDER,
    MNIST_FILES,
    DataFileError,
    Digits,
    check_scaled,
    load_mnist,
    pad_1998,
    scale_caffe,
    shuffled_batches,
    verify_mnist,
)

RAW = DATA_FOLDER / "MNIST" / "raw"


@pytest.fixture
def copy_of_data(tmp_path):
    """A data folder of links to the real files: replace one to break it."""
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name in MNIST_FILES:
        (raw / name).symlink_to(RAW / name)
    return tmp_path


def break_file(root, name, content=b"not MNIST"):
    path = root / "MNIST" / "raw" / name
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    return path


# --- reading and verifying ------------------------------------------------------------------------------------------


def test_train_and_test_digits_are_mnist():
    train, test = load_mnist("train"), load_mnist("test")
    assert train.images.shape == (60_000, 28, 28) and train.images.dtype == torch.uint8
    assert test.images.shape == (10_000, 28, 28)
    assert train.labels.dtype == torch.int64
    # The counts that MNIST is known for, and its first ten labels.
    assert torch.bincount(train.labels).tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert torch.bincount(test.labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert train.labels[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert (int(train.images.min()), int(train.images.max())) == (0, 255)


def test_torchvision_reads_the_folder_as_it_is():
    assert len(MNIST(str(DATA_FOLDER), train=True, download=False)) == 60_000


def test_works_from_any_folder(tmp_path):
    code = "from lenet_course.data import load_mnist; print(len(load_mnist('test')))"
    found = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "10000"


def test_a_split_is_train_or_test():
    with pytest.raises(ValueError, match='"train" or "test"; got \'validation\''):
        load_mnist("validation")


@pytest.mark.parametrize(
    ("content", "problem"),
    [(None, "missing"), (b"short", "5 bytes instead of 7,840,016"), (bytes(7_840_016), "altered: SHA-256 ")],
)
def test_a_bad_file_is_named_with_the_way_back(copy_of_data, content, problem):
    break_file(copy_of_data, "t10k-images-idx3-ubyte", content)
    with pytest.raises(DataFileError) as error:
        load_mnist("test", copy_of_data)
    message = str(error.value)
    assert f"t10k-images-idx3-ubyte: {problem}" in message
    assert "git checkout -- data/MNIST/raw" in message and "download=True" in message
    assert "t10k-labels" not in message


def test_one_flipped_bit_is_noticed(copy_of_data):
    content = bytearray((RAW / "t10k-labels-idx1-ubyte").read_bytes())
    content[500] ^= 1
    break_file(copy_of_data, "t10k-labels-idx1-ubyte", bytes(content))
    with pytest.raises(DataFileError, match="altered"):
        verify_mnist(copy_of_data)


def test_verify_names_every_bad_file_at_once(copy_of_data):
    verify_mnist(copy_of_data)
    break_file(copy_of_data, "t10k-labels-idx1-ubyte")
    break_file(copy_of_data, "train-labels-idx1-ubyte", None)
    with pytest.raises(DataFileError) as error:
        verify_mnist(copy_of_data)
    assert "t10k-labels-idx1-ubyte: 9 bytes" in str(error.value)
    assert "train-labels-idx1-ubyte: missing" in str(error.value)


@pytest.fixture
def mirror(tmp_path, monkeypatch):
    """A mirror of MNIST on this machine, in place of torchvision's."""
    folder = tmp_path / "mirror"
    folder.mkdir()
    resources = []
    for name in MNIST_FILES:
        packed = gzip.compress((RAW / name).read_bytes(), compresslevel=1)
        (folder / f"{name}.gz").write_bytes(packed)
        resources.append((f"{name}.gz", hashlib.md5(packed).hexdigest()))
    monkeypatch.setattr(MNIST, "resources", resources)
    handler = functools.partial(QuietHandler, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setattr(MNIST, "mirrors", [f"http://127.0.0.1:{server.server_port}/"])
        yield folder
        server.shutdown()


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass


def test_download_replaces_only_what_is_bad(copy_of_data, mirror):
    break_file(copy_of_data, "t10k-images-idx3-ubyte")
    break_file(copy_of_data, "train-labels-idx1-ubyte", None)
    assert len(load_mnist("test", copy_of_data, download=True)) == 10_000
    verify_mnist(copy_of_data)
    raw = copy_of_data / "MNIST" / "raw"
    assert (raw / "train-images-idx3-ubyte").is_symlink()  # was whole, and was left alone
    assert sorted(path.name for path in raw.iterdir()) == sorted(MNIST_FILES)


def test_download_without_a_network_keeps_what_was_there(copy_of_data, tmp_path, monkeypatch):
    monkeypatch.setattr(MNIST, "mirrors", [(tmp_path / "nowhere").as_uri() + "/"])
    bad = break_file(copy_of_data, "t10k-images-idx3-ubyte")
    with pytest.raises(DataFileError, match=r"None of torchvision's mirrors gave t10k-images-idx3-ubyte"):
        load_mnist("test", copy_of_data, download=True)
    assert bad.read_bytes() == b"not MNIST"


def test_download_of_whole_data_touches_no_network(copy_of_data, monkeypatch):
    monkeypatch.setattr(MNIST, "download", lambda self: pytest.fail("went to the network"))
    assert len(load_mnist("test", copy_of_data, download=True)) == 10_000


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_file_is_an_os_error(copy_of_data):
    break_file(copy_of_data, "t10k-labels-idx1-ubyte", bytes(10_008)).chmod(0)
    with pytest.raises(OSError):
        load_mnist("test", copy_of_data)


# --- Digits ---------------------------------------------------------------------------------------------------------


def test_digits_can_be_cut_and_picked(few_digits):
    assert len(few_digits[:55]) == 55
    picked = few_digits[torch.tensor([3, 1])]
    assert torch.equal(picked.images, few_digits.images[[3, 1]])
    assert picked.labels.tolist() == few_digits.labels[[3, 1]].tolist()
    assert len(few_digits[few_digits.labels == 7]) == int((few_digits.labels == 7).sum())
    assert repr(few_digits) == "Digits(256 images of 28x28)"


def test_one_number_is_no_set_of_digits(few_digits):
    with pytest.raises(TypeError, match=r"digits\.images\[3\]"):
        few_digits[3]


@pytest.mark.parametrize(
    ("images", "labels", "complaint"),
    [
        (torch.zeros(2, 28, 28), torch.zeros(2, dtype=torch.int64), r"images must be .* got \(2, 28, 28\) float32"),
        (torch.zeros(2, 784, dtype=torch.uint8), torch.zeros(2, dtype=torch.int64), r"got \(2, 784\) uint8"),
        (torch.zeros(2, 28, 28, dtype=torch.uint8), torch.zeros(3, dtype=torch.int64), r"labels must be \(2,\) int64"),
        (torch.zeros(2, 28, 28, dtype=torch.uint8), torch.zeros(2), r"got \(2,\) float32"),
    ],
)
def test_digits_must_fit_together(images, labels, complaint):
    with pytest.raises(ValueError, match=complaint):
        Digits(images, labels)


# --- scaling --------------------------------------------------------------------------------------------------------


def test_scale_caffe_is_times_one_256th():
    raw = torch.arange(256, dtype=torch.uint8).reshape(1, 16, 16)
    scaled = scale_caffe(raw)
    assert scaled.shape == (1, 1, 16, 16) and scaled.dtype == torch.float32
    assert torch.equal(scaled * 256, raw[None].float())
    assert scaled.max() < 1


@pytest.mark.parametrize("images", [torch.zeros(1, 1, 28, 28), torch.zeros(28, 28, dtype=torch.uint8), [[0]]])
def test_scale_caffe_takes_raw_images_only(images):
    with pytest.raises(ValueError, match=r"expects raw images: \(N, height, width\) uint8"):
        scale_caffe(images)


def test_pad_1998_gives_paper_ink_and_every_grey_between():
    raw = torch.zeros(2, 28, 28, dtype=torch.uint8)
    raw[1].view(-1)[:256] = torch.arange(256)
    padded = pad_1998(raw)
    assert padded.shape == (2, 1, 32, 32) and padded.dtype == torch.float32
    paper, ink = padded[1, 0, 2, 2], padded[1, 0, 2:30, 2:30].flatten()[255]
    assert paper == torch.tensor(-0.1) and ink == torch.tensor(1.175)
    expected = -0.1 + 0.005 * torch.arange(256, dtype=torch.float64)
    torch.testing.assert_close(padded[1, 0, 2:30, 2:30].flatten()[:256].double(), expected, rtol=0, atol=1e-7)
    assert (padded[0] == paper).all()


def test_pad_1998_puts_the_digit_in_the_middle_and_paper_around_it():
    raw = torch.full((1, 28, 28), 255, dtype=torch.uint8)
    raw[0, 0, 27] = 0
    padded = pad_1998(raw)[0, 0]
    border = torch.ones(32, 32, dtype=torch.bool)
    border[2:30, 2:30] = False
    assert (padded[border] == torch.tensor(-0.1)).all()
    assert (padded == torch.tensor(1.175)).sum() == 28 * 28 - 1
    assert padded[2, 29] == torch.tensor(-0.1)


def test_pad_1998_leaves_the_digits_as_they_were(few_digits):
    before = few_digits.images.clone()
    assert torch.equal(pad_1998(few_digits.images)[:, 0, 2:30, 2:30] > 0.5, few_digits.images > 120)
    assert torch.equal(few_digits.images, before)


def test_the_1998_field_has_mean_0_and_variance_an_eighth(train_digits):
    """Not the variance of 1 that the paper gives for its field, p. 7."""
    padded = pad_1998(train_digits.images[:10_000])
    assert padded.mean().item() == pytest.approx(0.028, abs=0.002)
    assert padded.var().item() == pytest.approx(0.12, abs=0.005)


def test_pad_1998_of_no_digits():
    assert pad_1998(torch.zeros(0, 28, 28, dtype=torch.uint8)).shape == (0, 1, 32, 32)


@pytest.mark.parametrize(
    ("images", "got"),
    [
        (torch.zeros(1, 1, 32, 32), r"\(1, 1, 32, 32\) float32"),
        (torch.zeros(1, 28, 28), r"\(1, 28, 28\) float32"),
        (torch.zeros(28, 28, dtype=torch.uint8), r"\(28, 28\) uint8"),
        (torch.zeros(1, 1, 28, 28, dtype=torch.uint8), r"\(1, 1, 28, 28\) uint8"),
        (torch.zeros(1, 32, 32, dtype=torch.uint8), r"\(1, 32, 32\) uint8"),
        (torch.zeros(1, 784, dtype=torch.uint8), r"\(1, 784\) uint8"),
        (torch.zeros(1, 28, 28, dtype=torch.int64), r"\(1, 28, 28\) int64"),
        ([[0]], "a list"),
    ],
)
def test_pad_1998_takes_raw_digits_only(images, got):
    with pytest.raises(ValueError, match=rf"expects raw images: \(N, 28, 28\) uint8, 0 to 255; got {got}\.") as error:
        pad_1998(images)
    assert "Images that are padded already go to the network as they are." in str(error.value)


@pytest.mark.parametrize(
    ("low", "high", "got"),
    [
        (0.0, 255.0, "from 0 to 255"),
        (-255.0, 0.5, "from -255 to 0.5"),
        (0.0, 20.0, "from 0 to 20"),
        (-20.0, 1.0, "from -20 to 1"),
        (0.0, math.inf, "from 0 to inf"),
        (0.0, math.nan, "from nan to nan"),
    ],
)
def test_pixels_that_were_not_scaled_are_noticed(low, high, got):
    images = torch.tensor([[low, 0.25, high]])
    with pytest.raises(ValueError) as error:
        check_scaled(images, "MyNet", "-1 to 1", "Divide by 255")
    assert str(error.value) == f"MyNet expects pixels scaled to about -1 to 1; got values {got}. Divide by 255."


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_pixels_of_another_scaling_pass(dtype):
    check_scaled(torch.tensor([[-19.5, 0.0], [1.0, 19.5]], dtype=dtype), "MyNet", "-1 to 1", "")
    check_scaled(torch.zeros(0, 1, 32, 32, dtype=dtype), "MyNet", "-1 to 1", "")


def test_checking_pixels_leaves_gradients_alone():
    images = torch.rand(2, 3, requires_grad=True)
    check_scaled(images, "MyNet", "0 to 1", "")
    images.sum().backward()
    assert torch.equal(images.grad, torch.ones(2, 3))


def test_pixels_are_not_read_where_reading_them_would_wait_or_cannot_be_done(monkeypatch):
    unscaled = torch.full((2, 3), 255.0)

    def check(images):
        check_scaled(images, "MyNet", "0 to 1", "")
        return images

    torch.func.vmap(check)(unscaled)
    monkeypatch.setattr(torch.Tensor, "aminmax", lambda images: pytest.fail("the pixels were read"))
    check(unscaled.to("meta"))  # stands for any other device
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    check(unscaled)
    monkeypatch.undo()
    with pytest.raises(ValueError, match="from 255 to 255"):
        check(unscaled)


# --- batches --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("count", "batch_size"), [(10, 3), (10, 10), (10, 64), (1, 1), (12, 4)])
def test_a_pass_takes_every_digit_once(count, batch_size):
    batches = list(shuffled_batches(count, batch_size, torch.Generator().manual_seed(1)))
    assert sorted(torch.cat(batches).tolist()) == list(range(count))
    assert all(len(batch) == batch_size for batch in batches[:-1]) and 1 <= len(batches[-1]) <= batch_size


def test_the_generator_decides_the_order():
    def order(seed):
        return torch.cat(list(shuffled_batches(1000, 64, torch.Generator().manual_seed(seed)))).tolist()

    assert order(1) == order(1) != order(2)
    generator = torch.Generator().manual_seed(1)
    first, second = (torch.cat(list(shuffled_batches(1000, 64, generator))).tolist() for _ in range(2))
    assert first == order(1) and second != first


@pytest.mark.parametrize(("count", "batch_size"), [(0, 3), (3, 0), (-1, 2)])
def test_an_empty_pass_is_refused(count, batch_size):
    with pytest.raises(ValueError, match="at least 1"):
        list(shuffled_batches(count, batch_size, torch.Generator()))


def test_readme_lists_the_sums_that_are_verified():
    readme = (DATA_FOLDER / "README.md").read_text(encoding="utf-8")
    for name, file in data.MNIST_FILES.items():
        assert name in readme and file.sha256 in readme
