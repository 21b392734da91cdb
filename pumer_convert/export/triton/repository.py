"""Exported model -> model repository for Triton Inference Server."""

import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from pumer_convert import __version__
from pumer_convert.data.preprocess import Preprocessor
from pumer_convert.errors import InputError, nearest
from pumer_convert.export.triton.config import BACKENDS, DELAY, WARM_TEXT, Tensor, model_config
from pumer_convert.files.output import output_folder
from pumer_convert.files.owned import write_report
from pumer_convert.files.whole import whole
from pumer_convert.runtime.pipeline import labels_of, read_sidecar
from pumer_convert.runtime.sidecar import Sidecar

HERE = Path(__file__).parent
PACKAGE = HERE.parents[1]
FRONT, MODEL = "pumer", "pumer_model"
MOST = 32
"""The largest batch of an ONNX file, which has no limit of its own."""


def export_triton(
    exported: Path | str, out: Path | str | None = None, *, backend: str | None = None, overwrite: bool = False
) -> dict[str, Any]:
    """Write a model repository for the exported model.onnx or model.engine to `out` (default: triton/ beside it).

    `backend` runs the tensors: "onnxruntime" (the default for an ONNX file), "tensorrt" (for an engine) or "python",
    which needs no more than onnxruntime where it is served. The sidecar and the tokenizer are taken from beside
    `exported`. Gives the report. Raises InputError for what cannot be served; nothing is left then.
    """
    exported = Path(exported)
    out = Path(out) if out is not None else exported.parent / "triton"
    if not exported.is_file():
        raise InputError(f"{exported}: there is no such file; run `pumer-convert export` first.")
    backend = backend or ("tensorrt" if exported.suffix == ".engine" else "onnxruntime")
    if backend not in BACKENDS:
        raise InputError(f"there is no Triton backend '{backend}'.{nearest(backend, BACKENDS)}")
    if (backend == "tensorrt") != (exported.suffix == ".engine"):
        raise InputError(f"{exported}: Triton's backend '{backend}' runs another kind of file; choose it by the file.")
    values = read_sidecar(exported)
    preprocessor = Preprocessor.of_sidecar(values, exported.parent)
    limits = _limits(exported, preprocessor)
    labels = labels_of(values, exported)
    with output_folder(out, overwrite, [exported]) as folder:
        with whole(exported):
            _model(folder / MODEL, exported, values, backend, limits, labels)
        _front(folder / FRONT, values, preprocessor, limits, labels)
        (folder / "README.md").write_text(_guide(exported, values, backend, limits["most_batch"]), "utf-8")
        report = write_report(
            folder,
            {
                "version": __version__,
                "source": str(exported),
                "backend": backend,
                "models": [FRONT, MODEL],
                **limits,
            },
        )
    return {"triton": str(out), **report}


def _limits(exported: Path, preprocessor: Preprocessor) -> dict[str, int]:
    """The texts that all of an engine's profiles take, and its largest batch; an ONNX file takes any batch and text.

    Triton makes a batch of any size, so the profiles have to take each of them with the same texts.
    """
    longest, profiles = preprocessor.longest, 0
    least, most = 1, MOST
    if exported.suffix == ".engine":
        sidecar = Sidecar.of(exported)
        if sidecar.flavour != "tensorrt":
            raise InputError(
                f"{exported}: Triton loads engines of TensorRT alone, and this is one of {sidecar.flavour}; "
                "serve model.onnx, or build it with --flavour tensorrt on the GPU that serves."
            )
        if sidecar.values.get("stripped"):
            raise InputError(f"{exported}: Triton cannot load an engine without weights; build it with them.")
        profiles = len(sidecar.profiles)
        least = max(text[0] for _, text in sidecar.profiles)
        longest = min(longest, *(text[2] for _, text in sidecar.profiles))
        most = max(batch[2] for batch, _ in sidecar.profiles)
        taken = {n for batch, _ in sidecar.profiles for n in range(batch[0], batch[2] + 1)}
        if least > longest or (missing := [n for n in range(1, most + 1) if n not in taken]):
            what = "have no length of text in common" if least > longest else f"take no batch of {missing[0]}"
            raise InputError(
                f"{exported}: its profiles {what}, and Triton makes batches of every size from 1 to {most} of any "
                "texts; build it with profiles for that."
            )
    return {"least_text": least, "longest_text": longest, "most_batch": most, "profiles": profiles}


def _model(
    folder: Path, exported: Path, values: dict[str, Any], backend: str, limits: dict[str, int], labels: list[str]
) -> None:
    version = folder / "1"
    version.mkdir(parents=True)
    shutil.copy(exported, version / ("model.plan" if backend == "tensorrt" else "model.onnx"))
    if (weights := exported.with_name(exported.name + ".data")).exists():
        shutil.copy(weights, version / "model.onnx.data")
    if backend == "python":
        shutil.copy(HERE / "runner.py", version / "model.py")
    _write_labels(folder, labels)
    (folder / "warmup").mkdir()
    (folder / "warmup" / "ones").write_bytes(np.ones(WARM_TEXT, np.int64).tobytes())
    pair = [2] if values["task"] == "nlvr2" else []
    inputs = [
        Tensor("input_ids", "INT64", [-1]),
        Tensor("attention_mask", "INT64", [-1]),
        Tensor("pixel_values", "FP32", [*pair, 3, *values["image_size"]]),
    ]
    outputs = [Tensor("logits", "FP32", [len(labels)], labels=True)]
    warmup = {"input_ids": "zero", "attention_mask": "ones", "pixel_values": "zero"}
    fits = limits["least_text"] <= WARM_TEXT <= limits["longest_text"]
    text = model_config(
        MODEL,
        backend,
        inputs,
        outputs,
        most_batch=limits["most_batch"],
        profiles=limits["profiles"],
        warmup=warmup if fits else None,
    )
    (folder / "config.pbtxt").write_text(text, "utf-8")


def _front(
    folder: Path, values: dict[str, Any], preprocessor: Preprocessor, limits: dict[str, int], labels: list[str]
) -> None:
    version = folder / "1"
    version.mkdir(parents=True)
    shutil.copy(HERE / "front.py", version / "model.py")
    for file in (PACKAGE / "data" / "pixels.py", PACKAGE / "runtime" / "scores.py"):
        shutil.copy(file, version)
    if (backend := getattr(preprocessor.tokenizer, "backend_tokenizer", None)) is None:
        raise InputError("Triton's front needs a tokenizer that the package tokenizers runs, and this one is not.")
    backend.save(str(version / "tokenizer.json"))
    told = {
        "model": MODEL,
        "task": values["task"],
        "labels": labels,
        "image": asdict(preprocessor.image),
        "pad_token_id": preprocessor.pad_id,
        **{name: limits[name] for name in ("least_text", "longest_text", "most_batch")},
        "truncated_to": preprocessor.longest,
        "truncation_side": preprocessor.tokenizer.truncation_side,
        "vocab_size": preprocessor.vocabulary,
        "padding_matters": (values["reductions"] or {}).get("semantics") == "reference",
    }
    _write_labels(folder, labels)
    (version / "front.json").write_text(json.dumps(told, indent=2) + "\n", "utf-8")
    pictures = 2 if values["task"] == "nlvr2" else 1
    inputs = [Tensor("IMAGE", "STRING", [pictures]), Tensor("TEXT", "STRING", [1])]
    logits = Tensor("LOGITS", "FP32", [len(labels)], labels=True)
    outputs = [Tensor("ANSWER", "STRING", [1]), Tensor("SCORE", "FP32", [1]), logits]
    text = model_config(FRONT, "python", inputs, outputs, most_batch=limits["most_batch"], instances=2, cpu=True)
    (folder / "config.pbtxt").write_text(text, "utf-8")


def _write_labels(folder: Path, labels: list[str]) -> None:
    """One on a line, as Triton reads them for clients that ask for the best classes."""
    (folder / "labels.txt").write_text("".join(" ".join(label.split()) + "\n" for label in labels), "utf-8")


def _version(values: dict[str, Any]) -> str:
    """Where an engine runs."""
    built = values["tensorrt_version"]
    if values.get("version_compatible"):
        return (
            f"The container's TensorRT has to be {built} or newer of that major version; start the server with "
            "`--backend-config=tensorrt,version-compatible=true`. "
        )
    return f"The container's TensorRT has to be {built}, which built the engine. "


def _guide(exported: Path, values: dict[str, Any], backend: str, most: int) -> str:
    pair = values["task"] == "nlvr2"
    one = 'open("a.jpg", "rb").read()'
    return (
        (HERE / "guide.md")
        .read_text("utf-8")
        .format(
            source=exported.name,
            front=FRONT,
            model=MODEL,
            pictures="two pictures" if pair else "a picture",
            example=f"{one}, {one.replace('a.jpg', 'b.jpg')}" if pair else one,
            packages="pillow tokenizers" + (" onnxruntime-gpu" if backend == "python" else ""),
            engine=_version(values) if backend == "tensorrt" else "",
            text=WARM_TEXT,
            delay=DELAY,
            most=most,
        )
    )
