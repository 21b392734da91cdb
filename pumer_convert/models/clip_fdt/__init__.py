"""CLIP+FDT: CLIP's two towers, whose patches and words are read by one codebook of finite discrete tokens, an embedding
each (Chen et al., CVPR 2023), as its training saves them.

Sites: `vision.0` .. `vision.11`, in the blocks of the tower of pictures: behind them where tokens are pruned by the
codebook, else between attention and feed-forward.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

from pumer_convert.models.clip_fdt import formats
from pumer_convert.models.clip_fdt.config import MODEL_TYPE, Codebook, FdtSettings, checked
from pumer_convert.models.family import Family
from pumer_convert.models.inputs import TextInput
from pumer_convert.models.rates import Rates
from pumer_convert.models.spec import Cost, ImageSpec, Layer, Lengths, ModelSpec, grid, sides_of
from pumer_convert.models.towers.costs import image_layers, text_layers
from pumer_convert.models.towers.graphs import joint, towers

WEIGHTS = {
    "image": ("img_query_model.", formats.MARK),
    "text": ("text_model.final_layer_norm.", "txt_query_model."),
}
"""Of the codebook behind each tower: the codes are those of both."""


class ClipFdtFamily(Family):
    """See `Family`."""

    name = MODEL_TYPE
    network = "pumer_convert.models.clip_fdt.network:ClipFdt"
    known_by = (formats.MARK,)
    image_processor = "CLIPImageProcessor"
    tokenizer = "clip"
    positions = "vision_model.embeddings.position_embedding.weight"
    image_section = "vision_config"
    rates: ClassVar[Mapping[str, Rates]] = {}
    heads = ("img_query_model.", "txt_query_model.", formats.MARK)

    recognise = staticmethod(formats.recognise)
    checked = staticmethod(checked)
    processor = staticmethod(formats.processor)

    def spec(self, config: Mapping[str, Any], image_size: Any = None) -> ModelSpec:
        """See `Family`."""
        settings = FdtSettings.read(config)
        vision, text, book = settings.vision, settings.text, settings.codebook
        image = ImageSpec(sides_of(image_size or vision.image_size), vision.patch_size)
        rows, columns = grid(image.size, image.patch)
        used = _used(config)
        blocks = image_layers(vision, image.patch, rows * columns, "image", cls=True)
        if book.pool == "max":  # else no token is read alone
            blocks = [
                layer if layer.site is None else _pruned(layer, book, used.get(layer.site, book.codes))
                for layer in blocks
            ]
        layers = [
            *blocks,
            Layer("image_codebook", _head(book, vision.hidden_size, "image"), graph="image", weights=WEIGHTS["image"]),
            *text_layers(text, "text"),
            Layer("text_codebook", _head(book, text.hidden_size, "text"), graph="text", weights=WEIGHTS["text"]),
        ]
        return ModelSpec(
            image_tokens=rows * columns + 1,
            layers=tuple(layers),
            head=0,
            text=TextInput(text.vocab_size, text.max_position_embeddings, pad_id=0, end_id=text.end),
            image=image,
            graphs=towers({"image": book.width, "text": book.width}, embeds=True),
            text_whole="the text's tower is causal and meets no picture, so it is left whole",
            similarity="softmax",
            joint=joint(book.width),
        )


def _asked(book: Codebook, c: int, tokens: int, codes: int) -> int:
    """So many tokens of width `c` asking for so many codes."""
    products = codes * (tokens if book.pool == "max" else 1)
    return tokens * (c * book.width + book.width**2) + products * book.width


def _head(book: Codebook, c: int, graph: str) -> Cost:
    """The codebook behind a tower, and the sum of its codes; of pictures it reads all tokens but CLS."""

    def cost(before: Lengths, after: Lengths) -> int:
        tokens = before.image - 1 if graph == "image" else before.text
        return _asked(book, c, tokens, book.codes) + book.codes * book.width

    return cost


def _pruned(layer: Layer, book: Codebook, codes: int) -> Layer:
    """A block whose tokens can also be pruned by so many codes of the codebook."""

    def cost(before: Lengths, after: Lengths) -> int:
        return _asked(book, layer.width, before.image - 1, codes)

    return replace(layer, scores={"codebook": cost, **layer.scores}, codes=book.codes)


def _used(config: Mapping[str, Any]) -> dict[str, int]:
    """How many codes a site is pruned by, where these are told; of a config that may be unchecked."""
    pumer = config.get("pumer")
    edits = pumer.get("edits") if isinstance(pumer, Mapping) else None
    found: dict[str, int] = {}
    for edit in edits if isinstance(edits, list) else ():
        actions = edit.get("actions") if isinstance(edit, Mapping) else None
        for action in actions if isinstance(actions, list) else ():
            if isinstance(action, Mapping) and isinstance(action.get("codes"), list):
                found[str(edit.get("at"))] = len(action["codes"])
    return found


FAMILY = ClipFdtFamily()
