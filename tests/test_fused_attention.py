"""Attention stays fused: at opset 23 it is one node, in the layers that reduce as well, which TensorRT-RTX serves by a
dedicated kernel or refuses to build."""

from collections import Counter
from pathlib import Path

import lessons
import onnx
import pytest

from pumer_convert.errors import InputError
from pumer_convert.export.folder import export_folder
from pumer_convert.export.onnx import export_onnx
from pumer_convert.export.tensorrt import EngineSettings, build_engine
from pumer_convert.verify import Case

# Self-attention in every layer; METER's fusion layers have both halves, with self- and cross-attention.
LAYERS = {"vilt": 9, "meter": 11 + 2 + 4 * 4}
CASES = (Case(batch=1, text=5), Case(batch=3, text=9))


def operations(file: Path) -> Counter[str]:
    return Counter(node.op_type for node in onnx.load(str(file), load_external_data=False).graph.node)


@pytest.mark.parametrize("family", LAYERS)
def test_one_node_for_each_attention(tmp_path: Path, family: str) -> None:
    dense = lessons.dense(tmp_path / "dense", family)
    reduced = lessons.reduced(dense, family)
    for folder in (dense, reduced):
        report = export_onnx(folder, dtype="float16", opset=23, cases=CASES)
        assert report["verification"]["cases"] == len(CASES)  # against eager
    plain, thinned = (operations(folder / "model.onnx") for folder in (dense, reduced))
    assert plain["Attention"] == thinned["Attention"] == LAYERS[family]
    assert plain["Softmax"] == 0
    assert thinned["Softmax"] == thinned["Prune"] > 0  # that of the text's rows, by which is pruned


@pytest.mark.parametrize("family", LAYERS)
def test_a_fused_kernel_or_no_engine(tmp_path: Path, family: str) -> None:
    pytest.importorskip("tensorrt_rtx")
    reduced = lessons.reduced(lessons.dense(tmp_path / "dense", family), family)
    settings = EngineSettings("tensorrt-rtx", compute_capabilities=("8.9",))
    for dtype in ("float16", "bfloat16"):
        export_onnx(reduced, dtype=dtype, opset=23, cases=CASES, overwrite=True)
        assert build_engine(reduced / "model.onnx", None, settings, overwrite=True)["engine"]["bytes"] > 10_000
    # That it can refuse shows that the two above say something.
    export_onnx(reduced, opset=23, cases=CASES, overwrite=True)
    with pytest.raises(InputError, match="Attention operation was not supported by a dedicated kernel"):
        build_engine(reduced / "model.onnx", None, settings, overwrite=True)
    with pytest.raises(InputError, match=r"no fused kernel for opset 23's attention in float32; export in half"):
        export_folder(reduced, trt=settings, dtype="float32", opset=23, overwrite=True)
