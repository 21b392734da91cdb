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
"""The tokens of one text, and the pixels of its pictures; empty for a model that takes none."""
Outputs = dict[str, NDArray[Any]]
"""What the model gives for one row, by name."""


class TritonPythonModel:
    """Prepares what the model takes, calls it, and puts its logits into words."""

    def initialize(self, args: dict[str, str]) -> None:
        """Read the settings that lie beside this file."""
        here = Path(args["model_repository"]) / args["model_version"]
        told = json.loads((here / "front.json").read_text("utf-8"))
        self.model, self.task, self.labels = told["model"], told["task"], told["labels"]
        self.outputs, self.most, self.padding_matters = told["outputs"], told["most_batch"], told["padding_matters"]
        self.image = None if told["image"] is None else ImageSettings(**told["image"])
        self.patch, self.least_patches, self.most_patches = (
            told.get(name) for name in ("patch", "least_patches", "most_patches")
        )
        self.text = told["text"]
        if self.text is not None:
            self.tokenizer = Tokenizer.from_file(str(here / "tokenizer.json"))
            self.tokenizer.no_padding()
            self.tokenizer.enable_truncation(self.text["truncated_to"], direction=self.text["truncation_side"])

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
        given = {
            name: pb_utils.get_input_tensor_by_name(request, name).as_numpy()
            for name, taken in (("IMAGE", self.image), ("TEXT", self.text))
            if taken is not None
        }
        counts = {name: len(value) for name, value in given.items()}
        if len(set(counts.values())) > 1:  # the rest of the shapes is checked by Triton
            return f"{counts['IMAGE']} row(s) of IMAGE, but {counts['TEXT']} of TEXT"
        count = next(iter(counts.values()))
        found = [[]] * count if self.text is None else self._tokens(given["TEXT"])
        if isinstance(found, str):
            return found
        try:
            pictures = given["IMAGE"] if self.image is not None else [[]] * count
            rows = [(tokens, self._pixels(own)) for tokens, own in zip(found, pictures, strict=True)]
        except ValueError as error:
            return f"IMAGE cannot be read: {error}"
        for picture in (picture for _, pictures in rows for picture in pictures):
            count = self._patches(picture)
            if self.most_patches is not None and count > self.most_patches:
                return f"IMAGE has {count} patches, and the model here takes {self.most_patches} at most"
        return rows

    def _tokens(self, texts: NDArray[Any]) -> list[list[int]] | str:
        """The tokens of every text; or why there are none."""
        own = self.text
        try:
            tokens: list[list[int]] = [self.tokenizer.encode(text.decode("utf-8")).ids for (text,) in texts]
        except UnicodeDecodeError as error:
            return f"TEXT is not UTF-8 ({error})"
        if own["vocab_size"] is not None and max(map(max, tokens)) >= own["vocab_size"]:
            return "TEXT holds a token that was added to the tokenizer and not to the model"
        for length in map(len, tokens):
            if length > own["longest"] or (self.padding_matters and length < own["least"]):
                return f"TEXT has {length} tokens, and the model here takes {own['least']} to {own['longest']}"
        return tokens

    def _pixels(self, pictures: NDArray[Any]) -> list[NDArray[np.float32]]:
        if self.image is None:
            return []
        pixels = [to_pixels(open_picture(picture), self.image) for picture in pictures]
        return pixels if self.patch is None else together(pixels, self.patch)

    def _patches(self, picture: NDArray[np.float32]) -> int:
        """How many whole patches a picture has; 0 for a model that takes pixels."""
        height, width = picture.shape[-2:]
        return 0 if self.patch is None else (height // self.patch) * (width // self.patch)

    def _ask(self, rows: list[Row]) -> list[Outputs]:
        """What the model gives for every row. A batch is padded to its longest text, or, where padding would change
        the answers, made of texts of one length."""
        lengths = [len(tokens) for tokens, _ in rows]
        alike = {n: [i for i, own in enumerate(lengths) if own == n] for n in set(lengths)}
        answered: dict[int, Outputs] = {}
        for places in alike.values() if self.padding_matters else [range(len(rows))]:
            for start in range(0, len(places), self.most):
                part = places[start : start + self.most]
                answered |= zip(part, self._run([rows[i] for i in part]), strict=True)
        return [answered[i] for i in range(len(rows))]

    def _run(self, rows: list[Row]) -> list[Outputs]:
        arrays = self._words([tokens for tokens, _ in rows]) if self.text is not None else {}
        arrays |= self._pictures([pictures for _, pictures in rows]) if self.image is not None else {}
        response = pb_utils.InferenceRequest(
            model_name=self.model,
            requested_output_names=self.outputs,
            inputs=[pb_utils.Tensor(name, value) for name, value in arrays.items()],
            # Else a model on a GPU leaves its outputs there, where numpy cannot read them.
            preferred_memory=pb_utils.PreferredMemory(pb_utils.TRITONSERVER_MEMORY_CPU, 0),
        ).exec()
        if response.has_error():
            raise RuntimeError(response.error().message())
        values = {name: pb_utils.get_output_tensor_by_name(response, name).as_numpy() for name in self.outputs}
        for name, value in values.items():
            if not np.isfinite(value).all():
                raise RuntimeError(f"the model's {name} are not finite numbers")
        return [{name: value[row] for name, value in values.items()} for row in range(len(rows))]

    def _words(self, tokens: list[list[int]]) -> dict[str, NDArray[Any]]:
        """The texts of all rows as the model takes them."""
        own = self.text
        length = own["length"] or max(own["least"], *map(len, tokens))
        ids = np.full((len(tokens), length), own["pad_token_id"], np.int64)
        mask = np.zeros_like(ids)
        for i, found in enumerate(tokens):
            place = slice(len(found)) if own["padding"] == "right" else slice(length - len(found), length)
            ids[i, place], mask[i, place] = found, 1
        return {"input_ids": ids, "attention_mask": mask} if own["masked"] else {"input_ids": ids}

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

    def _response(self, rows: list[Outputs]) -> Any:
        values = {name: np.stack([row[name] for row in rows]) for name in self.outputs}
        outputs = {name.upper(): value for name, value in values.items()}
        if self.labels is not None:
            scores, best = to_scores(values["logits"], self.task), values["logits"].argmax(-1)
            outputs["ANSWER"] = np.array([[self.labels[i].encode()] for i in best], np.object_)
            outputs["SCORE"] = scores.max(-1, keepdims=True).astype(np.float32)
        return pb_utils.InferenceResponse([pb_utils.Tensor(name, value) for name, value in outputs.items()])


def _refusal(why: str, asked_wrongly: bool = True) -> Any:
    kind = pb_utils.TritonError.INVALID_ARG if asked_wrongly else pb_utils.TritonError.INTERNAL
    return pb_utils.InferenceResponse(output_tensors=[], error=pb_utils.TritonError(why, kind))
