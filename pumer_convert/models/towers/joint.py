"""The graph of both towers in one, by the names that optimum gives to its inputs and outputs; torch-free."""

from pumer_convert.models.inputs import Port
from pumer_convert.models.signature import PICTURES, TEXTS
from pumer_convert.models.spec import GraphSpec

JOINT = "model"
PER_IMAGE, PER_TEXT, TEXT, IMAGE = "logits_per_image", "logits_per_text", "text_embeds", "image_embeds"


def joint(width: int) -> GraphSpec:
    """For embeddings of that width. Pictures and texts are batches of their own."""
    outputs = (
        Port(PER_IMAGE, "float32", (PICTURES, TEXTS)),
        Port(PER_TEXT, "float32", (TEXTS, PICTURES)),
        Port(TEXT, "float32", (TEXTS, width)),
        Port(IMAGE, "float32", (PICTURES, width)),
    )
    return GraphSpec(JOINT, outputs, apart=True)
