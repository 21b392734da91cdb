"""The codes of a codebook that a file of texts uses: pruning by these is informed by texts, and the graph sees none."""

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from pumer_convert.checkpoint.companions import TOKENIZERS
from pumer_convert.errors import InputError
from pumer_convert.recipe.schema import Recipe
from pumer_convert.reducers import kinds_of
from pumer_convert.weights import Checkpoint

if TYPE_CHECKING:
    from torch import Tensor

_BATCH = 32


@runtime_checkable
class HasCodebook(Protocol):
    """A network whose texts use codes."""

    def codes_of_texts(self, input_ids: "Tensor", attention_mask: "Tensor") -> "Tensor":
        """The weights of the codes in texts, [B, M]: zeros at those that a text does not use."""
        ...


def text_files(recipe: Recipe) -> dict[str, tuple[Path, int]]:
    """The files of texts that a recipe names, relative to its own place: what it says -> the file, and the line of the
    step."""
    found: dict[str, tuple[Path, int]] = {}
    for step in recipe.steps:
        for action in step.actions:
            for name, param in kinds_of(recipe.semantics)[action.op][action.by].params.items():
                if param.texts and (said := action.params.get(name)) is not None:
                    found.setdefault(said, (Path(recipe.path).parent / said, step.line))
    return found


def with_codes(edits: Sequence[dict[str, Any]], recipe: Recipe, checkpoint: Checkpoint) -> tuple[dict[str, Any], ...]:
    """The edits of a recipe with the codes that its files of texts use in the place of their names. Raises InputError,
    with the line of the recipe, for a file that is none and a checkpoint without a tokenizer."""
    codes: dict[str, list[int]] = {}
    for said, (file, line) in text_files(recipe).items():
        try:
            codes[said] = used_codes(checkpoint, file)
        except InputError as error:
            raise recipe.error(line, f"codes: {error}") from None

    def told(action: Mapping[str, Any]) -> dict[str, Any]:
        return {name: codes[value] if name == "codes" and value else value for name, value in action.items()}

    return tuple({**edit, "actions": [told(action) for action in edit["actions"]]} for edit in edits)


def used_codes(checkpoint: Checkpoint, file: Path) -> list[int]:
    """The numbers of the codes that the classes of a file use (see `read_classes`), in every template. Raises
    InputError."""
    import torch

    from pumer_convert.convert.build import build
    from pumer_convert.data.preprocess import Preprocessor
    from pumer_convert.data.prompts import filled, read_classes

    classes = read_classes(file)
    texts = [text for template in classes.templates for text in filled(template, [*classes.names.values()])]
    with tempfile.TemporaryDirectory(prefix="codes-") as made:
        for part in checkpoint.companions:
            shutil.copyfile(part, Path(made) / part.name)
        for name, text in checkpoint.extra_files.items():
            (Path(made) / name).write_text(text, "utf-8")
        if not any((Path(made) / name).exists() for name in TOKENIZERS):
            raise InputError(f"the texts of {file} need the model's tokenizer, which is not there: --tokenizer FOLDER.")
        words = Preprocessor.of(replace(checkpoint, path=Path(made)), graph="text")
    dense = {key: value for key, value in checkpoint.config.items() if key != "pumer"}
    model = build(replace(checkpoint, config=dense))
    assert isinstance(model, HasCodebook)
    used = set[int]()
    with torch.no_grad():
        for start in range(0, len(texts), _BATCH):
            inputs = {
                name: torch.from_numpy(value) for name, value in words.words(texts[start : start + _BATCH]).items()
            }
            used.update(model.codes_of_texts(**inputs).gt(0).any(0).nonzero()[:, 0].tolist())
    return sorted(used)
