"""Two towers that never meet, or one of them: what CLIP and SigLIP have in common."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from pumer_convert.models.body import Body
from pumer_convert.models.output import Output
from pumer_convert.reducers.site import Trace


class TwoTowerBody(Body):
    """A network of the graphs "image" and "text", or of one of them; `pictures` says whether it has the first."""

    pictures: bool

    def forward(self, *inputs: Any, **named: Any) -> Output:
        """The first of its graphs."""
        first = self.of_image if self.pictures else self.of_text
        return first(*inputs, **named)

    def run(self, graph: str, inputs: Mapping[str, Tensor], trace: Trace | None = None) -> Output:
        """See `Body`."""
        chosen = self.of_image if graph == "image" else self.of_text
        return chosen(**inputs, trace=trace)

    @abstractmethod
    def of_image(self, pixel_values: Tensor, trace: Trace | None = None) -> Output:
        """The graph "image"."""

    @abstractmethod
    def of_text(self, *inputs: Any, **named: Any) -> Output:
        """The graph "text"."""
