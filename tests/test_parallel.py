"""Processes beside this one: they do what they are given, are deaf to Ctrl-C, and end with the one that started them."""

import multiprocessing
import os
import signal
import threading
import time

import pytest

from lenet_course.parallel import WorkerPool

SPAWN = multiprocessing.get_context("spawn")


# --- what the processes do: they import this module by name ---------------------------------------------------------


def square(number):
    return number * number


def who_and_argument(argument):
    return os.getpid(), argument


def complain(text):
    raise KeyError(text)


def wait_until_killed(folder, name):
    """Leave a file with the process's id, and then never end."""
    unfinished = folder / f"{name}.part"
    unfinished.write_text(str(os.getpid()))
    unfinished.rename(folder / name)
    while True:
        time.sleep(0.05)


def leave_a_file(path):
    time.sleep(0.2)
    path.write_text("done")


def survive_ctrl_c():
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(0.05)
    return "alive", signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def never():
    time.sleep(3600)


# --- helpers --------------------------------------------------------------------------------------------------------


def wait_for(condition):
    """Return when it holds; a machine may be slow, but not this slow."""
    for _ in range(6000):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError("waited in vain")


def pid_in(path):
    return int(path.read_text())


def runs(pid):
    return any(process.pid == pid for process in multiprocessing.active_children())


# --- calls ----------------------------------------------------------------------------------------------------------


def test_results_come_back_each_with_its_call():
    with WorkerPool(2) as pool:
        futures = [pool.submit(who_and_argument, number) for number in range(7)]
        answers = [future.result() for future in futures]
    assert [argument for _, argument in answers] == list(range(7))
    pids = {pid for pid, _ in answers}
    assert os.getpid() not in pids and 1 <= len(pids) <= 2
    assert not any(runs(pid) for pid in pids)


def test_an_exception_comes_back_and_the_process_goes_on():
    with WorkerPool(1) as pool:
        wrong, right = pool.submit(complain, "no such key"), pool.submit(square, 12)
        with pytest.raises(KeyError, match="no such key"):
            wrong.result()
        assert right.result() == 144


def test_at_its_end_it_waits_for_calls_under_way(tmp_path):
    paths = [tmp_path / str(number) for number in range(3)]
    with WorkerPool(1) as pool:
        for path in paths:
            pool.submit(leave_a_file, path)
    assert [path.read_text() for path in paths] == ["done"] * 3


@pytest.mark.parametrize("workers", [0, -1])
def test_there_is_at_least_one_process(workers):
    with pytest.raises(ValueError, match="greater than 0"):
        WorkerPool(workers)


# --- the end of the body --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("exception", [RuntimeError, KeyboardInterrupt])
def test_if_the_body_raises_processes_end_and_waiting_calls_are_dropped(tmp_path, exception):
    waiting = []

    def body():
        with WorkerPool(1) as pool:
            pool.submit(wait_until_killed, tmp_path, "first")
            waiting.extend(pool.submit(leave_a_file, tmp_path / f"waiting {number}") for number in range(3))
            wait_for((tmp_path / "first").exists)
            assert runs(pid_in(tmp_path / "first"))
            raise exception("enough")

    with pytest.raises(exception, match="enough"):
        body()
    wait_for(lambda: not runs(pid_in(tmp_path / "first")))
    wait_for(lambda: all(future.done() for future in waiting))
    assert [path.name for path in tmp_path.iterdir()] == ["first"]
    assert all(future.cancelled() or future.exception() is not None for future in waiting)


def test_children_of_others_are_left_alone(tmp_path):
    """Started before the pool, or between two of its calls."""
    others = [SPAWN.Process(target=never) for _ in range(2)]

    def body():
        with WorkerPool(2) as pool:
            pool.submit(wait_until_killed, tmp_path, "first")
            others[1].start()
            pool.submit(wait_until_killed, tmp_path, "second")
            wait_for(lambda: (tmp_path / "first").exists() and (tmp_path / "second").exists())
            raise RuntimeError

    try:
        others[0].start()
        with pytest.raises(RuntimeError):
            body()
        wait_for(lambda: not any(runs(pid_in(tmp_path / name)) for name in ("first", "second")))
        assert all(other.is_alive() for other in others)
    finally:
        for other in others:
            if other.pid:
                other.terminate()
                other.join()


# --- Ctrl-C ---------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT for one process")
def test_the_processes_are_deaf_to_ctrl_c_and_this_one_is_not():
    def own(signal_number, frame):
        heard.append(signal_number)

    heard = []
    before = signal.signal(signal.SIGINT, own)
    try:
        with WorkerPool(1) as pool:
            assert pool.submit(survive_ctrl_c).result() == ("alive", True)
            assert signal.getsignal(signal.SIGINT) is own
            os.kill(os.getpid(), signal.SIGINT)
            assert pool.submit(square, 3).result() == 9
        assert heard == [signal.SIGINT]
    finally:
        signal.signal(signal.SIGINT, before)


def test_calls_can_be_submitted_by_another_thread():
    """Only the main thread may say what happens to signals."""
    answers = []

    def work():
        with WorkerPool(1) as pool:
            answers.append(pool.submit(square, 5).result())

    before = signal.getsignal(signal.SIGINT)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert answers == [25] and signal.getsignal(signal.SIGINT) is before
