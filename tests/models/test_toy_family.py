"""A family of two graphs is one folder and one line: inspect, apply, export, verify, engines, runtimes and Triton come
with it."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
import toy_dual
from click.testing import CliRunner
from PIL import Image
from triton_server import MISSING, STUB, serving

from pumer_convert.artifact.engine_sidecar import Sidecar
from pumer_convert.benchmark.bench import bench
from pumer_convert.checkpoint.read import open_checkpoint
from pumer_convert.cli import cli
from pumer_convert.convert.apply import apply, prepare_apply
from pumer_convert.convert.load import load, plan_of, signature_of
from pumer_convert.data.formats import read_samples
from pumer_convert.data.preprocess import Preprocessor
from pumer_convert.errors import InputError, VerificationError
from pumer_convert.export.folder import export_folder, verify_export
from pumer_convert.export.quantize import quantize
from pumer_convert.export.quantize_folder import quantize_folder
from pumer_convert.export.tensorrt import EngineSettings
from pumer_convert.export.triton import export_triton
from pumer_convert.models.family import FAMILIES
from pumer_convert.runtime import open_runtime
from pumer_convert.runtime.pipeline import Pipeline

RECIPE = """recipe: 1
model: toy_dual
reduce:
  - {at: vision.0-1, merge: {image: 0.2, by: pitome}}
  - {at: vision.2, prune: {image: 0.2, by: cls_attention}}
export: {dtype: float32, profiles: [{batch: [1, 2, 4], text: [8, 8, 8]}]}
"""


@pytest.fixture(autouse=True)
def toy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FAMILIES, "toy_dual", "toy_dual")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A dense checkpoint and the reduced one, both exported."""
    home = tmp_path_factory.mktemp("toy")
    dense = toy_dual.write(home / "dense")
    (home / "recipe.yaml").write_text(RECIPE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(FAMILIES, "toy_dual", "toy_dual")
        apply(dense, home / "recipe.yaml", home / "reduced")
        for folder in (dense, home / "reduced"):
            export_folder(folder, dtype="float32")
    return dense, home / "reduced"


def inputs(rows: int = 3) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    return {
        "pixel_values": random.standard_normal((rows, 3, 48, 48)).astype(np.float32),
        "input_ids": random.integers(5, 77, (rows, 8)),
    }


def test_without_its_line_it_is_not_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(FAMILIES, "toy_dual")
    with pytest.raises(InputError, match="no format that is read here"):
        open_checkpoint(toy_dual.write(tmp_path / "dense"))


def test_a_plan_counts_both_graphs_or_one(folders: tuple[Path, Path]) -> None:
    dense, reduced = (open_checkpoint(folder) for folder in folders)
    whole, image = plan_of(reduced), plan_of(reduced, graph="image")
    assert [row.layer for row in image.rows] == ["vision.0", "vision.1", "vision.2"]
    assert whole.dense_macs - image.dense_macs == toy_dual.TEXT * (8 * 32**2 + 2 * toy_dual.TEXT * 32)
    assert [row.image_out for row in image.rows] == [30, 24, 19]
    assert plan_of(dense).dense_macs == whole.dense_macs


def test_two_files_come_out_and_are_what_eager_is(folders: tuple[Path, Path]) -> None:
    for folder in folders:
        model, given = load(folder), inputs()
        with torch.no_grad():
            eager = {
                "image": model(torch.from_numpy(given["pixel_values"])).outputs["image_embeds"].numpy(),
                "text": model.run("text", {"input_ids": torch.from_numpy(given["input_ids"])}).outputs["text_embeds"],
            }
        image, text = (open_runtime(folder / f"{name}.onnx", device="cpu") for name in ("image", "text"))
        assert [port.name for port in image.signature.inputs] == ["pixel_values"]
        assert [port.name for port in text.signature.inputs] == ["input_ids"]
        np.testing.assert_allclose(image(given["pixel_values"]), eager["image"], atol=1e-5)
        np.testing.assert_allclose(text(input_ids=given["input_ids"]), eager["text"], atol=1e-5)
        assert image.run({"pixel_values": given["pixel_values"]}).keys() == {"image_embeds"}
        torch_in = open_runtime(folder, device="cpu", graph="text")(torch.from_numpy(given["input_ids"]))
        np.testing.assert_allclose(torch_in.numpy(), eager["text"], atol=1e-6)
    reduced = folders[1]
    report = verify_export(reduced)
    assert list(report["graphs"]) == ["image", "text"]
    assert report["graphs"]["image"]["verification"]["decisions"] > 0
    assert report["graphs"]["text"]["verification"]["decisions"] == 0
    assert not (reduced / "model.onnx").exists()


def test_what_a_graph_does_not_take_is_refused(folders: tuple[Path, Path]) -> None:
    _, reduced = folders
    image, text = (open_runtime(reduced / f"{name}.onnx", device="cpu") for name in ("image", "text"))
    given = inputs()
    with pytest.raises(InputError, match="there is no input_ids"):
        image(**given)
    with pytest.raises(InputError, match="takes no text"):
        _ = image.text
    with pytest.raises(InputError, match="a text of 7 tokens does not fit; this model takes 8, with padding"):
        text(given["input_ids"][:, :7])
    with pytest.raises(InputError, match="2 inputs are given, and the model takes pixel_values"):
        image(given["pixel_values"], given["pixel_values"])
    with pytest.raises(InputError, match=r"the model has no graph 'model'; it has image, text"):
        signature_of(open_checkpoint(reduced), "model")
    with pytest.raises(InputError, match="gives embeddings and answers no question"):
        Pipeline(reduced)(Image.new("RGB", (48, 48)), "red")
    with pytest.raises(InputError, match=r"nothing tells how its pictures are scored beside texts"):
        Pipeline(reduced).classify(Image.new("RGB", (48, 48)), ["red"])
    with pytest.raises(
        InputError, match="the model gives embeddings and answers nothing; `evaluate` and `distill` alone"
    ):
        read_samples(reduced, open_checkpoint(reduced).task)


def test_texts_get_their_length_and_no_mask(folders: tuple[Path, Path]) -> None:
    preprocessor = Preprocessor.of(folders[0])
    words = preprocessor.words(["what color is the star ?", "red"])
    assert words.keys() == {"input_ids"}
    assert words["input_ids"].shape == (2, 8)
    assert words["input_ids"][1, 3:].tolist() == [0] * 5
    sidecar = json.loads((folders[0] / "text.onnx.json").read_text())
    of_file = Preprocessor.of_sidecar(sidecar, folders[0])
    np.testing.assert_array_equal(of_file.words(["red"])["input_ids"], words["input_ids"][1:])
    with pytest.raises(InputError, match="takes no pictures"):
        of_file.pixels(Image.new("RGB", (9, 9)))


def test_another_file_is_not_taken_for_the_graph(folders: tuple[Path, Path], tmp_path: Path) -> None:
    _, reduced = folders
    for file in reduced.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    sidecar = tmp_path / "text.onnx.json"
    sidecar.write_text(json.dumps({**json.loads(sidecar.read_text()), "graph": "image"}))
    with pytest.raises((InputError, VerificationError)):
        verify_export(reduced, tmp_path / "text.onnx")


def test_a_second_export_goes_on_from_the_first(folders: tuple[Path, Path]) -> None:
    report = export_folder(folders[1], dtype="float32")
    assert all(part["there_already"] for part in report["graphs"].values())


def test_the_command_line_tells_of_both(folders: tuple[Path, Path]) -> None:
    _, reduced = folders
    told = CliRunner().invoke(cli, ["inspect", str(reduced)], catch_exceptions=False).output
    assert "graphs image (pixel_values -> image_embeds), text (input_ids -> text_embeds)" in told
    told = CliRunner().invoke(cli, ["verify", str(reduced)], catch_exceptions=False).output
    assert "image.onnx: equal: outputs within" in told
    assert "text.onnx: equal: outputs within" in told


def test_bench_and_quantization_go_by_the_graph(folders: tuple[Path, Path], tmp_path: Path) -> None:
    dense, reduced = folders
    found = bench(reduced, dense, runtimes=("eager", "onnx"), batches=(2,), repeats=3, device="cpu")
    assert [cell.text for cell in found.cells] == [0, 0]
    assert found.cells[0].macs == pytest.approx(plan_of(open_checkpoint(reduced), graph="image").ratio)
    given = {"pixel_values": inputs(6)["pixel_values"]}
    report = quantize(reduced / "image.onnx", given, tmp_path / "small.onnx", mode="int8-cpu")
    assert report["mean_cosine"] > 0.9
    assert open_runtime(tmp_path / "small.onnx", device="cpu")(given["pixel_values"]).shape == (6, 16)


def test_a_recipe_is_planned_before_anything_is_read(folders: tuple[Path, Path], tmp_path: Path) -> None:
    wrong = tmp_path / "r.yaml"
    wrong.write_text(RECIPE.replace("prune: {image: 0.2, by: cls_attention}", "merge: {text: 0.2}"))
    with pytest.raises(InputError, match=r"no text runs through vision\.2"):
        prepare_apply(folders[0], wrong)


def test_engines_are_built_of_both(folders: tuple[Path, Path]) -> None:
    pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed")
    report = export_folder(folders[1], trt=EngineSettings("tensorrt-rtx"), dtype="float32")
    for name, graph in report["graphs"].items():
        sidecar = Sidecar.of(Path(graph["engine"]["path"]))
        assert sidecar.signature.name == name
        assert sidecar.profiles == [{"batch": (1, 2, 4)}]


@pytest.mark.skipif(not STUB.exists(), reason=MISSING)
def test_triton_serves_both(folders: tuple[Path, Path], tmp_path: Path) -> None:
    triton = pytest.importorskip("tritonclient.grpc", reason="tritonclient[grpc] is not installed")
    _, reduced = folders
    files = [reduced / "image.onnx", reduced / "text.onnx"]
    report = export_triton(files, tmp_path / "models", backend="python")
    assert report["models"] == ["image", "image_model", "text", "text_model"]
    guide = (tmp_path / "models" / "README.md").read_text()
    assert "`image` takes the bytes of a picture (IMAGE) and gives IMAGE_EMBEDS" in guide
    assert 'infer("image", inputs).as_numpy("IMAGE_EMBEDS")' in guide
    preprocessor, picture = Preprocessor.of(reduced), Image.new("RGB", (60, 40), "red")
    out = io.BytesIO()
    picture.save(out, "PNG")
    words = preprocessor.words(["what color is the star ?", "red"])["input_ids"]
    pixels = preprocessor.arrange([[preprocessor.pixels(picture)]])["pixel_values"]
    image, text = (open_runtime(file, device="cpu") for file in files)
    with serving(tmp_path / "models", tmp_path) as address:
        client = triton.InferenceServerClient(address)
        for name, values, expected in (
            ("image", [[out.getvalue()]], image(pixels)),
            ("text", [[b"what color is the star ?"], [b"red"]], text(words)),
        ):
            asked = triton.InferInput(name.upper(), [len(values), 1], "BYTES")
            asked.set_data_from_numpy(np.array(values, np.object_))
            reply = client.infer(name, [asked], client_timeout=60)
            np.testing.assert_allclose(reply.as_numpy(f"{name.upper()}_EMBEDS"), expected, atol=1e-5)


def test_quantizing_a_folder_of_other_graphs_says_how_it_is_done(folders: tuple[Path, Path]) -> None:
    with pytest.raises(InputError, match=r"image\.onnx, text\.onnx and no model\.onnx; .* by pumer_convert\.quantize"):
        quantize_folder(folders[1], folders[1], mode="int8-cpu")
