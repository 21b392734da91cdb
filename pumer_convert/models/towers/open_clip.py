"""CLIP under open_clip's names, which are OpenAI's: its weights and its open_clip_config.json as transformers has them;
nothing here reads a weight."""

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from math import isqrt
from typing import Any

from pumer_convert.errors import InputError
from pumer_convert.models.transforms import cropped, squashed
from pumer_convert.models.values import LAYERS, WHOLE, read_values, section, square, wrong
from pumer_convert.rules import setting
from pumer_convert.weights import RawCheckpoint, TensorSlice

MODEL, _PICTURES = "model_cfg", "preprocess_cfg"
LARGEST_ID = 2
"""transformers' `eos_token_id` of texts that end at their largest id."""
_OPENAI = ("input_resolution", "context_length", "vocab_size")
"""Numbers beside the weights in OpenAI's own files."""
_BLOCK = re.compile(r"(visual\.)?transformer\.resblocks\.(\d+)\.(.+)")
_PARTS = {
    **{f"ln_{i}.{kind}": f"layer_norm{i}.{kind}" for i in (1, 2) for kind in ("weight", "bias")},
    **{f"attn.out_proj.{kind}": f"self_attn.out_proj.{kind}" for kind in ("weight", "bias")},
    **{f"mlp.c_fc.{kind}": f"mlp.fc1.{kind}" for kind in ("weight", "bias")},
    **{f"mlp.c_proj.{kind}": f"mlp.fc2.{kind}" for kind in ("weight", "bias")},
}
_PLAIN = {
    "visual.class_embedding": "vision_model.embeddings.class_embedding",
    "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
    "visual.conv1.weight": "vision_model.embeddings.patch_embedding.weight",
    **{f"visual.ln_pre.{kind}": f"vision_model.pre_layrnorm.{kind}" for kind in ("weight", "bias")},
    **{f"visual.ln_post.{kind}": f"vision_model.post_layernorm.{kind}" for kind in ("weight", "bias")},
    "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
    **{f"ln_final.{kind}": f"text_model.final_layer_norm.{kind}" for kind in ("weight", "bias")},
    "logit_scale": "logit_scale",
}
_TURNED = {"visual.proj": "visual_projection.weight", "text_projection": "text_projection.weight"}
"""Products from the right there, linear layers here."""
SIGLIP = "visual.trunk.attn_pool.latent"
"""A weight that SigLIP has there, and no CLIP."""
OFF: dict[str, tuple[Any, ...]] = {
    **dict.fromkeys(("qk_norm", "scaled_cosine_attn", "scale_heads", "scale_attn_inner", "scale_attn"), (False,)),
    **dict.fromkeys(("scale_fc", "attentional_pool", "no_ln_pre", "embed_cls", "no_causal_mask"), (False,)),
    **dict.fromkeys(("timm_model_name", "hf_model_name", "ls_init_value", "init_logit_bias"), (None,)),
    **{"proj_bias": (False,), "proj_type": ("linear",), "block_type": (None, "default"), "tokenizer_mode": (None, "")},
}
"""Keys with the values that change nothing; any other asks for another network."""
_FREE = {
    *(
        "image_size",
        "norm_kwargs",
        "act_kwargs",
        "tokenizer_kwargs",
        "patch_dropout",
        "output_tokens",
        "pos_embed_type",
    ),
    *("final_ln_after_pool", "attn_pooler_queries", "attn_pooler_heads", "timm_model_pretrained", "timm_pool"),
    *("timm_proj", "timm_proj_bias", "timm_drop", "timm_drop_path", "hf_tokenizer_name", "hf_model_pretrained"),
    *("hf_proj_type", "hf_pooler_type", "pad_id", "vision_cfg", "text_cfg", "custom_text", "init_logit_scale"),
    "nonscalar_logit_scale",
}
"""Keys that are read elsewhere, or that mean nothing for such a network."""
NOTE = "Texts are read by the tokenizer alone, without open_clip's mending of broken Unicode and HTML before it."


@dataclass(frozen=True)
class _Model:
    embed_dim: int = setting(0, int, least=1, most=WHOLE)
    quick_gelu: bool = setting(False, bool)


@dataclass(frozen=True)
class _Tower:
    layers: int = setting(12, int, least=1, most=LAYERS)
    width: int = setting(768, int, least=1, most=WHOLE)
    mlp_ratio: float = setting(4.0, float, above=True, most=64)


@dataclass(frozen=True)
class _Vision(_Tower):
    head_width: int = setting(64, int, least=1, most=WHOLE)
    pool_type: str = setting("tok", words=("tok",))


@dataclass(frozen=True)
class _Text(_Tower):
    width: int = setting(512, int, least=1, most=WHOLE)
    heads: int = setting(8, int, least=1, most=WHOLE)
    context_length: int = setting(77, int, least=2, most=WHOLE)
    vocab_size: int = setting(49408, int, least=1, most=WHOLE)
    pool_type: str = setting("argmax", words=("argmax", "eos"))
    eos_id: int = setting(LARGEST_ID, int, most=WHOLE)


@dataclass(frozen=True)
class Renamed:
    """Such a checkpoint: transformers' `config` and `slices` by its names, and the values of the `processor`."""

    config: dict[str, Any]
    slices: dict[str, TensorSlice]
    processor: dict[str, Any]


def renamed(raw: RawCheckpoint) -> Renamed | None:
    """A CLIP under open_clip's names, None for other weights. Raises InputError for a tower that is no plain vision
    transformer, for a value that asks for another network, and where nothing says how the weights are used."""
    names = raw.source.names()
    if SIGLIP in names:
        return None
    inner = "text." if "text.token_embedding.weight" in names else ""
    if f"{inner}token_embedding.weight" not in names or not any(name.startswith("visual.") for name in names):
        return None
    if "visual.conv1.weight" not in names or "visual.class_embedding" not in names:
        kind = "of timm" if any(name.startswith("visual.trunk.") for name in names) else "that is no vision transformer"
        raise InputError(
            f"{raw.path}: a CLIP of open_clip with a tower {kind}, which is not supported; take the checkpoint as "
            "transformers saves it, where there is one."
        )
    told = raw.hints if MODEL in raw.hints else _of_openai(raw)
    if told is None:
        raise InputError(
            f"{raw.path}: the weights of a CLIP of open_clip, and no open_clip_config.json beside them whose model_cfg "
            "says quick_gelu and the heads, and whose preprocess_cfg how pictures are prepared; put it there."
        )
    slices: dict[str, TensorSlice] = {}
    for name in names:
        if name not in _OPENAI and not name.endswith(("attn_mask", "position_ids")):
            slices |= new_names(name, name.removeprefix(inner), raw.source.shape(name))
    return Renamed(_config(told, raw.path), slices, processor(told, raw.path))


def new_names(key: str, name: str, shape: tuple[int, ...]) -> Iterator[tuple[str, TensorSlice]]:
    """What the weight under a `key`, which OpenAI calls `name`, holds: transformers' names, and where each lies."""
    if name in _TURNED:
        yield _TURNED[name], TensorSlice(key, turned=True)
    elif (found := _BLOCK.fullmatch(name)) is not None:
        stack = f"{'vision' if found[1] else 'text'}_model.encoder.layers.{found[2]}"
        if found[3].startswith("attn.in_proj_"):
            yield from thirds(key, stack, found[3].removeprefix("attn.in_proj_"), shape)
        else:
            yield f"{stack}.{_PARTS.get(found[3], found[3])}", TensorSlice(key)
    else:  # one that is not known is reported as unexpected
        yield _PLAIN.get(name, name), TensorSlice(key)


def thirds(key: str, stack: str, kind: str, shape: tuple[int, ...]) -> Iterator[tuple[str, TensorSlice]]:
    """What the weight or bias, by `kind`, of query, key and value behind one another holds, of the block `stack`."""
    third = shape[0] // 3
    for i, part in enumerate("qkv"):
        yield f"{stack}.self_attn.{part}_proj.{kind}", TensorSlice(key, (i * third, (i + 1) * third))


def _of_openai(raw: RawCheckpoint) -> Mapping[str, Any] | None:
    """The config of OpenAI's own file, by its shapes: heads of 64, and quick GELU; None for another file."""
    if not all(name in raw.source.names() for name in _OPENAI):
        return None
    shape = raw.source.shape
    blocks = [found for name in raw.source.names() if (found := _BLOCK.fullmatch(name)) is not None]
    layers = [1 + max(int(found[2]) for found in blocks if bool(found[1]) == visual) for visual in (True, False)]
    width, patch = shape("visual.conv1.weight")[0], shape("visual.conv1.weight")[2]
    words, text = shape("token_embedding.weight")
    side = patch * isqrt(shape("visual.positional_embedding")[0] - 1)
    own = {"image_size": side, "layers": layers[0], "width": width, "patch_size": patch}
    texts = {"context_length": shape("positional_embedding")[0], "vocab_size": words, "width": text}
    texts |= {"heads": text // 64, "layers": layers[1]}
    model = {"embed_dim": shape("text_projection")[1], "quick_gelu": True, "vision_cfg": own, "text_cfg": texts}
    return {MODEL: model}


def _config(told: Mapping[str, Any], where: object) -> dict[str, Any]:
    model = section(told, MODEL, where)
    parts = {f"{tower}_cfg": section(model, f"{tower}_cfg", where) for tower in ("vision", "text")}
    for prefix, cls, values in (
        (f"{MODEL}.", _Model, model),
        (f"{MODEL}.vision_cfg.", _Vision, parts["vision_cfg"]),
        (f"{MODEL}.text_cfg.", _Text, parts["text_cfg"]),
    ):
        check_keys(values, {*cls.__dataclass_fields__, "patch_size"}, where, prefix)
    own = _Model(**read_values(_Model, model, where, f"{MODEL}."))
    clean = options(parts["text_cfg"], "tokenizer_kwargs", ("clean",), where, f"{MODEL}.text_cfg.").get("clean")
    if clean not in (None, "whitespace", "lower"):
        raise wrong(where, f"{MODEL}.text_cfg.tokenizer_kwargs.clean", clean, "texts are not cleaned so here")
    vision = _Vision(**read_values(_Vision, parts["vision_cfg"], where, f"{MODEL}.vision_cfg."))
    text = _Text(**read_values(_Text, parts["text_cfg"], where, f"{MODEL}.text_cfg."))
    if vision.width % vision.head_width:
        why = f"width, {vision.width}, is no multiple of it"
        raise wrong(where, f"{MODEL}.vision_cfg.head_width", vision.head_width, why)
    towers = {
        key: {
            "hidden_size": tower.width,
            "intermediate_size": int(tower.width * tower.mlp_ratio),
            "num_hidden_layers": tower.layers,
            "projection_dim": own.embed_dim,
            **functions(parts[key], own.quick_gelu, where, f"{MODEL}.{key}."),
        }
        for key, tower in (("vision_cfg", vision), ("text_cfg", text))
    }
    towers["vision_cfg"] |= {
        "image_size": square(parts["vision_cfg"], "image_size", 224, where),
        "patch_size": square(parts["vision_cfg"], "patch_size", 16, where),
        "num_attention_heads": vision.width // vision.head_width,
    }
    towers["text_cfg"] |= {
        "max_position_embeddings": text.context_length,
        "vocab_size": text.vocab_size,
        "num_attention_heads": text.heads,
        "eos_token_id": text.eos_id if text.pool_type == "eos" else LARGEST_ID,
    }
    return {
        "projection_dim": own.embed_dim,
        "vision_config": towers["vision_cfg"],
        "text_config": towers["text_cfg"],
    }


def functions(values: Mapping[str, Any], quick: bool, where: object, prefix: str) -> dict[str, Any]:
    """The activation and the norms of a tower."""
    norm = options(values, "norm_kwargs", ("eps",), where, prefix)
    act = options(values, "act_kwargs", () if quick else ("approximate",), where, prefix)
    gelu = {"none": "gelu", "tanh": "gelu_pytorch_tanh"}.get(act.get("approximate", "none"))
    if gelu is None:
        raise wrong(where, f"{prefix}act_kwargs.approximate", act["approximate"], "allowed: none, tanh")
    return {"hidden_act": "quick_gelu" if quick else gelu, "layer_norm_eps": norm.get("eps", 1e-5)}


def options(
    values: Mapping[str, Any], key: str, known: Collection[str], where: object, prefix: str
) -> Mapping[str, Any]:
    """The object under a key, {} for none, that says nothing but what is `known`."""
    given = values.get(key) or {}
    if not isinstance(given, Mapping) or set(given) - set(known):
        raise wrong(where, prefix + key, given, f"allowed: {', '.join(known) or 'nothing'}")
    return given


def check_keys(
    values: Mapping[str, Any],
    known: Collection[str],
    where: object,
    prefix: str,
    asked: Mapping[str, tuple[Any, ...]] = OFF,
) -> None:
    """Raises InputError for a key that is not `known` and means something, and for one of those that are `asked` to
    have certain values with another."""
    for key, value in values.items():
        if key in asked:
            if value not in asked[key]:
                raise wrong(where, prefix + key, value, "a model with that is not supported")
        elif key not in known and key not in _FREE:
            raise wrong(where, prefix + key, value, "that key is not known here, and may change the answers; remove it")


def processor(told: Mapping[str, Any], where: object) -> dict[str, Any]:
    """How pictures become pixels: as the config says, at the size that the model takes."""
    known = ("size", "mode", "mean", "std", "interpolation", "resize_mode", "fill_color")
    given = options(told, _PICTURES, known, where, "")
    allowed = {
        "mode": ("RGB",),
        "interpolation": ("bicubic", "bilinear", "random"),  # which is bicubic outside of training
        "resize_mode": ("shortest", "squash"),
    }
    values = {key: given.get(key) or words[0] for key, words in allowed.items()}
    for key, words in allowed.items():
        if values[key] not in words:
            raise wrong(where, f"{_PICTURES}.{key}", values[key], f"allowed: {', '.join(words)}")
    side = square(section(section(told, MODEL, where), "vision_cfg", where), "image_size", 224, where)
    made = (squashed if values["resize_mode"] == "squash" else cropped)(side, given.get("mean"), given.get("std"))
    return made | {"resample": 2 if values["interpolation"] == "bilinear" else 3}
