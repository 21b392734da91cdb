"""Any checkpoint as a model, and as a plan of what it costs."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pumer_convert.checkpoint.read import open_checkpoint
from pumer_convert.convert.plan import Plan, make_plan
from pumer_convert.errors import InputError
from pumer_convert.image_processor.picture_input import picture_input
from pumer_convert.models.family import family_of
from pumer_convert.models.signature import Signature
from pumer_convert.models.similarity import BIAS, SCALE, Similarity
from pumer_convert.models.spec import ModelSpec
from pumer_convert.recipe.layer_names import layer_names
from pumer_convert.recipe.schema import ExportSettings, export_settings
from pumer_convert.reducers import kinds_of
from pumer_convert.weights import Checkpoint

if TYPE_CHECKING:
    from pumer_convert.models.body import Body

HALF = ("float16", "bfloat16")
"""Types in which layers can be kept in float32."""
TEXT_LENGTH = 32
"""Text tokens that plans are made for unless told otherwise: what the published figures were counted at."""


def load(
    path: Path | str, image_size: Any = None, dtype: str = "float32", keep_float32: Sequence[str] | None = None
) -> "Body":
    """The model of any readable checkpoint, dense or reduced, on the CPU in eval mode.

    Called as model(input_ids [B, T], attention_mask [B, T], pixel_values [B, 3, H, W] or [B, 2, 3, H, W]).logits.
    `image_size` S or [H, W] fits it to other images than the checkpoint's. In half precision the layers that
    `keep_float32` names stay in float32 (None: those of the recipe in its folder). Raises InputError.
    """
    from pumer_convert.convert.build import build

    return build(open_checkpoint(Path(path)), image_size, dtype, keep_float32)


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


def looping_kinds(checkpoint: Checkpoint) -> list[str]:
    """The kinds of its reducers whose graphs have a loop."""
    pumer = checkpoint.config.get("pumer", {})
    kinds = kinds_of(pumer.get("semantics", "default"))
    actions = [action for edit in pumer.get("edits", ()) for action in edit["actions"]]
    return list(dict.fromkeys(action["by"] for action in actions if kinds[action["op"]][action["by"]].loop))


def signature_of(checkpoint: Checkpoint, graph: str | None = None, image_size: Any = None) -> Signature:
    """What a graph (None: the first) of a checkpoint's model takes and gives, for pictures as its processor makes them
    or of another `image_size`."""
    pictures = picture_input(checkpoint, image_size)
    spec = family_of(checkpoint.family).spec(checkpoint.config, None if pictures is None else pictures.size)
    return spec.graph(graph).signature(spec.text, pictures)


def similarity_of(checkpoint: Checkpoint) -> Similarity | None:
    """How a checkpoint's model scores a picture beside a text, None for one that compares nothing. Raises InputError
    for a scale or a bias that is no number."""
    scores = family_of(checkpoint.family).spec(checkpoint.config).similarity
    if scores is None or SCALE not in checkpoint.slices:  # a weight that is missing is named where it is needed
        return None
    return Similarity(scores, *(checkpoint.number(name) for name in (SCALE, BIAS) if name in checkpoint.slices))


def export_settings_of(checkpoint: Checkpoint) -> ExportSettings:
    """What the recipe in a converted folder says of exports; the defaults for any other checkpoint, whatever lies
    beside it. Raises InputError for a recipe that is not one."""
    return export_settings(checkpoint.path) if "pumer" in checkpoint.config else ExportSettings()


def kept_float32(
    checkpoint: Checkpoint, dtype: str | None, names: Iterable[str] | None, graph: str | None = None
) -> tuple[str, ...]:
    """The layers that stay in float32 in a model of type `dtype`, of all or of a `graph`: those of these `names`, such
    as "vision.0-3" (None: of the recipe in a converted folder), none where it is no half precision. Raises
    InputError for a layer that the model has not."""
    if dtype not in HALF:
        return ()
    if names is None:
        names = export_settings_of(checkpoint).keep_float32
    spec = family_of(checkpoint.family).spec(checkpoint.config)
    try:
        names = [one for name in ((names,) if isinstance(names, str) else names) for one in layer_names(name)]
        spec.weights_of(names)
    except InputError as error:
        raise InputError(f"keep_float32: {error}") from None
    return tuple(name for name in spec.weights(graph) if name in names)


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
