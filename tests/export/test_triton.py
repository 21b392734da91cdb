"""The model repository for Triton: its configuration against Triton's own schema, and really served."""

import io
import json
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import lessons
import numpy as np
import pytest
from click.testing import CliRunner
from exported import change
from triton_server import MISSING, STUB, serving

from pumer_convert.cli import cli
from pumer_convert.demo.world import Sample, samples
from pumer_convert.errors import InputError
from pumer_convert.export.triton import export_triton
from pumer_convert.runtime import Pipeline

pytest.importorskip("tritonclient.grpc", reason="tritonclient[grpc] is not installed")
import tritonclient.grpc as triton
from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig
from tritonclient.utils import InferenceServerException

REQUESTS = 200


@pytest.fixture
def exported(demo: Path) -> Path:
    """The ONNX file of a reduced demo checkpoint, in the checkpoint's folder."""
    return demo / "model.onnx"


def config(repository: Path, model: str) -> ModelConfig:
    """Parsed by Triton's schema, which refuses what it does not know."""
    return text_format.Parse((repository / model / "config.pbtxt").read_text(), ModelConfig())


def test_the_configuration_is_triton_s(exported: Path, tmp_path: Path) -> None:
    report = export_triton(exported, tmp_path / "models")
    assert report["models"] == ["pumer", "pumer_model"]
    model, front = config(tmp_path / "models", "pumer_model"), config(tmp_path / "models", "pumer")
    assert (model.backend, front.backend, model.default_model_filename) == ("onnxruntime", "python", "model.onnx")
    assert [list(tensor.dims) for tensor in model.input] == [[-1], [-1], [-1, 3 * 8 * 8], [2]]
    assert [tensor.name for tensor in model.input] == ["input_ids", "attention_mask", "patches", "patch_grid"]
    warm = model.model_warmup[0].inputs
    assert [list(warm[name].dims) for name in ("input_ids", "patches", "patch_grid")] == [[16], [144, 192], [2]]
    assert list(model.output[0].dims) == [20]
    assert model.max_batch_size == front.max_batch_size == 32
    assert model.HasField("dynamic_batching")
    assert model.version_policy.HasField("latest")
    ones = (
        tmp_path / "models" / "pumer_model" / "warmup" / model.model_warmup[0].inputs["attention_mask"].input_data_file
    )
    assert ones.read_bytes() == np.ones(16, np.int64).tobytes()
    labels = (tmp_path / "models" / "pumer_model" / model.output[0].label_filename).read_text().split()
    assert labels[:2] == ["yes", "no"]
    assert "tritonserver" in (tmp_path / "models" / "README.md").read_text()
    with pytest.raises(InputError, match="exists already"):
        export_triton(exported, tmp_path / "models")
    export_triton(exported, tmp_path / "models", overwrite=True)


def test_an_engine_of_tensorrt_is_served_and_one_of_rtx_refused(exported: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx")
    for file in exported.parent.glob("token*"):
        shutil.copy(file, tmp_path)
    path = tmp_path / "model.engine"
    for name in (path.name, path.name + ".json"):
        shutil.copy(exported.with_name(name), tmp_path)
    with pytest.raises(InputError, match="Triton loads engines of TensorRT alone"):
        export_triton(path)
    assert not (tmp_path / "triton").exists()
    patches = {"patches": [[1, 19, 192], [1, 144, 192], [8, 228, 192]]}
    profiles = [{"input_ids": s, **patches} for s in ([[1, 4], [1, 16], [8, 32]], [[4, 6], [16, 16], [64, 40]])]
    change(path, flavour="tensorrt", profiles=profiles)
    export_triton(path)
    model = config(tmp_path / "triton", "pumer_model")
    assert (model.backend, model.default_model_filename, model.max_batch_size) == ("tensorrt", "model.plan", 64)
    assert list(model.instance_group[0].profile) == ["0", "1"]
    assert (tmp_path / "triton" / "pumer_model" / "1" / "model.plan").read_bytes() == path.read_bytes()
    told = json.loads((tmp_path / "triton" / "pumer" / "1" / "front.json").read_text())
    assert (told["text"]["least"], told["text"]["longest"], told["most_batch"]) == (6, 32, 64)
    assert (told["patch"], told["least_patches"], told["most_patches"]) == (8, 19, 228)


def test_what_cannot_be_served_is_told(exported: Path, tmp_path: Path) -> None:
    for says, path, backend in (
        ("no such file", tmp_path / "model.onnx", None),
        (r"no Triton backend 'pyton'\. Did you mean 'python'", exported, "pyton"),
        ("runs another kind of file", exported, "tensorrt"),
    ):
        with pytest.raises(InputError, match=says):
            export_triton(path, tmp_path / "models", backend=backend)
    assert list(tmp_path.iterdir()) == []


def png(sample: Sample) -> bytes:
    out = io.BytesIO()
    sample.image.open().save(out, "PNG")
    return out.getvalue()


def ask(client: Any, image: bytes, text: bytes) -> Any:
    inputs = [triton.InferInput("IMAGE", [1, 1], "BYTES"), triton.InferInput("TEXT", [1, 1], "BYTES")]
    inputs[0].set_data_from_numpy(np.array([[image]], np.object_))
    inputs[1].set_data_from_numpy(np.array([[text]], np.object_))
    return client.infer("pumer", inputs, client_timeout=60)


@pytest.mark.skipif(not STUB.exists(), reason=MISSING)
def test_served_by_triton(exported: Path, tmp_path: Path) -> None:
    export_triton(exported, tmp_path / "models", backend="python")
    pipeline = Pipeline(exported.parent)
    asked = list(samples("vqa", "test", REQUESTS))
    assert len({len(sample.text.split()) for sample in asked}) > 4
    expected = [answer for i in range(0, REQUESTS, 50) for answer in pipeline.batch(items(asked[i : i + 50]))]
    local = threading.local()

    def one(sample: Sample) -> tuple[str, float]:
        if not hasattr(local, "client"):
            local.client = triton.InferenceServerClient(address)
        reply = ask(local.client, png(sample), sample.text.encode())
        return reply.as_numpy("ANSWER")[0, 0].decode(), float(reply.as_numpy("SCORE")[0, 0])

    with serving(tmp_path / "models", tmp_path) as address:
        with ThreadPoolExecutor(16) as pool:
            replies = list(pool.map(one, asked))
        assert [text for text, _ in replies] == [answer.text for answer in expected]
        np.testing.assert_allclose([score for _, score in replies], [answer.score for answer in expected], atol=1e-4)
        client = triton.InferenceServerClient(address)
        for image, text, says in (
            (b"no picture", b"what", "IMAGE cannot be read"),
            (png(asked[0]), b"\xff\xfe", "TEXT is not UTF-8"),
        ):
            with pytest.raises(
                triton.InferenceServerException if hasattr(triton, "InferenceServerException") else Exception,
                match=says,
            ):
                ask(client, image, text)
        good, bad = triton.InferInput("TEXT", [1, 1], "BYTES"), triton.InferInput("IMAGE", [1, 2], "BYTES")
        good.set_data_from_numpy(np.array([[b"what"]], np.object_))
        bad.set_data_from_numpy(np.array([[b"a", b"b"]], np.object_))
        with pytest.raises(InferenceServerException, match="shape"):
            client.infer("pumer", [good, bad])
        assert one(asked[0])[0] == replies[0][0]


def items(asked: list[Sample]) -> list[tuple[Any, str]]:
    return [(sample.image.open(), sample.text) for sample in asked]


def test_the_command_line_writes_the_repository(tmp_path: Path) -> None:
    checkpoint = lessons.reduced(lessons.dense(tmp_path / "dense"))
    words = ["export", "--triton", "--triton-backend", "python", str(checkpoint), "-o", str(tmp_path)]
    done = CliRunner().invoke(cli, words, catch_exceptions=False)
    assert done.exit_code == 0
    assert f"wrote {tmp_path / 'triton'} (Triton's backend python)" in done.stdout
    assert config(tmp_path / "triton", "pumer_model").backend == "python"
    refused = CliRunner().invoke(cli, [*words[:2], *words[4:]])
    assert "exists already" in str(refused.exception)
