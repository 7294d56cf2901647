"""What this machine computes on."""

from __future__ import annotations

import ctypes
import sys

import torch


def available_devices() -> tuple[str, ...]:
    """Return the kinds of device that this machine has, the one that `fit` takes by default first."""
    kinds: tuple[str, ...] = ("cuda",) if torch.cuda.is_available() else ()
    if torch.backends.mps.is_available():
        kinds += ("mps",)
    return (*kinds, "cpu")


def choose_device(device: str | torch.device | None = None) -> torch.device:
    """Return the device asked for; without one, CUDA where there is a GPU, else Apple's MPS, else the CPU.

    Raises ValueError listing the devices that there are, if the one asked for is not among them.
    """
    available = available_devices()
    if device is None:
        return torch.device(available[0])
    there = f"This machine has: {', '.join(available)}."
    try:
        chosen = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"{device!r} is not a device. {there}") from error
    if chosen.type not in available:
        raise ValueError(f"There is no {device} here. {there} device=None takes the first of them.")
    if chosen.type == "cuda" and (chosen.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"There is no {device} here, only {torch.cuda.device_count()} GPUs, counted from cuda:0.")
    return chosen


def keep_freed_memory() -> None:
    """Let the C library keep the megabytes that each step frees, for the next step to use again.

    By default GNU's hands them back to the system, which clears and maps them anew a hundred times a second: 10 to 17% of
    an epoch. Other systems' libraries are left alone. It holds for the whole process, and costs it about 20 MB.
    """
    if not sys.platform.startswith("linux"):
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # not GNU's library
        return
    trim_threshold, mmap_threshold = -1, -3  # the names in malloc.h
    mallopt(trim_threshold, 512 * 2**20)
    mallopt(mmap_threshold, 1024 * 2**20)
