"""The vision part of a decoder VLM in Triton: pictures as bytes, what the language model reads of them out."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from triton_server import MISSING, STUB, serving
from whole_llava import write

from pumer_convert.convert.apply import apply
from pumer_convert.export.folder import export_folder
from pumer_convert.runtime import Pipeline

pytest.importorskip("tritonclient.grpc", reason="tritonclient[grpc] is not installed")
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

pytestmark = pytest.mark.skipif(not STUB.exists(), reason=MISSING)


def test_bytes_become_what_a_language_model_reads(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text(
        "recipe: 1\nmodel: llava\nreduce:\n  - {at: projector, prune: {image: {keep: 9}, by: divprune}}\n"
    )
    apply(write(tmp_path / "dense"), tmp_path / "r.yaml", out := tmp_path / "out")
    report = export_folder(out, dtype="float32", triton="python")
    assert report["triton"]["models"] == ["vision", "vision_model"]
    random, files = np.random.default_rng(0), [tmp_path / f"{i}.png" for i in range(3)]
    for file, side in zip(files, ((48, 48), (60, 90), (120, 50)), strict=True):
        Image.fromarray(random.integers(0, 256, (*side, 3), np.uint8)).save(file)
    expected = Pipeline(out / "vision.onnx").embed_images(files)
    with serving(out / "triton", tmp_path / "server") as address, triton.InferenceServerClient(address) as client:

        def served(rows: list[bytes]) -> np.ndarray:
            given = triton.InferInput("IMAGE", [len(rows), 1], "BYTES")
            given.set_data_from_numpy(np.array([[row] for row in rows], np.object_))
            return client.infer("vision", [given], client_timeout=60).as_numpy("IMAGE_FEATURES")

        found = served([file.read_bytes() for file in files])
        assert found.shape == (3, 9, 48)
        np.testing.assert_allclose(found, expected, atol=1e-5)
        with pytest.raises(InferenceServerException, match="IMAGE cannot be read"):
            served([b"no picture"])
    assert (
        "`vision` takes the bytes of a picture (IMAGE) and gives IMAGE_FEATURES"
        in (out / "triton/README.md").read_text()
    )
