"""The layout ort-genai: onnxruntime-genai, in an environment of its own, generates with the reduced vision part."""

import json
import os
import shutil
import subprocess
import sys
from itertools import chain
from pathlib import Path
from typing import Any

import language_graph
import numpy as np
import onnxruntime
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from tiny_gemmas import write_paligemma
from transformers import AutoModelForImageTextToText, AutoProcessor, LlavaForConditionalGeneration
from whole_llava import IMAGE, PAD, write

import pumer_convert
from pumer_convert.cli import cli
from pumer_convert.convert.apply import apply
from pumer_convert.convert.load import load
from pumer_convert.errors import InputError
from pumer_convert.export.layouts.ort_genai import export_ort_genai

HOME = Path(sys.prefix) / "ort-genai"
RUNS = pytest.mark.skipif(
    not any(HOME.glob("lib/*/site-packages/onnxruntime_genai")),
    reason=f"onnxruntime-genai is not in {HOME}, where tools/setup.sh puts it",
)
NEW = 6
RECIPE = """recipe: 1
model: llava
reduce:
  - {at: vision.0, merge: {image: 0.2, by: pitome}}
  - {at: projector, prune: {image: {keep: 9}, by: divprune}}
export: {dtype: float32}
"""
PROMPTS = {0: [5, 7, 9], 1: [5, IMAGE, 7, 9], 2: [IMAGE, IMAGE, 5, 7]}
"""Ids, by the number of pictures."""
PROGRAM = """
import sys, json
from pathlib import Path
folder, jobs = Path(sys.argv[1]), json.loads(sys.argv[2])
sys.path.insert(0, str(folder))
import onnxruntime_genai as og
from pictures import inputs
model = og.Model(str(folder))
for ids, pictures in jobs:
    params = og.GeneratorParams(model)
    params.set_search_options(max_length=100)
    generator = og.Generator(model, params)
    named = inputs(ids, pictures)
    generator.set_inputs(named)
    length, made = len(generator.get_sequence(0)), []
    for _ in range(6):
        generator.generate_next_token()
        made.append(int(generator.get_next_tokens()[0]))
    print(json.dumps([length, made]))
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """dense/, the whole model, part/, its reduced vision part, genai/, a folder of the runtime, and two pictures; not
    to be changed."""
    folder = tmp_path_factory.mktemp("ort-genai")
    write(folder / "dense", seed=3)
    (folder / "r.yaml").write_text(RECIPE)
    apply(folder / "dense", folder / "r.yaml", folder / "part")
    (folder / "genai").mkdir()
    model = LlavaForConditionalGeneration.from_pretrained(folder / "dense").eval()
    language_graph.write_language(model, folder / "genai" / "model.onnx")
    (folder / "genai" / "genai_config.json").write_text(json.dumps(config("phi3v"), indent=4))
    random = np.random.default_rng(0)
    for name in "ab":
        Image.fromarray(random.integers(0, 256, (48, 48, 3), np.uint8)).save(folder / f"{name}.png")
    return folder


def config(kind: str) -> dict[str, Any]:
    """genai_config.json for the tiny language model."""
    cache = {
        f"{when}_{what}_names": f"{name}.%d.{what}"
        for when, name in (("past", "past_key_values"), ("present", "present"))
        for what in ("key", "value")
    }
    past, present = ({k: v for k, v in cache.items() if k.startswith(when)} for when in ("past", "present"))
    decoder = {
        "session_options": {"provider_options": []},
        "filename": "model.onnx",
        **{"head_size": 12, "hidden_size": 48, "num_attention_heads": 4, "num_hidden_layers": 2},
        "num_key_value_heads": 2,
        "inputs": {**{n: n for n in ("inputs_embeds", "attention_mask", "position_ids")}, **past},
        "outputs": {"logits": "logits", **present},
    }
    ids = {"bos_token_id": 2, "eos_token_id": 96, "pad_token_id": PAD}
    model = {**ids, "context_length": 512, "vocab_size": 99, "type": kind, "decoder": decoder}
    model["vision"] = {"filename": "old.onnx", "inputs": {"pixel_values": "pixels"}, "outputs": {"image_features": "x"}}
    return {"model": model, "search": {"do_sample": False, "max_length": 100, "past_present_share_buffer": False}}


@pytest.fixture(scope="module")
def exchanged(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The runtime's folder with the reduced vision part; not to be changed."""
    folder = Path(shutil.copytree(home / "genai", tmp_path_factory.mktemp("exchanged") / "genai"))
    found = CliRunner().invoke(
        cli, ["export", str(home / "part"), "--layout", "ort-genai", "--into", str(folder)], catch_exceptions=False
    )
    assert found.stdout.splitlines()[0] == f"wrote {folder} (9 tokens of a picture)"
    return folder


def names(folder: Path) -> set[str]:
    return {file.name for file in folder.iterdir()}


def generated(folder: Path, jobs: list[tuple[list[int], list[str]]]) -> list[tuple[int, list[int]]]:
    """What the runtime makes of prompts: their lengths, and the ids that follow."""
    package = Path(pumer_convert.__file__).parents[1]
    command = [HOME / "bin" / "python", "-c", PROGRAM, folder, json.dumps(jobs)]
    environment = {**os.environ, "PYTHONPATH": str(package)}
    found = subprocess.run(
        [str(word) for word in command], env=environment, capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stderr
    return [tuple(json.loads(line)) for line in found.stdout.splitlines()]


def expected(home: Path, ids: list[int], pictures: list[str]) -> tuple[int, list[int]]:
    """What transformers generates, whose dense language model is handed the embeddings that the part gives."""
    model = LlavaForConditionalGeneration.from_pretrained(home / "dense").eval()
    embedded = chain.from_iterable([token] * (9 if token == IMAGE else 1) for token in ids)
    prompt = torch.tensor([[*embedded]])
    with torch.no_grad():
        words = model.get_input_embeddings()(prompt)
        if pictures:
            processor = AutoProcessor.from_pretrained(home / "dense").image_processor
            pixels = processor([Image.open(picture) for picture in pictures], return_tensors="pt")["pixel_values"]
            features = load(home / "part")(pixels).outputs["image_features"]
            words = words.masked_scatter((prompt == IMAGE)[..., None], features)
        made = model.generate(
            inputs_embeds=words, max_new_tokens=NEW, eos_token_id=None, do_sample=False, pad_token_id=PAD
        )
    return prompt.shape[1], made[0].tolist()


@RUNS
def test_it_generates_what_transformers_does(home: Path, exchanged: Path, tmp_path: Path) -> None:
    files = [str(home / f"{name}.png") for name in "ba"]
    jobs = [(ids, files[:count]) for count, ids in PROMPTS.items()]
    wanted = [expected(home, *job) for job in jobs]
    assert generated(exchanged, jobs) == wanted
    assert len({*chain(*(ids for _, ids in wanted))}) > 3
    folder = Path(shutil.copytree(exchanged, tmp_path / "genai"))
    for kind in ("gemma3", "videochat_flash_qwen"):
        values = json.loads((folder / "genai_config.json").read_text())
        values["model"]["type"] = kind
        (folder / "genai_config.json").write_text(json.dumps(values))
        assert generated(folder, jobs) == wanted


def test_what_is_written(home: Path, exchanged: Path, tmp_path: Path) -> None:
    own = {"vision.pumer.onnx", "embedding.pumer.onnx", "pictures.py", "pumer.json"}
    assert names(exchanged) == names(home / "genai") | own | {"genai_config.dense.json"}
    before = (home / "genai" / "genai_config.json").read_bytes()
    assert (exchanged / "genai_config.dense.json").read_bytes() == before
    values = json.loads((exchanged / "genai_config.json").read_text())
    assert values["model"]["vision"]["filename"] == "vision.pumer.onnx"
    assert values["model"]["vision"]["inputs"] == {"pixel_values": "pixel_values"}
    assert values["model"]["embedding"]["filename"] == "embedding.pumer.onnx"
    assert values["model"]["decoder"] == config("phi3v")["model"]["decoder"]
    assert "num_visual_tokens" not in values["model"]["vision"]
    with pytest.raises(InputError, match="its vision part is one of pumer-convert's already; replace it with --overwr"):
        export_ort_genai(home / "part", exchanged)
    folder = Path(shutil.copytree(exchanged, tmp_path / "genai"))
    values["model"]["type"] = "videochat_flash_qwen"
    (folder / "genai_config.json").write_text(json.dumps(values))
    export_ort_genai(home / "part", folder, overwrite=True)
    assert names(folder) == names(exchanged)
    assert (folder / "genai_config.dense.json").read_bytes() == before
    assert json.loads((folder / "genai_config.json").read_text())["model"]["vision"]["num_visual_tokens"] == 9
    # A new folder leaves the other as it is.
    report = export_ort_genai(home / "part", home / "genai", tmp_path / "new")
    assert (home / "genai" / "genai_config.json").read_bytes() == before
    assert names(tmp_path / "new") == names(home / "genai") | own | {"report.json"}
    assert report["image_token_id"] == IMAGE
    # And one of the files alone says what is to be merged.
    export_ort_genai(home / "part", None, tmp_path / "alone", dtype="float16")
    assert names(tmp_path / "alone") == own | {"report.json", "genai_config.merge.json"}
    merge = json.loads((tmp_path / "alone" / "genai_config.merge.json").read_text())
    assert merge["model"]["vision"]["num_visual_tokens"] == 9
    session = onnxruntime.InferenceSession(tmp_path / "alone" / "embedding.pumer.onnx")
    assert session.get_outputs()[0].type == "tensor(float16)"


def test_pictures_of_a_batch_lie_one_behind_the_other(home: Path, exchanged: Path) -> None:
    session = onnxruntime.InferenceSession(exchanged / "vision.pumer.onnx")
    pixels = np.random.default_rng(0).standard_normal((2, 3, 48, 48)).astype(np.float32)
    (found,) = session.run(["image_features"], {"pixel_values": pixels})
    with torch.no_grad():
        wanted = load(home / "part")(torch.from_numpy(pixels)).outputs["image_features"]
    assert found.shape == (18, 48)
    np.testing.assert_allclose(found, wanted.flatten(0, 1).numpy(), atol=1e-4)


def test_features_take_the_places_of_the_image_tokens(home: Path, exchanged: Path) -> None:
    session = onnxruntime.InferenceSession(exchanged / "embedding.pumer.onnx")
    table = LlavaForConditionalGeneration.from_pretrained(home / "dense").get_input_embeddings().weight.detach().numpy()

    def embedded(ids: list[list[int]], features: Any) -> Any:
        given = {"input_ids": np.array(ids, np.int64), "image_features": np.asarray(features, np.float32)}
        return session.run(None, given)[0]

    features = np.random.default_rng(0).standard_normal((3, 48)).astype(np.float32)
    found = embedded([[5, IMAGE, IMAGE], [IMAGE, 7, 9]], features)
    assert np.array_equal(found, np.stack([[table[5], *features[:2]], [features[2], table[7], table[9]]]))
    # Without any the token is a word like another, as for transformers.
    assert np.array_equal(embedded([[5, IMAGE]], np.zeros((0, 48))), table[[[5, IMAGE]]])
    with pytest.raises(Exception, match="out of data bounds"):
        embedded([[IMAGE] * 4], features)


def test_words_are_as_large_as_the_model_makes_them(tmp_path: Path) -> None:
    write_paligemma(tmp_path / "dense", dtype=torch.bfloat16)
    export_ort_genai(tmp_path / "dense", None, tmp_path / "out", dtype="float32")
    session = onnxruntime.InferenceSession(tmp_path / "out" / "embedding.pumer.onnx")
    model = AutoModelForImageTextToText.from_pretrained(tmp_path / "dense", dtype=torch.bfloat16)
    ids = torch.arange(99)[None]
    (found,) = session.run(None, {"input_ids": ids.numpy(), "image_features": np.zeros((0, 48), np.float32)})
    with torch.no_grad():
        assert np.array_equal(found, model.get_input_embeddings()(ids).float().numpy())


def test_folders_that_do_not_fit_are_refused(home: Path, tmp_path: Path) -> None:
    genai = Path(shutil.copytree(home / "genai", tmp_path / "genai"))
    file = genai / "genai_config.json"
    before = file.read_text()

    def refused(why: str, **changes: Any) -> None:
        values = json.loads(before)
        values["model"] |= changes
        file.write_text(json.dumps(values))
        with pytest.raises(InputError, match=why):
            export_ort_genai(home / "part", genai)
        assert names(genai) == names(home / "genai")

    refused(
        "of type 'llava', with which onnxruntime-genai takes no count of image tokens .* set model.type", type="llava"
    )
    decoder = json.loads(before)["model"]["decoder"]
    refused("model.decoder.filename is not there", decoder={**decoder, "filename": "other.onnx"})
    refused("takes no words; .* exclude_embeds=true", decoder={**decoder, "inputs": {"inputs_embeds": "words"}})
    refused("has no section model.decoder", decoder=None)
    file.unlink()
    with pytest.raises(InputError, match=r"not a folder of onnxruntime-genai; it has no genai_config\.json"):
        export_ort_genai(home / "part", genai)
    file.write_text(before)
    write(tmp_path / "wide", seed=1)
    values = json.loads((home / "dense" / "config.json").read_text())
    assert values["text_config"]["hidden_size"] == 48
    (genai / "vision.pumer.onnx").write_text("mine")
    with pytest.raises(InputError, match=r"vision\.pumer\.onnx is there, and is not what pumer-convert wrote"):
        export_ort_genai(home / "part", genai)
    (tmp_path / "r.yaml").write_text(RECIPE)
    apply(tmp_path / "wide", tmp_path / "r.yaml", tmp_path / "part")
    shutil.rmtree(tmp_path / "wide")
    with pytest.raises(InputError, match="is not there any more; the layout ort-genai needs the whole model"):
        export_ort_genai(tmp_path / "part", None, tmp_path / "out")
    assert not (tmp_path / "out").exists()
