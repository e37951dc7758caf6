"""Training in one process or, under torchrun, in several that average their gradients."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from changedet.errors import ConfigError

Item = TypeVar("Item")
# The others wait while one scores whole scenes or packages; torchrun ends them all where one of them dies.
_PATIENCE = timedelta(days=1)


@contextmanager
def joined() -> Iterator[None]:
    """Join the other processes that torchrun started, if it did: over NCCL between GPUs, over gloo between processors.

    Both where there are GPUs: a recipe may ask for the processor all the same, and objects are exchanged there.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield
        return
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    distributed.init_process_group(backend, timeout=_PATIENCE)
    try:
        yield
    finally:
        distributed.destroy_process_group()


def rank() -> int:
    """Return which of the processes this is; 0 where there is one."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def size() -> int:
    """Return how many processes there are."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def wait_for_all() -> None:
    """Return when every process has come here."""
    if size() > 1:
        distributed.barrier()


def choose_device(asked: str) -> torch.device:
    """Return the device to train on.

    Args:
        asked: `auto`, `cpu`, `cuda` or `cuda:1`.

    Raises:
        ConfigError: a GPU was asked for and there is none, or one GPU for several processes.
    """
    found = torch.cuda.is_available()
    if asked.startswith("cuda") and not found:
        raise ConfigError(f"device {asked}", expected="a CUDA GPU, of which torch finds none", remedy="device: cpu")
    if asked == "cpu" or not found:
        return torch.device("cpu")
    if size() == 1:
        return torch.device("cuda" if asked == "auto" else asked)
    if ":" in asked:
        raise ConfigError(f"device {asked} for {size()} processes", expected="device: cuda, the GPU of each rank")
    device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
    # NCCL takes the current one for what names none, a barrier for instance.
    torch.cuda.set_device(device)
    return device


def share_gradients(network: nn.Module, device: torch.device) -> nn.Module:
    """Return `network` in a wrapper whose backward averages gradients over all processes; itself where it is alone."""
    if size() == 1:
        return network
    devices = [device] if device.type == "cuda" else None
    return DistributedDataParallel(network, device_ids=devices)


def withhold_gradients(network: nn.Module, *, until_last: bool) -> AbstractContextManager[None]:
    """Return a context in which what `share_gradients` returned adds up gradients without exchanging them.

    Args:
        network: the wrapper.
        until_last: False in the last batch of a step, which exchanges what all of them added up.
    """
    apart = until_last and isinstance(network, DistributedDataParallel)
    context: AbstractContextManager[None] = network.no_sync() if apart else nullcontext()  # type: ignore[operator]
    return context


def average_buffers(network: nn.Module) -> None:
    """Average what batch norm measured over all processes, each of which saw other chips."""
    if size() == 1:
        return
    for buffer in network.buffers():
        if buffer.is_floating_point():
            distributed.all_reduce(buffer)
            buffer.div_(size())


def gather(items: list[Item]) -> list[Item]:
    """Return the items of all processes, in the order of their ranks."""
    if size() == 1:
        return items
    parts: list[Any] = [None] * size()
    distributed.all_gather_object(parts, items)
    return [item for part in parts for item in part]
