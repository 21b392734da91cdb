"""Attention, fused; and beside it the little that reducers ask of it."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from pumer_convert.models.precision import like

HIDDEN = -1e4
"""Added to the logit of a masked key. exp(-1e4) is 0 in every type, and no row can become undefined."""


def split_heads(x: Tensor, heads: int) -> Tensor:
    """[B, N, C] -> [B, H, N, C / H]."""
    return x.reshape(x.shape[0], x.shape[1], heads, x.shape[2] // heads).transpose(1, 2)


def join_heads(x: Tensor) -> Tensor:
    """[B, H, N, D] -> [B, N, H * D]."""
    x = x.transpose(1, 2)
    if torch.onnx.is_in_onnx_export():
        # The exporter rewrites attention into a form with other strides, whose view it then cannot prove.
        x = x.clone(memory_format=torch.contiguous_format)
    return x.flatten(2)


def key_bias(mask: Tensor, dtype: torch.dtype, weights: Tensor | None = None) -> Tensor:
    """What is added to attention logits, [B, 1, 1, N]: hides padding; with `weights` [B, N], the sizes of the tokens,
    also their logarithms, so that a merged token counts as often as the tokens in it (proportional attention; ToMe,
    equation 1)."""
    exact = torch.promote_types(dtype, torch.float32)
    bias = (1.0 - mask.to(exact)) * HIDDEN
    if weights is not None:
        bias = bias + weights.to(exact).log()
    return bias.to(dtype)[:, None, None, :]


def causal_bias(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """The same for a text in which no token sees a later one, [B, 1, N, N]."""
    place = torch.arange(mask.shape[1], device=mask.device)
    later = (place[None, :] > place[:, None]).to(dtype) * HIDDEN
    return key_bias(mask, dtype) + later


def fused(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, dropout: float = 0.0) -> Tensor:
    """Scaled dot-product attention [B, H, M, D] by torch's fused kernels; `dropout`: of the probabilities."""
    bias = None if bias is None else like(bias, q)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=bias, dropout_p=dropout)


def reference(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Attention with the masked softmax of the published PuMer code: its output and its probabilities [B, H, M, N].

    exp in float32 times the (perhaps fractional) `mask` [B, N], key j always visible to query j, and
    (e + eps / N) / (sum + eps) with eps 1e-6.
    """
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])
    scores = scores - scores.amax(-1, keepdim=True)
    m, n = scores.shape[-2:]
    diagonal = torch.arange(m, device=q.device)[:, None] == torch.arange(n, device=q.device)[None, :]
    visible = torch.where(diagonal, 1.0, mask.to(torch.float32)[:, None, None, :])
    weights = scores.to(torch.float32).exp() * visible
    eps = 1e-6
    probabilities = ((weights + eps / n) / (weights.sum(-1, keepdim=True) + eps)).to(q.dtype)
    return probabilities @ v, probabilities


def relevance(q: Tensor, k: Tensor, bias: Tensor | None, rows: Tensor) -> Tensor:
    """How much attention the queries marked in `rows` [B, M] pay to each key: [B, N] float32.

    Sum over rows of the mean over heads of the attention probabilities (PuMer, equation 1), computed from `q`
    [B, H, M, D] of the text alone (or of any few tokens) and `k` [B, H, N, D], in float32 and without a gradient.
    """
    q, k = q.detach().float(), k.detach().float()
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])
    if bias is not None:
        scores = scores + bias.float()
    return (scores.softmax(-1).mean(1) * rows.to(torch.float32)[:, :, None]).sum(1)


def columns(q: Tensor, k: Tensor, bias: Tensor | None, sizes: Tensor) -> Tensor:
    """The same of the queries of all tokens, [B, N] float32, each counted as often as there are tokens in it, `sizes`
    [B, N] (the score of VisionZip, section 3.2, where there is no CLS). One head after the other: a map of all of them
    would take gigabytes of 4096 patches."""
    heads = (slice(i, i + 1) for i in range(q.shape[1]))
    found = [relevance(q[:, head], k[:, head], bias, sizes) for head in heads]
    return torch.stack(found).mean(0)
