"""Text and pictures into the arrays that a checkpoint takes, by the checkpoint's own files."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pumer_convert.checkpoint.read import open_checkpoint
from pumer_convert.data.augment import RandAugment
from pumer_convert.data.image import at_size, image_settings
from pumer_convert.data.pixels import ImageSettings, to_pixels
from pumer_convert.errors import InputError, MissingDependencyError
from pumer_convert.models import FAMILIES
from pumer_convert.plan import family_module
from pumer_convert.weights import PROCESSOR, processor_of

TOKENIZERS = ("tokenizer.json", "vocab.json", "vocab.txt", "tokenizer.model")
_WEIGHTS = (".safetensors", ".bin", ".ckpt", ".pt", ".pth")


@dataclass(frozen=True)
class Preprocessor:
    """Makes a model's inputs; needs numpy and PIL, and transformers for the tokenizer alone.

    `longest` is the longest text in tokens, special ones included; `pad_id` fills shorter ones on the right. With
    `pad_to` every text becomes that long exactly, as an engine of one shape wants it. `augment` is used on training
    pictures only.
    """

    image: ImageSettings
    tokenizer: Any
    longest: int
    pad_id: int
    pad_to: int | None = None
    augment: RandAugment | None = None

    @classmethod
    def of(
        cls,
        checkpoint: Path | str,
        *,
        image_size: int | tuple[int, int] | None = None,
        pad_to: int | None = None,
        fit: str | None = None,
        augment: RandAugment | None = None,
    ) -> "Preprocessor":
        """The preprocessing of a checkpoint folder: its config.json, its processor's file and its tokenizer.

        `image_size` instead of the processor's and the config's own; `fit` see `at_size`. Raises InputError when a
        file is missing or says something impossible, MissingDependencyError without transformers.
        """
        folder = Path(checkpoint)
        config, values = _settings(folder)
        image = image_settings(values, family_module(config["model_type"]).IMAGE_PROCESSOR)
        size = image_size or image.size or config["image_size"]
        tokenizer = load_tokenizer(folder)
        longest: int = family_module(config["model_type"]).outline(config).max_text
        limit = getattr(tokenizer, "model_max_length", None)
        longest = min(longest, limit) if limit else longest
        if pad_to is not None and not 2 <= pad_to <= longest:
            raise InputError(f"{folder}: a text of {pad_to} tokens does not fit; this model takes 2 to {longest}.")
        pad = config.get("text", config).get("pad_token_id")
        pad = tokenizer.pad_token_id if pad is None else pad
        return cls(
            image=at_size(image, _sides(size), fit),
            tokenizer=tokenizer,
            longest=pad_to or longest,
            pad_id=int(pad or 0),
            pad_to=pad_to,
            augment=augment,
        )

    @classmethod
    def of_sidecar(cls, values: Mapping[str, Any], folder: Path) -> "Preprocessor":
        """The preprocessing that the sidecar of an exported model tells (export/describe.py), with the tokenizer that
        lies in `folder`. Raises InputError and MissingDependencyError as `of` does."""
        if not values["preprocessing"]:
            raise InputError(f"{folder}: the sidecar tells no preprocessing; export a checkpoint with {PROCESSOR}.")
        tokenizer = load_tokenizer(folder, values["model"])
        image = image_settings(values["preprocessing"], family_module(values["model"]).IMAGE_PROCESSOR)
        limit = getattr(tokenizer, "model_max_length", None) or values["text"]["longest"]
        pad = values["text"]["pad_token_id"]
        return cls(
            image=at_size(image, _sides(values["image_size"])),
            tokenizer=tokenizer,
            longest=min(int(values["text"]["longest"]), limit),
            pad_id=int((tokenizer.pad_token_id if pad is None else pad) or 0),
        )

    def text(self, texts: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """input_ids and attention_mask, int64 [B, T]; T is `pad_to`, or the longest of these texts."""
        # One by one: a batch would start the tokenizer's threads, which do not survive the fork of a worker.
        tokens = [self.tokenizer(t, truncation=True, max_length=self.longest)["input_ids"] for t in texts]
        length = self.pad_to or max(map(len, tokens))
        ids = np.full((len(tokens), length), self.pad_id, np.int64)
        mask = np.zeros_like(ids)
        for row, found in enumerate(tokens):
            ids[row, : len(found)], mask[row, : len(found)] = found, 1
        return ids, mask

    def pixels(self, image: Image.Image, random: np.random.Generator | None = None) -> NDArray[np.float32]:
        """float32 [3, H, W]; augmented when `random` is given and there is something to augment with."""
        if random is not None and self.augment is not None:
            image = self.augment(image.convert("RGB"), random)
        return to_pixels(image, self.image)


def load_tokenizer(folder: Path, family: str | None = None) -> Any:
    """The tokenizer in a folder, of the family that its config.json names unless it is given.

    Raises InputError when it has none that works.
    """
    files = [name for name in TOKENIZERS if (folder / name).exists()]
    if not files:  # transformers would make up an empty one
        raise InputError(f"{folder}: there is no tokenizer ({', '.join(TOKENIZERS)}); copy its files there.")
    try:
        import transformers
    except ImportError:
        raise MissingDependencyError("text needs the package transformers: pip install transformers.") from None
    try:
        if family is None and (folder / "config.json").exists():
            family = _json(folder / "config.json").get("model_type")
        if family == "meter":
            # No model of transformers has that name, by which AutoTokenizer would choose: METER's text is RoBERTa's.
            if files[0] == "tokenizer.json":
                return transformers.PreTrainedTokenizerFast(tokenizer_file=str(folder / files[0]))  # type: ignore[no-untyped-call]
            return transformers.RobertaTokenizer.from_pretrained(folder)
        return transformers.AutoTokenizer.from_pretrained(folder)
    except (OSError, ValueError, KeyError, TypeError, ImportError) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InputError(f"{folder}: its tokenizer cannot be loaded ({first}).") from None


def _settings(folder: Path) -> tuple[dict[str, Any], Mapping[str, Any]]:
    # An engine's folder may hold no weights, by which a checkpoint is opened.
    values = processor_of(folder, folder.glob("*.json"))
    if values is not None and (folder / "config.json").exists():
        config = _json(folder / "config.json")
        family = config.get("model_type")
        whole = any(file.suffix in _WEIGHTS for file in folder.iterdir())
        if not whole and isinstance(family, str) and family in FAMILIES and "image_size" in config:
            return family_module(family).checked(config, folder), values
    checkpoint = open_checkpoint(folder)
    return checkpoint.config, checkpoint.processor or {}


def _sides(size: Any) -> tuple[int, int]:
    """(height, width) of an image size S or [H, W]."""
    height, width = (size, size) if isinstance(size, int) else size
    return int(height), int(width)


def _json(file: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(file.read_text("utf-8")))
    except (ValueError, TypeError, OSError) as error:
        raise InputError(f"{file}: not readable as a JSON object ({error}).") from None
