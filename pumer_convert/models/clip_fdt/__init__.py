"""CLIP+FDT: CLIP's two towers, whose patches and words are read by one codebook of finite discrete tokens, an embedding
each (Chen et al., CVPR 2023), as its training saves them.

Sites: `vision.0` .. `vision.11`, in the blocks of the tower of pictures: behind them where tokens are pruned by the
codebook, else between attention and feed-forward.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

from pumer_convert.models.clip_fdt import formats
from pumer_convert.models.clip_fdt.config import MODEL_TYPE, FdtSettings, checked_config
from pumer_convert.models.family import Family
from pumer_convert.models.inputs import TextInput
from pumer_convert.models.rates import Rates
from pumer_convert.models.reductions import told_codes
from pumer_convert.models.spec import ImageSpec, ModelSpec, grid, sides_of
from pumer_convert.models.towers.costs import codebook_behind, image_layers, pruned_by_codebook, text_layers
from pumer_convert.models.towers.graphs import joint, towers


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
    checked = staticmethod(checked_config)
    processor = staticmethod(formats.processor)

    def spec(self, config: Mapping[str, Any], image_size: Any = None) -> ModelSpec:
        """See `Family`."""
        settings = FdtSettings.read(config)
        vision, text, book = settings.vision, settings.text, settings.codebook
        image = ImageSpec(sides_of(image_size or vision.image_size), vision.patch_size)
        rows, columns = grid(image.size, image.patch)
        blocks = image_layers(vision, image.patch, rows * columns, "image", cls=True)
        if book.pool == "max":  # else no token is read alone
            blocks = pruned_by_codebook(blocks, book, told_codes(config))
        layers = [
            *blocks,
            codebook_behind("image", book, vision.hidden_size, "img_query_model.", formats.MARK),
            *text_layers(text, "text"),
            codebook_behind("text", book, text.hidden_size, "text_model.final_layer_norm.", "txt_query_model."),
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


FAMILY = ClipFdtFamily()
