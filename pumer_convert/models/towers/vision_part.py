"""What is the same of the vision parts of decoder VLMs, a tower and a projector: their values and their layers;
torch-free."""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pumer_convert.errors import InputError
from pumer_convert.models.inputs import Port
from pumer_convert.models.spec import Cost, GraphSpec, ImageSpec, Layer, Lengths, ModelSpec, grid, image_left, sides_of
from pumer_convert.models.towers.costs import columns, image_layers, one_query
from pumer_convert.models.towers.language import LanguageSettings
from pumer_convert.models.towers.sections import ClipPictures, SiglipPictures
from pumer_convert.models.values import GENERAL, check_keys, section, wrong
from pumer_convert.reducers import UNMERGE

GRAPH, OUTPUT = "vision", "image_features"
TOWER, PROJECTOR = "vision_tower.", "multi_modal_projector."
SIGLIP = "siglip_vision_model"
_NOTED = ("num_image_tokens", "projection_dim", "projector_hidden_act", "vocab_size")
"""Keys that stand in the sections of towers for what is behind them, and the tower's class reads nowhere."""
PLACES = 2**20
"""The longest prompt where nothing says how long it may be."""


@dataclass(frozen=True)
class VisionPart:
    """The values of a config that every family has.

    taps     numbers of the hidden states that the projector takes, one behind the other: 0 is what the first block
             takes, i what block i - 1 gives.
    cls      whether the tower has a CLS token.
    trimmed  whether the first token, CLS where there is one, is left out before the projector.
    normed   whether the tower's last norm stands before the projector.
    pooled   to how many tokens of a square grid the projector pools the patches; 0: it takes each.
    """

    architecture: str
    vision: ClipPictures | SiglipPictures
    language: LanguageSettings
    taps: tuple[int, ...]
    trimmed: bool
    normed: bool
    pooled: int

    @property
    def cls(self) -> bool:
        """See above."""
        return isinstance(self.vision, ClipPictures)

    @property
    def blocks(self) -> int:
        """How many blocks of the tower are of use."""
        return max(self.taps)

    @property
    def sites(self) -> int:
        """In how many blocks tokens can be reduced: in those before the last that all states taken have run through.
        Behind that one stands the projector."""
        return max(min(self.taps) - 1, 0)

    @property
    def width(self) -> int:
        """Of what the projector takes."""
        return self.vision.hidden_size * len(self.taps)


def siglip_tower(config: Mapping[str, Any], usual: Mapping[str, Any], where: object) -> SiglipPictures:
    """The tower of a config whose class has SigLIP's, of the `usual` values where the config has no section for it.
    Raises InputError, beginning with `where`."""
    values = dict(usual) if config.get("vision_config") is None else dict(section(config, "vision_config", where))
    if (kind := values.pop("model_type", None) or SIGLIP) != SIGLIP:
        raise wrong(where, "vision_config.model_type", kind, f"the tower that is read is {SIGLIP}")
    for key in _NOTED:
        values.pop(key, None)
    return SiglipPictures.read(values, where, "vision_config.")


def check_config_keys(config: Mapping[str, Any], own: Collection[str], where: object) -> None:
    """Raises InputError for a key of a whole model's config that is neither among its `own` nor one that all have."""
    known = {"vision_config", "text_config", "image_token_index", "image_token_id", "image_seq_length", "ignore_index"}
    known |= {"vocab_size", "pumer", *own} | GENERAL
    # How the language model is quantized; the tower's own weights are read in floating point or refused.
    check_keys({key: value for key, value in config.items() if key != "quantization_config"}, known, where)


def language_section(given: Mapping[str, Any] | None, language: LanguageSettings) -> dict[str, Any]:
    """The section `given` for the language model, as it is, with the numbers that are read."""
    return {**(given or {}), **{key: value for key, value in vars(language).items() if value}}


def tokens_of_part(settings: VisionPart, config: Mapping[str, Any]) -> int:
    """How many tokens of a picture the vision part gives with the edits of a config."""
    left = spec_of_part(settings, 0, config).graphs[0].outputs[0].shape[1]
    assert isinstance(left, int)
    return left


def _attention(settings: VisionPart) -> dict[str, Cost]:
    """What a projector's tokens are scored by in the tower's last block, whose queries and keys are made for it."""
    c = settings.vision.hidden_size
    if settings.cls:
        return {"cls_attention": one_query(c), "attention": one_query(c)}

    def all_of_them(before: Lengths, after: Lengths) -> int:
        return 2 * before.image * c * c + columns(c)(before, after)

    return {"column_attention": all_of_them, "attention": all_of_them}


def spec_of_part(
    settings: VisionPart,
    projected: int,
    config: Mapping[str, Any],
    image_size: Any = None,
) -> ModelSpec:
    """Layers and the graph "vision" of a vision part with its config's edits. `projected`: the multiply-accumulates of
    its projector for a token. The last layer is the language model, for plans."""
    edits: Sequence[Mapping[str, Any]] = config.get("pumer", {}).get("edits", ())
    vision, language = settings.vision, settings.language
    size = sides_of(image_size or vision.image_size)
    rows, columns = grid(size, vision.patch_size)
    if (side := math.isqrt(settings.pooled)) and (rows % side or columns % side):
        raise InputError(
            f"pictures of {size[0]} x {size[1]} pixels are {rows} x {columns} patches, which do not pool to {side} x "
            f"{side}; choose another image size."
        )
    tokens, wide, d = rows * columns + settings.cls, settings.width, language.hidden_size
    wanted = _attention(settings) if settings.blocks else {}
    first = int(settings.cls or settings.trimmed)

    def features(width: int) -> Cost:
        return lambda before, after: before.image**2 * width

    def prefill(before: Lengths, after: Lengths) -> int:
        return language.prefill(before.image + before.text)

    tower = image_layers(
        replace(vision, num_hidden_layers=settings.blocks),
        vision.patch_size,
        rows * columns,
        GRAPH,
        cls=settings.cls,
        blocks=f"{TOWER}encoder.layers.",
        before=(f"{TOWER}embeddings.", f"{TOWER}pre_layrnorm."),
    )
    layers = [
        replace(
            layer,
            part="tower",
            site=layer.site if i <= settings.sites else None,  # the patches are the first
            scores={score: cost for score, cost in layer.scores.items() if score != "probe_attention"},
            frozen=first,
            unmerges=UNMERGE,
            gridded=settings.pooled > 0,
        )
        for i, layer in enumerate(tower)
    ]
    own = Layer(
        "projector",
        lambda before, after: projected * after.image,
        "projector",
        {**wanted, "features": features(wide)},
        modalities=("image",),
        width=wide,
        key_width=vision.hidden_size // vision.num_attention_heads,
        graph=GRAPH,
        weights=(PROJECTOR, *((f"{TOWER}post_layernorm.",) if settings.normed else ())),
        frozen=int(settings.cls and not settings.trimmed),
        arriving=settings.pooled or (tokens if any(edit.get("unmerge") for edit in edits) else 0),
        leaves=int(settings.trimmed),
        part="projector",
    )
    behind = replace(
        own,
        cost=lambda before, after: projected * before.image,
        scores={**wanted, "features": features(d)},
        width=d,
    )
    layers.append(replace(own, after=behind))
    left = image_left(layers, tokens, edits)
    layers.append(Layer("language_model", prefill, graph="", part="language model"))
    return ModelSpec(
        image_tokens=tokens,
        layers=tuple(layers),
        head=0,
        text=None,
        image=ImageSpec(size, vision.patch_size),
        graphs=(GraphSpec(GRAPH, (Port(OUTPUT, "float32", ("batch", left, d)),), text=False),),
        text_whole="the language model, which reads the text, stays as it is",
        prompt=language.max_position_embeddings or PLACES,
    )
