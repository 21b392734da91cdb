"""What a model gives back."""

from dataclasses import dataclass, field

from torch import Tensor

from pumer_convert.models.signature import LOGITS
from pumer_convert.reducers.site import Trace
from pumer_convert.tokens import Tokens


@dataclass
class Output:
    """The outputs by name, such as logits [B, labels]; the final tokens of each stream, "image" or "text" (per image
    pass); what the reducers decided."""

    outputs: dict[str, Tensor]
    streams: dict[str, Tokens] = field(default_factory=dict)
    trace: Trace = field(default_factory=Trace)

    @property
    def logits(self) -> Tensor:
        """Of a model that has them."""
        return self.outputs[LOGITS]

    @property
    def image(self) -> Tokens:
        """The final tokens of the pictures."""
        return self.streams["image"]

    @property
    def text(self) -> Tokens:
        """The final tokens of the texts."""
        return self.streams["text"]
