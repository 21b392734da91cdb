"""METER from a picture file to logits, as the original's own transform and model answer.

The pixels are made here by PIL as the original makes them. An alpha channel is opaque here: the original's "clip"
resizes with it, and a picture's transparency is dropped before that in this project.
"""

import json
import string
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import random_checkpoint
import torch
from PIL import Image

from pumer_convert.convert.load import load
from pumer_convert.export.folder import export_folder
from pumer_convert.runtime.pipeline import Pipeline

NORMAL = {
    "clip": ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "vit": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
}
SIDE = 48
SHAPES = {
    "square.png": ("RGB", 48, 48),
    "wide.jpg": ("RGB", 640, 480),
    "tall.png": ("RGB", 75, 200),
    "odd.png": ("L", 97, 131),
    "small.png": ("RGBA", 31, 17),
    "grey.png": ("LA", 101, 77),
    "palette.gif": ("P", 131, 97),
    "print.jpg": ("CMYK", 200, 151),
    "fax.png": ("1", 203, 101),
    "panorama.bmp": ("RGB", 333, 49),
}
TEXTS = ("what is the color", "", "a", "how many hats hi hi ?", "hi " * 80)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder, random = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    for name, (mode, width, height) in SHAPES.items():
        fields = Image.fromarray(random.integers(0, 255, (6, 7, 3), dtype=np.uint8))
        fields.resize((width, height), Image.Resampling.NEAREST).convert(mode).save(folder / name)
    return [folder / name for name in SHAPES]


def expected(file: Path, key: str) -> torch.Tensor:
    """Pixels [3, S, S]: torchvision's Resize(S, BICUBIC), CenterCrop(S), ToTensor and Normalize, step by step."""
    image = opened(file, "RGBA" if key == "clip" else "RGB")
    width, height = image.size
    short, long = min(width, height), max(width, height)
    if short != SIDE:
        longer = int(SIDE * long / short)
        image = image.resize((SIDE, longer) if width < height else (longer, SIDE), Image.Resampling.BICUBIC)
    top, left = (round((side - SIDE) / 2.0) for side in (image.height, image.width))
    image = image.crop((left, top, left + SIDE, top + SIDE)).convert("RGB")
    return normal(image, key)


def opened(file: Path, mode: str) -> Image.Image:
    with Image.open(file) as image:
        return image.convert(mode)


def normal(image: Image.Image, key: str) -> torch.Tensor:
    mean, std = (torch.tensor(values)[:, None, None] for values in NORMAL[key])
    return (torch.from_numpy(np.array(image)).permute(2, 0, 1).float().div(255) - mean) / std


def tokenizer(folder: Path) -> None:
    """RoBERTa's kind, of letters and few words."""
    pieces = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", "Ġ", *string.ascii_lowercase, *"?.,", "hi", "Ġhi"]
    (folder / "vocab.json").write_text(json.dumps({piece: i for i, piece in enumerate(pieces)}), "utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\nh i\nĠ hi\n", "utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "RobertaTokenizer"}))


def original(folder: Path, task: str, key: str | None) -> Path:
    """A folder with an original .ckpt that names its transform, and a tokenizer."""
    folder.mkdir()
    tokenizer(folder)
    file = random_checkpoint.write(folder / "meter.ckpt", "meter", "original", task, depth=2, fusion=1)
    content = torch.load(file, weights_only=True)
    if key is not None:
        content["hyper_parameters"]["config"] |= {"val_transform_keys": [key], "image_size": SIDE}
    torch.save(content, file)
    return folder


def off(got: Any, want: torch.Tensor) -> float:
    return float(np.abs(got - want.numpy()).max() / want.abs().max())


def answers(path: Path, examples: list[list[Path]], texts: list[str]) -> Any:
    """Logits of files through the pipeline, in one batch."""
    pipeline = Pipeline(path, device="cpu")
    ids, mask = pipeline.preprocessor.text(texts)
    arranged = pipeline.preprocessor.arrange([pipeline.pixels(example) for example in examples])
    return pipeline.runtime(input_ids=ids, attention_mask=mask, **arranged)


def theirs(folder: Path, pixels: torch.Tensor, texts: list[str]) -> torch.Tensor:
    """Logits of the checkpoint's model for these pixels; the goldens hold it to the original's arithmetic."""
    ids, mask = Pipeline(folder, device="cpu").preprocessor.text(texts)
    with torch.no_grad():
        return load(folder)(torch.from_numpy(ids), torch.from_numpy(mask), pixels).logits  # type: ignore[no-any-return]


@pytest.mark.parametrize("key", [None, *NORMAL])
def test_pictures_of_all_shapes_are_answered_as_by_the_original(
    tmp_path: Path, pictures: list[Path], key: str | None
) -> None:
    folder = original(tmp_path / "meter", "vqa", key)
    texts = [TEXTS[i % len(TEXTS)] for i in range(len(pictures))]
    pixels = torch.stack([expected(file, key or "clip") for file in pictures])
    pipeline = Pipeline(folder, device="cpu")
    for file, want in zip(pictures, pixels, strict=True):
        np.testing.assert_allclose(pipeline.pixels(file)[0], want.numpy(), atol=1e-6, err_msg=file.name)
    want = theirs(folder, pixels, texts)
    assert len({tuple(row.tolist()) for row in want}) == len(pictures)
    assert off(answers(folder, [[file] for file in pictures], texts), want) < 1e-5
    alone = np.concatenate([answers(folder, [[f]], [t]) for f, t in zip(pictures[:3], texts[:3], strict=True)])
    assert off(alone, want[:3]) < 1e-5
    if key == "imagenet":
        export_folder(folder)
        assert off(answers(folder / "model.onnx", [[file] for file in pictures], texts), want) < 1e-5


def test_pairs_of_different_shapes(tmp_path: Path, pictures: list[Path]) -> None:
    folder = original(tmp_path / "meter", "nlvr2", "vit")
    pairs = [[pictures[i], pictures[i - 3]] for i in range(5)]
    pixels = torch.stack([torch.stack([expected(file, "vit") for file in pair]) for pair in pairs])
    want = theirs(folder, pixels, list(TEXTS))
    assert off(answers(folder, pairs, list(TEXTS)), want) < 1e-5
    export_folder(folder)
    assert off(answers(folder / "model.onnx", pairs, list(TEXTS)), want) < 1e-5


@pytest.mark.parametrize("form", ["published", "published-dense"])
def test_the_published_folders_squash(tmp_path: Path, pictures: list[Path], form: str) -> None:
    folder = random_checkpoint.write(tmp_path / "pumer", "meter", form)
    tokenizer(folder)
    squashed = [opened(file, "RGB").resize((SIDE, SIDE), Image.Resampling.BICUBIC) for file in pictures]
    pixels = torch.stack([normal(image, "clip") for image in squashed])
    # Padding changes the published semantics' answers: one text for all.
    texts = ["what is the color of the hat hi hi"] * len(pictures)
    pipeline = Pipeline(folder, device="cpu")
    own = torch.stack([torch.from_numpy(pipeline.pixels(file)[0]) for file in pictures])
    torch.testing.assert_close(own, pixels, atol=1e-6, rtol=0)
    # Which of several equal tokens is merged is left to the last bit of a pixel.
    want = theirs(folder, own if form == "published" else pixels, texts)
    assert off(answers(folder, [[file] for file in pictures], texts), want) < 1e-5
