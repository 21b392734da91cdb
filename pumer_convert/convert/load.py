"""Any checkpoint as a model, and as a plan of what it costs."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pumer_convert.checkpoint.read import open_checkpoint
from pumer_convert.convert.plan import Plan, make_plan
from pumer_convert.image_processor.picture_input import picture_input
from pumer_convert.models.family import family_of
from pumer_convert.models.signature import Signature
from pumer_convert.models.similarity import BIAS, SCALE, Similarity
from pumer_convert.models.spec import ModelSpec
from pumer_convert.weights import Checkpoint

if TYPE_CHECKING:
    from pumer_convert.models.body import Body

TEXT_LENGTH = 32
"""Text tokens that plans are made for unless told otherwise: what the published figures were counted at."""


def load(path: Path | str, image_size: Any = None, dtype: str = "float32") -> "Body":
    """The model of any readable checkpoint, dense or reduced, on the CPU in eval mode.

    Called as model(input_ids [B, T], attention_mask [B, T], pixel_values [B, 3, H, W] or [B, 2, 3, H, W]).logits.
    `image_size` S or [H, W] fits it to other images than the checkpoint's. Raises InputError.
    """
    from pumer_convert.convert.build import build

    return build(open_checkpoint(Path(path)), image_size, dtype)


def spec_of(checkpoint: Checkpoint, image_size: Any = None) -> ModelSpec:
    """The shape of a checkpoint's model: for pictures as its processor makes them, square ones where they keep their
    shape, or for another `image_size` S or [H, W]."""
    pictures = picture_input(checkpoint)
    size = image_size or (None if pictures is None else pictures.nominal)
    return family_of(checkpoint.family).spec(checkpoint.config, size)


def choices_of(checkpoint: Checkpoint) -> dict[str, str]:
    """What holds of its family's choices (see `Family.choices`) in a checkpoint that a recipe was applied to."""
    if (pumer := checkpoint.config.get("pumer")) is None:
        return {}
    found = {key: pumer.get(key, words[0]) for key, words in family_of(checkpoint.family).choices.items()}
    return {key: value for key, value in found.items() if value is not None}


def signature_of(checkpoint: Checkpoint, graph: str | None = None, image_size: Any = None) -> Signature:
    """What a graph (None: the first) of a checkpoint's model takes and gives, for pictures as its processor makes them
    or of another `image_size`."""
    spec = family_of(checkpoint.family).spec(checkpoint.config)
    return spec.graph(graph).signature(spec.text, picture_input(checkpoint, image_size))


def similarity_of(checkpoint: Checkpoint) -> Similarity | None:
    """How a checkpoint's model scores a picture beside a text, None for one that compares nothing. Raises InputError
    for a scale or a bias that is no number."""
    scores = family_of(checkpoint.family).spec(checkpoint.config).similarity
    if scores is None or SCALE not in checkpoint.slices:  # a weight that is missing is named where it is needed
        return None
    return Similarity(scores, *(checkpoint.number(name) for name in (SCALE, BIAS) if name in checkpoint.slices))


def plan_of(
    checkpoint: Checkpoint, text_length: int | None = None, image_size: Any = None, graph: str | None = None
) -> Plan:
    """What a checkpoint, dense or reduced, costs: beside its dense model at the image size that its recipe found,
    or both at another `image_size`; the whole of it, or one `graph`."""
    pumer, spec = checkpoint.config.get("pumer", {}), spec_of(checkpoint, image_size)
    changed = pumer.get("image_size") if image_size is None else None
    original = spec_of(checkpoint, changed["from"]) if changed else None
    length = min(TEXT_LENGTH, spec.max_text) if text_length is None else text_length
    return make_plan(spec, pumer.get("edits", ()), length, original, graph)
