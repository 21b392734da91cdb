"""Pictures to pixels, texts to tokens, and batches that are the same whoever makes them."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from pictures import noise, picture
from PIL import Image

from pumer_convert.data.augment import CHANGES, DIRECTED, UNDIRECTED, RandAugment
from pumer_convert.data.preprocess import load_tokenizer
from pumer_convert.data.sample import FilePicture, Sample
from pumer_convert.demo import CHECKPOINT
from pumer_convert.errors import InputError
from pumer_convert.image_processor.pixels import ImageSettings, to_pixels
from pumer_convert.image_processor.settings import at_size, image_settings
from pumer_convert.models.inputs import PictureInput
from pumer_convert.tasks import open_task
from pumer_convert.tasks.batches import Batch, Preprocessor, batch_count, batches


def processor(kind: str, size: Any) -> tuple[Any, dict[str, Any]]:
    """transformers' PIL processor and its preprocessor_config.json."""
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
    from transformers.models.vilt.image_processing_pil_vilt import ViltImageProcessorPil

    made = ViltImageProcessorPil(size=size) if kind == "vilt" else CLIPImageProcessorPil(size=size)
    return made, made.to_dict()


@pytest.mark.parametrize("side", [300, 384, 500])
def test_a_square_picture_is_as_vilts_processor_makes_it(side: int) -> None:
    theirs, values = processor("vilt", {"shortest_edge": 384})
    image = noise(side, side)
    ours = to_pixels(image, image_settings(values, ""))
    np.testing.assert_allclose(ours, theirs(image)["pixel_values"][0], atol=1e-6, rtol=0)


@pytest.mark.parametrize("shape", [(224, 224), (300, 300), (640, 480), (333, 500), (500, 225), (100, 150)])
@pytest.mark.parametrize("size", [{"shortest_edge": 224}, {"height": 224, "width": 224}, {"shortest_edge": 256}])
def test_any_picture_is_as_clips_processor_makes_it(shape: tuple[int, int], size: dict[str, int]) -> None:
    theirs, values = processor("clip", size)
    image = noise(*shape)
    ours = to_pixels(image, image_settings(values, ""))
    np.testing.assert_allclose(ours, theirs(image)["pixel_values"][0], atol=1e-6, rtol=0)


def test_the_pixels_of_a_rectangle_and_of_another_size() -> None:
    _, values = processor("clip", {"shortest_edge": 224})
    settings = image_settings(values, "")
    assert to_pixels(noise(64, 48), at_size(settings, (32, 96))).shape == (3, 32, 96)
    assert to_pixels(noise(48, 64), at_size(settings, (288, 288))).shape == (3, 288, 288)
    squashed = to_pixels(noise(64, 48), at_size(settings, (32, 32), "squash"))
    assert abs(squashed - to_pixels(noise(64, 48), at_size(settings, (32, 32)))).max() > 0.1
    with pytest.raises(InputError, match="allowed: squash, crop"):
        at_size(settings, (32, 32), "stretch")
    assert to_pixels(Image.new("L", (5, 5)), ImageSettings("squash", (8, 8))).shape == (3, 8, 8)


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("sign", [1, -1])
def test_every_change_keeps_the_size(change: str, sign: int) -> None:
    image = noise(31, 20)
    strength = 0.3 * sign if change in DIRECTED else 0.3
    changed = {**UNDIRECTED, **DIRECTED}[change](image, strength)
    assert (changed.size, changed.mode) == (image.size, "RGB")
    different = bool((np.asarray(changed) != np.asarray(image)).any())
    assert different == (change != "identity")


def test_augmentation_is_drawn_from_the_given_source() -> None:
    image, augment = noise(40, 30), RandAugment()
    made = [np.asarray(augment(image, np.random.default_rng([0, 0, i]))) for i in range(12)]
    again = [np.asarray(augment(image, np.random.default_rng([0, 0, i]))) for i in range(12)]
    assert all((a == b).all() for a, b in zip(made, again, strict=True))
    assert len({a.tobytes() for a in made}) > 6
    assert (np.asarray(image) == np.asarray(noise(40, 30))).all()


# Batches.


@dataclass(frozen=True)
class Noise:
    """A picture drawn when it is opened."""

    name: str
    seed: int

    def open(self) -> Image.Image:
        return noise(60, 40, self.seed)


@pytest.fixture(scope="module")
def preprocessor() -> Preprocessor:
    return Preprocessor.of(CHECKPOINT, augment=RandAugment())


WORDS = ("how many", "what color is it", "is it red", "what")


def made_samples(task: str, count: int = 11) -> list[Sample]:
    target: dict[str, Callable[[int], Any]] = {
        "vqa": lambda i: ("yes",) * (i % 11),
        "nlvr2": lambda i: i % 2 == 0,
        "ve": lambda i: "neutral",
        "retrieval": lambda i: str(i // 2),
    }
    found = []
    for i in range(count):
        image = i // 2 if task == "retrieval" else i
        pictures = tuple(Noise(f"{image}.{side}", 2 * image + side) for side in range(2 if task == "nlvr2" else 1))
        found.append(Sample(f"s{i}", pictures, WORDS[i % 4], target[task](i), f"made:{i}"))
    return found


CONFIG = {
    "vqa": {"id2label": {"0": "yes", "1": "no"}},
    "nlvr2": {"id2label": {"0": "False", "1": "True"}},
    "ve": {"id2label": {"0": "contradiction", "1": "neutral", "2": "entailment"}},
    "retrieval": {},
}


def made(task: str, preprocessor: Preprocessor, size: int = 3, **how: Any) -> list[Batch]:
    options = {"candidates": 3} if task == "retrieval" else {}
    return list(batches(made_samples(task), open_task(task, CONFIG[task], **options), preprocessor, size, **how))


def same(a: list[Batch], b: list[Batch]) -> bool:
    return len(a) == len(b) and all(
        x.ids == y.ids
        and x.indices == y.indices
        and all(torch.equal(x.inputs[k], y.inputs[k]) for k in x.inputs)
        and all(torch.equal(x.target[k], y.target[k]) for k in x.target)
        for x, y in zip(a, b, strict=True)
    )


@pytest.mark.parametrize("task", ["vqa", "nlvr2", "ve", "retrieval"])
def test_batches_have_the_shapes_that_models_take(task: str, preprocessor: Preprocessor) -> None:
    batch = made(task, preprocessor, train=True)[0]
    lines = 9 if task == "retrieval" else 3
    pair = (2,) if task == "nlvr2" else ()
    patches, grid = batch.inputs["patches"], batch.inputs["patch_grid"]
    assert patches.shape == (lines, *pair, int(grid.prod(-1).max()), 3 * 8 * 8)
    assert grid.shape == (lines, *pair, 2)
    assert (patches.dtype, grid.dtype) == (torch.float32, torch.int64)
    squashed = Preprocessor.of(CHECKPOINT, image_size=(96, 96))
    assert made(task, squashed, train=True)[0].inputs["pixel_values"].shape == (lines, *pair, 3, 96, 96)
    ids, mask = batch.inputs["input_ids"], batch.inputs["attention_mask"]
    assert ids.dtype == mask.dtype == torch.int64
    assert ids.shape == mask.shape
    assert ids.shape[0] == lines
    assert int(mask.sum(1).max()) == ids.shape[1], "no longer than its longest text"
    assert bool((mask[:, :-1] >= mask[:, 1:]).all()), "padded on the right"
    assert bool((ids[mask == 0] == preprocessor.pad_id).all())
    assert len(batch.ids) == 3
    assert all(len(value) == 3 for value in batch.target.values())


@pytest.mark.parametrize("task", ["vqa", "retrieval"])
def test_the_same_batches_with_any_number_of_workers(task: str, preprocessor: Preprocessor) -> None:
    how: dict[str, Any] = {"train": True, "seed": 3, "epoch": 1}
    alone = made(task, preprocessor, **how)
    assert same(alone, made(task, preprocessor, workers=2, **how))
    assert not same(alone, made(task, preprocessor, train=True, seed=3, epoch=2))
    assert not same(alone, made(task, preprocessor, train=True, seed=4, epoch=1))


def test_every_sample_once_and_in_order_in_evaluation(preprocessor: Preprocessor) -> None:
    found = made("vqa", preprocessor)
    assert [i for batch in found for i in batch.indices] == list(range(11))
    assert [len(batch.ids) for batch in found] == [3, 3, 3, 2] == [3] * 3 + [11 % 3]
    trained = made("vqa", preprocessor, train=True)
    assert len(trained) == 3 == batch_count(11, 3, train=True)
    assert len({i for batch in trained for i in batch.indices}) == 9
    assert same(found, made("vqa", preprocessor, epoch=5)), "nothing is drawn in evaluation"


def test_augmentation_only_in_training_and_only_when_asked(preprocessor: Preprocessor) -> None:
    plain = replace(preprocessor, augment=None)

    def by_id(found: list[Batch]) -> dict[str, torch.Tensor]:
        return {i: pixels for batch in found for i, pixels in zip(batch.ids, batch.inputs["patches"], strict=True)}

    still = by_id(made("vqa", plain))
    assert all(torch.equal(p, still[i]) for i, p in by_id(made("vqa", preprocessor)).items())
    assert all(torch.equal(p, still[i]) for i, p in by_id(made("vqa", plain, train=True)).items())
    moved = [i for i, p in by_id(made("vqa", preprocessor, train=True)).items() if not torch.equal(p, still[i])]
    assert len(moved) > 5


def test_starting_in_the_middle_and_shards(preprocessor: Preprocessor) -> None:
    for train in (True, False):
        whole = made("vqa", preprocessor, 4, train=train, seed=1)
        assert same(whole[1:], made("vqa", preprocessor, 4, train=train, seed=1, start=1))
        parts = [made("vqa", preprocessor, 2, train=train, seed=1, rank=r, world=2) for r in (0, 1)]
        for i, batch in enumerate(whole):
            assert [x for part in parts for x in part[i].indices] == batch.indices
    assert made("vqa", preprocessor, 4, train=True, start=2) == []


def test_the_global_random_state_is_left_alone(preprocessor: Preprocessor) -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    made("vqa", preprocessor, train=True)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_picture_that_vanishes_is_one_sentence(tmp_path: Path, preprocessor: Preprocessor, workers: int) -> None:
    files = [picture(tmp_path / f"{i}.png", i) for i in range(6)]
    samples = [Sample(str(i), (FilePicture(file),), "what", "neutral", "f:1") for i, file in enumerate(files)]
    files[4].unlink()
    found = batches(samples, open_task("ve", CONFIG["ve"]), preprocessor, 2, workers=workers)
    assert next(found).ids == ["0", "1"]
    with pytest.raises(InputError) as error:
        list(found)
    assert str(error.value) == f"{files[4]}: there is no such picture."


def test_batches_that_cannot_be(preprocessor: Preprocessor) -> None:
    with pytest.raises(InputError, match="11 samples do not fill one batch of 12"):
        made("vqa", preprocessor, 12, train=True)
    with pytest.raises(InputError, match="batches of 0"):
        made("vqa", preprocessor, 0)
    with pytest.raises(InputError, match="rank 2 of 2"):
        made("vqa", preprocessor, rank=2, world=2)


def test_text_padding_and_truncation(preprocessor: Preprocessor) -> None:
    fixed = Preprocessor.of(CHECKPOINT, pad_to=8)
    ids, mask = fixed.text(["what", "what " * 50])
    assert ids.shape == (2, 8)
    assert mask.sum(1).tolist() == [3, 8]
    assert ids[1, -1] == fixed.tokenizer.sep_token_id, "a cut text still ends as a whole one"
    ids, _ = preprocessor.text(["what " * 500])
    assert ids.shape == (1, preprocessor.longest)
    with pytest.raises(InputError, match="a text of 5000 tokens does not fit"):
        Preprocessor.of(CHECKPOINT, pad_to=5000)


def test_the_preprocessing_of_a_checkpoint(tmp_path: Path, preprocessor: Preprocessor) -> None:
    config = json.loads((CHECKPOINT / "config.json").read_text())
    assert (preprocessor.image.fit, preprocessor.image.shorter) == ("shape", config["image_size"])
    assert preprocessor.input == PictureInput(1, 8, None, fewest=19, usual=144, most=228)
    assert Preprocessor.of(CHECKPOINT, image_size=(64, 32)).image.size == (64, 32)
    folder = Path(shutil.copytree(CHECKPOINT, tmp_path / "ckpt"))
    (folder / "model.safetensors").unlink()
    assert Preprocessor.of(folder).image == preprocessor.image, "no weights are needed"
    for file in folder.glob("tokenizer*"):
        file.unlink()
    with pytest.raises(InputError, match="no tokenizer"):
        Preprocessor.of(folder)


def test_the_preprocessing_of_a_published_folder_is_its_own(tmp_path: Path) -> None:
    folder = tiny.published_vilt(tmp_path / "published")
    for file in CHECKPOINT.glob("tokenizer*"):
        shutil.copy(file, folder)
    image = Preprocessor.of(folder).image
    assert (image.fit, image.filter, image.size) == ("squash", 2, (96, 96))
    # The squash of the published code: torchvision's Resize([S, S]), ToTensor, Normalize on a PIL picture.
    squashed = np.asarray(noise(50, 70).resize((96, 96), Image.Resampling.BILINEAR)) / 255
    expected = (squashed.transpose(2, 0, 1) - 0.5) / 0.5
    np.testing.assert_allclose(to_pixels(noise(50, 70), image), expected, atol=1e-6)


def test_the_tokenizer_of_meter_is_robertas(tmp_path: Path) -> None:
    meter = {"model_type": "meter", "image_size": 32, "text": {"max_position_embeddings": 42}}
    (tmp_path / "config.json").write_text(json.dumps(meter))
    vocabulary = {"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3, "<mask>": 4, "h": 5, "i": 6, "hi": 7}
    (tmp_path / "vocab.json").write_text(json.dumps(vocabulary))
    (tmp_path / "merges.txt").write_text("#version: 0.2\nh i\n")
    tokenizer = load_tokenizer(tmp_path)
    assert tokenizer("hi")["input_ids"] == [0, 7, 2]
    tokenizer.backend_tokenizer.save(str(tmp_path / "tokenizer.json"))
    assert load_tokenizer(tmp_path)("hi")["input_ids"] == [0, 7, 2]
