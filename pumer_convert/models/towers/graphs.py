"""The graphs of two towers, and of both in one by optimum's names of inputs and outputs; torch-free."""

from collections.abc import Mapping

from pumer_convert.models.inputs import Port
from pumer_convert.models.signature import PICTURES, TEXTS
from pumer_convert.models.spec import GraphSpec

JOINT = "model"
PER_IMAGE, PER_TEXT, TEXT, IMAGE = "logits_per_image", "logits_per_text", "text_embeds", "image_embeds"
POOLED = "pooler_output"


def embedding(graph: str) -> str:
    """What the graph of a tower, "image" or "text", gives as an embedding; else it gives `POOLED`."""
    return f"{graph}_embeds"


def towers(widths: Mapping[str, int], *, embeds: bool) -> tuple[GraphSpec, ...]:
    """The graphs of the towers that there are, with the widths of what they give: embeddings, or what they pool."""
    return tuple(
        GraphSpec(
            name,
            (Port(embedding(name) if embeds else POOLED, "float32", ("batch", width)),),
            text=name == "text",
            pictures=name == "image",
        )
        for name, width in widths.items()
    )


def joint(width: int) -> GraphSpec:
    """For embeddings of that width. Pictures and texts are batches of their own."""
    outputs = (
        Port(PER_IMAGE, "float32", (PICTURES, TEXTS)),
        Port(PER_TEXT, "float32", (TEXTS, PICTURES)),
        Port(TEXT, "float32", (TEXTS, width)),
        Port(IMAGE, "float32", (PICTURES, width)),
    )
    return GraphSpec(JOINT, outputs, apart=True)
