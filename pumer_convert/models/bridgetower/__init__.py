"""BridgeTower: a CLIP-ViT and a RoBERTa, whose upper layers each feed a pair of fusion layers (Xu et al., AAAI 2023),
with transformers' names.

Sites: `vision.0`, `vision.1`, ... inside those blocks of the image's tower that run before fusion (7 of 12 in a base
model), and `fusion.0`, `fusion.1`, ..., where the states of both towers are reduced with the fused ones, or (`links:
pool` in a recipe) stay whole and are pooled by every link.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

from pumer_convert.models.bridgetower import formats
from pumer_convert.models.bridgetower.config import LINKS, RETRIEVAL, BridgeTowerSettings, checked_config, pools
from pumer_convert.models.family import Family
from pumer_convert.models.inputs import Port, TextInput
from pumer_convert.models.rates import Rates
from pumer_convert.models.spec import GraphSpec, ImageSpec, Layer, Lengths, ModelSpec, grid, logits, sides_of
from pumer_convert.models.towers.costs import block, fusion_layer, image_layers, text_layers

VISUAL = "bridgetower.vision_model.visual."
BLOCKS, WORDS = f"{VISUAL}transformer.resblocks.", "bridgetower.text_model.encoder.layer."


class BridgeTowerFamily(Family):
    """See `Family`. Rates are those of BridgeTower's own configuration for retrieval."""

    name = "bridgetower"
    network = "pumer_convert.models.bridgetower.network:BridgeTower"
    known_by = (formats.KNOWN,)
    image_processor = "BridgeTowerImageProcessor"
    tokenizer = "roberta"
    positions = f"{VISUAL}embeddings.position_embedding.weight"
    image_section = "vision_config"
    rates: ClassVar[Mapping[str, Rates]] = {"retrieval": Rates(5e-6, 5, 5)}
    heads = ("itm_score.", "itc_")
    cross_modal = ("bridgetower.cross_modal_",)
    choices: ClassVar[Mapping[str, tuple[str | None, ...]]] = {"links": LINKS}

    recognise = staticmethod(formats.recognise)
    checked = staticmethod(checked_config)
    processor = staticmethod(formats.processor)

    def spec(self, config: Mapping[str, Any], image_size: Any = None) -> ModelSpec:
        """See `Family`."""
        settings = BridgeTowerSettings.read(config)
        vision, text, c = settings.vision, settings.text, settings.hidden_size
        v, patch, split, pairs = vision.hidden_size, settings.patch_size, settings.split, settings.num_hidden_layers
        rows, columns = grid(image_size or settings.image_size, patch)

        def transforms(before: Lengths, after: Lengths) -> int:
            return v * c * before.image + c * c * before.text

        def link(before: Lengths, after: Lengths) -> int:
            whole = before.towers
            pooled = v * whole.image * before.image * (whole.image != before.image)
            pooled += c * whole.text * before.text * (whole.text != before.text)
            picture = block(v, vision.intermediate_size, whole.image, whole.image)
            words = block(c, text.intermediate_size, whole.text, whole.text)
            return picture + words + pooled + transforms(before, before)

        run = replace(vision, num_hidden_layers=text.num_hidden_layers)
        begin = (f"{VISUAL}embeddings.", f"{VISUAL}ln_pre.")
        images = image_layers(run, patch, rows * columns, "model", cls=True, blocks=BLOCKS, before=begin)
        # Below the fusion layers stand the patches and the blocks up to `split`; the others are their links.
        layers = [*images[: 1 + split], *text_layers(text, "model", WORDS)[:split]]
        whole, inner, heads = pools(config), text.intermediate_size, text.num_attention_heads
        for i in range(pairs):
            towers = tuple(f"{blocks}{split + i - 1}." for blocks in (BLOCKS, WORDS))
            linked = Layer(f"link.{i}", link, weights=towers)
            layers.append(linked if i else Layer("transforms", transforms, weights=_both("transform.")))
            # What is reduced are fused states and a tower's beside them; none are needed above the last layer.
            wide, halves = c if whole or i == pairs - 1 else c + v, _both(f"layers.{i}.")
            layers.append(fusion_layer(i, pairs, c, inner, heads, width=wide, beside=whole, weights=halves))
        if settings.architecture == RETRIEVAL:
            head, graphs = 2 * c * 2, logits(1)
        else:
            wide = settings.contrastive_hidden_size or 0
            head = v * c + 4 * c * wide
            names = ("text_embeds", "image_embeds", "cross_embeds")
            graphs = (GraphSpec("model", tuple(Port(name, "float32", ("batch", wide)) for name in names)),)
        return ModelSpec(
            image_tokens=rows * columns + 1,
            layers=tuple(layers),
            head=head + 2 * c * c,
            text=TextInput(vocabulary=text.vocab_size, longest=text.longest, pad_id=text.pad_token_id),
            image=ImageSpec(size=sides_of(image_size or settings.image_size), patch=patch),
            graphs=graphs,
            head_weights=(*_both("pooler."), *self.heads),
        )


def _both(part: str) -> tuple[str, ...]:
    return tuple(f"bridgetower.cross_modal_{name}_{part}" for name in ("text", "image"))


FAMILY = BridgeTowerFamily()
