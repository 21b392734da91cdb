"""Text and pictures into the arrays that a checkpoint takes, by the checkpoint's own files."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
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
from pumer_convert.data.tokenizer import fitted, load_tokenizer
from pumer_convert.errors import InputError
from pumer_convert.image_processor.patches import pack, together
from pumer_convert.image_processor.picture_input import input_of, settings_of
from pumer_convert.image_processor.pixels import MOST, ImageSettings, to_pixels
from pumer_convert.image_processor.tiles import to_tiles
from pumer_convert.models.family import FAMILIES, family_of
from pumer_convert.models.inputs import GRID, IDS, MASK, PATCHES, PIXELS, PictureInput, TextInput
from pumer_convert.system.json_file import read_object
from pumer_convert.weights import PROCESSOR, Checkpoint, processor_of

NO_PICTURES = "the model takes no pictures."
_WEIGHTS = (".safetensors", ".bin", ".ckpt", ".pt", ".pth")


@dataclass(frozen=True)
class Preprocessor:
    """Makes a model's inputs; needs numpy and PIL, and for the tokenizer transformers, or beside an exported model
    tokenizers alone.

    `image` says how a picture becomes pixels, `input` how the model takes them, and `texts` how it takes texts; None
    for a graph that takes none. A text longer than `texts.longest`, special tokens included, is cut as the tokenizer's
    truncation_side says (see `cut`). Shorter ones are filled up on the side that the model was trained with, whatever
    the tokenizer's padding_side says. With `pad_to` every text becomes that long exactly, as an engine of one shape
    wants it. `augment` is used on training pictures only.
    """

    image: ImageSettings | None
    input: PictureInput | None
    tokenizer: Any
    texts: TextInput | None
    pad_to: int | None = None
    augment: RandAugment | None = None

    @classmethod
    def of(
        cls,
        checkpoint: Path | str | Checkpoint,
        *,
        image_size: int | tuple[int, int] | None = None,
        pad_to: int | None = None,
        fit: str | None = None,
        augment: RandAugment | None = None,
        graph: str | None = None,
    ) -> "Preprocessor":
        """The preprocessing of a checkpoint folder, or of one that is open: its config.json, its processor's file and
        its tokenizer.

        `image_size` and `fit` see `settings_of`; `graph` is the one whose inputs are to be made (None: all of them), so
        that a tower of pictures needs no tokenizer. Raises InputError when a file is missing or says something
        impossible, or the tokenizer is another model's; MissingDependencyError without transformers.
        """
        if isinstance(checkpoint, Checkpoint):
            folder, (config, values) = checkpoint.path, _settings_of(checkpoint)
        else:
            folder = resolve(checkpoint)
            config, values = _settings(folder)
        family = config["model_type"]
        spec, image, pictures = family_of(family).spec(config), None, None
        graphs = spec.graphs if graph is None else (spec.graph(graph),)
        if spec.image is not None and any(one.pictures for one in graphs):
            image = settings_of(values, family, image_size, fit)
            pictures = input_of(image, family, config)
        texts, tokenizer = spec.text if any(one.text for one in graphs) else None, None
        if texts is not None:
            tokenizer = load_tokenizer(folder, family, config)
            texts = fitted(texts, tokenizer, folder)
            least, most = texts.length or 2, texts.length or texts.longest or pad_to
            if pad_to is not None and most is not None and not least <= pad_to <= most:
                takes = f"{least} to {most}" if least < most else str(most)
                raise InputError(f"{folder}: a text of {pad_to} tokens does not fit; this model takes {takes}.")
        return cls(image, pictures, tokenizer, texts, pad_to, augment)

    @classmethod
    def of_sidecar(cls, values: Mapping[str, Any], folder: Path) -> "Preprocessor":
        """The preprocessing that the sidecar of an exported model tells (artifact/describe.py), with the tokenizer that
        was exported with it into `folder`, or else the one whose files lie there.

        Raises InputError and MissingDependencyError as `of` does.
        """
        image, pictures = None, PictureInput.of_sidecar(values)
        if pictures is not None:
            if not values["preprocessing"]:
                raise InputError(f"{folder}: the sidecar tells no preprocessing; export a checkpoint with {PROCESSOR}.")
            # Version 0.1 knew one size alone, and wrote no more of pictures.
            asked = values["pictures"]["asked"] if values.get("pictures") else values["image_size"]
            image = settings_of(values["preprocessing"], values["model"], asked)
        texts, tokenizer = TextInput.of_sidecar(values), None
        if texts is not None:
            entry = values["text"].get("tokenizer")
            tokenizer = read_served(entry, folder) if entry else None
            if tokenizer is not None:
                texts = replace(texts, longest=entry["longest"], pad_id=entry["pad_token_id"])
            else:
                tokenizer = load_tokenizer(folder, values["model"])
                texts = fitted(texts, tokenizer, folder)
        return cls(image, pictures, tokenizer, texts)

    @property
    def longest(self) -> int:
        """The longest text in tokens. Raises InputError when the model takes none."""
        return self.pad_to or self._texts.longest or MOST

    @property
    def pad_id(self) -> int:
        """What fills up shorter texts. Raises InputError when the model takes none."""
        return self._texts.pad_id or 0

    @property
    def vocabulary(self) -> int | None:
        """The number of ids that the model has, None where nobody tells."""
        return None if self.texts is None else self.texts.vocabulary

    @property
    def _texts(self) -> TextInput:
        if self.texts is None:
            raise InputError("the model takes no text.")
        return self.texts

    def words(self, texts: Sequence[str]) -> dict[str, NDArray[np.int64]]:
        """The texts as the model takes them, by name; see `text`."""
        ids, mask = self.text(texts)
        return {IDS: ids, MASK: mask} if self._texts.masked else {IDS: ids}

    def text(self, texts: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """input_ids and attention_mask, int64 [B, T]; T is `pad_to`, what the model wants, or the longest of these
        texts. An empty text is one. Raises InputError for what is no text, and for a text with a token that the model
        has not."""
        # One by one: a batch would start the tokenizer's threads, which do not survive the fork of a worker.
        tokens = [self._tokens(text) for text in texts]
        length = self.pad_to or self._texts.length or max(map(len, tokens))
        ids = np.full((len(tokens), length), self.pad_id, np.int64)
        mask = np.zeros_like(ids)
        for row, found in enumerate(tokens):
            place = slice(len(found)) if self._texts.padding == "right" else slice(length - len(found), length)
            ids[row, place], mask[row, place] = found, 1
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
        if self.image is None:
            raise InputError(NO_PICTURES)
        try:
            return to_pixels(image, self.image)
        except ValueError as error:
            raise InputError(f"{name}: {error}.") from None

    @property
    def cuts(self) -> bool:
        """Whether pictures become tiles."""
        return self.image is not None and self.image.tiles

    def tiles(self, image: Image.Image, name: str = "a picture") -> list[NDArray[np.float32]]:
        """The tiles of an upright picture, each as `pixels` gives a picture; where the processor does not cut them, the
        picture alone. Raises InputError as `pixels` does."""
        if self.image is None:
            raise InputError(NO_PICTURES)
        try:
            return to_tiles(image, self.image)
        except ValueError as error:
            raise InputError(f"{name}: {error}.") from None

    def arrange(self, examples: Sequence[Sequence[NDArray[np.float32]]], least: int = 1) -> dict[str, NDArray[Any]]:
        """The pixels of each example's pictures as the model takes them, by name (see `PictureInput.ports`); packed
        patches are `least` or more. Raises InputError for a picture that has no whole patch, and for one with
        more than the model takes."""
        if (own := self.input) is None:
            raise InputError(NO_PICTURES)
        if own.packed:
            try:
                examples = [together(example, own.patch) for example in examples]
            except ValueError as error:
                raise InputError(f"a picture is too thin for the model: {error}.") from None
            count = max((p.shape[1] // own.patch) * (p.shape[2] // own.patch) for e in examples for p in e)
            if own.most is not None and count > own.most:
                raise InputError(
                    f"a picture of {count} patches is too large for the model: its max_image_length is {own.most}, and "
                    "that many would be drawn at random; do_resize can make pictures smaller."
                )
        pictures = [picture for example in examples for picture in example]
        arrays: dict[str, NDArray[Any]] = {}
        if own.packed:
            arrays[PATCHES], arrays[GRID] = pack(pictures, own.patch, least)
        else:
            arrays[PIXELS] = np.stack(pictures)
        if len(examples) == len(pictures):
            return arrays
        return {name: value.reshape(len(examples), -1, *value.shape[1:]) for name, value in arrays.items()}


def _settings(folder: Path) -> tuple[dict[str, Any], Mapping[str, Any]]:
    # An engine's folder may hold no weights, by which a checkpoint is opened.
    values = processor_of(folder, folder.glob("*.json"))
    if values is not None and (folder / "config.json").exists():
        config = read_object(folder / "config.json")
        family = config.get("model_type")
        whole = any(file.suffix in _WEIGHTS for file in folder.iterdir())
        if not whole and isinstance(family, str) and family in FAMILIES:
            return family_of(family).checked(config, folder), values
    return _settings_of(open_checkpoint(folder))


def _settings_of(checkpoint: Checkpoint) -> tuple[dict[str, Any], Mapping[str, Any]]:
    return checkpoint.config, checkpoint.processor or {}
