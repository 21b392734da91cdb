"""What a checkpoint is, before anything is done with it."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pumer_convert.checkpoint.read import as_checkpoint, check_complete
from pumer_convert.convert.load import choices_of, plan_of, spec_of
from pumer_convert.convert.plan import Plan
from pumer_convert.image_processor.picture_input import in_words, picture_input
from pumer_convert.weights import Checkpoint


@dataclass(frozen=True)
class Inspection:
    """A checkpoint at `path`: `origin` is its format in words, `bytes` the size of its weights, `image_size` (height,
    width) of the pictures that `plan` counts with (None: it takes none), `pictures` what becomes of a picture, in
    words; `sites` are the layers that a recipe may name, `reduced_at` those that have reducers, `choices` see
    `choices_of`; `graphs` what is exported, by name the inputs and the outputs; `notes` what a reader should know."""

    path: str
    origin: str
    model: str
    task: str
    parameters: int
    bytes: int
    image_size: tuple[int, int] | None
    pictures: str
    max_text: int
    sites: tuple[str, ...]
    reduced_at: tuple[str, ...]
    choices: dict[str, str]
    graphs: dict[str, tuple[tuple[str, ...], tuple[str, ...]]]
    notes: tuple[str, ...]
    plan: Plan

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {**asdict(self), "plan": self.plan.to_json()}


def inspect(
    path: Path | str | Checkpoint, *, text_length: int | None = None, image_size: int | list[int] | None = None
) -> Inspection:
    """What the checkpoint at `path` is, and the tokens and MACs of every layer, dense and reduced; reads no weight.

    Counted at `text_length` text tokens and, for other images than the checkpoint's, an `image_size` S or [H, W].
    Raises InputError for what cannot be read, or does not fit.
    """
    checkpoint = as_checkpoint(path)
    check_complete(checkpoint)
    pictures = picture_input(checkpoint, image_size)
    spec = spec_of(checkpoint, None if pictures is None else pictures.nominal)
    signatures = [graph.signature(spec.text, pictures) for graph in spec.graphs]
    return Inspection(
        path=str(checkpoint.path),
        origin=checkpoint.origin,
        model=checkpoint.family,
        task=checkpoint.task,
        parameters=checkpoint.parameters,
        bytes=checkpoint.bytes,
        image_size=None if pictures is None else pictures.nominal,
        pictures=in_words(checkpoint, image_size),
        max_text=spec.max_text,
        sites=spec.sites,
        reduced_at=tuple(edit["at"] for edit in checkpoint.config.get("pumer", {}).get("edits", ())),
        choices=choices_of(checkpoint),
        graphs={one.name: (tuple(port.name for port in one.inputs), one.names) for one in signatures},
        notes=checkpoint.notes,
        plan=plan_of(checkpoint, text_length, image_size),
    )
