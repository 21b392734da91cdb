"""BridgeTower: a CLIP-ViT and a RoBERTa, whose upper layers each feed a pair of fusion layers (Xu et al., AAAI 2023),
with transformers' names.

Sites: `vision.0`, `vision.1`, ... inside those blocks of the image's tower that run before fusion (7 of 12 in a base
model), and `fusion.0`, `fusion.1`, ..., where the states of both towers are reduced with the fused ones, or (`links:
pool` in a recipe) stay whole and are pooled by every link.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from pumer_convert.models.bridgetower import formats
from pumer_convert.models.bridgetower.config import LINKS, RETRIEVAL, BridgeTowerSettings, checked, pools
from pumer_convert.models.family import Family
from pumer_convert.models.inputs import Port, TextInput
from pumer_convert.models.rates import Rates
from pumer_convert.models.spec import GraphSpec, ImageSpec, Layer, Lengths, ModelSpec, grid, logits, sides_of
from pumer_convert.models.towers.costs import block, fusion, fusion_scores
from pumer_convert.weights import Checkpoint, RawCheckpoint

if TYPE_CHECKING:
    from pumer_convert.models.bridgetower.network import BridgeTower


class BridgeTowerFamily(Family):
    """See `Family`. Rates are those of BridgeTower's own configuration for retrieval."""

    name = "bridgetower"
    known_by = (formats.KNOWN,)
    image_processor = "BridgeTowerImageProcessor"
    tokenizer = "roberta"
    positions = "bridgetower.vision_model.visual.embeddings.position_embedding.weight"
    image_section = "vision_config"
    rates: ClassVar[Mapping[str, Rates]] = {"retrieval": Rates(5e-6, 5, 5)}
    heads = ("itm_score.", "itc_")
    cross_modal = ("bridgetower.cross_modal_",)
    choices: ClassVar[Mapping[str, tuple[str | None, ...]]] = {"links": LINKS}

    def recognise(self, raw: RawCheckpoint) -> Checkpoint | None:
        """See `Family`."""
        return formats.recognise(raw)

    def checked(self, config: Mapping[str, Any], where: object) -> dict[str, Any]:
        """See `Family`."""
        return checked(config, where)

    def build(self, config: dict[str, Any], image_size: Any = None) -> "BridgeTower":
        """See `Family`."""
        from pumer_convert.models.bridgetower.network import BridgeTower

        return BridgeTower(config, image_size)

    def processor(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """See `Family`."""
        return formats.processor(config)

    def spec(self, config: Mapping[str, Any], image_size: Any = None) -> ModelSpec:
        """See `Family`."""
        settings = BridgeTowerSettings.read(config)
        vision, text, c = settings.vision, settings.text, settings.hidden_size
        v, patch, split, pairs = vision.hidden_size, settings.patch_size, settings.split, settings.num_hidden_layers
        rows, columns = grid(image_size or settings.image_size, patch)

        def picture(before: Lengths, after: Lengths) -> int:
            return block(v, vision.intermediate_size, before.image, after.image)

        def words(before: Lengths, after: Lengths) -> int:
            return block(c, text.intermediate_size, before.text, before.text)

        def transforms(before: Lengths, after: Lengths) -> int:
            return v * c * before.image + c * c * before.text

        def link(before: Lengths, after: Lengths) -> int:
            whole = before.towers
            pooled = v * whole.image * before.image * (whole.image != before.image)
            pooled += c * whole.text * before.text * (whole.text != before.text)
            return picture(whole, whole) + words(whole, whole) + pooled + transforms(before, before)

        fused, scores, whole = fusion(c, text.intermediate_size), fusion_scores(c), pools(config)
        blind = {"cls_attention": lambda before, after: before.image * v}
        layers = [Layer("patches", lambda before, after: rows * columns * patch * patch * 3 * v)]
        for i in range(split):
            site, key_width = f"vision.{i}", v // vision.num_attention_heads
            layers.append(Layer(site, picture, site, blind, ("image",), i / text.num_hidden_layers, v, key_width))
        layers += [Layer(f"text.{i}", words) for i in range(split)]
        for i in range(pairs):
            layers.append(Layer(f"link.{i}", link) if i else Layer("transforms", transforms))
            # What is reduced are fused states and a tower's beside them; none are needed above the last layer.
            wide = c if whole or i == pairs - 1 else c + v
            site, key_width = f"fusion.{i}", c // text.num_attention_heads
            layers.append(
                Layer(site, fused, site, scores, depth=i / pairs, width=wide, key_width=key_width, beside=whole)
            )
        if settings.architecture == RETRIEVAL:
            head, graphs = 2 * c * 2, logits(1)
        else:
            wide = settings.contrastive_hidden_size or 0
            head = v * c + 4 * c * wide
            names = ("text_embeds", "image_embeds", "cross_embeds")
            graphs = (GraphSpec("model", tuple(Port(name, "float32", ("batch", wide)) for name in names)),)
        return ModelSpec(
            image_tokens=rows * columns + 1,
            layers=tuple(replace(layer, weights=_weights(layer.name, split)) for layer in layers),
            head=head + 2 * c * c,
            text=TextInput(vocabulary=text.vocab_size, longest=text.longest, pad_id=text.pad_token_id),
            image=ImageSpec(size=sides_of(image_size or settings.image_size), patch=patch),
            graphs=graphs,
            head_weights=(*_both("pooler."), *self.heads),
        )


def _both(part: str) -> tuple[str, ...]:
    return tuple(f"bridgetower.cross_modal_{name}_{part}" for name in ("text", "image"))


def _weights(layer: str, split: int) -> tuple[str, ...]:
    """How the names of a layer's parameters begin, for towers that run to `split` alone and linked from there on."""
    visual = "bridgetower.vision_model.visual."
    stack, _, number = layer.partition(".")
    if stack == "patches":
        return f"{visual}embeddings.", f"{visual}ln_pre."
    if stack in ("transforms", "fusion"):
        return _both("transform." if stack == "transforms" else f"layers.{number}.")
    place = split + int(number) - 1 if stack == "link" else int(number)
    towers = (f"{visual}transformer.resblocks.{place}.", f"bridgetower.text_model.encoder.layer.{place}.")
    return {"vision": towers[:1], "text": towers[1:]}.get(stack, towers)


FAMILY = BridgeTowerFamily()
