"""Plan -> a network with reducers standing in it, and checkpoint -> network."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from pumer_convert.checkpoint.read import check_complete
from pumer_convert.checkpoint.resized import as_stored, check_image_size
from pumer_convert.convert.load import HALF, kept_float32
from pumer_convert.errors import InputError
from pumer_convert.models.body import Body, insert
from pumer_convert.models.family import family_of
from pumer_convert.models.spec import ModelSpec, sides_of
from pumer_convert.weights import Checkpoint, is_finite

DTYPES = {
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "float64": torch.float64,
}


def build(
    checkpoint: Checkpoint,
    image_size: Any = None,
    dtype: str | None = None,
    keep_float32: Iterable[str] | None = None,
) -> Body:
    """The network of a checkpoint with its weights and reducers, on the CPU, in eval mode.

    `image_size` S or [H, W] fits the position table to other images; `dtype` as torch spells it, float32 by default;
    `keep_float32` names layers that stay in float32 where it is half precision (None: those of the recipe in the
    checkpoint's folder). Raises InputError for missing, unexpected or misshapen weights, for those that the type cannot
    hold, and for an image size that the patches do not divide.
    """
    check_complete(checkpoint)
    family = family_of(checkpoint.family)
    stored = checkpoint
    if image_size is not None:
        check_image_size(image_size, checkpoint)
        if sides_of(image_size) != family.spec(checkpoint.config).pictures.size:
            stored = as_stored(checkpoint)
    with torch.device("meta"):
        network: Body = family.build(checkpoint.config, image_size)
    spec = family.spec(checkpoint.config)
    wide = spec.weights_of(kept_float32(checkpoint, dtype, keep_float32))

    known: set[int] = set()

    def fit(name: str, tensor: Tensor) -> Tensor:
        kind = torch.float32 if name.startswith(wide) else DTYPES[dtype or "float32"]
        if tensor.dtype != kind:
            tensor = tensor.to(kind)
            if not is_finite(tensor):
                raise _too_large(checkpoint, spec, name, dtype)
        # A parameter has memory of its own, also where a file gives one tensor two names or one value many places.
        tensor = tensor.contiguous()
        tensor = tensor.clone() if tensor.data_ptr() in known else tensor
        known.add(tensor.data_ptr())
        return tensor if image_size is None else family.fit_positions(name, tensor, stored.config, image_size)

    network.load_state_dict(dict(stored.tensors(fit)), strict=True, assign=True)
    for parameter in network.parameters():
        parameter.requires_grad_(True)
    return insert(network, checkpoint.config.get("pumer", {})).eval()


def _too_large(checkpoint: Checkpoint, spec: ModelSpec, name: str, dtype: str | None) -> InputError:
    layers = [layer for layer, starts in spec.weights().items() if name.startswith(starts)]
    keep = f"keep {layers[0]} in float32 (keep_float32: [{layers[0]}]), or " if layers and dtype in HALF else ""
    return InputError(
        f"{checkpoint.path}: in {dtype or 'float32'} some of '{name}' are infinite; {keep}take another type."
    )
