"""The vision part of a language model, as every layout takes it: what it gives, and the whole that it is of."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pumer_convert.checkpoint.locate import resolve
from pumer_convert.checkpoint.origin import origin_of
from pumer_convert.checkpoint.read import open_checkpoint
from pumer_convert.errors import InputError
from pumer_convert.image_processor.picture_input import picture_input, settings_of
from pumer_convert.models.family import Family, family_of
from pumer_convert.models.spec import ModelSpec
from pumer_convert.weights import Checkpoint

FILE = "vision.onnx"
RENUMBERED = (
    "the kept tokens get the positions of as many words, one after the other; that costs most where places in the "
    "picture are asked for"
)


@dataclass(frozen=True)
class Part:
    """A vision part, reduced or dense, for a layout.

    tokens      how many it gives of a picture; `dense`: as many as the dense one gives.
    width       of the language model.
    size        (H, W) of its pictures.
    generation  see `Family`.
    """

    path: Path
    layout: str
    checkpoint: Checkpoint
    family: Family
    generation: str
    tokens: int
    dense: int
    width: int
    size: tuple[int, int]

    @classmethod
    def at(cls, path: Path | str, layout: str) -> "Part":
        """That of the folder at `path`. Raises InputError for a model without a language model."""
        path = resolve(path)
        checkpoint = open_checkpoint(path)
        family = family_of(checkpoint.family)
        if family.generation is None:
            raise InputError(
                f"{path}: a {family.name} has no language model to generate with; the layout {layout} is for others."
            )
        pictures = picture_input(checkpoint)
        assert pictures is not None
        assert pictures.size is not None
        config = checkpoint.config
        tokens, width = _gives(family.spec(config, pictures.size))
        plain = {key: value for key, value in config.items() if key != "pumer"}
        dense, _ = _gives(family.spec(plain, pictures.size))
        return cls(path, layout, checkpoint, family, family.generation, tokens, dense, width, pictures.size)

    @classmethod
    def of_pictures(cls, path: Path | str, layout: str) -> "Part":
        """The same for a runtime that makes one row of tokens of a picture. Raises InputError also for a processor that
        cuts pictures into tiles: what stands between those in a prompt is the model's own."""
        part = cls.at(path, layout)
        if settings_of(part.checkpoint.processor, part.family.name).tiles:
            raise InputError(
                f"{part.path}: its processor cuts pictures into tiles, and the layout {layout} takes each picture as "
                "one; the layout hf takes tiles."
            )
        return part

    @property
    def image_token(self) -> int:
        """The id that stands in a prompt where its embeddings go. Raises InputError where nothing tells."""
        from transformers import AutoConfig

        config = {key: value for key, value in self.checkpoint.config.items() if key != "pumer"}
        whole: Any = AutoConfig.for_model(**config)  # it may be left to the class
        for name in ("image_token_id", "image_token_index"):
            if isinstance(found := getattr(whole, name, None), int):
                return found
        raise InputError(
            f"{self.path}: its config.json has no image_token_index, which the layout {self.layout} needs."
        )

    def whole(self) -> Checkpoint:
        """The model that it was made from. Raises InputError when that is not known, or not there any more."""
        origin = origin_of(self.path)
        if origin is None or origin.place is None:
            why = f"{self.path}: nothing says what it was made from" if origin is None else origin.why
            raise InputError(f"{why}; the layout {self.layout} needs the whole model.")
        return open_checkpoint(origin.place)

    def export(
        self, folder: Path, dtype: str | None, progress: Callable[[str], None], alone: bool
    ) -> tuple[Path, dict[str, Any]]:
        """Its verified ONNX file in `folder`, which is made, in standard operators alone, and the report of that. See
        `export_folder`, of which `alone` is the `in_subprocess`."""
        from pumer_convert.export.folder import export_folder

        how: dict[str, Any] = {"dtype": dtype, "inline_functions": True, "progress": progress, "in_subprocess": alone}
        report = export_folder(self.path, folder, **how)
        return folder / FILE, report

    @property
    def notes(self) -> list[str]:
        """What whoever uses it in a runtime should know."""
        return [RENUMBERED] if self.tokens < self.dense else []


def _gives(spec: ModelSpec) -> tuple[int, int]:
    (port,) = spec.graphs[0].outputs
    _, tokens, width = port.shape
    assert isinstance(tokens, int)
    assert isinstance(width, int)
    return tokens, width
