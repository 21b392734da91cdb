"""A tiny Llama's language model as an ONNX graph with a cache, as runtimes of whole models take it.
Written out in standard operations, for transformers' own does not trace with a cache of any length."""

import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn


class _Cached(nn.Module):
    """inputs_embeds [B, T, D], attention_mask [B, P + T], position_ids [B, T] and a cache of P places for each layer
    -> logits [B, T, V] and the cache of P + T places."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        language = model.model.language_model
        self.layers, self.norm, self.head = language.layers, language.norm, model.lm_head
        self.config = model.config.text_config

    def forward(self, x: Tensor, mask: Tensor, positions: Tensor, *cache: Tensor) -> tuple[Tensor, ...]:
        config, kept = self.config, []
        width = config.hidden_size // config.num_attention_heads
        base = config.rope_parameters["rope_theta"]
        frequencies = 1 / base ** (torch.arange(0, width, 2, dtype=torch.float32) / width)
        angles = positions[..., None].float() * frequencies
        angles = torch.cat([angles, angles], -1)[:, None]
        cos, sin = angles.cos(), angles.sin()
        total, past = mask.shape[1], cache[0].shape[2]
        places = torch.arange(total)
        seen = (places[None, :] <= (places[past:])[:, None])[None, None] & (mask[:, None, None] > 0)
        bias = torch.where(seen, 0.0, -1e9)
        for i, layer in enumerate(self.layers):
            h, own = layer.input_layernorm(x), layer.self_attn
            q, k, v = (
                part(h).unflatten(-1, (-1, width)).transpose(1, 2) for part in (own.q_proj, own.k_proj, own.v_proj)
            )
            q, k = (part * cos + _turned(part) * sin for part in (q, k))
            k, v = torch.cat([cache[2 * i], k], 2), torch.cat([cache[2 * i + 1], v], 2)
            kept += [k, v]
            times = config.num_attention_heads // config.num_key_value_heads
            wide_k, wide_v = (part.repeat_interleave(times, 1) for part in (k, v))
            shares = torch.softmax(q @ wide_k.transpose(2, 3) / width**0.5 + bias, -1)
            x = x + own.o_proj((shares @ wide_v).transpose(1, 2).flatten(2))
            x = x + layer.mlp(layer.post_attention_layernorm(x))
        return (self.head(self.norm(x)), *kept)


def _turned(x: Tensor) -> Tensor:
    first, second = x.chunk(2, -1)
    return torch.cat([-second, first], -1)


def write_language(model: Any, out: Path, prefix: str = "past_key_values") -> list[str]:
    """The language model of a LLaVA of transformers as `out`; gives the names of its cache's inputs, of which the
    outputs have "present" for the first word."""
    config = model.config.text_config
    width, n = config.hidden_size // config.num_attention_heads, config.num_hidden_layers
    names = [f"{prefix}.{i}.{kind}" for i in range(n) for kind in ("key", "value")]
    cache = [torch.zeros(2, config.num_key_value_heads, 3, width) for _ in names]
    x = torch.zeros(2, 5, config.hidden_size)
    mask, positions = torch.ones(2, 8, dtype=torch.int64), torch.arange(3, 8).repeat(2, 1)
    d = torch.export.Dim.DYNAMIC
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter, to its developers
        program = torch.onnx.export(
            _Cached(model).eval().requires_grad_(False),
            (x, mask, positions, *cache),
            dynamo=True,
            opset_version=20,
            input_names=["inputs_embeds", "attention_mask", "position_ids", *names],
            output_names=["logits", *(name.replace(prefix, "present") for name in names)],
            dynamic_shapes=({0: d, 1: d}, {0: d, 1: d}, {0: d, 1: d}, tuple({0: d, 2: d} for _ in names)),
            verbose=False,
        )
    assert program is not None
    program.save(str(out))
    return names
