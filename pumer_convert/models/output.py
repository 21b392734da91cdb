"""What a model gives back."""

from dataclasses import dataclass

from torch import Tensor

from pumer_convert.reducers.site import Trace
from pumer_convert.tokens import Tokens


@dataclass
class Output:
    """logits [B, labels]; the final tokens of each modality (per image pass); what the reducers decided."""

    logits: Tensor
    image: Tokens
    text: Tokens
    trace: Trace
