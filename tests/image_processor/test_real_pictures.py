"""From a file to logits: pictures of any shape and mode are answered as transformers' own processor and model do, in
one batch, dense and reduced, eager and in ONNX Runtime; and an engine of one profile is built for all of them."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
import transformers_vilt
from PIL import Image
from transformers.image_utils import load_image

from pumer_convert.artifact.engine_sidecar import Sidecar
from pumer_convert.benchmark.bench import bench
from pumer_convert.convert.apply import apply
from pumer_convert.convert.load import load
from pumer_convert.errors import InputError
from pumer_convert.export.folder import export_folder
from pumer_convert.export.tensorrt import EngineSettings, build_engine
from pumer_convert.recipe.schema import Profile
from pumer_convert.runtime.open import open_runtime
from pumer_convert.runtime.pipeline import Pipeline
from pumer_convert.weights import PROCESSOR

TEXTS = ("what is the color of the cat?", "", "how many dogs are there in this picture , " * 9, "Ünïcode 東京 ?", "a")
SHAPES = {
    "square.png": ("RGB", 96, 96),
    "wide.png": ("RGB", 144, 96),
    "tall.jpg": ("RGB", 96, 144),
    "panorama.png": ("RGB", 700, 120),
    "tower.png": ("RGB", 90, 333),
    "photo.jpg": ("RGB", 640, 480),
    "odd.png": ("L", 97, 131),
    "palette.gif": ("P", 131, 97),
    "print.jpg": ("CMYK", 200, 150),
    "alpha.png": ("RGBA", 60, 80),
    "fax.png": ("1", 203, 101),
}
STEPS = (
    "  - at: encoder.0\n    prune: {image: 0.2}\n    merge: {image: 0.2, text: 0.2}\n"
    "  - at: encoder.1\n    merge: {image: 0.1, by: pitome}\n"
)


def draw(folder: Path) -> list[Path]:
    """Pictures of coloured fields, each of its own shape and mode; and one that a telephone turned."""
    random, files = np.random.default_rng(0), []
    for name, (mode, width, height) in SHAPES.items():
        small = Image.fromarray(random.integers(0, 255, (6, 7, 3), dtype=np.uint8))
        files.append(folder / name)
        small.resize((width, height), Image.Resampling.NEAREST).convert(mode).save(files[-1])
    exif = Image.Exif()
    exif[0x0112] = 6
    files.append(folder / "turned.jpg")
    Image.open(folder / "photo.jpg").save(files[-1], exif=exif)
    return files


def seen(file: Path) -> Any:
    """A picture as transformers opens it."""
    with Image.open(file) as image:
        return load_image(image)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return draw(tmp_path_factory.mktemp("pictures"))


@pytest.fixture(scope="module", params=transformers_vilt.HEADS)
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Any, Path]:
    """A task, transformers' model, and its folder with our export in it."""
    folder = tmp_path_factory.mktemp(request.param) / "vilt"
    model = transformers_vilt.write(folder, request.param)
    export_folder(folder)
    return request.param, model, folder


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    """The same of one block, for what does not depend on a task."""
    folder = tmp_path_factory.mktemp("exported") / "vilt"
    model = transformers_vilt.write(folder, num_hidden_layers=1)
    export_folder(folder)
    return model, folder


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A reduced folder with its export."""
    home = tmp_path_factory.mktemp("small")
    transformers_vilt.write(home / "vilt")
    apply(home / "vilt", tiny.recipe(home / "r.yaml", STEPS), home / "small")
    export_folder(home / "small")
    return home / "small"


def ours(path: Path, examples: list[list[Path]], texts: list[str], **options: Any) -> np.ndarray[Any, Any]:
    """Logits of files through the pipeline of a folder or an exported file, in one batch."""
    pipeline = Pipeline(path, **options)
    ids, mask = pipeline.preprocessor.text(texts)
    arranged = pipeline.preprocessor.arrange([pipeline.pixels(example) for example in examples])
    return pipeline.runtime(input_ids=ids, attention_mask=mask, **arranged)


def off(got: Any, want: Any) -> float:
    return float(np.abs(got - want).max() / np.abs(want).max())


def batch(files: list[Path], task: str) -> tuple[list[list[Path]], list[str]]:
    """Every picture with some text; pairs of different shapes where the task takes two."""
    takes = 2 if task == "nlvr2" else 1
    examples = [[files[(i + 3 * k) % len(files)] for k in range(takes)] for i in range(len(files))]
    return examples, [TEXTS[i % len(TEXTS)] for i in range(len(files))]


def test_a_batch_of_all_shapes_is_answered_as_by_transformers(
    family: tuple[str, Any, Path], pictures: list[Path]
) -> None:
    task, model, folder = family
    examples, texts = batch(pictures, task)
    opened = [[seen(file) for file in example] for example in examples]
    theirs = transformers_vilt.logits(model, folder, opened, texts)
    assert off(ours(folder, examples, texts), theirs) < 1e-5
    assert off(ours(folder / "model.onnx", examples, texts), theirs) < 1e-5
    double = transformers_vilt.logits(model, folder, opened, texts, "float64")
    # Pixels and logits are float32 on their way through a runtime.
    assert off(ours(folder, examples, texts, dtype="float64"), double) < 1e-6


def test_alone_or_in_company_a_picture_gets_the_same_answer(small: Path, pictures: list[Path]) -> None:
    examples, texts = batch(pictures, "vqa")
    for file in (small, small / "model.onnx"):
        together = ours(file, examples, texts)
        alone = np.concatenate([ours(file, [e], [t]) for e, t in zip(examples, texts, strict=True)])
        assert off(together, alone) < 1e-5, file
    assert off(ours(small / "model.onnx", examples, texts), ours(small, examples, texts)) < 1e-5


def test_reducers_count_each_pictures_own_patches(small: Path, pictures: list[Path]) -> None:
    pipeline = Pipeline(small, device="cpu")
    pixels = [pipeline.pixels(file) for file in pictures]
    ids, mask = pipeline.preprocessor.text(["a"] * len(pixels))
    given = {"input_ids": ids, "attention_mask": mask, **pipeline.preprocessor.arrange(pixels)}
    with torch.inference_mode():
        output = load(small)(**{name: torch.from_numpy(value) for name, value in given.items()})
    left = output.image.mask.sum(1).tolist()
    for count, (one,) in zip(left, pixels, strict=True):
        tokens = 1 + (one.shape[1] // 16) * (one.shape[2] // 16)
        between = tokens - 2 * round(0.2 * tokens)
        assert count == between - round(0.1 * between), one.shape


def test_one_engine_is_built_for_every_shape(small: Path, tmp_path: Path, pictures: list[Path]) -> None:
    pytest.importorskip("tensorrt_rtx")
    export_folder(small, tmp_path, trt=EngineSettings("tensorrt-rtx"), dtype="float16")
    sidecar = Sidecar.of(tmp_path / "model.engine")
    # A shorter side of 96 and a longer of at most 159, of which whole patches of 16 count.
    assert sidecar.profiles == [{"batch": (1, 1, 8), "text": (4, 32, 40), "patches": (9, 36, 54)}]
    pipeline = Pipeline(small, device="cpu")
    for file in pictures:
        _, rows, columns = (side // 16 for side in pipeline.pixels(file)[0].shape)
        assert sidecar.profile(batch=1, text=8, patches=rows * columns) == 0
    with pytest.raises(InputError, match="batch 1 with patches 55 with text 8 is outside of it"):
        sidecar.profile(batch=1, text=8, patches=55)


def test_a_profile_of_a_users_own_says_how_many_patches(exported: tuple[Any, Path], tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx")
    onnx_file, settings = exported[1] / "model.onnx", EngineSettings("tensorrt-rtx", (Profile(patches=(36, 36, 36)),))
    made = build_engine(onnx_file, tmp_path / "model.engine", settings)
    assert made["profiles"][0]["patches"] == [[1, 36, 768], [1, 36, 768], [8, 36, 768]]
    # Without a profile the file's own sidecar says so.
    made = build_engine(onnx_file, tmp_path / "own.engine", EngineSettings("tensorrt-rtx"))
    assert made["profiles"][0]["patches"] == [[1, 9, 768], [1, 36, 768], [8, 54, 768]]
    shutil.copy(onnx_file, tmp_path / "bare.onnx")
    with pytest.raises(InputError, match="nothing says how many patches a picture has at most"):
        build_engine(tmp_path / "bare.onnx", settings=EngineSettings("tensorrt-rtx"))


@pytest.mark.parametrize("shape", [(96, 96), (64, 128), (50, 70)])
def test_pixels_of_any_one_size_go_in_as_pixels(exported: tuple[Any, Path], shape: tuple[int, int]) -> None:
    model, folder = exported
    random = np.random.default_rng(0)
    ids = random.integers(5, 40, (3, 9))
    pixels = random.standard_normal((3, 3, *shape), np.float32)
    given = {"input_ids": ids, "attention_mask": np.ones_like(ids), "pixel_values": pixels}
    with torch.no_grad():
        theirs = model(**{name: torch.from_numpy(value) for name, value in given.items()}).logits.numpy()
    tensors = [torch.from_numpy(value) for value in given.values()]
    for path in (folder, folder / "model.onnx"):
        runtime = open_runtime(path)
        assert off(runtime(*given.values()), theirs) < 1e-5
        assert off(runtime(*tensors).numpy(), theirs) < 1e-5
    assert off(load(folder)(*tensors).logits.detach().numpy(), theirs) < 1e-5


def test_what_no_model_can_take_is_refused(exported: tuple[Any, Path]) -> None:
    _, folder = exported
    ids = np.full((2, 5), 7)
    text = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
    patches = np.zeros((2, 12, 768), np.float32)
    grid = np.array([[3, 4], [2, 2]])
    wrong: dict[str, dict[str, Any]] = {
        "have no whole patch of 16x16": {"pixel_values": np.zeros((2, 3, 15, 96), np.float32)},
        r"pixel_values has to be \[2, 3, 96, 96\] here": {"pixel_values": np.zeros((2, 1, 96, 96), np.float32)},
        "patch_grid is missing": {"patches": patches},
        "patches is missing": {},
        r"patches has to be \[2, 12, 768\] here": {"patches": patches[..., :700], "patch_grid": grid},
        r"patch_grid has to be \[2, 2\] here": {"patches": patches, "patch_grid": np.ones((2, 3), np.int64)},
        "of at most 12 patches here": {"patches": patches, "patch_grid": grid + 2},
        "from 1 on": {"patches": patches, "patch_grid": grid * 0},
    }
    for path in (folder, folder / "model.onnx"):
        runtime = open_runtime(path)
        assert runtime(**text, patches=patches, patch_grid=grid).shape == (2, 7)
        for says, given in wrong.items():
            with pytest.raises(InputError, match=says):
                runtime(**text, **given)
    with pytest.raises(InputError, match="no whole patch"):
        load(folder)(torch.from_numpy(ids), torch.ones(2, 5), torch.zeros(2, 3, 10, 10))


def test_squashing_is_a_choice_of_the_recipe(tmp_path: Path, pictures: list[Path]) -> None:
    model = transformers_vilt.write(tmp_path / "vilt")
    recipe = tmp_path / "r.yaml"
    recipe.write_text("recipe: 1\nmodel: vilt\nfit: squash\nreduce: []\n")
    report = apply(tmp_path / "vilt", recipe, tmp_path / "out")
    assert report["pictures"] == "pictures squashed to 96x96 (the dense checkpoint keeps their shape)"
    assert json.loads((tmp_path / "out" / "config.json").read_text())["pumer"]["fit"] == "squash"
    assert json.loads((tmp_path / "out" / PROCESSOR).read_text())["size"] == {"height": 96, "width": 96}
    square = [[seen(file).resize((96, 96), Image.Resampling.BICUBIC)] for file in pictures]
    texts = ["what is the color of the cat?"] * len(pictures)
    theirs = transformers_vilt.logits(model, tmp_path / "vilt", square, texts)
    export_folder(tmp_path / "out")
    sidecar = json.loads((tmp_path / "out" / "model.onnx.json").read_text())
    assert (sidecar["pictures"]["fit"], sidecar["pictures"]["size"]) == ("squash", [96, 96])
    for path in (tmp_path / "out", tmp_path / "out" / "model.onnx"):
        assert off(ours(path, [[file] for file in pictures], texts), theirs) < 1e-5


def test_the_processors_size_need_not_be_the_configs(tmp_path: Path, pictures: list[Path]) -> None:
    """The table of positions is interpolated from the config's size, as transformers does, for shapes and squares."""
    model = transformers_vilt.write(tmp_path / "vilt", processor={"size": {"shortest_edge": 128}})
    texts = ["how many cats ?"] * len(pictures)
    theirs = transformers_vilt.logits(model, tmp_path / "vilt", [[seen(p)] for p in pictures], texts)
    assert off(ours(tmp_path / "vilt", [[p] for p in pictures], texts), theirs) < 1e-5
    (tmp_path / "vilt" / "processor_config.json").unlink(missing_ok=True)
    values = {"image_processor_type": "ViTImageProcessor", "size": {"height": 64, "width": 112}}
    (tmp_path / "vilt" / PROCESSOR).write_text(json.dumps(values))
    import transformers

    make = transformers.ViTImageProcessor(size={"height": 64, "width": 112})
    pixels = make([seen(p) for p in pictures], return_tensors="pt")["pixel_values"]
    words = transformers.AutoTokenizer.from_pretrained(tmp_path / "vilt")(texts, return_tensors="pt")
    with torch.no_grad():
        theirs = model(input_ids=words["input_ids"], attention_mask=words["attention_mask"], pixel_values=pixels)
    export_folder(tmp_path / "vilt")
    for path in (tmp_path / "vilt", tmp_path / "vilt" / "model.onnx"):
        assert off(ours(path, [[p] for p in pictures], texts), theirs.logits.numpy()) < 1e-5


def test_pictures_that_are_not_resized_have_no_limit(tmp_path: Path, pictures: list[Path]) -> None:
    model = transformers_vilt.write(tmp_path / "vilt", processor={"do_resize": False}, num_hidden_layers=1)
    export_folder(tmp_path / "vilt")
    texts = ["a"] * len(pictures)
    theirs = transformers_vilt.logits(model, tmp_path / "vilt", [[seen(file)] for file in pictures], texts)
    for path in (tmp_path / "vilt", tmp_path / "vilt" / "model.onnx"):
        assert off(ours(path, [[file] for file in pictures], texts), theirs) < 1e-5


def test_an_aspect_that_no_picture_can_have_is_refused(small: Path) -> None:
    with pytest.raises(InputError, match=r"pictures of 400:1 cannot be measured: .* are too thin"):
        bench(small, aspect=(400, 1), repeats=3, device="cpu")


def test_more_patches_than_the_model_takes_are_refused_however_they_come(tmp_path: Path) -> None:
    folder = tmp_path / "vilt"
    transformers_vilt.write(folder, num_hidden_layers=1)
    config = json.loads((folder / "config.json").read_text())
    most = Pipeline(folder).runtime.pictures.most
    (folder / "config.json").write_text(json.dumps(config | {"max_image_length": most}))
    export_folder(folder)
    side, width = config["patch_size"], 3 * config["patch_size"] ** 2
    ids = np.array([[2, 7, 3]])
    for path in (folder, folder / "model.onnx"):
        runtime = open_runtime(path, device="cpu")

        def ask(count: int, runtime: Any = runtime) -> Any:
            patches, grid = np.zeros((1, count, width), np.float32), np.array([[1, count]])
            return runtime(ids, np.ones_like(ids), patches=patches, patch_grid=grid)

        assert np.isfinite(ask(most)).all()
        with pytest.raises(InputError, match=rf"{most + 1} patches, more than the model's max_image_length \({most}\)"):
            ask(most + 1)
        with pytest.raises(InputError, match="more than the model's max_image_length"):
            runtime(ids, np.ones_like(ids), np.zeros((1, 3, side, side * (most + 1)), np.float32))


def test_what_is_no_picture_at_all_is_named_by_its_kind(small: Path) -> None:
    pipeline = Pipeline(small)
    for wrong in (None, np.zeros((9, 9, 3), np.uint8), b"abc", 3):
        with pytest.raises(InputError, match=f"a picture is a file or a PIL image here, not a {type(wrong).__name__}"):
            pipeline(wrong, "what")
