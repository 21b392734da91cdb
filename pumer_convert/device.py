"""The device that a person names."""

import re

import torch

from pumer_convert.errors import InputError, MissingDependencyError

DEVICES = "auto, cpu, cuda or cuda:0"


def open_device(name: str = "auto") -> torch.device:
    """The device for "auto" (a GPU where there is one), "cpu", "cuda" or "cuda:1".

    Raises InputError for another name, MissingDependencyError when there is no such GPU.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if not re.fullmatch(r"cpu|cuda(:\d{1,3})?", name):
        raise InputError(f"a device cannot be '{name}'; allowed: {DEVICES}.")
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        found = torch.cuda.device_count()
        raise MissingDependencyError(f"the device {name} is not there; torch sees {found} GPU(s). Use --device cpu.")
    return device
