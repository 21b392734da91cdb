"""A dual encoder in Triton: pictures and texts as bytes, each to the graph of its tower, embeddings out."""

import io
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_clip
import tiny_siglip
import torch
import transformers
from PIL import Image
from triton_server import MISSING, STUB, serving

from pumer_convert.convert.apply import apply
from pumer_convert.data.preprocess import Preprocessor
from pumer_convert.export.folder import export_folder
from pumer_convert.runtime import open_runtime

pytest.importorskip("tritonclient.grpc", reason="tritonclient[grpc] is not installed")
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

RECIPE = "recipe: 1\nmodel: {family}\nreduce:\n- {{at: vision.1-2, merge: {{image: 0.2, by: tome}}}}\n"
TEXTS = ["the cat", "red star ?", "the red cat " * 60, "", "star"]
pytestmark = pytest.mark.skipif(not STUB.exists(), reason=MISSING)


def pictures() -> list[Image.Image]:
    """Of several shapes and modes."""
    random = np.random.default_rng(0)
    sides = ((48, 48), (60, 90), (120, 50))
    found = [Image.fromarray(random.integers(0, 256, (*side, 3), dtype=np.uint8)) for side in sides]
    return [*found, found[1].convert("L")]


def png(image: Image.Image) -> bytes:
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


def embeddings(address: str, graph: str, rows: list[bytes]) -> Any:
    given = triton.InferInput(graph.upper(), [len(rows), 1], "BYTES")
    given.set_data_from_numpy(np.array([[row] for row in rows], np.object_))
    with triton.InferenceServerClient(address) as client:
        return client.infer(graph, [given], client_timeout=60).as_numpy(f"{graph.upper()}_EMBEDS")


@pytest.fixture(scope="module", params=["clip", "siglip"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A reduced CLIP or SigLIP, exported with its repository and, which is not served, its joint graph."""
    home, family = tmp_path_factory.mktemp("dual"), request.param
    (home / "r.yaml").write_text(RECIPE.format(family=family))
    (tiny_clip if family == "clip" else tiny_siglip).write(home / "dense")
    apply(home / "dense", home / "r.yaml", home / "out")
    report = export_folder(home / "out", joint=True, dtype="float32", triton="python")
    assert report["triton"]["models"] == ["image", "image_model", "text", "text_model"]
    return home / "out"


@pytest.fixture(scope="module")
def address(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving(folder / "triton", tmp_path_factory.mktemp("server")) as found:
        yield found


def test_bytes_become_the_embeddings_of_the_files(folder: Path, address: str) -> None:
    preprocessor = Preprocessor.of(folder)
    arrays = preprocessor.arrange([[preprocessor.pixels(picture.convert("RGB"))] for picture in pictures()])
    expected = open_runtime(folder / "image.onnx", device="cpu")(**arrays)
    found = embeddings(address, "image", [png(picture) for picture in pictures()])
    np.testing.assert_allclose(found, expected, atol=1e-5)
    expected = open_runtime(folder / "text.onnx", device="cpu")(**preprocessor.words(TEXTS))
    found = embeddings(address, "text", [text.encode() for text in TEXTS])
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_requests_of_both_graphs_are_answered_at_once_and_apart(address: str) -> None:
    rows = [("image", [png(picture)]) for picture in pictures()] + [("text", [text.encode()]) for text in TEXTS]
    alone = [embeddings(address, *row) for row in rows]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda row: embeddings(address, *row), rows * 5))
    for place, found in enumerate(together):
        np.testing.assert_allclose(found, alone[place % len(rows)], atol=1e-5)


@pytest.mark.parametrize(
    ("graph", "wrong", "says"),
    [("image", b"no picture", "IMAGE cannot be read"), ("text", b"\xff\xfe", "TEXT is not UTF-8")],
)
def test_bytes_that_are_none_are_refused(address: str, graph: str, wrong: bytes, says: str) -> None:
    with pytest.raises(InferenceServerException, match=says):
        embeddings(address, graph, [wrong])


def test_the_guide_tells_how_they_compare(folder: Path, address: str) -> None:
    """By its words the logits of what is served are those of the joint graph."""
    guide = (folder / "triton" / "README.md").read_text()
    assert "`image` takes the bytes of a picture (IMAGE) and gives IMAGE_EMBEDS" in guide
    assert "`text` takes a text (TEXT) and gives TEXT_EMBEDS" in guide
    original = transformers.AutoModel.from_pretrained(folder)
    scale, bias = (float(getattr(original, f"logit_{name}", torch.zeros(1)).detach()) for name in ("scale", "bias"))
    scale = float(np.exp(scale))
    assert f"unit vectors; {scale:.6g} times their product plus {bias:.6g} is the logit of the pair" in guide
    image, text = embeddings(address, "image", [png(pictures()[0])]), embeddings(address, "text", [b"the cat"])
    preprocessor = Preprocessor.of(folder)
    inputs = preprocessor.words(["the cat"]) | preprocessor.arrange([[preprocessor.pixels(pictures()[0])]])
    both = open_runtime(folder / "model.onnx", device="cpu").run(inputs)
    np.testing.assert_allclose(scale * image @ text.T + bias, both["logits_per_image"], atol=1e-4)
