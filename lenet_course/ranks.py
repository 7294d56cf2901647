"""Several processes that train one network together: which of them this one is, what is its share, and their sums.

torchrun starts them and tells each in its environment who it is; `joined_ranks` reads that. A process that nobody
started so is `ALONE`, and then nothing here costs anything.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Ranks:
    """This process's rank, 0 to world - 1, among `world` processes.

    device: where their sums are computed: None for the CPU (gloo), or this rank's own GPU (nccl).
    """

    rank: int = 0
    world: int = 1
    device: torch.device | None = None

    @property
    def alone(self) -> bool:
        """Whether there is no other process."""
        return self.world == 1

    def share(self, batch: Tensor) -> Tensor:
        """Return this rank's part of a batch, (B,) to (b,): every world-th, from the rank-th on. It may be empty."""
        return batch[self.rank :: self.world]

    def sum(self, tensor: Tensor) -> Tensor:
        """Return the sum of all ranks' tensors, on the CPU: any shape and dtype, the same on every rank.

        Every rank must call it. Raises RuntimeError if one has died, or stays away for longer than the timeout.
        """
        if self.alone:
            return tensor
        total = tensor.to(self.device or "cpu", copy=True)
        torch.distributed.all_reduce(total)
        return total.cpu()

    def broadcast(self, content: bytes, source: int) -> bytes:
        """Return the bytes that rank `source` has; what the others pass does not matter. Every rank must call it."""
        if self.alone:
            return content
        mine = self.rank == source
        size = int(self.sum(torch.tensor(len(content) if mine else 0)))
        buffer = torch.frombuffer(bytearray(content if mine else size), dtype=torch.uint8).to(self.device or "cpu")
        torch.distributed.broadcast(buffer, source)
        return buffer.cpu().numpy().tobytes()

    def wrap(self, model: nn.Module) -> nn.Module:
        """Return what computes the model's outputs so that `backward` leaves the mean of all ranks' gradients.

        Every rank then has the weights of rank 0. Alone, it is the model itself.
        """
        if self.alone:
            return model
        wrapper = nn.parallel.DistributedDataParallel
        # The networks' buffers are constants: no need to send them at each step. The setting was renamed in torch 2.14.
        names = inspect.signature(wrapper).parameters
        send_buffers = "forward_sync_buffers" if "forward_sync_buffers" in names else "broadcast_buffers"
        return wrapper(model, gradient_as_bucket_view=True, **{send_buffers: False})


ALONE = Ranks()


def started_by_torchrun() -> bool:
    """Whether this is one of several processes, as the environment says."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def rank_to_be() -> int:
    """Return the rank in the environment, 0 if there is none: also before the ranks have joined."""
    return int(os.environ.get("RANK", "0")) if started_by_torchrun() else 0


@contextmanager
def joined_ranks(device: torch.device, timeout: float) -> Iterator[Ranks]:
    """Wait until all the processes that torchrun started are there, and yield which one this is; else yield `ALONE`.

    device: where this rank computes: sums go by nccl between GPUs, by gloo else. timeout: how many seconds a rank waits
    for the others, here and in each sum, before it raises RuntimeError.
    Raises ValueError if the environment says only half of what is needed.
    """
    if not started_by_torchrun():
        yield ALONE
        return
    needed = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
    if missing := [name for name in needed if name not in os.environ]:
        raise ValueError(
            f"WORLD_SIZE is {os.environ['WORLD_SIZE']}, so there are several processes; {', '.join(missing)} must then "
            "be set too. torchrun sets them all."
        )
    if device.type == "cuda":
        torch.cuda.set_device(device)
    backend = "nccl" if device.type == "cuda" else "gloo"
    wait = timedelta(seconds=timeout)
    store, rank, world = next(torch.distributed.rendezvous("env://", timeout=wait))
    # torchrun keeps one store over all restarts. Without a name of its own for each, a rank that is quick after a restart
    # finds there the address of one that is dead.
    restart = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    store = torch.distributed.PrefixStore(f"restart {restart}", store)
    torch.distributed.init_process_group(backend, store=store, rank=rank, world_size=world, timeout=wait)
    yield Ranks(rank, world, device if backend == "nccl" else None)
    # Only after a good end: if a rank is lost, this would wait for it.
    torch.distributed.destroy_process_group()


def is_lost_rank(error: BaseException) -> bool:
    """Whether an error says that another rank died or stood still, rather than that this one made a mistake."""
    return isinstance(error, torch.distributed.DistError) or (isinstance(error, RuntimeError) and "gloo" in str(error))
