"""Attention stays fused: at opset 23 it is one node, in the layers that reduce as well, which TensorRT-RTX serves by a
dedicated kernel or refuses to build."""

from collections import Counter
from pathlib import Path

import lessons
import onnx
import pytest
import tiny_clip
import tiny_siglip

from pumer_convert.convert.apply import apply
from pumer_convert.errors import InputError
from pumer_convert.export.folder import export_folder
from pumer_convert.export.onnx import export_onnx
from pumer_convert.export.tensorrt import EngineSettings, build_engine
from pumer_convert.verification.verify import Case

# Self-attention in every layer; METER's fusion layers have two halves, each with self- and cross-attention.
LAYERS = {"vilt": lessons.DEPTH["vilt"], "meter": lessons.DEPTH["meter"] + 2 + 2 * 4}
CASES = (Case(batch=1, text=5), Case(batch=3, text=9))
SETTINGS = EngineSettings("tensorrt-rtx", compute_capabilities=("8.9",))


@pytest.mark.parametrize("family", LAYERS)
def test_one_node_for_each_attention_and_a_kernel_for_it(tmp_path: Path, family: str) -> None:
    reduced = lessons.reduced(lessons.dense(tmp_path / "dense", family), family)
    report = export_onnx(reduced, dtype="float16", opset=23, cases=CASES)
    assert report["verification"]["cases"] == len(CASES)  # against eager
    found = onnx.load(str(reduced / "model.onnx"), load_external_data=False)
    operations = Counter(node.op_type for node in found.graph.node)
    assert operations["Attention"] == LAYERS[family]
    assert operations["Softmax"] == operations["Prune"] > 0  # that of the text's rows, by which is pruned
    pytest.importorskip("tensorrt_rtx")
    assert build_engine(reduced / "model.onnx", None, SETTINGS)["engine"]["bytes"] > 10_000


def test_what_has_no_kernel_is_refused(tmp_path: Path) -> None:
    """So that to build it in half precision says something."""
    pytest.importorskip("tensorrt_rtx")
    reduced = lessons.reduced(lessons.dense(tmp_path / "dense"))
    for dtype in ("float32", "bfloat16"):
        export_onnx(reduced, dtype=dtype, opset=23, cases=CASES, overwrite=True)
        if dtype == "float32":
            with pytest.raises(InputError, match="Attention operation was not supported by a dedicated kernel"):
                build_engine(reduced / "model.onnx", None, SETTINGS)
    assert build_engine(reduced / "model.onnx", None, SETTINGS)["engine"]["bytes"] > 10_000
    with pytest.raises(InputError, match=r"no fused kernel for opset 23's attention in float32; export in half"):
        export_folder(reduced, trt=SETTINGS, dtype="float32", opset=23, overwrite=True)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("family", ["clip", "siglip"])
def test_both_towers_are_fused_in_every_layer(tmp_path: Path, family: str, dtype: str) -> None:
    """In SigLIP the head that pools as well. What counts merged tokens by their size adds to the scores alone."""
    pytest.importorskip("tensorrt_rtx")
    dense = {"clip": tiny_clip, "siglip": tiny_siglip}[family].write(tmp_path / "dense")
    (tmp_path / "r.yaml").write_text(
        f"recipe: 1\nmodel: {family}\nreduce:\n- {{at: vision.0-3, merge: {{image: 0.2, by: pitome}}}}\n"
    )
    apply(dense, tmp_path / "r.yaml", tmp_path / "out")
    report = export_folder(tmp_path / "out", dtype=dtype, opset=23, trt=SETTINGS)
    assert [*report["graphs"]] == ["image", "text"]
    assert all(told["engine"]["bytes"] > 10_000 for told in report["graphs"].values())
    layers = {"image": 4 + (family == "siglip"), "text": 3}
    for graph, count in layers.items():
        found = onnx.load(str(tmp_path / "out" / f"{graph}.onnx"), load_external_data=False)
        operations = Counter(node.op_type for part in (found.graph, *found.functions) for node in part.node)
        assert (operations["Attention"], operations["Softmax"]) == (count, 0)
