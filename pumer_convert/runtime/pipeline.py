"""Pictures and a question in, an answer out: a runtime with the preprocessing that was exported beside it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pumer_convert.artifact.sidecar import labels_of, read_sidecar
from pumer_convert.data.preprocess import Preprocessor
from pumer_convert.errors import InputError, VerificationError
from pumer_convert.image_processor.open_picture import MAX_PIXELS, PictureError, as_rgb, open_picture
from pumer_convert.models.signature import LOGITS
from pumer_convert.runtime.base import Runtime
from pumer_convert.runtime.open import open_runtime
from pumer_convert.runtime.scores import to_scores
from pumer_convert.system.whole import unchanged
from pumer_convert.weights import Checkpoint

Pictures = Path | str | Image.Image | Sequence[Path | str | Image.Image]


@dataclass(frozen=True)
class Answer:
    """The best label and its score from 0 to 1, and all labels with theirs, best first.

    See `to_scores` for what a score is. Retrieval has one label, "match".
    """

    text: str
    score: float
    ranking: tuple[tuple[str, float], ...]


class Pipeline:
    """Answers questions with a checkpoint folder, an ONNX file or an engine (see `open_runtime`, which takes the same
    options). An exported file needs its sidecar and the tokenizer's files beside it, and nothing of the checkpoint.

    Raises InputError when a part is missing.
    """

    def __init__(self, path: Path | str, *, max_pixels: int = MAX_PIXELS, **options: Any) -> None:
        """`max_pixels`: larger pictures are refused. `notes` tells what of the checkpoint was not as it should be."""
        path = Path(path)
        self.max_pixels = max_pixels
        if path.suffix in (".onnx", ".engine"):
            with unchanged(path):
                self.runtime: Runtime = open_runtime(path, **options)
                values = read_sidecar(path)
            self.preprocessor = Preprocessor.of_sidecar(values, path.parent)
        else:
            from pumer_convert.checkpoint.read import open_checkpoint

            checkpoint = open_checkpoint(path)
            self.runtime = open_runtime(checkpoint, **options)
            self.preprocessor = Preprocessor.of(checkpoint, image_size=options.get("image_size"))
            values = _values(checkpoint)
        self.task: str = values["task"]
        if LOGITS not in self.runtime.signature.names:
            gives = ", ".join(self.runtime.signature.names)
            raise InputError(f"{path}: gives {gives} and no answers; call it by open_runtime.")
        self.labels = labels_of(values, path)
        self.notes: tuple[str, ...] = values.get("notes", ())
        self.pictures = self.runtime.pictures.images

    def __call__(self, pictures: Pictures, text: str) -> Answer:
        """The answer about one picture, or a pair of them where the task takes two; files or PIL images.

        Raises InputError for pictures that cannot be used, see data/open_picture.py.
        """
        return self.batch([(pictures, text)])[0]

    def batch(self, items: Sequence[tuple[Pictures, str]]) -> list[Answer]:
        """The answers to several questions, in one pass of the model."""
        if not items:
            raise InputError("there is no question to answer.")
        words = self.preprocessor.words([text for _, text in items])
        arranged = self.preprocessor.arrange([self.pixels(pictures) for pictures, _ in items])
        logits = self.runtime.run(words | arranged)[LOGITS]
        return [self.answer(row) for row in logits.astype(np.float64)]

    def pixels(self, pictures: Pictures) -> list[NDArray[np.float32]]:
        """What the model sees of one example: each picture's float32 [3, H, W]."""
        given: list[Any] = [pictures]
        if isinstance(pictures, Sequence) and not isinstance(pictures, str | bytes):
            given = list(pictures)
        if len(given) != self.pictures:
            raise InputError(f"{len(given)} picture(s) for a question, but '{self.task}' takes {self.pictures}.")
        return [self._pixels(picture) for picture in given]

    def _pixels(self, picture: Path | str | Image.Image) -> NDArray[np.float32]:
        name = "a picture" if isinstance(picture, Image.Image) else str(picture)
        name = name if len(name) < 5000 else f"{name[:60]}..."  # the whole picture, as an address
        if not isinstance(picture, Path | str | Image.Image):
            raise InputError(f"a picture is a file or a PIL image here, not a {type(picture).__name__}.")
        try:
            if isinstance(picture, Image.Image):
                image = as_rgb(picture, self.max_pixels)
            else:
                image = open_picture(picture, self.max_pixels)
        except PictureError as error:
            raise InputError(f"{name}: {error}.") from None
        return self.preprocessor.pixels(image, name=name)

    def answer(self, logits: NDArray[np.float64]) -> Answer:
        """What the logits [labels] of one example say. Raises VerificationError when they are not finite."""
        if not np.isfinite(logits).all():
            raise VerificationError("the model's logits are not finite numbers; its weights, or its type, do not hold.")
        scores = to_scores(logits, self.task)
        order = np.argsort(-logits, kind="stable")
        ranking = tuple((self.labels[i], float(scores[i])) for i in order)
        return Answer(*ranking[0], ranking)


def _values(checkpoint: Checkpoint) -> dict[str, Any]:
    from pumer_convert.checkpoint.read import NO_TOKENIZER

    notes = tuple(note for note in checkpoint.notes if note != NO_TOKENIZER)  # without one there is no pipeline
    return {"task": checkpoint.task, "labels": checkpoint.config.get("id2label"), "notes": notes}
