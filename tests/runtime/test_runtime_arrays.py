"""The arrays that people have: taken as they lie in memory, or refused by one sentence, never by a wrong answer."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tiny import batch

from pumer_convert.artifact.sidecar import outputs_of
from pumer_convert.errors import InputError
from pumer_convert.models.inputs import PictureInput, TextInput
from pumer_convert.models.signature import Signature
from pumer_convert.runtime import open_runtime
from pumer_convert.runtime.base import Runtime

Arrays = dict[str, NDArray[Any]]


@pytest.fixture(scope="module", params=["ckpt", "model.onnx"])
def runtime(demo: Path, request: pytest.FixtureRequest) -> Runtime:
    return open_runtime(demo if request.param == "ckpt" else demo / request.param, device="cpu")


def good(rows: int = 2, text: int = 6) -> Arrays:
    return {name: value.numpy() for name, value in batch(rows, text).items()}


def test_an_array_may_lie_in_memory_as_it_likes(runtime: Runtime) -> None:
    given = good()
    expected = runtime(**given)
    mirrored = {name: np.ascontiguousarray(value[..., ::-1])[..., ::-1] for name, value in given.items()}
    turned = {
        **given,
        "pixel_values": np.ascontiguousarray(given["pixel_values"].transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2),
    }
    channels = {**given, "pixel_values": np.ascontiguousarray(given["pixel_values"][:, ::-1])[:, ::-1]}
    for name, value in given.items():
        fixed = value.copy()
        fixed.setflags(write=False)
        np.testing.assert_array_equal(runtime(**{**given, name: fixed}), expected)
    for other in (mirrored, turned, channels):
        np.testing.assert_array_equal(runtime(**other), expected)
    once = {name: np.broadcast_to(value[:1], value.shape) for name, value in given.items()}
    np.testing.assert_allclose(runtime(**once)[1], expected[0], rtol=1e-5, atol=1e-5)
    tensors = {name: torch.from_numpy(value) for name, value in given.items()}
    turned_tensor = tensors["pixel_values"].to(memory_format=torch.channels_last)
    np.testing.assert_allclose(
        runtime(**{**tensors, "pixel_values": turned_tensor}).numpy(), expected, rtol=1e-5, atol=1e-5
    )


def with_nan(given: Arrays, value: float) -> Arrays:
    pixels = given["pixel_values"].copy()
    pixels[1, 2, 5, 5] = value
    return {**given, "pixel_values": pixels}


def masked(given: Arrays, *rows: list[int]) -> Arrays:
    return {**given, "attention_mask": np.array(rows)}


LONG = np.full((2, 41), 5)
WRONG: dict[str, tuple[str, Any]] = {
    "an id beyond the table": ("hold 5005, which is no token", lambda g: {**g, "input_ids": g["input_ids"] * 0 + 5005}),
    "a negative id": ("hold -1, which is no token", lambda g: {**g, "input_ids": g["input_ids"] * 0 - 1}),
    "the id one too high": ("its ids are 0 to 76", lambda g: {**g, "input_ids": g["input_ids"] * 0 + 77}),
    "too many tokens": (
        "41 tokens does not fit; this model takes 2 to 40",
        lambda g: {**g, "input_ids": LONG, "attention_mask": LONG * 0 + 1},
    ),
    "a mask with 2": ("holds 2; it is 1", lambda g: masked(g, [2, 1, 1, 1, 1, 1], [1] * 6)),
    "a mask with -1": ("holds -1; it is 1", lambda g: masked(g, [1] * 6, [1, 1, 1, 1, 1, -1])),
    "padding on the left": ("padded on the right", lambda g: masked(g, [0, 0, 1, 1, 1, 1], [1] * 6)),
    "a hole": ("padded on the right", lambda g: masked(g, [1] * 6, [1, 1, 0, 1, 1, 1])),
    "an empty row": ("one token or more", lambda g: masked(g, [1] * 6, [0] * 6)),
    "a NaN": ("NaN or an infinity", lambda g: with_nan(g, np.nan)),
    "an infinity": ("NaN or an infinity", lambda g: with_nan(g, -np.inf)),
    "one token": (
        "1 tokens does not fit",
        lambda g: {**g, "input_ids": LONG[:, :1], "attention_mask": LONG[:, :1] * 0},
    ),
    "no example": ("both \\[batch, text\\]", lambda g: {n: v[:0] for n, v in g.items()}),
    "no token": ("both \\[batch, text\\]", lambda g: {**g, "input_ids": LONG[:, :0], "attention_mask": LONG[:, :0]}),
    "one example alone": ("both \\[batch, text\\]", lambda g: {n: v[0] for n, v in g.items()}),
    "double precision": ("is float64; it has", lambda g: {**g, "pixel_values": g["pixel_values"].astype(np.float64)}),
    "another byte order": ("is >f4; it has", lambda g: {**g, "pixel_values": g["pixel_values"].astype(">f4")}),
    "a mask of truth values": ("is bool; it has", lambda g: {**g, "attention_mask": g["attention_mask"] > 0}),
}


@pytest.mark.parametrize("what", WRONG)
@pytest.mark.parametrize("kind", ["numpy", "torch"])
def test_what_cannot_be_answered_is_refused(runtime: Runtime, what: str, kind: str) -> None:
    says, change = WRONG[what]
    given = change(good())
    if kind == "torch":
        if what == "another byte order":
            pytest.skip("torch has one")
        given = {name: torch.from_numpy(value) for name, value in given.items()}
    with pytest.raises(InputError, match=says):
        runtime(**given)


def test_huge_pixels_that_are_finite_are_no_infinity(runtime: Runtime) -> None:
    pixels = np.full((1, 3, 96, 96), 3e38, np.float32)
    one = good(1)
    with np.errstate(all="ignore"):
        assert runtime(**{**one, "pixel_values": pixels}).shape == runtime(**one).shape


def test_without_a_sidecar_the_graph_tells_the_vocabulary(demo: Path, tmp_path: Path) -> None:
    for file in demo.glob("model.onnx*"):
        shutil.copy(file, tmp_path)
    sidecar = tmp_path / "model.onnx.json"
    values = json.loads(sidecar.read_text())
    assert values["text"]["vocab_size"] == 77
    sidecar.unlink()
    bare = open_runtime(tmp_path / "model.onnx", device="cpu")
    assert bare.text == TextInput(vocabulary=77)
    wrong = {**good(), "input_ids": np.full((2, 6), 77)}
    with pytest.raises(InputError, match="its ids are 0 to 76"):
        bare(**wrong)
    # A sidecar of version 0.1 does not tell it, but ONNX Runtime does.
    del values["text"]["vocab_size"]
    sidecar.write_text(json.dumps(values))
    with pytest.raises(InputError, match="ONNX Runtime refuses these inputs"):
        open_runtime(tmp_path / "model.onnx", device="cpu")(**wrong)


class Engine(Runtime):
    """What an engine's sidecar gives a runtime, without the GPU."""

    def __init__(self, values: dict[str, Any]) -> None:
        pictures = PictureInput.fixed(1, 8, (96, 96))
        self.signature = Signature("model", TextInput.of_sidecar(values), pictures, outputs_of(values))
        self.device = "cpu"

    def _numpy(self, given: Arrays) -> Arrays:
        assert all(value.flags.c_contiguous and value.flags.writeable for value in given.values())
        return {"logits": np.zeros((len(given["input_ids"]), 1), np.float32)}

    def _torch(self, given: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {"logits": torch.zeros(len(given["input_ids"]), 1)}


@pytest.mark.parametrize("what", WRONG)
def test_the_checks_need_no_gpu(demo: Path, what: str) -> None:
    engine = Engine(json.loads((demo / "model.onnx.json").read_text()))
    says, change = WRONG[what]
    assert engine(**good()).shape == (2, 1)
    assert engine(
        **{name: value[..., ::-1] for name, value in good().items() if name != "attention_mask"},
        attention_mask=np.broadcast_to(1, (2, 6)),
    ).shape == (2, 1)
    with pytest.raises(InputError, match=says):
        engine(**change(good()))
