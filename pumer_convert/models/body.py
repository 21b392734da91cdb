"""A network with reducers standing in it: what is the same for every family."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from pumer_convert.errors import InputError
from pumer_convert.models.output import Output
from pumer_convert.reducers.site import SiteReducers, Trace


class Body(nn.Module):
    """An ordinary module; its parameters have the names of the model that it comes from, reducers stand under
    `reducers`. Calling it runs the first of its graphs."""

    def __init__(self) -> None:
        super().__init__()
        self.reducers = nn.ModuleDict()

    @property
    def dtype(self) -> torch.dtype:
        """The type of its numbers, but for those of layers that are kept in float32."""
        return min((parameter.dtype for parameter in self.parameters()), key=lambda dtype: dtype.itemsize)

    def step(self, site: str) -> SiteReducers | None:
        """The reducers at a site, None where there are none."""
        key = site.replace(".", "_")
        # (a ModuleDict has no get)
        if key not in self.reducers:
            return None
        found = self.reducers[key]
        assert isinstance(found, SiteReducers)
        return found

    def check_pixels(self, pixels: Tensor, size: tuple[int, int]) -> None:
        """Raises InputError when `pixels` [..., H, W] are not of the (H, W) that the network was built for."""
        given = tuple(pixels.shape[-2:])
        if given != size:
            raise InputError(
                f"pixel_values are {given}, but the model was loaded for images of {size}; load it with "
                f"image_size={given}"
            )

    def run(self, graph: str, inputs: Mapping[str, Tensor], trace: Trace | None = None) -> Output:
        """One graph (see `ModelSpec.graphs`) on its inputs by name. Models of several say how."""
        output: Output = self(**inputs, trace=trace)
        return output


def insert(model: Body, pumer: Mapping[str, Any]) -> Body:
    """Replay the edits that a config's `pumer` section records onto a dense network; gives it back."""
    for edit in pumer.get("edits", ()):
        model.reducers[edit["at"].replace(".", "_")] = SiteReducers(
            edit["at"],
            edit["actions"],
            pumer.get("semantics", "default"),
            pumer.get("proportional_attention", False),
            edit.get("side"),
            edit.get("unmerge"),
        )
    return model


def in_full(value: Tensor) -> Tensor:
    """An output as whoever gets it expects it: numbers of any precision as float32, others as they are."""
    return value.float() if value.is_floating_point() else value
