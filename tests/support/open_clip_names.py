"""Tiny CLIP checkpoints as open_clip saves them: transformers' own, under open_clip's names."""

import json
from pathlib import Path
from typing import Any

import tiny_clip
import torch
from safetensors.torch import load_file, save_file

CONFIG: dict[str, Any] = {
    "model_cfg": {
        "embed_dim": 24,
        "quick_gelu": True,
        "vision_cfg": {"image_size": 48, "layers": 4, "width": 64, "head_width": 16, "patch_size": 8, "mlp_ratio": 2},
        "text_cfg": {
            **{"context_length": 77, "vocab_size": 93, "width": 48, "heads": 4, "layers": 3, "mlp_ratio": 2.0},
            "hf_tokenizer_name": "openai/clip-vit-large-patch14",
        },
    },
    "preprocess_cfg": {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.4], "interpolation": "bicubic"},
}
"""Of what `tiny_clip` makes."""
_PLAIN = {
    "vision_model.embeddings.class_embedding": "visual.class_embedding",
    "vision_model.embeddings.patch_embedding.weight": "visual.conv1.weight",
    "vision_model.embeddings.position_embedding.weight": "visual.positional_embedding",
    "text_model.embeddings.token_embedding.weight": "token_embedding.weight",
    "text_model.embeddings.position_embedding.weight": "positional_embedding",
    "logit_scale": "logit_scale",
}
_STARTS = {
    "vision_model.pre_layrnorm": "visual.ln_pre",
    "vision_model.post_layernorm": "visual.ln_post",
    "text_model.final_layer_norm": "ln_final",
}
_PARTS = {
    **{"layer_norm1": "ln_1", "layer_norm2": "ln_2", "mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj"},
    "self_attn.out_proj": "attn.out_proj",
}


def state(folder: Path) -> dict[str, torch.Tensor]:
    """The weights of a transformers folder under open_clip's names."""
    theirs, found = load_file(folder / "model.safetensors"), {}
    for name, value in theirs.items():
        stem, kind = name.rpartition(".")[::2]
        tower, _, inside = stem.partition(".encoder.layers.")
        if name in _PLAIN:
            found[_PLAIN[name]] = value
        elif stem in _STARTS:
            found[f"{_STARTS[stem]}.{kind}"] = value
        elif name in ("visual_projection.weight", "text_projection.weight"):
            found["visual.proj" if "visual" in name else "text_projection"] = value.T.contiguous()
        else:
            number, _, part = inside.partition(".")
            block = f"{'visual.' if tower == 'vision_model' else ''}transformer.resblocks.{number}"
            if part == "self_attn.q_proj":
                packed = [theirs[f"{stem[:-6]}{which}_proj.{kind}"] for which in "qkv"]
                found[f"{block}.attn.in_proj_{kind}"] = torch.cat(packed)
            elif part in _PARTS:
                found[f"{block}.{_PARTS[part]}.{kind}"] = value
    return found


def write(out: Path, dense: Path, file: str = "open_clip_model.safetensors", **changed: Any) -> Path:
    """The CLIP in the folder `dense` as a folder of open_clip's, of whose config the `model_cfg` and so on say
    otherwise what they say. Gives `out`."""
    out.mkdir()
    tiny_clip.tokenizer().save_pretrained(out)
    weights = state(dense)
    if file.endswith(".safetensors"):
        save_file(weights, out / file)
    elif file.endswith(".bin"):
        torch.save(weights, out / file)
    else:
        module = {f"module.{name}": value for name, value in weights.items()}
        torch.save({"epoch": 3, "name": "run", "state_dict": module, "optimizer": {"state": {}}}, out / file)
    config = {**CONFIG, **changed}
    (out / "open_clip_config.json").write_text(json.dumps({key: config[key] for key in CONFIG}))
    return out
