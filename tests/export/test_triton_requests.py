"""Triton's models and requests of every kind: pairs, rows, wrong ones beside good ones, padding that matters."""

import importlib.util
import io
import json
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from triton_server import MISSING, STUB, serving

from pumer_convert.cli import cli
from pumer_convert.data.preprocess import Preprocessor
from pumer_convert.demo import CHECKPOINT
from pumer_convert.demo.world import samples
from pumer_convert.errors import InputError
from pumer_convert.export.folder import export_folder
from pumer_convert.export.triton import export_triton
from pumer_convert.runtime import Pipeline

pytest.importorskip("tritonclient.grpc", reason="tritonclient[grpc] is not installed")
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

SERVED = pytest.mark.skipif(not STUB.exists(), reason=MISSING)
REQUESTS = 60


@pytest.fixture
def reference(published_demo: Path) -> Path:
    """The ONNX file of a reduced checkpoint in whose published behaviour padding changes the answers."""
    return published_demo / "model.onnx"


def png(image: Image.Image) -> bytes:
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


def tensors_of(inputs: dict[str, np.ndarray[Any, Any]]) -> list[Any]:
    kinds = {"O": "BYTES", "i": "INT64", "f": "FP32"}
    return [
        triton.InferInput(name, list(value.shape), kinds[value.dtype.kind]).set_data_from_numpy(value)
        for name, value in inputs.items()
    ]


def infer(address: str, model: str, inputs: dict[str, np.ndarray[Any, Any]]) -> Any:
    with triton.InferenceServerClient(address) as client:
        return client.infer(model, tensors_of(inputs), client_timeout=60)


def questions(pictures: Sequence[Sequence[bytes]], texts: Sequence[bytes]) -> dict[str, np.ndarray[Any, Any]]:
    return {"IMAGE": np.array(pictures, np.object_), "TEXT": np.array([[text] for text in texts], np.object_)}


def at_once(call: Callable[[int], Any], count: int) -> list[Any]:
    """`call` of every number, from 16 threads that start together; an error of the server stands for its result."""
    gate = threading.Barrier(16)

    def run(start: int) -> list[tuple[int, Any]]:
        gate.wait()
        found: list[tuple[int, Any]] = []
        for i in range(start, count, 16):
            try:
                found.append((i, call(i)))
            except InferenceServerException as error:
                found.append((i, error))
        return found

    with ThreadPoolExecutor(16) as pool:
        return [
            value for _, value in sorted((x for part in pool.map(run, range(16)) for x in part), key=lambda x: x[0])
        ]


@SERVED
def test_where_padding_matters_texts_are_answered_as_if_alone_and_wrong_tensors_take_no_others_along(
    reference: Path, tmp_path: Path
) -> None:
    export_triton(reference, tmp_path / "models", backend="python")
    asked = [(s.image.open(), s.text + " and" * (i % 7)) for i, s in enumerate(samples("vqa", "test", REQUESTS))]
    pipeline = Pipeline(reference.parent, device="cpu")
    alone = [pipeline(*item) for item in asked]
    together = pipeline.batch(asked)
    assert max(abs(a.score - b.score) for a, b in zip(alone, together, strict=True)) > 1e-2  # padding does matter
    ids, mask = pipeline.preprocessor.text([asked[0][1]])
    pixels = [pipeline.preprocessor.pixels(image)[None] for image, _ in asked]
    logits = pipeline.runtime(
        input_ids=np.repeat(ids, REQUESTS, 0),
        attention_mask=np.repeat(mask, REQUESTS, 0),
        pixel_values=np.concatenate(pixels),
    )

    def tensors(i: int) -> Any:
        wrong = np.full_like(ids, 10**6)
        inputs = {"input_ids": ids if i % 4 else wrong, "attention_mask": mask, "pixel_values": pixels[i]}
        return infer(address, "pumer_model", inputs).as_numpy("logits")

    with serving(tmp_path / "models", tmp_path) as address:
        replies = at_once(
            lambda i: infer(address, "pumer", questions([[png(asked[i][0])]], [asked[i][1].encode()])), REQUESTS
        )
        assert [reply.as_numpy("ANSWER")[0, 0].decode() for reply in replies] == [answer.text for answer in alone]
        scores = [float(reply.as_numpy("SCORE")[0, 0]) for reply in replies]
        np.testing.assert_allclose(scores, [answer.score for answer in alone], atol=1e-4)
        found = at_once(tensors, REQUESTS)
    for i, got in enumerate(found):
        if i % 4:
            np.testing.assert_allclose(got[0], logits[i], atol=1e-3)
        else:
            assert "the model refuses it" in str(got)


@SERVED
def test_pairs_of_pictures_and_several_questions_in_a_request(tmp_path: Path) -> None:
    checkpoint = CHECKPOINT.parent / "nlvr2"
    (tmp_path / "out").mkdir()
    export_folder(checkpoint, tmp_path / "out", dtype="float32")
    export_triton(tmp_path / "out" / "model.onnx", tmp_path / "models", backend="python")
    asked = list(samples("nlvr2", "test", REQUESTS))
    pictures = [[png(picture.open()) for picture in sample.images] for sample in asked]
    texts = [sample.text.encode() for sample in asked]
    pipeline = Pipeline(checkpoint, device="cpu")
    expected = [pipeline([p.open() for p in sample.images], sample.text) for sample in asked]

    def pair(i: int) -> Any:
        given = pictures[i] if i % 5 else [pictures[i][0], pictures[i][1][:200]]
        return infer(address, "pumer", questions([given], [texts[i]]))

    with serving(tmp_path / "models", tmp_path) as address:
        for i, reply in enumerate(at_once(pair, REQUESTS)):
            if i % 5:
                assert reply.as_numpy("ANSWER")[0, 0].decode() == expected[i].text
                assert reply.as_numpy("SCORE")[0, 0] == pytest.approx(expected[i].score, abs=1e-4)
            else:
                assert "IMAGE cannot be read" in str(reply)
                assert "INVALID_ARGUMENT" in str(reply)
        best = triton.InferRequestedOutput("LOGITS", class_count=1)
        with triton.InferenceServerClient(address) as client:
            given = tensors_of(questions(pictures[1:2], texts[1:2]))
            (label,) = client.infer("pumer", given, outputs=[best]).as_numpy("LOGITS").ravel()
        assert label.decode().split(":")[2] == expected[1].text
        several = infer(address, "pumer", questions(pictures[:7], texts[:7]))
        assert [answer.decode() for (answer,) in several.as_numpy("ANSWER")] == [answer.text for answer in expected[:7]]
        assert several.as_numpy("LOGITS").shape == (7, 2)
        with pytest.raises(InferenceServerException, match="shape"):
            infer(address, "pumer", questions([pictures[0][:1]], texts[:1]))
        assert pair(1).as_numpy("ANSWER")[0, 0].decode() == expected[1].text


def test_the_front_prepares_as_training_does_to_the_bit(reference: Path, tmp_path: Path) -> None:
    from tokenizers import Tokenizer

    export_triton(reference, tmp_path / "models")
    version = tmp_path / "models" / "pumer" / "1"
    told = json.loads((version / "front.json").read_text())
    spec = importlib.util.spec_from_file_location("pixels_of_the_front", version / "pixels.py")
    assert spec is not None
    assert spec.loader is not None
    pixels = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(pixels)
    own = Preprocessor.of(reference.parent)
    settings = pixels.ImageSettings(**told["image"])
    random = np.random.default_rng(0)
    for height, width in ((96, 96), (40, 200), (333, 128)):
        image = Image.fromarray(random.integers(0, 256, (height, width, 3), np.uint8))
        for mode in ("RGB", "L", "RGBA"):
            given = image.convert(mode)
            np.testing.assert_array_equal(pixels.to_pixels(given, settings), own.pixels(given))
    tokenizer = Tokenizer.from_file(str(version / "tokenizer.json"))
    tokenizer.enable_truncation(told["text"]["truncated_to"], direction=told["text"]["truncation_side"])
    for text in ("", "what colour is the star?", "Naïve CAFÉ — 東京 [SEP] №5", "circle " * 100):
        assert tokenizer.encode(text).ids == own.text([text])[0][0].tolist()
    imports = {
        line.split()[1].split(".")[0]
        for file in version.glob("*.py")
        for line in file.read_text().splitlines()
        if line.startswith(("import ", "from "))
    }
    assert imports <= {
        "io",
        "json",
        "math",
        "dataclasses",
        "pathlib",
        "typing",
        "numpy",
        "PIL",
        "tokenizers",
        "re",
        "struct",
        "collections",
        "open_picture",
        "patches",
        "pixels",
        "scores",
        "triton_python_backend_utils",
    }


def test_an_engine_that_triton_could_not_serve_whole_is_refused(reference: Path, tmp_path: Path) -> None:
    for file in (*reference.parent.glob("token*"), reference.with_name("config.json")):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    path = tmp_path / "model.engine"
    path.write_bytes(b"plan")
    values = json.loads(reference.with_name("model.onnx.json").read_text())
    values |= {
        "flavour": "tensorrt",
        "inputs": [
            *({"name": name, "dtype": "int64", "shape": ["batch", "text"]} for name in ("input_ids", "attention_mask")),
            {"name": "pixel_values", "shape": ["batch", 3, 96, 96]},
        ],
        "outputs": [{"name": "logits", "dtype": "float32", "shape": ["batch", 20]}],
        "engine": {"sha256": ""},
    }

    def refused(says: str, *profiles: Any, **more: Any) -> None:
        shapes = [{"input_ids": shape} for shape in profiles]
        path.with_name("model.engine.json").write_text(json.dumps({**values, "profiles": shapes, **more}))
        with pytest.raises(InputError, match=says):
            export_triton(path)
        assert not (tmp_path / "triton").exists()

    small, large = [[1, 4], [1, 16], [8, 40]], [[16, 4], [32, 16], [64, 40]]
    refused("engine without weights", small, stripped=True)
    refused("take no batch of 9, and Triton makes batches of every size from 1 to 64", small, large)
    refused("take no batch of 1,", large)
    refused("no length of text in common", small, [[1, 41], [1, 50], [8, 60]])
    for compatible, says in ((False, "has to be 10.13.3, which built"), (True, "version-compatible=true")):
        values |= {"tensorrt_version": "10.13.3", "version_compatible": compatible}
        path.with_name("model.engine.json").write_text(json.dumps({**values, "profiles": [{"input_ids": small}]}))
        export_triton(path, overwrite=True)
        assert says in (tmp_path / "triton" / "README.md").read_text()


@pytest.mark.parametrize(
    ("words", "says"),
    [(["--triton-backend", "python"], "--triton"), (["--triton", "--triton-backend", "tensorrt"], "--trt")],
)
def test_options_that_make_no_sense_are_refused_before_the_work(words: list[str], says: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"say {says} as well"):
        cli.main(["export", str(CHECKPOINT), "-o", str(tmp_path), *words], standalone_mode=False)
    assert not any(tmp_path.iterdir())
