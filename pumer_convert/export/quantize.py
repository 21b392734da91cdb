"""ONNX file -> the same with its linear layers in 8 bits.

For GPUs by NVIDIA's modelopt in an environment of its own (Q/DQ, ranges from examples), for CPUs by ONNX Runtime's own
quantizer (ranges as they come).
"""

import contextlib
import io
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from shutil import copyfile
from typing import Any

import numpy as np
import onnx
import onnx.inliner
import onnxruntime
from numpy.typing import NDArray

from pumer_convert.artifact.describe import PARTS
from pumer_convert.artifact.sidecar import read_sidecar
from pumer_convert.errors import InputError, MissingDependencyError, VerificationError, nearest
from pumer_convert.models.signature import LOGITS
from pumer_convert.system.child_process import ending_with_parent
from pumer_convert.system.output import output_files
from pumer_convert.system.owned import LIST, digest, write_list
from pumer_convert.system.whole import check_whole

CPU = "int8-cpu"
MODES = ("int8", "fp8", CPU)
"""The 8-bit types; the first two pay in an engine on a GPU, the last in ONNX Runtime on a CPU."""
HELP = (
    "8-bit models are made by nvidia-modelopt, which wants other versions of onnx and onnxruntime than we do; give it "
    "an environment of its own: python -m venv modelopt && modelopt/bin/pip install 'nvidia-modelopt[onnx]', and say "
    "--modelopt modelopt/bin/python"
)
BATCH = 16


def quantize(
    onnx_path: Path | str,
    inputs: dict[str, NDArray[Any]],
    out: Path | str | None = None,
    *,
    mode: str = "int8",
    modelopt: Path | str | None = None,
    overwrite: bool = False,
    progress: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Write `onnx_path`, which `export_onnx` made, with its linear layers in 8 bits to `out` (default: beside it,
    model.int8.onnx for the mode int8) and its sidecar, and tell how many answers stay the same.

    `inputs` are real examples, as `Signature.inputs` of the graph says; the
    first half sets the ranges of the activations, the second half is answered by both models; for int8-cpu nothing is
    set and all are answered. `modelopt` is the Python of an environment with nvidia-modelopt[onnx] (default: this one).
    Reducers, attention, norms and the head keep their types. Gives the report. Raises InputError,
    MissingDependencyError without modelopt, VerificationError for answers that are not finite; no file is left then.
    """
    onnx_path = Path(onnx_path)
    if mode not in MODES:
        raise InputError(f"there is no 8-bit type '{mode}'; allowed: {', '.join(MODES)}.{nearest(mode, MODES)}")
    if not onnx_path.is_file():
        raise InputError(f"{onnx_path}: there is no such ONNX file; run `pumer-convert export` first.")
    check_whole(onnx_path)
    sidecar = read_sidecar(onnx_path)
    if sidecar["dtype"] == "bfloat16" or "quantized" in sidecar:
        what = "bfloat16" if sidecar["dtype"] == "bfloat16" else "8 bits already"
        raise InputError(f"{onnx_path}: is in {what}; export it in float16 or float32 for this.")
    if mode == CPU and sidecar["dtype"] != "float32":
        raise InputError(f"{onnx_path}: is in {sidecar['dtype']}; for CPUs export it in float32.")
    half = 0 if mode == CPU else len(next(iter(inputs.values()))) // 2
    if half < 1 and mode != CPU:
        raise InputError("take 2 examples or more: half of them set the ranges, half are answered.")
    out = Path(out or onnx_path.with_suffix(f".{mode}.onnx"))
    by = f"onnxruntime {onnxruntime.__version__}" if mode == CPU else f"modelopt {modelopt_version(modelopt)}"
    with (
        output_files(out, overwrite, parts=PARTS, inputs=[onnx_path]) as target,
        # In the folder that is removed whatever happens.
        tempfile.TemporaryDirectory(dir=target.parents[1]) as scratch,
    ):
        flat, made, examples = (Path(scratch) / name for name in ("flat.onnx", "made.onnx", "examples.npz"))
        names, external = flatten(onnx_path, flat)
        progress(f"quantizing {len(names)} linear layers with {by}")
        if mode == CPU:
            _dynamic(flat, names, external, made)
        else:
            np.savez(examples, allow_pickle=False, **{k: v[:half] for k, v in inputs.items()})
            _run(str(modelopt or sys.executable), mode, flat, examples, names, external, made)
        _adopt(made, target)
        progress("comparing answers")
        asked = {name: value[half:] for name, value in inputs.items()}
        before, after = _answers(onnx_path, asked), _answers(target, asked)
        quantized = {"mode": mode, "by": by, "calibrated_on": half, **_compared(before, after)}
        products = _in_8_bits(target)
        hashes = {file.name: digest(file) for file in sorted(target.parent.iterdir())}
        of = {"file": onnx_path.name, "sha256": digest(onnx_path)}
        record = {name: value for name, value in sidecar.items() if name != LIST}
        record |= {"onnx": {"file": out.name}, "quantized": {**quantized, "of": of}}
        write_list(target.with_name(out.name + ".json"), record, hashes)
    return {"onnx": str(out), "dtype": sidecar["dtype"], "products": products, **quantized}


def flatten(source: Path, target: Path) -> tuple[list[str], bool]:
    """Write `source` without functions, which modelopt does not know. Gives the names of the products of weights, and
    whether the weights lie apart from the graph."""
    model = onnx.inliner.inline_local_functions(onnx.load(str(source), load_external_data=False))
    apart = {entry.value for entry in _places(model)}
    for name in apart:
        copyfile(source.parent / name, target.parent / name)
    onnx.save(model, str(target))
    weights = {tensor.name for tensor in model.graph.initializer}
    # Poolers and heads, of one row for an example, are Gemm: too thin to gain by it, and the answer hangs on them.
    products = [node for node in model.graph.node if node.op_type == "MatMul"]
    return [node.name for node in products if weights & set(node.input)], bool(apart)


def _places(model: onnx.ModelProto) -> list[onnx.StringStringEntryProto]:
    """The entries that name the files in which weights lie apart."""
    apart = [tensor for tensor in model.graph.initializer if tensor.data_location == onnx.TensorProto.EXTERNAL]
    return [entry for tensor in apart for entry in tensor.external_data if entry.key == "location"]


def _adopt(made: Path, target: Path) -> None:
    """Move a model with the one file of its weights, if they lie apart, to `target` and `target`.data."""
    model = onnx.load(str(made), load_external_data=False)
    places = _places(model)
    for name in {entry.value for entry in places}:
        (made.parent / name).rename(weights := target.with_name(target.name + ".data"))
        weights.chmod(0o644)  # modelopt makes it for its own user alone
    for entry in places:
        entry.value = target.name + ".data"
    onnx.save(model, str(target))


def modelopt_version(python: Path | str | None = None) -> str:
    """The version of nvidia-modelopt in the environment of a Python (default: this one). Raises MissingDependencyError
    that says how to come by one."""
    if python is None and find_spec("modelopt") is None:
        raise MissingDependencyError(f"{HELP}.")
    python = str(python or sys.executable)
    ask = "import modelopt, modelopt.onnx.quantization; print(modelopt.__version__)"
    try:
        found = subprocess.run([python, "-c", ask], capture_output=True, text=True)
    except OSError as error:
        raise MissingDependencyError(f"{python}: {error.strerror}; {HELP}.") from None
    if found.returncode:
        raise MissingDependencyError(f"{python}: {_last(found.stderr)}; {HELP}.")
    return found.stdout.split()[-1]


def _run(python: str, mode: str, flat: Path, examples: Path, names: Sequence[str], external: bool, made: Path) -> None:
    # modelopt takes ".onnx" in any part of a path for the end of the file's name.
    words = [python, "-m", "modelopt.onnx.quantization", "--onnx_path", str(flat), "--output_path", str(made)]
    words += ["--quantize_mode", mode, "--calibration_data_path", str(examples), "--calibration_eps", "cpu"]
    # Names are patterns there, that match from their beginning on.
    words += ["--op_types_to_quantize", "MatMul", "--nodes_to_quantize", *(f"{name}$" for name in names)]
    # The graph's own types stay; the weights are stored in 8 bits.
    words += ["--disable_mha_qdq", "--high_precision_dtype", "fp32", "--dq_only"]
    words += ["--use_external_data_format"] * external
    found = subprocess.run(ending_with_parent(words), capture_output=True, text=True)
    if found.returncode or not made.is_file():
        raise InputError(f"modelopt could not quantize it: {_last(found.stderr)}.")


def _dynamic(flat: Path, names: Sequence[str], external: bool, made: Path) -> None:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with contextlib.redirect_stderr(io.StringIO()):  # it advises to preprocess, which `flatten` has done
        quantize_dynamic(
            flat,
            made,
            op_types_to_quantize=["MatMul"],
            nodes_to_quantize=list(names),
            weight_type=QuantType.QInt8,
            per_channel=True,
            use_external_data_format=external,
        )


def _in_8_bits(path: Path) -> int:
    """The number of products of 8-bit values; modelopt leaves out those too thin to gain by it."""
    nodes = onnx.load(str(path), load_external_data=False).graph.node
    integer = [node for node in nodes if node.op_type == "MatMulInteger"]
    if integer:
        return len(integer)
    wide = {output for node in nodes if node.op_type == "DequantizeLinear" for output in node.output}
    return sum(node.op_type == "MatMul" and set(node.input) <= wide for node in nodes)


def _last(told: str) -> str:
    return ([line.strip() for line in told.splitlines() if line.strip()] or ["it gave no reason"])[-1].rstrip(".")


def _compared(before: dict[str, NDArray[Any]], after: dict[str, NDArray[Any]]) -> dict[str, float]:
    """How many outputs were compared, and the share of answers that stay; of embeddings the mean cosine."""
    if LOGITS not in before:
        both = [(before[name].astype(np.float64), after[name].astype(np.float64)) for name in before]
        cosines = [
            (a * b).sum(-1) / np.maximum(np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1), 1e-12)
            for a, b in both
        ]
        return {"compared_on": len(both[0][0]), "mean_cosine": float(np.mean([c.mean() for c in cosines]))}
    first, second = before[LOGITS], after[LOGITS]
    # Retrieval has one logit, above 0 for a match.
    same = first.argmax(-1) == second.argmax(-1) if first.shape[1] > 1 else (first > 0) == (second > 0)
    return {"compared_on": len(second), "same_answers": float(same.mean())}


def _answers(path: Path, inputs: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """All outputs, by name, on the CPU, as the graph stands: ONNX Runtime's fusions know no 8-bit floats."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise InputError(f"{path.name}: ONNX Runtime cannot load it: {str(error).strip().splitlines()[0]}") from None
    names = [entry.name for entry in session.get_outputs()]
    parts = [
        session.run(names, {name: value[start : start + BATCH] for name, value in inputs.items()})
        for start in range(0, len(next(iter(inputs.values()))), BATCH)
    ]
    outputs = {name: np.concatenate(values) for name, values in zip(names, zip(*parts, strict=True), strict=True)}
    for name, value in outputs.items():
        if not np.isfinite(value).all():
            raise VerificationError(f"{path.name}: its {name} are not finite.")
    return outputs
