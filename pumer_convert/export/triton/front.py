"""Triton model (Python backend): pictures and text in, an answer out. Written by pumer-convert.

Needs numpy, pillow and tokenizers where it is served. A request that cannot be read gets an error of its own; the
others of its batch are answered.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils
from numpy.typing import NDArray
from open_picture import open_picture
from patches import pack, together
from pixels import ImageSettings, to_pixels
from scores import to_scores
from tokenizers import Tokenizer

Row = tuple[list[int], list[NDArray[np.float32]]]
"""The tokens of one question, and the pixels of its pictures."""


class TritonPythonModel:
    """Prepares what the model takes, calls it, and puts its logits into words."""

    def initialize(self, args: dict[str, str]) -> None:
        """Read the settings that lie beside this file."""
        here = Path(args["model_repository"]) / args["model_version"]
        told = json.loads((here / "front.json").read_text("utf-8"))
        self.model, self.task, self.labels = told["model"], told["task"], told["labels"]
        self.image = ImageSettings(**told["image"])
        self.patch, self.least_patches, self.most_patches = (
            told[name] for name in ("patch", "least_patches", "most_patches")
        )
        self.least, self.longest = told["least_text"], told["longest_text"]
        self.pad, self.most, self.padding_matters = told["pad_token_id"], told["most_batch"], told["padding_matters"]
        self.vocabulary = told["vocab_size"]
        self.tokenizer = Tokenizer.from_file(str(here / "tokenizer.json"))
        self.tokenizer.no_padding()
        self.tokenizer.enable_truncation(told["truncated_to"], direction=told["truncation_side"])

    def execute(self, requests: list[Any]) -> list[Any]:
        """One response for every request."""
        read = [self._read(request) for request in requests]
        rows = [row for found in read if isinstance(found, list) for row in found]
        try:
            answered = iter(self._ask(rows))
        except RuntimeError as error:  # the model's, so of all that could be read
            return [_refusal(str(error), False) if isinstance(found, list) else _refusal(found) for found in read]
        return [
            self._response([next(answered) for _ in found]) if isinstance(found, list) else _refusal(found)
            for found in read
        ]

    def _read(self, request: Any) -> list[Row] | str:
        """The rows of a request; or why it cannot be read."""
        images = pb_utils.get_input_tensor_by_name(request, "IMAGE").as_numpy()
        texts = pb_utils.get_input_tensor_by_name(request, "TEXT").as_numpy()
        if len(images) != len(texts):  # the rest of the shapes is checked by Triton
            return f"{len(images)} row(s) of IMAGE, but {len(texts)} of TEXT"
        try:
            tokens = [self.tokenizer.encode(text.decode("utf-8")).ids for (text,) in texts]
        except UnicodeDecodeError as error:
            return f"TEXT is not UTF-8 ({error})"
        if self.vocabulary is not None and max(map(max, tokens)) >= self.vocabulary:
            return "TEXT holds a token that was added to the tokenizer and not to the model"
        for length in map(len, tokens):
            if length > self.longest or (self.padding_matters and length < self.least):
                return f"TEXT has {length} tokens, and the model here takes {self.least} to {self.longest}"
        try:
            rows = [(found, self._pixels(pictures)) for found, pictures in zip(tokens, images, strict=True)]
        except ValueError as error:
            return f"IMAGE cannot be read: {error}"
        for picture in (picture for _, pictures in rows for picture in pictures):
            count = self._patches(picture)
            if self.most_patches is not None and count > self.most_patches:
                return f"IMAGE has {count} patches, and the model here takes {self.most_patches} at most"
        return rows

    def _pixels(self, pictures: NDArray[Any]) -> list[NDArray[np.float32]]:
        pixels = [to_pixels(open_picture(picture), self.image) for picture in pictures]
        return pixels if self.patch is None else together(pixels, self.patch)

    def _patches(self, picture: NDArray[np.float32]) -> int:
        """How many whole patches a picture has; 0 for a model that takes pixels."""
        height, width = picture.shape[-2:]
        return 0 if self.patch is None else (height // self.patch) * (width // self.patch)

    def _ask(self, rows: list[Row]) -> list[NDArray[np.float32]]:
        """The model's logits for every row. A batch is padded to its longest text, or, where padding would change the
        answers, made of texts of one length."""
        lengths = [len(tokens) for tokens, _ in rows]
        alike = {n: [i for i, own in enumerate(lengths) if own == n] for n in set(lengths)}
        logits: dict[int, NDArray[np.float32]] = {}
        for places in alike.values() if self.padding_matters else [range(len(rows))]:
            for start in range(0, len(places), self.most):
                part = places[start : start + self.most]
                logits |= zip(part, self._run([rows[i] for i in part]), strict=True)
        return [logits[i] for i in range(len(rows))]

    def _run(self, rows: list[Row]) -> NDArray[np.float32]:
        ids = np.full((len(rows), max(self.least, *(len(tokens) for tokens, _ in rows))), self.pad, np.int64)
        mask = np.zeros_like(ids)
        for i, (tokens, _) in enumerate(rows):
            ids[i, : len(tokens)], mask[i, : len(tokens)] = tokens, 1
        arrays = {"input_ids": ids, "attention_mask": mask, **self._pictures([pictures for _, pictures in rows])}
        response = pb_utils.InferenceRequest(
            model_name=self.model,
            requested_output_names=["logits"],
            inputs=[pb_utils.Tensor(name, value) for name, value in arrays.items()],
            # Else a model on a GPU leaves its logits there, where numpy cannot read them.
            preferred_memory=pb_utils.PreferredMemory(pb_utils.TRITONSERVER_MEMORY_CPU, 0),
        ).exec()
        if response.has_error():
            raise RuntimeError(response.error().message())
        logits: NDArray[np.float32] = pb_utils.get_output_tensor_by_name(response, "logits").as_numpy()
        if not np.isfinite(logits).all():
            raise RuntimeError("the model's logits are not finite numbers")
        return logits

    def _pictures(self, rows: list[list[NDArray[np.float32]]]) -> dict[str, NDArray[Any]]:
        """The pictures of all rows as the model takes them."""
        if self.patch is None:
            arrays = {"pixel_values": np.stack([np.stack(pictures) for pictures in rows])}
        else:
            patches, grid = pack([p for pictures in rows for p in pictures], self.patch, self.least_patches)
            named = {"patches": patches, "patch_grid": grid}
            arrays = {name: value.reshape(len(rows), -1, *value.shape[1:]) for name, value in named.items()}
        # A pair is a dimension of its own, one picture is not.
        return {name: value if len(rows[0]) > 1 else value[:, 0] for name, value in arrays.items()}

    def _response(self, rows: list[NDArray[np.float32]]) -> Any:
        logits = np.stack(rows)
        scores, best = to_scores(logits, self.task), logits.argmax(-1)
        answers = np.array([[self.labels[i].encode()] for i in best], np.object_)
        outputs = {"ANSWER": answers, "SCORE": scores.max(-1, keepdims=True).astype(np.float32), "LOGITS": logits}
        return pb_utils.InferenceResponse([pb_utils.Tensor(name, value) for name, value in outputs.items()])


def _refusal(why: str, asked_wrongly: bool = True) -> Any:
    kind = pb_utils.TritonError.INVALID_ARG if asked_wrongly else pb_utils.TritonError.INTERNAL
    return pb_utils.InferenceResponse(output_tensors=[], error=pb_utils.TritonError(why, kind))
