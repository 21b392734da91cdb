"""accelerate on the device that a person names."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState

from pumer_convert.device import open_device
from pumer_convert.errors import InputError


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
        accelerator.end_training()
        AcceleratorState._reset_state(reset_partial_state=True)
        GradientState._reset_state()
