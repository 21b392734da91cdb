"""Exported model -> model repository for Triton Inference Server."""

import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from pumer_convert import __version__
from pumer_convert.artifact.engine_sidecar import Sidecar
from pumer_convert.artifact.sidecar import labels_of, read_sidecar
from pumer_convert.data.preprocess import Preprocessor
from pumer_convert.errors import InputError
from pumer_convert.export.triton.config import DELAY, WARM_TEXT, Tensor, check_backend, model_config
from pumer_convert.models.inputs import PictureInput
from pumer_convert.system.output import output_folder
from pumer_convert.system.owned import write_report
from pumer_convert.system.whole import whole

HERE = Path(__file__).parent
PACKAGE = HERE.parents[1]
FRONT, MODEL = "pumer", "pumer_model"
KINDS = {"int64": "INT64", "float32": "FP32"}
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
    check_backend(backend)
    if (backend == "tensorrt") != (exported.suffix == ".engine"):
        raise InputError(f"{exported}: Triton's backend '{backend}' runs another kind of file; choose it by the file.")
    values = read_sidecar(exported)
    preprocessor = Preprocessor.of_sidecar(values, exported.parent)
    limits = _limits(exported, preprocessor)
    labels = labels_of(values, exported)
    with output_folder(out, overwrite, [exported]) as folder:
        with whole(exported):
            _model(folder / MODEL, exported, preprocessor.input, backend, limits, labels)
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


def _limits(exported: Path, preprocessor: Preprocessor) -> dict[str, Any]:
    """The texts and patches that all of an engine's profiles take, and its largest batch; an ONNX file takes any batch
    and text.

    Triton makes a batch of any size, so the profiles have to take each of them with the same texts.
    """
    patches = {"least_patches": 1, "most_patches": preprocessor.input.most} if preprocessor.input.packed else {}
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
        least = max(profile["text"][0] for profile in sidecar.profiles)
        longest = min(longest, *(profile["text"][2] for profile in sidecar.profiles))
        most = max(profile["batch"][2] for profile in sidecar.profiles)
        taken = {n for p in sidecar.profiles for n in range(p["batch"][0], p["batch"][2] + 1)}
        if preprocessor.input.packed:
            # The front fills up smaller pictures with zeros.
            patches = {
                "least_patches": max(profile["patches"][0] for profile in sidecar.profiles),
                "most_patches": min(profile["patches"][2] for profile in sidecar.profiles),
            }
        if least > longest or (missing := [n for n in range(1, most + 1) if n not in taken]):
            what = "have no length of text in common" if least > longest else f"take no batch of {missing[0]}"
            raise InputError(
                f"{exported}: its profiles {what}, and Triton makes batches of every size from 1 to {most} of any "
                "texts; build it with profiles for that."
            )
    return {"least_text": least, "longest_text": longest, "most_batch": most, "profiles": profiles, **patches}


def _model(
    folder: Path, exported: Path, pictures: PictureInput, backend: str, limits: dict[str, Any], labels: list[str]
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
    dynamic = {"text": WARM_TEXT, "patches": max(pictures.usual, limits.get("least_patches", 1))}
    inputs = [
        Tensor(
            port.name,
            KINDS[port.dtype],
            [-1 if isinstance(side, str) else side for side in port.shape[1:]],
            warm=[dynamic[side] if isinstance(side, str) else side for side in port.shape[1:]],
        )
        for port in pictures.ports
    ]
    outputs = [Tensor("logits", "FP32", [len(labels)], labels=True)]
    warmup = {tensor.name: "ones" if tensor.name == "attention_mask" else "zero" for tensor in inputs}
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
    folder: Path, values: dict[str, Any], preprocessor: Preprocessor, limits: dict[str, Any], labels: list[str]
) -> None:
    version = folder / "1"
    version.mkdir(parents=True)
    shutil.copy(HERE / "front.py", version / "model.py")
    images = PACKAGE / "image_processor"
    for file in (
        images / "open_picture.py",
        images / "pixels.py",
        images / "patches.py",
        PACKAGE / "runtime" / "scores.py",
    ):
        shutil.copy(file, version)
    if (backend := getattr(preprocessor.tokenizer, "backend_tokenizer", None)) is None:
        raise InputError("Triton's front needs a tokenizer that the package tokenizers runs, and this one is not.")
    backend.save(str(version / "tokenizer.json"))
    told = {
        "model": MODEL,
        "task": values["task"],
        "labels": labels,
        "image": asdict(preprocessor.image),
        "patch": preprocessor.input.patch if preprocessor.input.packed else None,
        "least_patches": limits.get("least_patches"),
        "most_patches": limits.get("most_patches"),
        "pad_token_id": preprocessor.pad_id,
        **{name: limits[name] for name in ("least_text", "longest_text", "most_batch")},
        "truncated_to": preprocessor.longest,
        "truncation_side": preprocessor.tokenizer.truncation_side,
        "vocab_size": preprocessor.vocabulary,
        "padding_matters": (values["reductions"] or {}).get("semantics") == "reference",
    }
    _write_labels(folder, labels)
    (version / "front.json").write_text(json.dumps(told, indent=2) + "\n", "utf-8")
    inputs = [Tensor("IMAGE", "STRING", [preprocessor.input.images]), Tensor("TEXT", "STRING", [1])]
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
