"""Random files beside a config, as transformers and PIL write them: processor, tokenizer, weights, pictures; and texts.

Each function draws from a `random.Random` and writes into a folder; what it drew comes back for messages.
"""

import json
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
import transformers
from PIL import Image
from transformers.models.auto.image_processing_auto import AutoImageProcessor

CLASSES = (*["ViltImageProcessor"] * 17, *["CLIPImageProcessor"] * 2, "ViTImageProcessor")
MEANS = ([0.5] * 3, [0.5] * 3, [0.485, 0.456, 0.406], [0.48145466, 0.4578275, 0.40821073], [0.0] * 3, 0.5)
DEVIATIONS = ([0.5] * 3, [0.5] * 3, [0.229, 0.224, 0.225], [0.26862954, 0.26130258, 0.27577711], [1.0] * 3, 0.25)
LETTERS = "abcdefghijklmnopqrstuvwxyz"
WORDS = (
    *("what", "is", "the", "color", "of", "a", "cat", "dog", "in", "this", "picture", "how", "many", "are", "there"),
    *("two", "Yes", "NO", "Ärger", "é", "東", "京", "?", ".", ",", "'", "1"),
)
STRANGE = ("Zebra", "naïve", "ﬁn", "🙂", "[MASK]", "\u00a0", "x" * 120)
FORMS = {
    "png": ("RGB", "RGB", "L", "LA", "RGBA", "P", "PA", "1"),
    "jpg": ("RGB", "RGB", "RGB", "L", "CMYK"),
    "webp": ("RGB", "RGBA"),
    "gif": ("P", "L"),
    "bmp": ("RGB", "L", "1", "P"),
    "tiff": ("RGB", "L", "LA", "CMYK", "1", "P"),
}
"""Kinds of files and the modes that pictures are saved in."""
ORIENTATION = 0x0112


def write_processor(random: Random, patch: int, folder: Path) -> dict[str, Any]:
    """preprocessor_config.json, or processor_config.json as transformers 5 writes it; sizes are near to multiples of
    the patch."""
    kind = random.choice(CLASSES)

    def side(most: int = 64) -> int:
        return max(8, min(most, patch * random.randint(1, 6)) + random.choice((0, 0, 0, 0, 0, 5)))

    values: dict[str, Any] = {
        "do_resize": random.random() < 0.93,
        "resample": random.choice((3, 3, 3, 3, 2, 2, 0, 1, 4, 5)),
        "do_rescale": random.random() < 0.95,
        "rescale_factor": random.choice((1 / 255, 1 / 255, 1 / 255, 0.00392156862745098, 1 / 127.5)),
        "do_normalize": random.random() < 0.93,
        "image_mean": random.choice(MEANS),
        "image_std": random.choice(DEVIATIONS),
    }
    if kind == "ViltImageProcessor":
        values["size"] = {"shortest_edge": side()}
        values["size_divisor"] = random.choice((patch, patch, patch, 2 * patch, 8, 6))
        values["do_pad"] = random.random() < 0.8
    elif kind == "CLIPImageProcessor":
        values["size"] = {"shortest_edge": side()}
        values["do_center_crop"] = random.random() < 0.8
        values["crop_size"] = {"height": side(), "width": side()}
    else:
        values["size"] = {"height": side(), "width": side()}
    kept = {key: value for key, value in values.items() if key in ("size", "size_divisor") or random.random() < 0.8}
    made = _class(kind)(**kept)
    form = random.choice(("plain", "plain", "nested", "old"))
    if form == "nested":
        inner = {**made.to_dict(), "image_processor_type": kind}
        _json(folder / "processor_config.json", {"image_processor": inner, "processor_class": "ViltProcessor"})
        return {"processor": form, "kind": kind, **kept}
    made.save_pretrained(folder)
    file = folder / "preprocessor_config.json"
    if form == "old" and kind == "ViltImageProcessor":  # as the published files of ViLT
        told = json.loads(file.read_text("utf-8"))
        told.pop("image_processor_type")
        told |= {"feature_extractor_type": "ViltFeatureExtractor", "size": told["size"]["shortest_edge"]}
        _json(file, told)
    return {"processor": form, "kind": kind, **kept}


def _class(kind: str) -> Any:
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
    from transformers.models.vilt.image_processing_pil_vilt import ViltImageProcessorPil
    from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

    classes = (CLIPImageProcessorPil, ViltImageProcessorPil, ViTImageProcessorPil)
    return {made.__name__.removesuffix("Pil"): made for made in classes}[kind]


def write_tokenizer(random: Random, vocabulary: int, folder: Path) -> dict[str, Any]:
    """A BERT tokenizer of at most `vocabulary` words, as vocab.txt, as tokenizer.json, or both."""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *LETTERS]
    others = [*WORDS, *(word.lower() for word in WORDS), *(f"##{letter}" for letter in LETTERS), "[unused0]"]
    words = list(dict.fromkeys([*words, *random.sample(others, len(others))]))
    words = words[: vocabulary - random.choice((0, 0, 0, 3))]
    (folder / "vocab.txt").write_text("\n".join(words) + "\n", "utf-8")
    form = random.choice(("vocab.txt", "vocab.txt and config", "tokenizer.json", "both"))
    if form == "vocab.txt":
        return {"tokenizer": form}
    told = {
        "do_lower_case": random.random() < 0.7,
        "strip_accents": random.choice((None, None, False, True)),
        "tokenize_chinese_chars": random.random() < 0.8,
        "model_max_length": random.choice((40, 512, 7, 10**30)),
        "padding_side": random.choice(("right", "right", "left")),
        "truncation_side": random.choice(("right", "right", "left")),
    }
    told = {key: value for key, value in told.items() if random.random() < 0.6}
    if form == "vocab.txt and config":
        _json(folder / "tokenizer_config.json", {**told, "tokenizer_class": "BertTokenizer"})
        return {"tokenizer": form, **told}
    transformers.BertTokenizer(vocab=str(folder / "vocab.txt"), **told).save_pretrained(folder)
    if form == "tokenizer.json":
        (folder / "vocab.txt").unlink()
    return {"tokenizer": form, **told}


def write_weights(random: Random, model: torch.nn.Module, folder: Path) -> dict[str, Any]:
    """The model in one file or in shards, of safetensors or torch's, in a type that trainers save; and its config."""
    form = random.choice(("safetensors", "safetensors", "shards", "bin"))
    dtype = random.choice(("float32", "float32", "float32", "float16", "bfloat16"))
    model = model.to(getattr(torch, dtype))
    model.save_pretrained(folder, max_shard_size="20KB" if form == "shards" else "1GB")
    if form == "bin":
        (folder / "model.safetensors").unlink()
        torch.save(model.state_dict(), folder / "pytorch_model.bin")
    return {"weights": form, "dtype": dtype}


def write_picture(random: Random, file: Path) -> tuple[Path, str]:
    """A picture of coloured fields in a file of any kind, `file` without its ending; gives it, and what it is."""
    ending = random.choice((*["png"] * 4, *["jpg"] * 4, *FORMS))
    mode = random.choice(FORMS[ending])
    sides = random.choice((*[(17, 120)] * 9, (1, 400)))
    width, height = random.randint(*sides), random.randint(*sides)
    noise = np.random.default_rng(random.getrandbits(32))
    # Fields of one colour in some pictures, noise in others.
    least = random.choice((2, 5, max(width, height)))
    fields = Image.fromarray(noise.integers(0, 256, (min(least, height), min(least, width), 3), dtype=np.uint8))
    image = fields.resize((width, height), Image.Resampling.NEAREST).convert("RGB")
    if mode in ("LA", "RGBA", "PA"):
        image.putalpha(Image.fromarray(noise.integers(0, 256, (height, width), dtype=np.uint8)))
    options: dict[str, Any] = {}
    if mode == "P" and random.random() < 0.5 and ending in ("png", "gif"):
        options["transparency"] = random.randint(0, 3)
    turn = random.choice((None, *range(1, 9)))
    if turn is not None and ending in ("png", "jpg", "webp", "tiff"):
        exif = Image.Exif()
        exif[ORIENTATION] = turn
        options["exif"] = exif
    made = file.with_suffix(f".{ending}")
    image.convert("P" if mode == "PA" else mode).save(made, **options)
    return made, f"{ending} {mode} {width}x{height} turn {turn if 'exif' in options else None}"


def draw_text(random: Random) -> str:
    """A text, perhaps empty, longer than every model takes, or with letters that no vocabulary has."""
    count = random.choice((0, 1, 4, 8, 15, 60))
    return " ".join(random.choice((*WORDS, *STRANGE)) for _ in range(count))


def processor_of(folder: Path) -> Any:
    """transformers' processor of pictures by the folder's files."""
    return AutoImageProcessor.from_pretrained(folder)


def _json(file: Path, values: dict[str, Any]) -> None:
    file.write_text(json.dumps(values, indent=2), "utf-8")
