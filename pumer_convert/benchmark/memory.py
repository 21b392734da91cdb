"""The memory that one pass of a runtime takes, in a process of its own."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from pumer_convert.errors import InputError
from pumer_convert.runtime.base import Runtime
from pumer_convert.system.child_process import LostError, in_child
from pumer_convert.system.heap import give_back_at_once, trim

if TYPE_CHECKING:
    import torch

STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def peak(opening: Callable[[], Runtime], inputs: dict[str, NDArray[Any]]) -> int | None:
    """Bytes that a pass with `inputs` takes at its peak beyond what the process holds when the model is loaded: its
    activations and scratch memory, without weights.

    On the CPU the peak of the process's resident memory, which Linux tells; on a GPU what torch's allocator counted,
    and None for a runtime that does not take its memory from there. `opening` runs in the new process, so it has to
    be a function of a module (or a partial of one). Raises InputError where the system does not tell.
    """
    if not RESET.exists():
        raise InputError("memory is measured on Linux alone, which tells the peak of a process.")
    try:
        return in_child(partial(_peak, opening, inputs))
    except LostError:
        raise InputError("the pass was killed by the system, most likely for want of memory.") from None


def _peak(opening: Callable[[], Runtime], inputs: dict[str, NDArray[Any]]) -> int | None:
    import torch

    from pumer_convert.runtime.eager import TorchRuntime

    give_back_at_once()  # else what earlier passes freed in small blocks counts, or hides what this one takes
    runtime = opening()
    runtime(**inputs)  # loads kernels and starts threads
    place = torch.device(runtime.device)
    if place.type != "cpu" and not isinstance(runtime, TorchRuntime):
        return None
    return taken(lambda: runtime(**inputs), place)


def taken(work: Callable[[], Any], device: "torch.device") -> int:
    """Bytes that `work` takes at its peak: on the CPU of this process, on a GPU from torch's allocator."""
    import torch

    if device.type == "cpu":
        return resident(work)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    work()
    return torch.cuda.max_memory_allocated(device) - before


def resident(work: Callable[[], Any]) -> int:
    """Bytes by which the resident memory of this process rises at the peak of `work`."""
    trim()  # what earlier work has freed is not there to be used again unseen
    RESET.write_text("5")  # the peak begins anew, at what is resident now
    before = _told("VmRSS")
    work()
    return max(_told("VmHWM") - before, 0)


def _told(name: str) -> int:
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) * 1024
