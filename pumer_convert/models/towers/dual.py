"""Two towers that never meet, or one of them: what CLIP and SigLIP have in common."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from pumer_convert.models.body import Body
from pumer_convert.models.inputs import PIXELS
from pumer_convert.models.output import Output
from pumer_convert.models.similarity import BIAS, SCALE
from pumer_convert.models.towers.joint import IMAGE, JOINT, PER_IMAGE, PER_TEXT, TEXT
from pumer_convert.reducers.site import Trace


class TwoTowerBody(Body):
    """A network of the graphs "image" and "text", and of both in one, or of one tower; `pictures` says whether it has
    the first."""

    pictures: bool

    def forward(self, *inputs: Any, **named: Any) -> Output:
        """The first of its graphs."""
        first = self.of_image if self.pictures else self.of_text
        return first(*inputs, **named)

    def run(self, graph: str, inputs: Mapping[str, Tensor], trace: Trace | None = None) -> Output:
        """See `Body`."""
        if graph == JOINT:
            words = {name: value for name, value in inputs.items() if name != PIXELS}
            return self.compared(self.of_image(inputs[PIXELS], trace), self.of_text(**words, trace=trace))
        chosen = self.of_image if graph == "image" else self.of_text
        return chosen(**inputs, trace=trace)

    def compared(self, image: Output, text: Output) -> Output:
        """The joint graph, from the outputs of the others: also the logits of every picture with every text, taken in
        float32 or more exactly."""
        images, texts = image.outputs[IMAGE], text.outputs[TEXT]
        exact = torch.promote_types(texts.dtype, torch.float32)
        logits = texts.to(exact) @ images.to(exact).T * getattr(self, SCALE).to(exact).exp()
        if (bias := getattr(self, BIAS, None)) is not None:
            logits = logits + bias.to(exact)
        outputs = {PER_IMAGE: logits.T, PER_TEXT: logits, TEXT: texts, IMAGE: images}
        return Output(outputs, {**image.streams, **text.streams}, image.trace)

    @abstractmethod
    def of_image(self, pixel_values: Tensor, trace: Trace | None = None) -> Output:
        """The graph "image"."""

    @abstractmethod
    def of_text(self, *inputs: Any, **named: Any) -> Output:
        """The graph "text"."""
