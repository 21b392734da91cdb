"""The layout openvino-genai: OpenVINO GenAI generates with the reduced vision part in its folder."""

import json
import shutil
import sys
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import openvino_genai
import pytest
import torch
from click.testing import CliRunner
from openvino_folder import VISION, Heard, write
from PIL import Image
from transformers import AutoProcessor, LlavaForConditionalGeneration
from whole_llava import IMAGE, PAD
from whole_llava import write as write_whole

from pumer_convert.cli import cli
from pumer_convert.convert.apply import apply
from pumer_convert.convert.load import load
from pumer_convert.errors import InputError
from pumer_convert.export.folder import export_folder
from pumer_convert.export.layouts.openvino_genai import export_openvino_genai

NEW = 6
RECIPE = """recipe: 1
model: llava
reduce:
  - {at: vision.0, merge: {image: 0.2, by: pitome}}
  - {at: projector, prune: {image: {keep: 9}, by: divprune}}
export: {dtype: float32}
"""
PROMPTS = {1: "w5 <image> w7 w9", 2: "<image> w5 <image> w7"}
"""By the number of pictures. Words between them, for the tokenizer has no token for the newline that the runtime puts
behind each."""
PLAIN = {"compress_to_fp16": False}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """dense/, the whole model, part/, its reduced vision part, and genai/, the dense folder of the runtime; not to be
    changed."""
    folder = tmp_path_factory.mktemp("openvino")
    write_whole(folder / "dense", seed=3)
    (folder / "r.yaml").write_text(RECIPE)
    apply(folder / "dense", folder / "r.yaml", folder / "part")
    export_folder(folder / "dense", folder / "onnx", dtype="float32", inline_functions=True)
    write(folder / "dense", folder / "onnx" / "vision.onnx", folder / "genai")
    return folder


@pytest.fixture
def genai(home: Path, tmp_path: Path) -> Path:
    """A copy of the runtime's folder."""
    return Path(shutil.copytree(home / "genai", tmp_path / "genai"))


@pytest.fixture(scope="module")
def exchanged(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The runtime's folder with the reduced vision part; not to be changed."""
    folder = Path(shutil.copytree(home / "genai", tmp_path_factory.mktemp("exchanged") / "genai"))
    report = export_openvino_genai(home / "part", folder)
    assert (report["image_tokens"], report["dense_tokens"], report["dtype"]) == (9, 36, "float32")
    assert report["verification"]["logits_error"] < 1e-5
    assert report["verification"]["decisions"] > 0
    return folder


@pytest.fixture(autouse=True)
def without_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


def pictures(count: int) -> list[Any]:
    random = np.random.default_rng(0)
    return [random.integers(0, 256, (48, 48, 3), np.uint8) for _ in range(2)][-count:]


def heard(folder: Path, count: int) -> tuple[list[int], int]:
    """The ids that the runtime generates for a prompt with that many pictures, and the length of the prompt."""
    pipeline = openvino_genai.VLMPipeline(str(folder), "CPU", ATTENTION_BACKEND="SDPA", INFERENCE_PRECISION_HINT="f32")
    config = openvino_genai.GenerationConfig(max_new_tokens=NEW, do_sample=False, ignore_eos=True)
    config.apply_chat_template = False
    stream = Heard()
    given = [openvino.Tensor(picture[None]) for picture in pictures(count)]
    made = pipeline.generate(PROMPTS[count], images=given, generation_config=config, streamer=stream)
    return stream.ids, made.perf_metrics.get_num_input_tokens()


def expected(home: Path, part: Path, count: int) -> list[int]:
    """What transformers generates, whose dense language model is handed the embeddings that `part` gives."""
    model = LlavaForConditionalGeneration.from_pretrained(home / "dense").eval()
    processor = AutoProcessor.from_pretrained(home / "dense")
    given = processor.image_processor([Image.fromarray(p) for p in pictures(count)], return_tensors="pt")
    features = load(part)(given["pixel_values"]).outputs["image_features"]
    words = [[IMAGE] * features.shape[1] if word == "<image>" else [int(word[1:])] for word in PROMPTS[count].split()]
    ids = torch.tensor([[*chain(*words)]])
    embedded = model.get_input_embeddings()(ids.where(ids != IMAGE, PAD))
    embedded = embedded.masked_scatter((ids == IMAGE)[..., None], features)
    found = model.generate(
        inputs_embeds=embedded, max_new_tokens=NEW, eos_token_id=None, do_sample=False, pad_token_id=PAD
    )
    return list(found[0].tolist())


@pytest.mark.parametrize("count", [1, 2])
def test_it_generates_what_transformers_does(home: Path, exchanged: Path, count: int) -> None:
    ids, length = heard(exchanged, count)
    assert length == len(PROMPTS[count].split()) + 8 * count
    assert ids == expected(home, home / "part", count)
    dense, before = heard(home / "genai", count)
    assert before == length + 27 * count
    assert dense == expected(home, home / "dense", count)
    assert len({*ids}) > 1


def names(folder: Path) -> set[str]:
    return {file.name for file in folder.iterdir()}


def test_the_dense_one_is_kept_and_named_alike(home: Path, exchanged: Path) -> None:
    added = {f"{VISION}.dense.xml", f"{VISION}.dense.bin", f"{VISION}.pumer.json"}
    assert names(exchanged) == names(home / "genai") | added
    for end in (".xml", ".bin"):
        assert (exchanged / f"{VISION}.dense{end}").read_bytes() == (home / "genai" / f"{VISION}{end}").read_bytes()
    ours, dense = (openvino.Core().read_model(exchanged / f"{VISION}{end}.xml") for end in ("", ".dense"))
    assert ours.input(0).get_names() == dense.input(0).get_names() == {"pixel_values"}
    assert ours.output(0).get_names() == dense.output(0).get_names() == {"last_hidden_state"}
    assert [p.name for p in exchanged.parent.iterdir()] == ["genai"]


def test_a_second_run_asks_and_keeps_the_dense_one(home: Path, exchanged: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(exchanged, tmp_path / "genai"))
    with pytest.raises(InputError, match="its vision part is one of pumer-convert's already; replace it with --over"):
        export_openvino_genai(home / "part", folder)
    report = export_openvino_genai(home / "part", folder, dtype="float16", overwrite=True)
    assert report["dtype"] == "float16"
    assert names(folder) == names(exchanged)
    assert (folder / f"{VISION}.dense.bin").read_bytes() == (home / "genai" / f"{VISION}.bin").read_bytes()
    half, whole = (one / f"{VISION}.bin" for one in (folder, exchanged))
    assert half.stat().st_size < 0.6 * whole.stat().st_size
    # Put back what was there, and it is as if nothing had been.
    for end in (".xml", ".bin"):
        (folder / f"{VISION}.dense{end}").replace(folder / f"{VISION}{end}")
    export_openvino_genai(home / "part", folder)
    assert (folder / f"{VISION}.bin").read_bytes() == whole.read_bytes()
    # What somebody else wrote there since is not taken for the dense one.
    (folder / f"{VISION}.bin").write_bytes(b"")
    with pytest.raises(
        InputError, match=r"dense\.xml is there, and .* is not what pumer-convert wrote beside it; move"
    ):
        export_openvino_genai(home / "part", folder, overwrite=True)


def test_another_folder_is_made(home: Path, exchanged: Path, tmp_path: Path) -> None:
    out, before = tmp_path / "new", {file: file.read_bytes() for file in (home / "genai").iterdir()}
    args = ["export", str(home / "part"), "--layout", "openvino-genai", "--into", str(home / "genai"), "-o", str(out)]
    found = CliRunner().invoke(cli, args, catch_exceptions=False)
    first, second, note = found.stdout.splitlines()
    assert first == f"wrote {out} (9 tokens of a picture)"
    assert second.startswith("verified: outputs within")
    assert note.startswith("note: the kept tokens get the positions of as many words")
    assert {file: file.read_bytes() for file in (home / "genai").iterdir()} == before
    assert names(out) == names(home / "genai") | {f"{VISION}.pumer.json", "report.json"}
    language = "openvino_language_model.bin"
    assert (out / language).samefile(home / "genai" / language)
    assert (out / f"{VISION}.bin").read_bytes() == (exchanged / f"{VISION}.bin").read_bytes()
    report = export_openvino_genai(home / "part", home / "genai", out, overwrite=True)
    assert report == json.loads((out / "report.json").read_text())
    assert report["files"][language]


def test_folders_that_do_not_fit_are_refused(home: Path, genai: Path, tmp_path: Path) -> None:
    part, config = home / "part", genai / "config.json"
    before = {file.name: file.read_bytes() for file in genai.iterdir()}

    def refused(why: str) -> None:
        with pytest.raises(InputError, match=why):
            export_openvino_genai(part, genai)
        for name, data in before.items():
            (genai / name).write_bytes(data)
        assert names(genai) == {*before}

    config.write_text(json.dumps(json.loads(config.read_text()) | {"model_type": "phi3_v"}))
    refused("of a phi3_v, and .*part is the vision part of a llava")
    config.unlink()
    refused(r"not a folder of OpenVINO GenAI with a vision part; it has no config\.json")
    (genai / f"{VISION}.bin").unlink()
    refused(rf"it has no {VISION}\.bin")
    (genai / f"{VISION}.xml").write_text("<net")
    refused(f"{VISION}.xml: OpenVINO cannot read it: ")
    values = json.loads((genai / "preprocessor_config.json").read_text())
    other = {"crop_size": {"height": 64, "width": 64}, "size": {"shortest_edge": 64}}
    (genai / "preprocessor_config.json").write_text(json.dumps(values | other))
    refused(r"makes pictures of size \(64, 64\), and .* takes \(48, 48\)")
    (genai / "preprocessor_config.json").write_text(json.dumps(values | {"image_mean": [0.5] * 3}))
    refused(r"makes pictures of mean \(0.5, 0.5, 0.5\)")
    ops = openvino.opset13
    for taken, axis, why in (
        ([-1, 3, 64, 64], None, r"takes pixels \[\?,3,64,64\], and those of this vision part are \[\?, 3, 48, 48\]"),
        ([-1, 3, 48, 48], [36, 32], r"gives embeddings \[\?,36,32\], and those .* are \[\?, 36, 48\]"),
        ([-1, 3, 48, 48], [35, 48], r"gives embeddings \[\?,35,48\]"),
    ):
        pixels = ops.parameter(taken, np.float32, name="pixel_values")
        sides = [ops.gather(ops.shape_of(pixels), np.array([0]), np.int64(0)), np.array(axis or [36, 48])]
        other_model = openvino.Model([ops.broadcast(np.float32(1), ops.concat(sides, 0))], [pixels])
        openvino.save_model(other_model, genai / f"{VISION}.xml", **PLAIN)
        refused(why)


def test_a_folder_of_other_weights_is_refused(home: Path, genai: Path, tmp_path: Path) -> None:
    write_whole(tmp_path / "other", seed=4)
    (tmp_path / "r.yaml").write_text(RECIPE)
    apply(tmp_path / "other", tmp_path / "r.yaml", tmp_path / "part")
    with pytest.raises(InputError, match=r"of another model than .*other, whose embeddings .* a cosine of -?0\.\d\d"):
        export_openvino_genai(tmp_path / "part", genai)
    assert names(genai) == names(home / "genai")
    shutil.rmtree(tmp_path / "other")
    report = export_openvino_genai(tmp_path / "part", genai)
    assert "was not checked" in report["notes"][-1]


def test_what_it_cannot_do_is_told_at_once(home: Path, tmp_path: Path) -> None:
    def refused(*args: str) -> str:
        found = CliRunner().invoke(cli, ["export", str(home / "part"), *args])
        assert isinstance(found.exception, InputError)
        return str(found.exception)

    layout = ("--layout", "openvino-genai")
    assert "replaces the vision part of a folder of that runtime; name it with --into." in refused(*layout)
    assert refused("--into", "genai") == "--into is for --layout; say --layout as well."
    assert "leave --into out." in refused("--layout", "hf", "--into", "genai", "-o", "x")
    assert "leave --opset out." in refused(*layout, "--into", "genai", "--opset", "23")
    assert "nowhere: there is no such folder." in refused(*layout, "--into", str(tmp_path / "nowhere"))


def test_without_openvino_the_extra_is_named(home: Path, genai: Path) -> None:
    import subprocess

    program = (
        "import sys; sys.modules['openvino'] = None\n"
        "from pumer_convert.cli import main\n"
        f"sys.argv = ['x', 'export', {str(home / 'part')!r}, '--layout', 'openvino-genai', '--into', {str(genai)!r}]\n"
        "main()"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert found.returncode == 4
    assert found.stderr == (
        "error: this needs the package openvino, which is not installed: pip install 'pumer-convert[openvino]'.\n"
    )
