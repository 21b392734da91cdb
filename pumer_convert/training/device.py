"""accelerate on the device that a person names."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed.nn
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState

from pumer_convert.device import open_device
from pumer_convert.errors import InputError

# torch.distributed.nn keeps for ever the process group that it finds when it is imported, and DistributedDataParallel
# imports it. Imported here, before there is a group, it finds none: the group ends with the training, and its threads
# with it. One that still puts a tensor away while Python closes down aborts the process.

SETTLING = 0.2
"""Seconds in which the threads of the process group put away the tensors of the last exchange. They need Python's lock
for it, and the end of the group, which holds that lock, waits for them: seen to last for ever."""


@contextmanager
def accelerated(device: str, amp: str) -> Iterator[Accelerator]:
    """An Accelerator for "auto", "cpu", "cuda" or "cuda:1"; under a launcher each process takes its own GPU.

    accelerate keeps what it was started with for the life of the process and refuses another precision or device
    after it; it is told to forget, so that one program can train twice. Raises InputError for fp16 on the CPU.
    """
    wanted = open_device(device)
    if wanted.type == "cpu" and amp == "fp16":
        raise InputError("amp fp16 needs a GPU; use bf16 or no.")
    if wanted.type == "cuda" and wanted.index is not None:
        torch.cuda.set_device(wanted)
    accelerator = Accelerator(cpu=wanted.type == "cpu", mixed_precision=amp)
    try:
        yield accelerator
    finally:
        if accelerator.num_processes > 1:
            time.sleep(SETTLING)
        accelerator.end_training()
        AcceleratorState._reset_state(reset_partial_state=True)
        GradientState._reset_state()
