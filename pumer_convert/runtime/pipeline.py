"""Pictures and texts in, answers or embeddings out: a runtime with the preprocessing that was exported beside it."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pumer_convert.artifact.sidecar import labels_of
from pumer_convert.data.preprocess import Preprocessor
from pumer_convert.data.prompts import PLACE, filled
from pumer_convert.errors import InputError, VerificationError
from pumer_convert.image_processor.open_picture import MAX_PIXELS, PictureError, as_rgb, open_picture
from pumer_convert.models.signature import LOGITS
from pumer_convert.models.similarity import Similarity
from pumer_convert.runtime.base import Runtime
from pumer_convert.runtime.gallery import Gallery, nearest_rows
from pumer_convert.runtime.opened import Graphs, OpenGraph
from pumer_convert.runtime.scores import sigmoid, softmax, to_scores
from pumer_convert.system.paths import there
from pumer_convert.weights import EMBEDDINGS

Picture = Path | str | Image.Image
Pictures = Picture | Sequence[Picture]
BATCH = 32
"""Pictures or texts that are embedded in one pass of the model."""


@dataclass(frozen=True)
class Answer:
    """The best label and its score from 0 to 1, and all labels with theirs, best first.

    See `to_scores` for what a score is. Retrieval has one label, "match". Where the labels were given, `cosines` are
    those of their embeddings with the picture's, in the order of the ranking.
    """

    text: str
    score: float
    ranking: tuple[tuple[str, float], ...]
    cosines: tuple[float, ...] | None = None


class Pipeline:
    """Answers questions with a checkpoint folder, an ONNX file or an engine (see `open_runtime`, which takes the same
    options). An exported file needs its sidecar and the tokenizer's files beside it, and nothing of the checkpoint.

    A model of two towers (`embeds`) answers no question: it embeds pictures and texts, and compares them. Any of its
    files will do, and the other is opened from beside it when it is needed; so pictures alone are embedded without the
    text's file or a tokenizer. Of a whole model embeddings are unit vectors; of a tower alone they are as its class
    gives them. The vision part of a language model (`features`) makes several tokens of a picture, which are compared
    with nothing.

    Raises InputError when a part is missing.
    """

    def __init__(self, path: Path | str, *, max_pixels: int = MAX_PIXELS, **options: Any) -> None:
        """`max_pixels`: larger pictures are refused. `notes` tells what of the checkpoint was not as it should be."""
        self.path, self.max_pixels = Path(path), max_pixels
        self._graphs = Graphs.at(self.path, options)
        first = self._graphs.first
        self.runtime: Runtime = first.runtime
        self.preprocessor: Preprocessor = first.preprocessor
        self.task: str = first.values["task"]
        self.embeds = self.task == EMBEDDINGS and any(first.takes_alone(what) for what in ("pictures", "text"))
        self.features = self.embeds and len(self.runtime.signature.outputs[0].shape) > 2
        self.notes: tuple[str, ...] = first.values.get("notes", ())
        if not self.embeds and LOGITS not in self.runtime.signature.names:
            gives = ", ".join(self.runtime.signature.names)
            raise InputError(f"{path}: gives {gives} and no answers; call it by open_runtime.")
        self.labels = [] if self.embeds else labels_of(first.values, self.path)
        self.pictures = 1 if self.embeds else self.runtime.pictures.images

    def __call__(self, pictures: Pictures, text: str) -> Answer:
        """The answer about one picture, or a pair of them where the task takes two; files or PIL images.

        Raises InputError for pictures that cannot be used, see data/open_picture.py.
        """
        return self.batch([(pictures, text)])[0]

    def batch(self, items: Sequence[tuple[Pictures, str]]) -> list[Answer]:
        """The answers to several questions, in one pass of the model."""
        self._check_answers()
        if not items:
            raise InputError("there is no question to answer.")
        words = self.preprocessor.words([text for _, text in items])
        arranged = self.preprocessor.arrange([self.pixels(pictures) for pictures, _ in items])
        logits = self.runtime.run(words | arranged)[LOGITS]
        return [self.answer(row) for row in logits.astype(np.float64)]

    def pixels(self, pictures: Pictures) -> list[NDArray[np.float32]]:
        """What the model sees of one example: each picture's float32 [3, H, W]."""
        self._check_answers()
        given = _several(pictures)
        if len(given) != self.pictures:
            raise InputError(f"{len(given)} picture(s) for a question, but '{self.task}' takes {self.pictures}.")
        return [self._pixels(picture, self.preprocessor) for picture in given]

    def answer(self, logits: NDArray[np.float64]) -> Answer:
        """What the logits [labels] of one example say. Raises VerificationError when they are not finite."""
        return _ranked(self.labels, logits, lambda row: to_scores(row, self.task))

    def embed_images(self, pictures: Pictures) -> NDArray[np.float32]:
        """The embeddings [N, D] of one picture or several, of a vision part [N, tokens, D]; files or PIL images, which
        may be any number. Of a picture that the processor cuts into tiles (Idefics3, SmolVLM) each tile is one of the
        N, in the order that the language model reads them in."""
        graph = self.tower("pictures")

        def arranged(some: Sequence[Any]) -> dict[str, NDArray[Any]]:
            return graph.preprocessor.arrange([[pixels] for pixels in some])

        seen = (tile for picture in _several(pictures) for tile in self.tiles(picture))
        return _embedded(graph, seen, arranged)

    def tiles(self, picture: Picture) -> list[NDArray[np.float32]]:
        """What a model that reads pictures alone sees of one: float32 [3, H, W] of each of its tiles, or of the whole
        where the processor cuts none."""
        return self.tower("pictures").preprocessor.tiles(*self._opened(picture))

    def embed_texts(self, texts: str | Sequence[str]) -> NDArray[np.float32]:
        """The embeddings [N, D] of one text or several."""
        graph = self.tower("text")
        return _embedded(graph, _several(texts), graph.preprocessor.words)

    def classify(self, picture: Picture, labels: Sequence[str], template: str = PLACE) -> Answer:
        """Which of the `labels`, put into the `template` ("a photo of a {}"), a picture shows.

        The logits are transformers' logits_per_image: exp(logit_scale) * cosine + logit_bias. Their scores are shares
        of 1 where the model was trained with a softmax, as CLIP, and each label's own where with a sigmoid, as SigLIP.
        """
        self._check_compares()
        texts, similarity = filled(template, labels), self._similarity
        cosines = self.embed_texts(texts).astype(np.float64) @ self.embed_images([picture])[0]
        scores = softmax if similarity.scores == "softmax" else sigmoid
        return _ranked(labels, similarity.logits(cosines), scores, cosines)

    def search(self, query: Picture, gallery: Gallery, k: int = 10) -> list[tuple[int, float]]:
        """The `k` rows of a `gallery` of embeddings that are nearest to a `query`, with their cosines, nearest first.

        The query is a text, or a picture as a Path or a PIL image. The gallery is an array [N, D], or a .npy file of
        one, which is mapped into memory a block at a time.
        """
        self._check_compares()
        if not isinstance(query, str):
            return nearest_rows(self.embed_images([query])[0], gallery, k)
        if there(Path(query)) and Path(query).is_file():
            raise InputError(f"the query '{query}' is a text, and a file has that name; give the picture as a Path.")
        return nearest_rows(self.embed_texts([query])[0], gallery, k)

    def cut(self, texts: Sequence[str]) -> str:
        """A sentence on texts that are longer than the model takes, "" when none is."""
        return (self.tower("text") if self.embeds else self._graphs.first).preprocessor.cut(texts)

    @property
    def compares(self) -> bool:
        """Whether it is known how its pictures are scored beside texts."""
        return Similarity.of_sidecar(self._graphs.first.values) is not None

    @property
    def _similarity(self) -> Similarity:
        found = Similarity.of_sidecar(self._graphs.first.values)
        if found is None:
            raise InputError(
                f"{self.path}: nothing tells how its pictures are scored beside texts (logit_scale); a tower alone has "
                "no scores, and of a model with both towers export once more."
            )
        return found

    def tower(self, what: str) -> OpenGraph:
        """The graph that embeds "pictures" or "text"."""
        self._check_embeds()
        return self._graphs.tower(what)

    def _check_embeds(self) -> None:
        if not self.embeds:
            raise InputError(f"{self.path}: answers by its own labels and gives no embeddings; ask it a question.")

    def _check_compares(self) -> None:
        self._check_embeds()
        if self.features:
            raise InputError(
                f"{self.path}: gives tokens for a language model to read, which are compared with nothing."
            )

    def _check_answers(self) -> None:
        if self.features:
            raise InputError(f"{self.path}: gives tokens for a language model to read, and answers nothing.")
        if self.embeds:
            raise InputError(
                f"{self.path}: gives embeddings and answers no question; give it labels to choose from (classify)."
            )

    def _pixels(self, picture: Picture, preprocessor: Preprocessor) -> NDArray[np.float32]:
        image, name = self._opened(picture)
        return preprocessor.pixels(image, name=name)

    def _opened(self, picture: Picture) -> tuple[Image.Image, str]:
        """A picture, and what messages call it."""
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
        return image, name


def _several(given: Any) -> list[Any]:
    """Several pictures or texts, or the one that is given."""
    return list(given) if isinstance(given, Sequence) and not isinstance(given, str | bytes) else [given]


def _embedded(
    graph: OpenGraph, items: Iterable[Any], prepare: Callable[[Sequence[Any]], dict[str, NDArray[Any]]]
) -> NDArray[np.float32]:
    """The embeddings of pictures or texts, some at a time: the first that a tower gives."""
    count, name = min(BATCH, graph.runtime.largest_batch or BATCH), graph.runtime.signature.names[0]
    rest, parts = iter(items), []
    while some := list(islice(rest, count)):
        parts.append(graph.runtime.run(prepare(some))[name])
    if not parts:
        raise InputError("there is nothing to embed.")
    found = np.concatenate(parts)
    _check_finite(found, "embeddings")
    return found


def _check_finite(values: NDArray[Any], what: str) -> None:
    if not np.isfinite(values).all():
        raise VerificationError(f"the model's {what} are not finite numbers; its weights, or its type, do not hold.")


def _ranked(
    labels: Sequence[str],
    logits: NDArray[np.float64],
    to_scores: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    cosines: NDArray[Any] | None = None,
) -> Answer:
    """The labels in the order of their logits. Raises VerificationError when these are not finite."""
    _check_finite(logits, "logits")
    scores, order = to_scores(logits), np.argsort(-logits, kind="stable")
    ranking = tuple((labels[i], float(scores[i])) for i in order)
    return Answer(*ranking[0], ranking, None if cosines is None else tuple(float(cosines[i]) for i in order))
