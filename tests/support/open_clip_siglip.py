"""Tiny SigLIP checkpoints as open_clip saves them, with timm's tower: transformers' own, under those names."""

import json
from pathlib import Path
from typing import Any

import tiny_siglip
import torch
from safetensors.torch import load_file, save_file

NAME = "open_clip_model.safetensors"
VISION = {"hidden_size": 48, "intermediate_size": 96, "num_attention_heads": 12, "patch_size": 16, "hidden_act": "gelu"}
TEXT = {"hidden_act": "gelu", "projection_size": 48, "max_position_embeddings": 16}
CONFIG: dict[str, Any] = {
    "model_cfg": {
        "embed_dim": 48,
        "init_logit_bias": -10,
        "custom_text": True,
        "vision_cfg": {
            "image_size": 48,
            "timm_model_name": "vit_base_patch16_siglip_224",
            "timm_model_pretrained": False,
            "timm_pool": "map",
            "timm_proj": "none",
        },
        "text_cfg": {
            **{"context_length": 16, "vocab_size": 99, "width": 48, "heads": 4, "layers": 3, "mlp_ratio": 2.0},
            "hf_tokenizer_name": "timm/ViT-B-16-SigLIP",
            "tokenizer_kwargs": {"clean": "canonicalize"},
            **{"no_causal_mask": True, "proj_bias": True, "pool_type": "last", "norm_kwargs": {"eps": 1e-6}},
        },
    },
    "preprocess_cfg": {
        "size": [48, 48],
        "mode": "RGB",
        "mean": [0.5, 0.5, 0.5],
        "std": [0.5, 0.5, 0.5],
        "interpolation": "bicubic",
        "resize_mode": "squash",
        "fill_color": 0,
    },
}
"""Of what `dense` makes, as the published ones say it."""
_VISION = {
    "embeddings.patch_embedding": "patch_embed.proj",
    "post_layernorm": "norm",
    "head.attention.out_proj": "attn_pool.proj",
    "head.layernorm": "attn_pool.norm",
    **{f"head.mlp.fc{i}": f"attn_pool.mlp.fc{i}" for i in (1, 2)},
}
_BLOCKS = {"layer_norm1": "norm1", "layer_norm2": "norm2", "self_attn.out_proj": "attn.proj"}
_WORDS = {
    **{"layer_norm1": "ln_1", "layer_norm2": "ln_2", "self_attn.out_proj": "attn.out_proj"},
    **{"mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj"},
}
_TEXT = {"embeddings.token_embedding": "token_embedding", "final_layer_norm": "ln_final", "head": "text_projection"}


def dense(out: Path, **vision: Any) -> Path:
    """The folder of transformers' that `write` renames."""
    return tiny_siglip.write(out, text=TEXT, vision={**VISION, **vision})


def state(folder: Path) -> dict[str, torch.Tensor]:
    """The weights of a transformers folder under open_clip's and timm's names."""
    theirs, found = load_file(folder / "model.safetensors"), {}
    for name, value in theirs.items():
        tower, _, rest = name.partition(".")
        stem, kind = rest.rpartition(".")[::2]
        vision = tower == "vision_model"
        if tower in ("logit_scale", "logit_bias"):
            found[tower] = value.squeeze()
        elif rest == "embeddings.position_embedding.weight":
            found["visual.trunk.pos_embed" if vision else "text.positional_embedding"] = (
                value[None] if vision else value
            )
        elif rest == "head.probe":
            found["visual.trunk.attn_pool.latent"] = value
        elif stem == "head.attention":
            c = value.shape[0] // 3
            kind = kind.removeprefix("in_proj_")
            found[f"visual.trunk.attn_pool.q.{kind}"] = value[:c].clone()
            found[f"visual.trunk.attn_pool.kv.{kind}"] = value[c:].clone()
        elif stem.startswith("encoder.layers."):
            number, _, part = stem.removeprefix("encoder.layers.").partition(".")
            block = f"visual.trunk.blocks.{number}" if vision else f"text.transformer.resblocks.{number}"
            if part == "self_attn.q_proj":
                packed = torch.cat([theirs[f"{name[: -len(kind) - 7]}{which}_proj.{kind}"] for which in "qkv"])
                found[f"{block}.attn.qkv.{kind}" if vision else f"{block}.attn.in_proj_{kind}"] = packed
            elif part not in ("self_attn.k_proj", "self_attn.v_proj"):
                found[f"{block}.{(_BLOCKS if vision else _WORDS).get(part, part)}.{kind}"] = value
        else:
            found[f"visual.trunk.{_VISION[stem]}.{kind}" if vision else f"text.{_TEXT[stem]}.{kind}"] = value
    return found


def write(out: Path, folder: Path, **changed: Any) -> Path:
    """The SigLIP in a `folder` of transformers' as one of open_clip's, with its tokenizer. Gives `out`."""
    out.mkdir()
    tiny_siglip.write_gemma(out)
    save_file(state(folder), out / NAME)
    (out / "open_clip_config.json").write_text(json.dumps({**CONFIG, **changed}))
    return out
