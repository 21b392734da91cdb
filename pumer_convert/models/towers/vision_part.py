"""What is the same of the vision parts of decoder VLMs, a tower and a projector: their values and their layers;
torch-free."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from pumer_convert.errors import InputError
from pumer_convert.models.inputs import Port
from pumer_convert.models.spec import Cost, GraphSpec, ImageSpec, Layer, Lengths, ModelSpec, grid, image_left, sides_of
from pumer_convert.models.towers.costs import columns, image_layers, one_query
from pumer_convert.models.towers.language import LanguageSettings
from pumer_convert.models.towers.sections import PictureTower, SiglipPictures
from pumer_convert.models.towers.squares import Squares
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
class TowerNames:
    """How the names of a tower's weights begin: those of what stands `before` its blocks, of the `blocks`, with a
    number behind, and of its last `norm`; those of what is `idle` no class here reads."""

    before: tuple[str, ...] = ("embeddings.", "pre_layrnorm.")
    blocks: str = "encoder.layers."
    norm: str = "post_layernorm."
    idle: tuple[str, ...] = ("head.", "embeddings.position_ids")


@dataclass(frozen=True, kw_only=True)
class VisionPart:
    """The values of a config that every family has.

    taps     numbers of the hidden states that the projector takes, one behind the other: 0 is what the first block
             takes, i what block i - 1 gives.
    cls      whether the tower has a CLS token.
    names    those of the tower's weights.
    trimmed  whether the first token, CLS where there is one, is left out before the projector.
    normed   whether the tower's last norm stands before the projector.
    squares  the squares of patches that the projector takes as a token each; None: it takes each patch.
    """

    names: ClassVar[TowerNames] = TowerNames()

    architecture: str
    vision: PictureTower
    language: LanguageSettings
    taps: tuple[int, ...]
    trimmed: bool
    normed: bool
    squares: Squares | None

    @property
    def cls(self) -> bool:
        """See above."""
        return self.vision.cls

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
        return self.vision.hidden_size * len(self.taps) * (self.squares.widened if self.squares else 1)

    def tokens(self, size: tuple[int, int]) -> int:
        """How many the projector takes of the patches of (H, W) pixels. Raises InputError for patches that are no whole
        squares."""
        rows, columns = grid(size, self.vision.patch_size)
        try:
            return rows * columns if self.squares is None else self.squares.tokens(rows, columns)
        except ValueError as error:
            raise InputError(
                f"pictures of {size[0]} x {size[1]} pixels are {rows} x {columns} patches, which do not {error}; "
                "choose another image size."
            ) from None


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


def _attention(settings: VisionPart, patches: int) -> dict[str, Cost]:
    """What a projector's tokens, each of so many `patches`, are scored by in the tower's last block, whose queries and
    keys are made for it."""
    c = settings.vision.hidden_size

    def of_cls(before: Lengths, after: Lengths) -> int:
        return one_query(c)(replace(before, image=before.image * patches), after)

    def of_all(before: Lengths, after: Lengths) -> int:
        every = replace(before, image=before.image * patches)
        return 2 * every.image * c * c + columns(c)(every, after)

    return (
        {"cls_attention": of_cls, "attention": of_cls}
        if settings.cls
        else dict.fromkeys(("column_attention", "attention"), of_all)
    )


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
    taken, squares = settings.tokens(size), settings.squares is not None
    tokens, wide, d = rows * columns + settings.cls, settings.width, language.hidden_size
    wanted = _attention(settings, rows * columns // taken) if settings.blocks else {}
    first = int(settings.cls or settings.trimmed)

    def features(width: int) -> Cost:
        return lambda before, after: before.image**2 * width

    def prefill(before: Lengths, after: Lengths) -> int:
        return language.prefill(before.image + before.text)

    names = settings.names
    tower = image_layers(
        replace(vision, num_hidden_layers=settings.blocks),
        vision.patch_size,
        rows * columns,
        GRAPH,
        cls=settings.cls,
        blocks=f"{TOWER}{names.blocks}",
        before=tuple(f"{TOWER}{name}" for name in names.before),
    )
    layers = [
        replace(
            layer,
            part="tower",
            site=layer.site if i <= settings.sites else None,  # the patches are the first
            scores={score: cost for score, cost in layer.scores.items() if score != "probe_attention"},
            frozen=first,
            unmerges=UNMERGE,
            gridded=squares,
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
        weights=(PROJECTOR, *((f"{TOWER}{names.norm}",) if settings.normed else ())),
        frozen=int(settings.cls and not settings.trimmed),
        arriving=taken if squares else tokens if any(edit.get("unmerge") for edit in edits) else 0,
        leaves=0 if squares else int(settings.trimmed),
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
