"""Decoder VLMs that are known and left as they are: what their parts cost, and why nothing is reduced; torch-free."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pumer_convert.errors import InputError
from pumer_convert.models.towers.language import LanguageSettings
from pumer_convert.models.values import LAYERS, WHOLE, read_values, section, wrong
from pumer_convert.rules import setting

SIDE, PROMPT = 448, 64
"""Pixels of the picture and tokens of the prompt that costs are told of."""
NAMES = {"qwen2_5_vl": "Qwen2.5-VL", "qwen3_vl": "Qwen3-VL"}


@dataclass(frozen=True)
class _Tower:
    depth: int = setting(32, int, least=1, most=LAYERS)
    hidden_size: int = setting(1280, int, least=1, most=WHOLE)
    intermediate_size: int = setting(3420, int, least=1, most=WHOLE)
    patch_size: int = setting(14, int, least=1, most=SIDE)
    spatial_merge_size: int = setting(2, int, least=1, most=SIDE)
    temporal_patch_size: int = setting(2, int, least=1, most=WHOLE)
    window_size: int = setting(112, int, least=1, most=WHOLE)


_USUAL: dict[str, dict[str, int]] = {
    "qwen2_5_vl": {},
    "qwen3_vl": {"depth": 27, "hidden_size": 1152, "intermediate_size": 4304, "patch_size": 16},
}


def shares(config: Mapping[str, Any], where: object, side: int = SIDE, prompt: int = PROMPT) -> dict[str, float]:
    """What share of the multiply-accumulates before the first word of an answer each part of one of `NAMES` has, for a
    picture of `side` x `side` pixels and a prompt of so many tokens. Raises InputError for a config that does not
    tell."""
    kind = config["model_type"]
    values = section({**config, "vision_config": config.get("vision_config") or {}}, "vision_config", where)
    found = _Tower(**read_values(_Tower, {**_USUAL[kind], **values}, where, "vision_config."))
    text = config.get("text_config") or config  # files of before transformers 4.50 have it flat
    language = LanguageSettings.read({"text_config": {**text, "model_type": kind}}, kind, where)
    c, height, unit = found.hidden_size, side // found.patch_size, found.spatial_merge_size
    n = (height // unit * unit) ** 2
    windowed = kind == "qwen2_5_vl"
    whole = _blocks(values, "fullatt_block_indexes", [7, 15, 23, 31], where) if windowed else [*range(found.depth)]
    full = sum(i in whole for i in range(found.depth))
    keys = full * n + (found.depth - full) * min(n, (found.window_size // found.patch_size) ** 2)
    wide = (3 if windowed else 2) * found.intermediate_size  # gated, or not
    patches = n * 3 * found.temporal_patch_size * found.patch_size**2 * c
    tower = patches + found.depth * (4 * n * c * c + n * c * wide) + 2 * n * c * keys
    squares, inner = n // unit**2, c * unit**2
    deep = [] if windowed else _blocks(values, "deepstack_visual_indexes", [8, 16, 24], where)
    merger = (1 + len(deep)) * squares * inner * (inner + language.hidden_size)
    costs = {"tower": tower, "merger": merger, "language model": language.prefill(squares + prompt)}
    return {name: cost / sum(costs.values()) for name, cost in costs.items()}


def _blocks(values: Mapping[str, Any], key: str, usual: list[int], where: object) -> list[int]:
    found = values.get(key, usual)
    if not isinstance(found, list):
        raise wrong(where, f"vision_config.{key}", found, "a list of numbers of blocks")
    return found


def why_left(config: Mapping[str, Any], where: object) -> str | None:
    """Why the model of a config is left as it is, as what is said behind its place; None: it is none of these."""
    kind = config.get("model_type")
    if not isinstance(kind, str) or kind not in NAMES:
        return None
    told = (
        f"a {NAMES[kind]}, whose vision part is left as it is: runtimes count its image tokens and number their "
        "positions in three axes (M-RoPE) by the grid of patches, so that fewer would be misread, and its tower turns "
        "queries and keys by the places of single patches"
    )
    try:
        tower, *rest = (f"the {name} {share:.0%}" for name, share in shares(config, where).items())
    except InputError:
        return f"{told}."
    of = f"a picture of {SIDE} x {SIDE} pixels and a prompt of {PROMPT} tokens"
    return f"{told}; for {of} {tower.replace(' tower ', ' tower is ')} of the cost, {', '.join(rest)}."
