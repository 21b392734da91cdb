"""SigLIP as open_clip saves it: a tower of timm for pictures, and one of open_clip's own for texts."""

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pumer_convert.errors import InputError
from pumer_convert.models.towers import open_clip
from pumer_convert.models.towers.open_clip import MODEL, OFF, SIGLIP, Renamed
from pumer_convert.models.values import LAYERS, WHOLE, read_values, section, square, wrong
from pumer_convert.rules import setting
from pumer_convert.weights import NESTED_PROCESSOR, PROCESSOR, RawCheckpoint, TensorSlice, TensorSource

if TYPE_CHECKING:
    from torch import Tensor

_TIMM = re.compile(r"vit_(base|large|so400m|giantopt)_patch(\d+)_siglip_(\d+)(\.\w+)?")
_HEADS = {"base": 12, "large": 16, "so400m": 16, "giantopt": 16}
_TANH = re.compile(r"vit_(base_patch32_|large_patch16_siglip_512|so400m_patch16_|giantopt_)")
"""Towers whose GELU timm computes by its approximation; the others' is exact."""
_WANTED: dict[str, dict[str, Any]] = {
    "vision": {"timm_pool": "map", "timm_proj": "none"},
    "text": {"pool_type": "last", "no_causal_mask": True, "proj_bias": True},
}
_ELSE = {"timm_model_name", "init_logit_bias", *(key for wanted in _WANTED.values() for key in wanted)}
"""Keys that a CLIP must not say, or says otherwise."""
_ASKED = {key: values for key, values in OFF.items() if key not in _ELSE}
_ASKED |= dict.fromkeys(("quick_gelu", "use_pad_mask"), (False,))
_UNUSED = {"head_width", "patch_size", "correct_cls_mask"}
"""Keys of towers that are not timm's, and of texts with a CLS."""
_HEAD = "vision_model.head."
_VISION = {
    "patch_embed.proj": "embeddings.patch_embedding",
    "norm": "post_layernorm",
    **{"attn_pool.proj": "head.attention.out_proj", "attn_pool.norm": "head.layernorm"},
    **{f"attn_pool.mlp.fc{i}": f"head.mlp.fc{i}" for i in (1, 2)},
}
_BLOCKS = {
    **{"norm1": "layer_norm1", "norm2": "layer_norm2", "attn.proj": "self_attn.out_proj"},
    **{"mlp.fc1": "mlp.fc1", "mlp.fc2": "mlp.fc2"},
}
NOTE = (
    "open_clip cleans a text before its tokenizer sees it (HTML, underscores, punctuation, capitals), so the tokenizer "
    "there is left. Those of transformers that --tokenizer FOLDER takes clean less: SigLIP's drops punctuation and "
    "capitals as well, SigLIP 2's capitals alone."
)


@dataclass(frozen=True)
class _Text:
    layers: int = setting(12, int, least=1, most=LAYERS)
    width: int = setting(512, int, least=1, most=WHOLE)
    heads: int = setting(8, int, least=1, most=WHOLE)
    mlp_ratio: float = setting(4.0, float, above=True, most=64)
    context_length: int = setting(77, int, least=2, most=WHOLE)
    vocab_size: int = setting(49408, int, least=1, most=WHOLE)


@dataclass(frozen=True)
class _Joined:
    """A source in which some tensors are several of the `source` behind one another, in a shape of their own."""

    source: TensorSource
    parts: Mapping[str, tuple[tuple[str, ...], tuple[int, ...]]]

    def names(self) -> list[str]:
        taken = {key for keys, _ in self.parts.values() for key in keys}
        return [*(name for name in self.source.names() if name not in taken), *self.parts]

    def shape(self, name: str) -> tuple[int, ...]:
        return self.parts[name][1] if name in self.parts else self.source.shape(name)

    def dtype(self, name: str) -> str:
        return self.source.dtype(self.parts[name][0][0] if name in self.parts else name)

    def files(self) -> tuple[Path, ...]:
        return self.source.files()

    @contextmanager
    def reader(self) -> "Iterator[Callable[[str], Tensor]]":
        with self.source.reader() as read:

            def joined(name: str) -> "Tensor":
                if name not in self.parts:
                    return read(name)
                import torch

                keys, shape = self.parts[name]
                return torch.cat([read(key).flatten() for key in keys]).reshape(shape)

            yield joined


def renamed(raw: RawCheckpoint) -> tuple[RawCheckpoint, Renamed, tuple[str, ...]] | None:
    """The checkpoint with its tensors as transformers has them, what they are called there, and sentences on what was
    left; None for other weights. Raises InputError for a value that asks for another network, and where nothing says
    how the weights are used."""
    names = raw.source.names()
    if SIGLIP not in names:
        return None
    if MODEL not in raw.hints:
        raise InputError(
            f"{raw.path}: the weights of a SigLIP of open_clip, and no open_clip_config.json beside them whose "
            "model_cfg says the heads, and whose preprocess_cfg how pictures are prepared; put it there."
        )
    source = _as_one(raw.source)
    inner = "text." if "text.token_embedding.weight" in names else ""
    slices: dict[str, TensorSlice] = {}
    for name in source.names():
        slices |= _new_names(name, name.removeprefix(inner), source)
    folder = raw.path if raw.path.is_dir() else raw.path.parent
    given = tuple(file for file in raw.companions if file.parent != folder)
    left = {file.name for file in raw.companions if file not in given} - {PROCESSOR, NESTED_PROCESSOR}
    notes = (NOTE,) if left else ()
    found = Renamed(_config(raw), slices, open_clip.processor(raw.hints, raw.path))
    return replace(raw, source=source, companions=given), found, notes


def _as_one(source: TensorSource) -> TensorSource:
    """The source with what transformers has as one tensor, or in another shape, under its name there."""
    names, pool = set(source.names()), "visual.trunk.attn_pool."
    parts: dict[str, tuple[tuple[str, ...], tuple[int, ...]]] = {}
    for kind in ("weight", "bias"):
        keys = tuple(f"{pool}{part}.{kind}" for part in ("q", "kv"))
        if names.issuperset(keys):
            first, second = (source.shape(key) for key in keys)
            parts[f"{_HEAD}attention.in_proj_{kind}"] = keys, (first[0] + second[0], *first[1:])
    if (table := "visual.trunk.pos_embed") in names:
        parts["vision_model.embeddings.position_embedding.weight"] = (table,), source.shape(table)[-2:]
    for number in names & {"logit_scale", "logit_bias"}:
        parts[number] = (number,), (prod(source.shape(number)),)
    return _Joined(source, parts)


def _new_names(key: str, name: str, source: TensorSource) -> Iterator[tuple[str, TensorSlice]]:
    """What the weight under `key`, of a tower by itself `name`, holds: transformers' names, and where each lies."""
    stem, _, kind = name.rpartition(".")
    if name.startswith("visual.trunk."):
        stem = stem.removeprefix("visual.trunk.")
        number, _, part = stem.removeprefix("blocks.").partition(".")
        stack = f"vision_model.encoder.layers.{number}"
        if key == SIGLIP:
            yield f"{_HEAD}probe", TensorSlice(key)
        elif part == "attn.qkv":
            yield from open_clip.thirds(key, stack, kind, source.shape(key))
        elif stem.startswith("blocks."):
            yield f"{stack}.{_BLOCKS.get(part, part)}.{kind}", TensorSlice(key)
        else:
            yield f"vision_model.{_VISION.get(stem, stem)}.{kind}", TensorSlice(key)
    elif stem == "text_projection":
        yield f"text_model.head.{kind}", TensorSlice(key)
    else:
        yield from open_clip.new_names(key, name, source.shape(key))


def _config(raw: RawCheckpoint) -> dict[str, Any]:
    """transformers' config of the whole model; what timm's name stands for is told by the shapes of weights."""
    where, prefix, source = raw.path, f"{MODEL}.", raw.source
    model = section(raw.hints, MODEL, where)
    parts = {tower: section(model, f"{tower}_cfg", where) for tower in _WANTED}
    known = {"embed_dim", *_Text.__dataclass_fields__, *_ELSE, *_UNUSED}
    open_clip.check_keys(model, known, where, prefix, _ASKED)
    for tower, wanted in _WANTED.items():
        open_clip.check_keys(parts[tower], known, where, f"{prefix}{tower}_cfg.", _ASKED)
        for key, value in wanted.items():
            if (told := parts[tower].get(key)) != value:
                raise wrong(where, f"{prefix}{tower}_cfg.{key}", told, f"a SigLIP has {str(value).lower()}")
    text = _Text(**read_values(_Text, parts["text"], where, f"{prefix}text_cfg."))
    name = parts["vision"].get("timm_model_name")
    found = _TIMM.fullmatch(name) if isinstance(name, str) else None
    if found is None:
        raise wrong(where, f"{prefix}vision_cfg.timm_model_name", name, "it is no tower of a SigLIP that is known here")
    width, blocks = source.shape(SIGLIP)[-1], "visual.trunk.blocks."
    if model.get("embed_dim") != width:
        raise wrong(where, f"{prefix}embed_dim", model.get("embed_dim"), f"its tower of pictures has {width}")
    numbers = {name.removeprefix(blocks).split(".")[0] for name in source.names() if name.startswith(blocks)}
    inner = "visual.trunk.attn_pool.mlp.fc1.weight"
    vision = {
        "hidden_size": width,
        "intermediate_size": source.shape(inner)[0] if inner in source.names() else 4 * width,
        "num_hidden_layers": len(numbers),
        "num_attention_heads": _HEADS[found[1]],
        "patch_size": int(found[2]),
        "image_size": square(parts["vision"], "image_size", 224, where),
        "hidden_act": "gelu_pytorch_tanh" if _TANH.match(found[0]) else "gelu",
        "layer_norm_eps": 1e-6,
    }
    texts = {
        "hidden_size": text.width,
        "intermediate_size": int(text.width * text.mlp_ratio),
        "num_hidden_layers": text.layers,
        "num_attention_heads": text.heads,
        "max_position_embeddings": text.context_length,
        "vocab_size": text.vocab_size,
        "projection_size": width,
        **open_clip.functions(parts["text"], False, where, f"{prefix}text_cfg."),
    }
    return {"vision_config": vision, "text_config": texts}
