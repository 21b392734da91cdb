"""The reduction in a block of a tower for pictures, between attention and feed-forward or behind both."""

from collections.abc import Callable

from torch import Tensor

from pumer_convert.models import attention
from pumer_convert.reducers.site import SiteReducers, Trace
from pumer_convert.tokens import Tokens


def image_bias(image: Tokens) -> Tensor | None:
    """What attention over an image's tokens adds to its logits. No token of an image is padding, so there is nothing to
    hide; a bias of zeros would cost the fastest kernels."""
    weights = image.weights
    return None if weights is None else attention.key_bias(image.mask, image.states.dtype, weights)


def reduce_image(
    image: Tokens,
    step: SiteReducers | None,
    q: Tensor,
    k: Tensor,
    bias: Tensor | None,
    trace: Trace,
    probe: Callable[[Tokens, SiteReducers], Tensor] | None = None,
) -> Tokens:
    """The tokens that are left, by the block's own queries and keys [B, H, N, D] (ToMe, section 3). `probe` is
    what makes an embedding of the tokens, and scores them where reducers ask for that, [B, N] float32."""
    if step is None:
        return image
    asked = None
    if step.score in ("cls_attention", "attention"):
        asked = attention.relevance(q[:, :, :1], k, bias, image.mask[:, :1])
    elif step.score == "column_attention":
        asked = attention.columns(q, k, bias, image.sizes)
    elif step.score is not None and probe is not None:
        asked = probe(image, step)
    return step.of_image(image.with_keys(k.mean(1).detach()), asked, trace)
