"""A Pipeline of two towers: embeddings and scores are transformers', from file to score; what is missing is asked for
only when it is needed; a gallery is searched by blocks."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_clip
import tiny_pairs
import tiny_siglip
import torch
import transformers
from PIL import Image

from pumer_convert.data.preprocess import Preprocessor
from pumer_convert.demo import CHECKPOINT
from pumer_convert.errors import InputError, VerificationError
from pumer_convert.export.folder import export_folder
from pumer_convert.runtime import Pipeline, gallery

LABELS = ["cat", "red star", "the cat sat"]
TEMPLATE = "a {}!"


@pytest.fixture(scope="module", params=["clip", "siglip", "pairs"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint, and in served/ its two graphs."""
    module = {"clip": tiny_clip, "siglip": tiny_siglip, "pairs": tiny_pairs}[request.param]
    folder = module.write(tmp_path_factory.mktemp(request.param) / "dense")
    export_folder(folder, folder / "served")
    return folder


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    home, random = tmp_path_factory.mktemp("pictures"), np.random.default_rng(7)
    for i, size in enumerate(((70, 100, 3), (48, 48, 3), (130, 60, 3))):
        Image.fromarray(random.integers(0, 256, size, np.uint8)).save(home / f"{i}.png")
    return [home / f"{i}.png" for i in range(3)]


def theirs(folder: Path, pictures: list[Path], texts: list[str]) -> Any:
    """What transformers' model makes of pictures and texts, by its own processor and tokenizer."""
    kind = json.loads((folder / "config.json").read_text())["model_type"]
    model, processor = {
        "clip": (transformers.CLIPModel, transformers.CLIPImageProcessorPil),
        "siglip": (transformers.SiglipModel, transformers.SiglipImageProcessorPil),
        "vision-text-dual-encoder": (transformers.VisionTextDualEncoderModel, transformers.ViTImageProcessorPil),
    }[kind]
    pixels = processor.from_pretrained(folder)([Image.open(file) for file in pictures], return_tensors="pt")
    how = {"padding": "max_length", "max_length": 16} if kind == "siglip" else {"padding": True}
    tokens = transformers.AutoTokenizer.from_pretrained(folder)(texts, return_tensors="pt", **how)
    given = {"input_ids": tokens["input_ids"]} if kind == "siglip" else tokens
    with torch.no_grad():
        found = model.from_pretrained(folder).eval()(**pixels, **given)
    logits = found.logits_per_image
    found["scores"] = logits.sigmoid() if kind == "siglip" else logits.softmax(-1)
    return found


@pytest.mark.parametrize("name", [".", "served/image.onnx", "served/text.onnx"])
def test_files_become_the_scores_of_transformers(folder: Path, pictures: list[Path], name: str) -> None:
    pipeline = Pipeline(folder / name, device="cpu")
    expected = theirs(folder, pictures, [TEMPLATE.replace("{}", label) for label in LABELS])
    images, texts = pipeline.embed_images(pictures), pipeline.embed_texts([f"a {label}!" for label in LABELS])
    assert images.dtype == texts.dtype == np.float32
    np.testing.assert_allclose(images, expected.image_embeds, atol=2e-6)
    np.testing.assert_allclose(texts, expected.text_embeds, atol=2e-6)
    for picture, scores in zip(pictures, expected["scores"], strict=True):
        answer = pipeline.classify(picture, LABELS, TEMPLATE)
        ranked = sorted(range(3), key=lambda i: -scores[i])
        assert [label for label, _ in answer.ranking] == [LABELS[i] for i in ranked]
        np.testing.assert_allclose([score for _, score in answer.ranking], [scores[i] for i in ranked], rtol=1e-4)
        assert (answer.text, answer.score) == answer.ranking[0]
    cosines = (expected.image_embeds @ expected.text_embeds.T)[-1]
    np.testing.assert_allclose(answer.cosines or (), [cosines[i] for i in ranked], atol=2e-6)


def test_labels_are_taken_as_they_are_without_a_template(folder: Path, pictures: list[Path]) -> None:
    pipeline = Pipeline(folder / "served" / "image.onnx", device="cpu")
    expected = theirs(folder, pictures[:1], LABELS)["scores"][0]
    found = dict(pipeline.classify(Image.open(pictures[0]), LABELS).ranking)
    np.testing.assert_allclose([found[label] for label in LABELS], expected, rtol=1e-4)


def test_many_are_embedded_some_at_a_time(folder: Path, pictures: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = Pipeline(folder / "served" / "image.onnx", device="cpu")
    whole = pipeline.embed_images(pictures)
    monkeypatch.setattr(pipeline.runtime, "largest_batch", 2)
    seen: list[int] = []
    run = pipeline.runtime.run
    monkeypatch.setattr(pipeline.runtime, "run", lambda given: (seen.append(len(given["pixel_values"])), run(given))[1])
    np.testing.assert_allclose(pipeline.embed_images(pictures), whole, atol=1e-6)
    assert seen == [2, 1]
    assert pipeline.embed_images(pictures[0]).shape == pipeline.embed_texts("cat").shape


def test_pictures_alone_need_no_text_and_texts_no_pictures(folder: Path, pictures: list[Path], tmp_path: Path) -> None:
    for name in ("image.onnx", "image.onnx.json"):
        shutil.copy(folder / "served" / name, tmp_path)
    pipeline = Pipeline(tmp_path / "image.onnx", device="cpu")
    assert len(pipeline.embed_images(pictures)) == 3
    with pytest.raises(InputError, match=r"image\.onnx: takes no text, and beside it lies no file .* copy it along\."):
        pipeline.classify(pictures[0], LABELS)
    for name in ("text.onnx", "text.onnx.json", "text.onnx.tokenizer.json"):
        shutil.copy(folder / "served" / name, tmp_path)
    assert pipeline.classify(pictures[0], LABELS).cosines is not None, "it is looked for when it is needed"
    (tmp_path / "image.onnx").unlink()
    alone = Pipeline(tmp_path / "text.onnx", device="cpu")
    assert len(alone.embed_texts(LABELS)) == 3
    with pytest.raises(InputError, match=r"text\.onnx: takes no pictures"):
        alone.embed_images(pictures)


def test_a_folder_without_tokenizer_embeds_pictures(folder: Path, pictures: list[Path], tmp_path: Path) -> None:
    for file in (*folder.glob("*config.json"), folder / "model.safetensors"):
        if file.name != "tokenizer_config.json":
            shutil.copy(file, tmp_path)
    pipeline = Pipeline(tmp_path, device="cpu")
    np.testing.assert_array_equal(pipeline.embed_images(pictures), Pipeline(folder).embed_images(pictures))
    assert pipeline.notes == ()
    with pytest.raises(InputError, match="there is no tokenizer"):
        pipeline.embed_texts(["cat"])


def test_a_tower_of_pictures_alone_needs_no_tokenizer(pictures: list[Path], tmp_path: Path) -> None:
    for architecture, module in (
        ("CLIPVisionModel", tiny_clip),
        ("CLIPVisionModelWithProjection", tiny_clip),
        ("SiglipVisionModel", tiny_siglip),
    ):
        folder = module.write(tmp_path / architecture, architecture)
        assert Preprocessor.of(folder).tokenizer is None
        pipeline = Pipeline(folder, device="cpu")
        found = pipeline.embed_images(pictures)
        kind = transformers.CLIPImageProcessorPil if module is tiny_clip else transformers.SiglipImageProcessorPil
        pixels = kind.from_pretrained(folder)([Image.open(file) for file in pictures], return_tensors="pt")
        with torch.no_grad():
            expected = getattr(transformers, architecture).from_pretrained(folder).eval()(**pixels)
        name = "image_embeds" if "Projection" in architecture else "pooler_output"
        np.testing.assert_allclose(found, expected[name], rtol=1e-4, atol=1e-5)
        with pytest.raises(InputError, match="the model takes no text"):
            pipeline.embed_texts(["cat"])
        with pytest.raises(InputError, match=r"nothing tells how its pictures are scored beside texts \(logit_scale\)"):
            pipeline.classify(pictures[0], LABELS)
        assert pipeline.search(pictures[1], found, 1)[0][0] == 1


def test_the_other_file_is_one_of_the_same_checkpoint(folder: Path, pictures: list[Path], tmp_path: Path) -> None:
    served = shutil.copytree(folder / "served", tmp_path / "served")
    for file in served.glob("text.onnx*"):
        file.rename(served / file.name.replace("text.", "words."))
    (served / "words.onnx.json").write_text((served / "words.onnx.json").read_text().replace("text.onnx", "words.onnx"))
    (served / "report.json").write_text("{}")
    pipeline = Pipeline(served / "image.onnx", device="cpu")
    assert len(pipeline.embed_texts(LABELS)) == 3, "whatever it is called"
    values = json.loads((served / "words.onnx.json").read_text())
    (served / "words.onnx.json").write_text(json.dumps({**values, "source": {"fingerprint": "another"}}))
    assert len(pipeline.embed_texts(LABELS)) == 3, "it is open"
    with pytest.raises(InputError, match=r"image\.onnx: by their sidecars words\.onnx beside it is not of the same"):
        Pipeline(served / "image.onnx", device="cpu").embed_texts(LABELS)
    (served / "words.onnx.json").write_text("{}")
    with pytest.raises(InputError, match=r"words\.onnx\.json: not a sidecar that pumer-convert wrote"):
        Pipeline(served / "image.onnx", device="cpu").embed_texts(LABELS)


def test_a_sidecar_of_before_has_embeddings_and_no_scores(folder: Path, pictures: list[Path], tmp_path: Path) -> None:
    served = shutil.copytree(folder / "served", tmp_path / "served")
    for file in served.glob("*.onnx.json"):
        values = json.loads(file.read_text())
        del values["similarity"]
        file.write_text(json.dumps(values))
    pipeline = Pipeline(served / "image.onnx", device="cpu")
    assert len(pipeline.embed_images(pictures)) == len(pipeline.embed_texts(LABELS)) == 3
    with pytest.raises(InputError, match=r"nothing tells how .* \(logit_scale\); .* export once more\."):
        pipeline.classify(pictures[0], LABELS)


def test_it_runs_without_torch_and_transformers(folder: Path, pictures: list[Path]) -> None:
    script = (
        "import sys\nfrom pumer_convert import Pipeline\n"
        "pipeline = Pipeline(sys.argv[1], device='cpu')\n"
        "answer = pipeline.classify(sys.argv[2], ['cat', 'dog'], 'a {}')\n"
        "found = pipeline.search('cat', pipeline.embed_images([sys.argv[2]]), 1)\n"
        "assert not {'torch', 'transformers'} & set(sys.modules), sorted(sys.modules)\n"
        "print(answer.text, found[0][0])\n"
    )
    model = str(folder / "served" / "image.onnx")
    done = subprocess.run([sys.executable, "-c", script, model, str(pictures[0])], capture_output=True, text=True)
    assert done.stdout.split() in (["cat", "0"], ["dog", "0"]), done.stderr


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda p, picture: p(picture, "what"), "gives embeddings and answers no question"),
        (lambda p, picture: p.batch([(picture, "what")]), "gives embeddings and answers no question"),
        (lambda p, picture: p.classify(picture, []), "labels are a list of one text or more"),
        (lambda p, picture: p.classify(picture, "cat"), "labels are a list of one text or more"),
        (lambda p, picture: p.classify(picture, ["cat", 3]), "a text is a string, not int"),
        (lambda p, picture: p.classify(picture, ["cat", "dog", "cat"]), "the label 'cat' is given twice"),
        (lambda p, picture: p.classify(picture, ["cat", " "]), "a label is empty"),
        (lambda p, picture: p.classify(picture, ["cat"], "a photo"), "the template 'a photo' has no {}"),
        (lambda p, picture: p.classify([picture, picture], ["cat"]), "a picture is a file or a PIL image here"),
        (lambda p, picture: p.embed_images([]), "there is nothing to embed"),
        (lambda p, picture: p.embed_texts([]), "there is nothing to embed"),
        (lambda p, picture: p.embed_texts([3]), "a text is a string, not int"),
        (lambda p, picture: p.embed_images([3]), "a picture is a file or a PIL image here, not a int"),
        (lambda p, picture: p.embed_images(["no.png"]), "no.png"),
        (lambda p, picture: p.search(str(picture), np.ones((2, 24))), "is a text, and a file has that name"),
    ],
)
def test_what_cannot_be_embedded_is_refused(
    folder: Path, pictures: list[Path], call: Callable[..., Any], message: str
) -> None:
    with pytest.raises(InputError, match=message) as refused:
        call(Pipeline(folder / "served" / "image.onnx", device="cpu"), pictures[0])
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("ask", ["embed_images", "embed_texts", "classify", "search"])
def test_a_model_that_answers_gives_no_embeddings(ask: str) -> None:
    more = {"classify": (["cat"],), "search": (np.ones((2, 24), np.float32),)}
    with pytest.raises(InputError, match="answers by its own labels and gives no embeddings; ask it a question"):
        getattr(Pipeline(CHECKPOINT, device="cpu"), ask)("a.png", *more.get(ask, ()))


def test_scores_that_are_no_numbers_are_told(folder: Path, pictures: list[Path], tmp_path: Path) -> None:
    served = shutil.copytree(folder / "served", tmp_path / "served")
    values = json.loads((served / "image.onnx.json").read_text())
    values["similarity"]["logit_scale"] = 1e3
    (served / "image.onnx.json").write_text(json.dumps(values))
    with pytest.raises(VerificationError, match="the model's logits are not finite numbers"):
        Pipeline(served / "image.onnx", device="cpu").classify(pictures[0], LABELS)


def test_a_gallery_is_searched_by_blocks(
    folder: Path, pictures: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline = Pipeline(folder / "served" / "image.onnx", device="cpu")
    query = pipeline.embed_texts(["the cat"])[0]
    rows = np.random.default_rng(0).standard_normal((50, len(query))).astype(np.float32)
    rows[30] = 4 * rows[7]
    cosines = rows.astype(np.float64) @ query / np.linalg.norm(rows.astype(np.float64), axis=1) / np.linalg.norm(query)
    order = np.argsort(-cosines, kind="stable")
    monkeypatch.setattr(gallery, "BLOCK", 7 * len(query))
    np.save(tmp_path / "gallery.npy", rows)
    for given in (rows, tmp_path / "gallery.npy", str(tmp_path / "gallery.npy"), rows.astype(np.float64)):
        found = pipeline.search("the cat", given, 5)
        assert [row for row, _ in found] == order[:5].tolist()
        np.testing.assert_allclose([cosine for _, cosine in found], cosines[order[:5]], atol=1e-6)
    assert len(pipeline.search("the cat", rows, 99)) == 50
    picture = pipeline.embed_images(pictures)
    assert pipeline.search(pictures[1], picture.astype(np.float16), 1)[0][0] == 1
    assert pipeline.search(Image.open(pictures[2]), picture, 1)[0][0] == 2
    both = [row for row, _ in pipeline.search("the cat", rows, 50)]
    assert both.index(30) == both.index(7) + 1, "of equal ones the first"


@pytest.mark.parametrize(
    ("rows", "k", "message"),
    [
        (np.ones((3, 5), np.float32), 1, r"the gallery is float32 \[3, 5\]; .* floats \[N, \d+\]"),
        (np.ones(24, np.float32), 1, r"the gallery is float32 \[24\]"),
        (np.ones((3, 24), np.int64), 1, r"the gallery is int64"),
        (np.ones((0, 24), np.float32), 1, r"the gallery is float32 \[0, 24\]"),
        ([[1.0] * 24], 1, "a gallery is a numpy array or a .npy file, not a list"),
        (np.ones((3, 24), np.float32), 0, "k is how many rows are to be found, a whole number from 1, not 0"),
        (np.ones((3, 24), np.float32), True, "not True"),
        ("missing.npy", 1, "missing.npy: cannot be read as an array of numpy"),
        (np.full((3, 24), np.nan, np.float32), 1, "the gallery's row 0 holds a NaN or an infinity"),
    ],
)
def test_what_is_no_gallery_is_refused(rows: Any, k: Any, message: str) -> None:
    with pytest.raises(InputError, match=message) as refused:
        gallery.nearest_rows(np.ones(24, np.float32), rows, k)
    assert "\n" not in str(refused.value)


def test_a_file_of_several_arrays_or_of_objects_is_no_gallery(tmp_path: Path) -> None:
    np.savez(tmp_path / "several.npz", one=np.ones(3), two=np.ones(3))
    np.save(tmp_path / "objects.npy", np.array([{}], object), allow_pickle=True)
    (tmp_path / "text.npy").write_text("embeddings")
    (tmp_path / "empty.npy").touch()
    for name in ("several.npz", "objects.npy", "text.npy", "empty.npy"):
        with pytest.raises(InputError, match=f"{name}: ") as refused:
            gallery.nearest_rows(np.ones(3, np.float32), tmp_path / name, 1)
        assert "\n" not in str(refused.value)
