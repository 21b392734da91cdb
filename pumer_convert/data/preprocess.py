"""Text and pictures into the arrays that a checkpoint takes, by the checkpoint's own files."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pumer_convert.checkpoint.locate import resolve
from pumer_convert.checkpoint.read import open_checkpoint
from pumer_convert.data.augment import RandAugment
from pumer_convert.data.sample import fault_of_text
from pumer_convert.data.served_tokenizer import read_served
from pumer_convert.data.tokenizer import check_tokenizer, load_tokenizer, longest_of, pad_id_of
from pumer_convert.errors import InputError
from pumer_convert.image_processor.patches import pack, together
from pumer_convert.image_processor.picture_input import input_of, settings_of
from pumer_convert.image_processor.pixels import ImageSettings, to_pixels
from pumer_convert.models.family import FAMILIES, family_module
from pumer_convert.models.inputs import GRID, PATCHES, PIXELS, PictureInput
from pumer_convert.system.json_file import read_object
from pumer_convert.weights import PROCESSOR, Checkpoint, processor_of

_WEIGHTS = (".safetensors", ".bin", ".ckpt", ".pt", ".pth")


@dataclass(frozen=True)
class Preprocessor:
    """Makes a model's inputs; needs numpy and PIL, and for the tokenizer transformers, or beside an exported model
    tokenizers alone.

    `longest` is the longest text in tokens, special ones included; a longer one is cut as the tokenizer's
    truncation_side says (see `cut`). `pad_id` fills shorter ones on the right, whatever padding_side says: the models
    count positions from the left. With `pad_to` every text becomes that long exactly, as an engine of one shape wants
    it. `vocabulary` is the number of ids that the model has, None where nobody tells. `augment` is used on training
    pictures only. `image` says how a picture becomes pixels, `input` how the model takes them.
    """

    image: ImageSettings
    input: PictureInput
    tokenizer: Any
    longest: int
    pad_id: int
    pad_to: int | None = None
    augment: RandAugment | None = None
    vocabulary: int | None = None

    @classmethod
    def of(
        cls,
        checkpoint: Path | str | Checkpoint,
        *,
        image_size: int | tuple[int, int] | None = None,
        pad_to: int | None = None,
        fit: str | None = None,
        augment: RandAugment | None = None,
    ) -> "Preprocessor":
        """The preprocessing of a checkpoint folder, or of one that is open: its config.json, its processor's file and
        its tokenizer.

        `image_size` and `fit` see `settings_of`. Raises InputError when a file is missing or says something
        impossible, or the tokenizer is another model's; MissingDependencyError without transformers.
        """
        if isinstance(checkpoint, Checkpoint):
            folder, (config, values) = checkpoint.path, _settings_of(checkpoint)
        else:
            folder = resolve(checkpoint)
            config, values = _settings(folder)
        image = settings_of(values, config["model_type"], image_size, fit)
        tokenizer = load_tokenizer(folder, config["model_type"])
        spec = family_module(config["model_type"]).spec(config)
        longest = longest_of(tokenizer, folder, spec.max_text)
        if pad_to is not None and not 2 <= pad_to <= longest:
            raise InputError(f"{folder}: a text of {pad_to} tokens does not fit; this model takes 2 to {longest}.")
        pad = pad_id_of(tokenizer, config.get("text", config).get("pad_token_id"))
        check_tokenizer(tokenizer, folder, spec.vocabulary, pad)
        return cls(
            image=image,
            input=input_of(image, config["model_type"], config),
            tokenizer=tokenizer,
            longest=pad_to or longest,
            pad_id=pad,
            pad_to=pad_to,
            augment=augment,
            vocabulary=spec.vocabulary,
        )

    @classmethod
    def of_sidecar(cls, values: Mapping[str, Any], folder: Path) -> "Preprocessor":
        """The preprocessing that the sidecar of an exported model tells (artifact/describe.py), with the tokenizer that
        was exported with it into `folder`, or else the one whose files lie there.

        Raises InputError and MissingDependencyError as `of` does.
        """
        if not values["preprocessing"]:
            raise InputError(f"{folder}: the sidecar tells no preprocessing; export a checkpoint with {PROCESSOR}.")
        text = values["text"]
        served = read_served(text["tokenizer"], folder) if text.get("tokenizer") else None
        # Version 0.1 knew one size alone, and wrote no more of pictures.
        asked = values["pictures"]["asked"] if values.get("pictures") else values["image_size"]
        image = settings_of(values["preprocessing"], values["model"], asked)
        vocabulary = text.get("vocab_size")
        if served is not None:
            tokenizer, longest, pad = served, text["tokenizer"]["longest"], text["tokenizer"]["pad_token_id"]
        else:
            tokenizer = load_tokenizer(folder, values["model"])
            longest = longest_of(tokenizer, folder, int(text["longest"]))
            pad = pad_id_of(tokenizer, text["pad_token_id"])
            check_tokenizer(tokenizer, folder, vocabulary, pad)
        return cls(
            image=image,
            input=_input_of_sidecar(values),
            tokenizer=tokenizer,
            longest=longest,
            pad_id=pad,
            vocabulary=vocabulary,
        )

    def text(self, texts: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """input_ids and attention_mask, int64 [B, T]; T is `pad_to`, or the longest of these texts. An empty text is
        one. Raises InputError for what is no text, and for a text with a token that the model has not."""
        # One by one: a batch would start the tokenizer's threads, which do not survive the fork of a worker.
        tokens = [self._tokens(text) for text in texts]
        length = self.pad_to or max(map(len, tokens))
        ids = np.full((len(tokens), length), self.pad_id, np.int64)
        mask = np.zeros_like(ids)
        for row, found in enumerate(tokens):
            ids[row, : len(found)], mask[row, : len(found)] = found, 1
        return ids, mask

    def cut(self, texts: Sequence[str]) -> str:
        """A sentence that says how many of the texts are longer than `longest` and so are cut; "" when none is."""
        # No token is shorter than a byte, and two stand at the ends, so few texts have to be looked at.
        long = [text for text in texts if len(text.encode("utf-8", "replace")) > self.longest - 2]
        cut = sum(len(self.tokenizer(text, verbose=False)["input_ids"]) > self.longest for text in long)
        if not cut:
            return ""
        were = "text was" if len(texts) == 1 else "texts were"
        return f"{cut} of {len(texts)} {were} longer than {self.longest} tokens and cut."

    def _tokens(self, text: str) -> list[int]:
        if fault := fault_of_text(text):
            raise InputError(fault)
        found: list[int] = self.tokenizer(text, truncation=True, max_length=self.longest)["input_ids"]
        if not found:
            raise InputError(f"the text {text[:40]!r} has no token, and this tokenizer adds none.")
        if self.vocabulary is not None and max(found) >= self.vocabulary:
            token = self.tokenizer.convert_ids_to_tokens(max(found))
            raise InputError(
                f"the text {text[:40]!r} holds the token '{token}' with the id {max(found)}, but the model has a table "
                f"of {self.vocabulary}: it was added to the tokenizer and not to the model."
            )
        return found

    def pixels(
        self, image: Image.Image, random: np.random.Generator | None = None, name: str = "a picture"
    ) -> NDArray[np.float32]:
        """float32 [3, H, W] of an upright picture; augmented when `random` is given and there is something to augment
        with. Raises InputError that begins with `name` for a picture too thin to be resized."""
        if random is not None and self.augment is not None:
            image = self.augment(image.convert("RGB"), random)
        try:
            return to_pixels(image, self.image)
        except ValueError as error:
            raise InputError(f"{name}: {error}.") from None

    def arrange(self, examples: Sequence[Sequence[NDArray[np.float32]]], least: int = 1) -> dict[str, NDArray[Any]]:
        """The pixels of each example's pictures as the model takes them, by name (see `PictureInput.ports`); packed
        patches are `least` or more. Raises InputError for a picture that has no whole patch, and for one with
        more than the model takes."""
        if self.input.packed:
            try:
                examples = [together(example, self.input.patch) for example in examples]
            except ValueError as error:
                raise InputError(f"a picture is too thin for the model: {error}.") from None
            count = max(
                (p.shape[1] // self.input.patch) * (p.shape[2] // self.input.patch) for e in examples for p in e
            )
            if self.input.most is not None and count > self.input.most:
                raise InputError(
                    f"a picture of {count} patches is too large for the model: its max_image_length is "
                    f"{self.input.most}, and that many would be drawn at random; do_resize can make pictures smaller."
                )
        pictures = [picture for example in examples for picture in example]
        arrays: dict[str, NDArray[Any]] = {}
        if self.input.packed:
            arrays[PATCHES], arrays[GRID] = pack(pictures, self.input.patch, least)
        else:
            arrays[PIXELS] = np.stack(pictures)
        if len(examples) == len(pictures):
            return arrays
        return {name: value.reshape(len(examples), -1, *value.shape[1:]) for name, value in arrays.items()}


def _input_of_sidecar(values: Mapping[str, Any]) -> PictureInput:
    if (told := values.get("pictures")) is None:
        height, width = values["image_size"]
        return PictureInput.fixed(2 if values["task"] == "nlvr2" else 1, 1, (int(height), int(width)))
    size = told["size"]
    numbers = {name: told[name] for name in ("images", "patch", "fewest", "usual", "most")}
    return PictureInput(size=None if size is None else (int(size[0]), int(size[1])), **numbers, limit=told.get("limit"))


def _settings(folder: Path) -> tuple[dict[str, Any], Mapping[str, Any]]:
    # An engine's folder may hold no weights, by which a checkpoint is opened.
    values = processor_of(folder, folder.glob("*.json"))
    if values is not None and (folder / "config.json").exists():
        config = read_object(folder / "config.json")
        family = config.get("model_type")
        whole = any(file.suffix in _WEIGHTS for file in folder.iterdir())
        if not whole and isinstance(family, str) and family in FAMILIES and "image_size" in config:
            return family_module(family).checked(config, folder), values
    return _settings_of(open_checkpoint(folder))


def _settings_of(checkpoint: Checkpoint) -> tuple[dict[str, Any], Mapping[str, Any]]:
    return checkpoint.config, checkpoint.processor or {}
