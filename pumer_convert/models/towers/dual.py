"""Two towers that never meet, or one of them: what such families have in common."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from pumer_convert.models.body import Body
from pumer_convert.models.inputs import PIXELS
from pumer_convert.models.output import Output
from pumer_convert.models.similarity import BIAS, SCALE
from pumer_convert.models.towers.encoder import unit
from pumer_convert.models.towers.graphs import IMAGE, JOINT, PER_IMAGE, PER_TEXT, POOLED, TEXT, embedding
from pumer_convert.reducers.site import Trace
from pumer_convert.tokens import Tokens


class TwoTowerBody(Body):
    """A network of the graphs "image" and "text", and of both in one, or of one tower.

    pictures       whether it has the first.
    compared       whether its embeddings are compared: unit vectors.
    image_size     (H, W) of its pictures.
    vision_model   of pixels [B, 3, H, W], what gives the reducers at a site, and a trace: the tokens as they end, and
                   what it pools of them, [B, C].
    text_model     that of texts; `read_image` and `read_text` say what is pooled of them.
    visual_projection, text_projection
                   what makes embeddings [B, D] of what is pooled, where there is one.
    """

    pictures: bool
    compared: bool
    image_size: tuple[int, int]
    vision_model: nn.Module
    text_model: nn.Module

    def forward(self, *inputs: Any, **named: Any) -> Output:
        """The first of its graphs."""
        first = self.of_image if self.pictures else self.of_text
        return first(*inputs, **named)

    def run(self, graph: str, inputs: Mapping[str, Tensor], trace: Trace | None = None) -> Output:
        """See `Body`."""
        if graph == JOINT:
            words = {name: value for name, value in inputs.items() if name != PIXELS}
            return self.both(self.of_image(inputs[PIXELS], trace), self.of_text(**words, trace=trace))
        chosen = self.of_image if graph == "image" else self.of_text
        return chosen(**inputs, trace=trace)

    def both(self, image: Output, text: Output) -> Output:
        """The joint graph, from the outputs of the others: also the logits of every picture with every text, taken in
        float32 or more exactly."""
        images, texts = image.outputs[IMAGE], text.outputs[TEXT]
        exact = torch.promote_types(texts.dtype, torch.float32)
        logits = texts.to(exact) @ images.to(exact).T * getattr(self, SCALE).to(exact).exp()
        if (bias := getattr(self, BIAS, None)) is not None:
            logits = logits + bias.to(exact)
        outputs = {PER_IMAGE: logits.T, PER_TEXT: logits, TEXT: texts, IMAGE: images}
        return Output(outputs, {**image.streams, **text.streams}, image.trace)

    def of_image(self, pixel_values: Tensor, trace: Trace | None = None) -> Output:
        """The graph "image". Raises InputError for pixels of another size."""
        trace = Trace() if trace is None else trace
        self.check_pixels(pixel_values, self.image_size)
        image, pooled = self.read_image(pixel_values, trace)
        return self._output("image", "visual_projection", image, pooled, trace)

    def of_text(self, *words: Any, trace: Trace | None = None, **named: Any) -> Output:
        """The graph "text"."""
        text, pooled = self.read_text(*words, **named)
        return self._output("text", "text_projection", text, pooled, Trace() if trace is None else trace)

    def read_image(self, pixels: Tensor, trace: Trace) -> tuple[Tokens, Tensor]:
        """The tokens of pictures as they end, and what is pooled of them, [B, C]."""
        found: tuple[Tokens, Tensor] = self.vision_model(pixels, self.step, trace)
        return found

    def read_text(self, *words: Any, **named: Any) -> tuple[Tokens, Tensor]:
        """The tokens of texts as they end, and what is pooled of them, [B, C]."""
        found: tuple[Tokens, Tensor] = self.text_model(*words, **named)
        return found

    def _output(self, stream: str, projection: str, tokens: Tokens, pooled: Tensor, trace: Trace) -> Output:
        projected = hasattr(self, projection)
        if projected:
            pooled = getattr(self, projection)(pooled)
        name = embedding(stream) if projected or self.compared else POOLED
        return Output({name: unit(pooled) if self.compared else pooled}, {stream: tokens}, trace)
