"""Where arithmetic happens: plain torch in one process on the CPU, Lightning Fabric for everything else.

Fabric takes seconds to import and a CPU in float32 has no use for it, so it is imported only when it is used.
"""

from __future__ import annotations

import contextlib
import logging
import os
import random
from collections.abc import Callable, Iterator, Mapping
from types import SimpleNamespace
from typing import Any, TypeVar

import numpy as np
import torch
from torch.multiprocessing.spawn import ProcessRaisedException

from featstore.errors import ConfigError, FeatstoreError
from featstore.process_memory import keep_freed_memory, peak_resident_bytes
from featstore.training.config import DeviceConfig

__all__ = [
    "Engine",
    "FabricEngine",
    "ddp_strategy",
    "launch",
    "make_fabric",
    "peak_memory",
    "process_settings",
    "seed_everything",
]

logger = logging.getLogger(__name__)

_SMALL_BATCH_MACS = 1e8

Job = TypeVar("Job")
Result = TypeVar("Result")


class Engine:
    """What the loop needs to know of devices, precision and processes; this one is a single process in float32."""

    rank, world_size = 0, 1

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def set_up(
        self, module: torch.nn.Module, optimizer: torch.optim.Optimizer
    ) -> tuple[torch.nn.Module, torch.optim.Optimizer]:
        """Move to the device and wrap for precision and gradient exchange."""
        return module, optimizer

    def backward(self, loss: torch.Tensor) -> None:
        """Gradients of the loss, scaled where the precision needs it."""
        loss.backward()  # type: ignore[no-untyped-call]

    def clip(self, module: torch.nn.Module, optimizer: torch.optim.Optimizer, norm: float) -> None:
        """Clip the gradient to a norm."""
        torch.nn.utils.clip_grad_norm_(module.parameters(), norm)

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        """Context of forward passes outside the wrapped module."""
        return contextlib.nullcontext()

    def gather(self, value: Any) -> list[Any]:
        """Plain Python values of all ranks, in their order, on every rank."""
        if self.world_size == 1:
            return [value]
        found: list[Any] = [None] * self.world_size
        torch.distributed.all_gather_object(found, value)
        return found

    def share_buffers(self, module: torch.nn.Module) -> None:
        """Give every rank the first one's buffers (running statistics): each has seen another part of the batches."""
        if self.world_size > 1:
            for buffer in module.buffers():
                torch.distributed.broadcast(buffer, src=0)

    def precision_state(self) -> dict[str, Any]:
        """Plain values that the precision keeps between steps (the scale of gradients)."""
        return {}

    def restore_precision(self, state: Mapping[str, Any]) -> None:
        """Undo ``precision_state``."""


class FabricEngine(Engine):
    """Devices, mixed precision and several processes through Lightning Fabric (already launched)."""

    def __init__(self, fabric: Any) -> None:
        super().__init__(fabric.device)
        self.fabric = fabric
        self.rank, self.world_size = fabric.global_rank, fabric.world_size

    def set_up(
        self, module: torch.nn.Module, optimizer: torch.optim.Optimizer
    ) -> tuple[torch.nn.Module, torch.optim.Optimizer]:
        """Wrap both."""
        wrapped: tuple[torch.nn.Module, torch.optim.Optimizer] = self.fabric.setup(module, optimizer)
        return wrapped

    def backward(self, loss: torch.Tensor) -> None:
        """Gradients of the loss, scaled in 16-bit precision."""
        self.fabric.backward(loss)

    def clip(self, module: torch.nn.Module, optimizer: torch.optim.Optimizer, norm: float) -> None:
        """Clip the unscaled gradient to a norm."""
        self.fabric.clip_gradients(module, optimizer, max_norm=norm)

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        """Mixed precision, if any."""
        context: contextlib.AbstractContextManager[Any] = self.fabric.autocast()
        return context

    def precision_state(self) -> dict[str, Any]:
        """State of the gradient scaler in 16-bit precision."""
        return dict(self.fabric.strategy.precision.state_dict())

    def restore_precision(self, state: Mapping[str, Any]) -> None:
        """Undo ``precision_state``."""
        if state:
            self.fabric.strategy.precision.load_state_dict(dict(state))


def make_fabric(config: DeviceConfig) -> Any | None:
    """Fabric for these settings, not launched yet; None where plain torch does (one CPU process, float32).

    Raises
    ------
    ConfigError
        When CUDA is asked for and is not there, or has fewer devices.
    """
    cuda = torch.cuda.is_available()
    accelerator = config.accelerator if config.accelerator != "auto" else ("cuda" if cuda else "cpu")
    if accelerator == "cuda" and not cuda:
        raise ConfigError("no CUDA device was found", "device.accelerator=cuda", "Use device.accelerator=cpu")
    if accelerator == "cuda" and config.devices > torch.cuda.device_count():
        raise ConfigError(
            f"device.devices={config.devices}", f"{torch.cuda.device_count()} CUDA devices here", "Ask for fewer"
        )
    if config.sync_norms and config.devices > 1 and accelerator != "cuda":
        raise ConfigError("torch joins batch norms on CUDA only", "device.sync_norms=true", "Leave it false on a CPU")
    if accelerator == "cpu" and config.devices == 1 and config.precision == "32":
        return None
    from lightning_fabric import Fabric

    precision = "32-true" if config.precision == "32" else config.precision
    strategy: Any = ddp_strategy(config) if config.devices > 1 else "auto"
    return Fabric(accelerator=accelerator, devices=config.devices, precision=precision, strategy=strategy)


def ddp_strategy(config: DeviceConfig, *, start_method: str = "spawn") -> Any:
    """How processes exchange gradients.

    Gradients travel in buckets, which torch rearranges after the first step in the order in which gradients arrive;
    then the first step after a stop would sum three or more processes' gradients in another order than a run that was
    not stopped. Looking for unused parameters, which costs a walk over the graph, keeps the arrangement.
    """
    from lightning_fabric.strategies.ddp import DDPStrategy

    return DDPStrategy(start_method=start_method, find_unused_parameters=config.deterministic)  # type: ignore[arg-type]


def launch(fabric: Any | None, function: Callable[[Any, Job], Result], job: Job, *, processes: int) -> Result:
    """Call ``function(fabric, job)``, in as many new processes as asked for; what the first one returns."""
    if fabric is None or processes == 1:
        return function(fabric, job)
    try:
        # in a namespace, for Fabric looks into collections and dataclasses on the way
        sealed = fabric.launch(_unsealed, function, SimpleNamespace(value=job))
    except ProcessRaisedException as error:
        kind, _, message = str(error).strip().splitlines()[-1].partition(": ")
        if kind.startswith("featstore."):
            raise FeatstoreError(message) from error
        raise
    result: Result = sealed.value
    return result


def _unsealed(fabric: Any, function: Callable[[Any, Any], Any], sealed: SimpleNamespace) -> SimpleNamespace:
    return SimpleNamespace(value=function(fabric, sealed.value))


@contextlib.contextmanager
def process_settings(config: DeviceConfig, *, macs_per_batch: float, fabric: Any | None = None) -> Iterator[Engine]:
    """Apply the settings that hold for the whole process: threads, determinism, memory; undo the first two at the end.

    What is yielded is the engine of this process.
    Small batches are done by one thread where the settings leave it open: handing out the work would cost more than it
    saves, and 25 times more when somebody else is using the other cores.
    """
    before = torch.get_num_threads(), torch.get_deterministic_debug_mode()
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    elif macs_per_batch < _SMALL_BATCH_MACS:
        torch.set_num_threads(1)
    # use_deterministic_algorithms does the same, and imports torch's compiler for seconds. Here it only warns, because
    # pools whose windows do not overlap are listed as undetermined on CUDA, and are not
    torch.set_deterministic_debug_mode("warn" if config.deterministic else "default")
    if config.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # what CUDA's matrix products ask for
    if torch.cuda.is_available():
        torch.backends.cudnn.benchmark = not config.deterministic
        torch.backends.cuda.matmul.allow_tf32 = not config.deterministic
    if config.keep_memory:
        keep_freed_memory(kept=(1 << 31) - 1, largest=1 << 30)  # every step would fault large blocks in again
    try:
        yield Engine(torch.device("cpu")) if fabric is None else FabricEngine(fabric)
    finally:
        torch.set_num_threads(before[0])
        torch.set_deterministic_debug_mode(before[1])


def peak_memory(device: str) -> int:
    """Bytes that were held at most: of the GPU where the work is done there, else of this process."""
    return int(torch.cuda.max_memory_allocated()) if device == "cuda" else peak_resident_bytes()


def seed_everything(seed: int) -> None:
    """Seed the global generators of Python, numpy and torch."""
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002  (libraries in use draw from the global generator)
    torch.manual_seed(seed)
