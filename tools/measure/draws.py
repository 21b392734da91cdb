"""Random folders as transformers saves them, answered from picture files and texts (tools/measure/property_draws.py).

What a folder says is drawn by draw_config.py and draw_files.py; here it is held: the logits of `Pipeline` are those of
transformers' own processor, tokenizer and model, each example alone, or the folder is refused and the key named.
"""

import json
import re
import warnings
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from random import Random
from typing import Any

import draw_files
import numpy as np
import torch
import transformers
from draw_config import HEADS, draw_config
from PIL import Image
from transformers.image_utils import load_image

from pumer_convert.errors import InputError
from pumer_convert.export.folder import export_folder
from pumer_convert.runtime.pipeline import Pipeline

LIMIT = 1e-5
"""How far logits may be from transformers', as a share of the largest."""
ROUNDED = 1e-3
"""How far in float32 where float64 agrees: large random weights make much of a rounding."""
EXPORTED = 25
"""Of so many seeds one is exported as well, and answered by its ONNX file."""
EXAMPLES = 3


@dataclass(frozen=True)
class Draw:
    """A folder and what it is asked: picture files and a text for each example. `told` is all that was drawn."""

    folder: Path
    pictures: list[list[Path]]
    texts: list[str]
    told: dict[str, Any]


@dataclass(frozen=True)
class Outcome:
    """What came of a draw: how far the logits are from transformers', or the sentence that refused the folder."""

    told: dict[str, Any]
    off: float | None = None
    refused: str | None = None

    @property
    def key(self) -> str | None:
        """The key of a file that the refusal names."""
        forms = r"has {0} |says '{0}'|\b{0} is |\b{0} [\d{{\[]"
        keys = (key for key in self.told if re.search(forms.format(key), self.refused or ""))
        return next(keys, None)

    @property
    def problem(self) -> str | None:
        """What is wrong with it: logits that differ, or a refusal that names no key; None: nothing."""
        if self.off is not None:
            return None if self.off < LIMIT else f"off by {self.off:.1e}: {json.dumps(self.told)}"
        return None if self.key else f"refused without a key ({self.refused}): {json.dumps(self.told)}"


def random_weights(model: torch.nn.Module) -> None:
    """Draws the weights of transformers' model again, large enough that attention is not flat."""
    for name, parameter in model.named_parameters():
        scale = 0.12 if "embeddings" in name or parameter.dim() < 2 else 1.2 / parameter[0].numel() ** 0.5
        torch.nn.init.normal_(parameter, mean=float(parameter.dim() == 1 and name.endswith("weight")), std=scale)


def write(random: Random, folder: Path) -> Draw:
    """Draws and writes a folder and what it is asked."""
    config = transformers.ViltConfig(**(told := draw_config(random)))
    folder.mkdir(parents=True)
    torch.manual_seed(random.getrandbits(32))
    model = getattr(transformers, told["architectures"][0])(config)
    random_weights(model)
    told = {
        **told,
        **draw_files.write_weights(random, model, folder),
        **draw_files.write_tokenizer(random, config.vocab_size, folder),
        **draw_files.write_processor(random, config.patch_size, folder),
    }
    takes = config.num_images if told["architectures"] == [HEADS[1]] else 1
    place = folder / "pictures"
    place.mkdir()
    drawn = [[draw_files.write_picture(random, place / f"{i}-{k}") for k in range(takes)] for i in range(EXAMPLES)]
    texts = [draw_files.draw_text(random) for _ in range(EXAMPLES)]
    asked = {"pictures": [[what for _, what in example] for example in drawn], "texts": texts}
    return Draw(folder, [[file for file, _ in example] for example in drawn], texts, told | asked)


def theirs(draw: Draw, dtype: str = "float32") -> np.ndarray[Any, Any] | None:
    """Logits [examples, labels] of transformers, each example alone; None where its model draws some of the patches at
    random. Raises whatever transformers raises for values that it can save and not use."""
    kind = getattr(transformers, draw.told["architectures"][0])
    model = kind.from_pretrained(draw.folder, attn_implementation="eager", dtype=getattr(torch, dtype)).eval()
    make = draw_files.processor_of(draw.folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(draw.folder)
    longest = min(tokenizer.model_max_length, model.config.max_position_embeddings)
    rows = []
    for files, text in zip(draw.pictures, draw.texts, strict=True):
        with warnings.catch_warnings(action="ignore"):  # PIL's, of what RGB loses
            # From bytes: of a TIFF that lies on its side PIL mixes the sides up where it maps the file.
            images = [load_image(Image.open(BytesIO(file.read_bytes()))) for file in files]
        seen = make(images, return_tensors="pt")
        if 0 <= model.config.max_image_length < _most_patches(seen, model.config.patch_size):
            return None
        given = {**seen, "pixel_values": seen["pixel_values"].to(model.dtype)}
        pair = {name: value[None] if len(files) > 1 else value for name, value in given.items()}
        words = tokenizer(text, truncation=True, max_length=longest, return_tensors="pt")
        with torch.no_grad():
            rows.append(model(input_ids=words["input_ids"], attention_mask=words["attention_mask"], **pair).logits[0])
    return torch.stack(rows).numpy()


def _most_patches(seen: Any, patch: int) -> int:
    """Patches of the picture with most, as transformers' model counts them."""
    pixels = seen["pixel_values"]
    mask = seen.get("pixel_mask", torch.ones_like(pixels[:, 0]))[:, None].float()
    size = [side // patch for side in pixels.shape[-2:]]
    return int(torch.nn.functional.interpolate(mask, size=size).sum((1, 2, 3)).max())


def ours(draw: Draw, path: Path, **options: Any) -> np.ndarray[Any, Any]:
    """The same of the pipeline of a folder or of an exported file, all examples in one batch."""
    pipeline = Pipeline(path, device="cpu", **options)
    words = pipeline.preprocessor.words(draw.texts)
    arranged = pipeline.preprocessor.arrange([pipeline.pixels(files) for files in draw.pictures])
    return pipeline.runtime(**words, **arranged)


def outcome(seed: int, place: Path) -> Outcome:
    """Draws below the new folder `place` until transformers answers, and compares."""
    for attempt in range(100):
        draw = write(Random(f"{seed}.{attempt}"), place / str(attempt))
        try:
            want = theirs(draw)
        except Exception:  # whatever transformers' own code, torch and PIL raise
            continue
        if want is None or np.isfinite(want).all():
            return _compared(draw, want, exported=seed % EXPORTED == 0)
    raise AssertionError(f"seed {seed}: transformers answers none of the draws.")


def _compared(draw: Draw, want: np.ndarray[Any, Any] | None, exported: bool) -> Outcome:
    off = 0.0
    try:
        for path in (draw.folder, *([draw.folder / "model.onnx"] if exported else [])):
            if path.suffix:
                export_folder(draw.folder)
            found = _off(ours(draw, path), want)
            if LIMIT <= found < ROUNDED:
                found = _off(ours(draw, draw.folder, dtype="float64"), theirs(draw, "float64"))
            off = max(off, found)
    except InputError as error:
        return Outcome(draw.told, refused=str(error))
    return Outcome(draw.told, off=off)


def _off(got: np.ndarray[Any, Any], want: np.ndarray[Any, Any] | None) -> float:
    """How far logits are from those wanted, as a share of the largest; infinite where there are none."""
    if want is None or got.shape != want.shape:
        return float("inf")
    return float(np.abs(got - want).max() / np.abs(want).max())
