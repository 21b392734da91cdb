"""Tiny CLIP+FDTs as their training saves them: a file of a state dict under DDP's names with the optimizer beside it,
the training's config a folder above, and CLIP's merges beside that."""

import gzip
import json
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

MERGES = ("t h", "th e</w>", "c a", "ca t</w>", "r e", "re d</w>", "s t", "st a", "sta r</w>")
WORDS = 512 + len(MERGES) + 3
CODES, D = 300, 32
VISION = {"input_resolution": 48, "patch_size": 8, "width": 64, "layers": 4, "heads": 4}
TEXT = {"context_length": 77, "transformer_width": 48, "transformer_layers": 3, "transformer_heads": 4}
STEP = 40


def config(fdt: Mapping[str, Any], decay: Mapping[str, Any]) -> dict[str, Any]:
    """What the training writes before it begins."""
    text = {"bpe_path": "text_info/bpe_simple_vocab_16e6.txt.gz", "text_encode_type": "Transformer"}
    book = {"sd_temperature": 1000, "att_func_type": "sparsemax", "pool_type": "max", "use_allgather": True}
    sizes = {"sd_num": CODES, "sd_dim": D, "raw_img_ft_dim": 64, "raw_txt_ft_dim": 48}
    kwargs = {
        "image_encode": {"embed_dim": D, **VISION},
        "text_encode": {**text, "text_model_utils": {"random": False, "freeze": False}, "embed_dim": D, **TEXT},
        "fdt": {**book, **sizes, **fdt},
    }
    falls = {"org_t": 16, "sd_T_decay_iter": 30, "sd_T_decay_w": 0.5, "sd_T_min": 0.01, **decay}
    return {"model": {"type": "clip_fdt_vitb32", "kwargs": kwargs}, "t_decay": falls, "saver": {"save_many": True}}


def _block(c: int) -> dict[str, tuple[int, ...]]:
    return {
        "attn.in_proj_weight": (3 * c, c),
        "attn.in_proj_bias": (3 * c,),
        **{f"{name}.weight": shape for name, shape in (("attn.out_proj", (c, c)), ("ln_1", (c,)))},
        **{f"{name}.bias": (c,) for name in ("attn.out_proj", "ln_1")},
        **{"mlp.c_fc.weight": (4 * c, c), "mlp.c_fc.bias": (4 * c,)},
        **{"mlp.c_proj.weight": (c, 4 * c), "mlp.c_proj.bias": (c,), "ln_2.weight": (c,), "ln_2.bias": (c,)},
    }


def shapes() -> dict[str, tuple[int, ...]]:
    """The names and shapes of the original's weights."""
    c, t, patches = 64, 48, 36
    found: dict[str, tuple[int, ...]] = {"space_dict": (CODES, D), "logit_scale": (1,), "logit_scale_sd": (1,)}
    found |= {"visual.class_embedding": (c,), "visual.positional_embedding": (patches + 1, c), "visual.proj": (c, D)}
    found |= {"visual.conv1.weight": (c, 3, 8, 8)}
    found |= {f"visual.{name}.{kind}": (c,) for name in ("ln_pre", "ln_post") for kind in ("weight", "bias")}
    for start, width, layers in (("visual.", c, 4), ("encode_text.", t, 3)):
        for i in range(layers):
            found |= {f"{start}transformer.resblocks.{i}.{name}": shape for name, shape in _block(width).items()}
    text = {"positional_embedding": (77, t), "token_embedding.weight": (WORDS, t), "ln_final.weight": (t,)}
    text |= {"ln_final.bias": (t,), "text_projection.weight": (D, t), "text_projection.bias": (D,)}
    found |= {f"encode_text.{name}": shape for name, shape in text.items()}
    for side, width in (("img", c), ("txt", t)):
        for i, shape in ((0, (width,)), (1, (D, width)), (3, (D,)), (4, (D, D))):
            found |= {f"{side}_query_model.q_map.{i}.weight": shape, f"{side}_query_model.q_map.{i}.bias": shape[:1]}
    return found


def weights(seed: int = 0) -> dict[str, Tensor]:
    """Random ones of some size, by the original's names."""
    generator = torch.Generator().manual_seed(seed)
    found = {}
    for name, shape in sorted(shapes().items()):
        drawn = torch.randn(shape, generator=generator)
        if "logit_scale" in name:
            drawn = torch.full((1,), 3.0)
        elif len(shape) == 1 and "class" not in name:
            drawn = drawn * 0.1 + (".weight" in name)  # the norms
        elif "embedding" in name:
            drawn = drawn * 0.5
        elif name != "space_dict":
            fan = shape[0] if name == "visual.proj" else drawn[0].numel()
            drawn = drawn * 1.2 / fan**0.5
        found[name] = drawn
    return found


def write(
    run: Path,
    *,
    fdt: Mapping[str, Any] | None = None,
    decay: Mapping[str, Any] | None = None,
    state: Mapping[str, Tensor] | None = None,
    dtype: torch.dtype = torch.float32,
    step: int = STEP,
) -> Path:
    """The folder of a run, whose config says otherwise what `fdt` and `decay` say. Gives the file of its weights."""
    (run / "checkpoints").mkdir(parents=True)
    (run / "config.json").write_text(json.dumps(config(fdt or {}, decay or {})))
    lines = ['"bpe_simple_vocab_16e6.txt#version: 0.2', *MERGES]
    (run / "bpe_simple_vocab_16e6.txt.gz").write_bytes(gzip.compress("\n".join(lines).encode(), mtime=0))
    named = OrderedDict((f"module.{name}", value.to(dtype)) for name, value in (state or weights()).items())
    one = torch.nn.Parameter(torch.zeros(3))
    one.grad = torch.ones(3)
    optimizer = torch.optim.AdamW([one])
    optimizer.step()
    file = run / "checkpoints" / f"ckpt_{step}.pth.tar"
    torch.save({"last_iter": step, "model": named, "optimizer": optimizer.state_dict()}, file)
    return file


TEXTS = ("the red star", "a cat!", "the cat and the star are red, and so is the cat " * 3, "")
"""Of words that the merges know and others, one too long for the tower, and none."""


def pixels() -> Tensor:
    """Of three pictures, [3, 3, 48, 48]."""
    return torch.randn(3, 3, 48, 48, generator=torch.Generator().manual_seed(7))
