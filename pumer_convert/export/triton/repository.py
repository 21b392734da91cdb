"""Exported model -> model repository for Triton Inference Server."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import exp
from pathlib import Path
from typing import Any

import numpy as np

from pumer_convert import __version__
from pumer_convert.artifact.engine_sidecar import Sidecar
from pumer_convert.artifact.sidecar import labels_of, outputs_of, read_sidecar
from pumer_convert.data.preprocess import Preprocessor
from pumer_convert.errors import InputError
from pumer_convert.export.triton.config import DELAY, WARM_TEXT, Tensor, check_backend, model_config
from pumer_convert.models.inputs import MASK, Port
from pumer_convert.models.signature import LOGITS, TEXTS, Signature
from pumer_convert.models.similarity import Similarity
from pumer_convert.system.output import output_folder
from pumer_convert.system.owned import write_report
from pumer_convert.system.whole import whole

HERE = Path(__file__).parent
PACKAGE = HERE.parents[1]
NAME = "pumer"
"""Of the front of a model's one graph; of several it is the name of the graph."""
KINDS = {"int64": "INT64", "float32": "FP32"}
MOST = 32
"""The largest batch of an ONNX file, which has no limit of its own."""


def export_triton(
    exported: Path | str | Sequence[Path | str],
    out: Path | str | None = None,
    *,
    backend: str | None = None,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Write a model repository for the exported model.onnx or model.engine, or for the files of several graphs, to
    `out` (default: triton/ beside it).

    `backend` runs the tensors: "onnxruntime" (the default for an ONNX file), "tensorrt" (for an engine) or "python",
    which needs no more than onnxruntime where it is served. The sidecars and the tokenizer are taken from beside
    `exported`. Gives the report. Raises InputError for what cannot be served; nothing is left then.
    """
    files = [Path(exported)] if isinstance(exported, Path | str) else [Path(file) for file in exported]
    out = Path(out) if out is not None else files[0].parent / "triton"
    for file in files:
        if not file.is_file():
            raise InputError(f"{file}: there is no such file; run `pumer-convert export` first.")
    backend = backend or ("tensorrt" if files[0].suffix == ".engine" else "onnxruntime")
    check_backend(backend)
    for file in files:
        if (backend == "tensorrt") != (file.suffix == ".engine"):
            raise InputError(f"{file}: Triton's backend '{backend}' runs another kind of file; choose it by the file.")
    graphs = [_Graph.of(file) for file in files]
    with output_folder(out, overwrite, files) as folder:
        for graph in graphs:
            with whole(graph.exported):
                _model(folder / f"{graph.name}_model", graph, backend)
            _front(folder / graph.name, graph)
        (folder / "README.md").write_text(_guide(graphs, backend), "utf-8")
        report = write_report(
            folder,
            {
                "version": __version__,
                "source": str(files[0]) if len(files) == 1 else [str(file) for file in files],
                "backend": backend,
                "models": [name for graph in graphs for name in (graph.name, f"{graph.name}_model")],
                **graphs[0].limits,
            },
        )
    return {"triton": str(out), **report}


@dataclass(frozen=True)
class _Graph:
    """One exported file with all that is known of it; `labels` are None where it gives no logits."""

    exported: Path
    values: dict[str, Any]
    preprocessor: Preprocessor
    outputs: tuple[Port, ...]
    limits: dict[str, Any]
    labels: list[str] | None

    @classmethod
    def of(cls, exported: Path) -> "_Graph":
        values = read_sidecar(exported)
        outputs = outputs_of(values)
        if any(TEXTS in port.shape for port in outputs):
            raise InputError(
                f"{exported}: its pictures and texts are batches of their own, and Triton makes one batch; serve the "
                "graphs of its towers."
            )
        preprocessor = Preprocessor.of_sidecar(values, exported.parent)
        if preprocessor.image is not None and preprocessor.image.tiles:
            raise InputError(
                f"{exported}: its processor cuts pictures into tiles, and Triton's front makes one array of each; "
                f"{preprocessor.image.uncut} in the checkpoint's, and export it again."
            )
        labels = labels_of(values, exported) if LOGITS in {port.name for port in outputs} else None
        return cls(exported, values, preprocessor, outputs, _limits(exported, preprocessor), labels)

    @property
    def name(self) -> str:
        """Of its front."""
        graph = str(self.values.get("graph", "model"))
        return NAME if graph == "model" else graph

    @property
    def inputs(self) -> tuple[Port, ...]:
        """What it takes."""
        return Signature("", self.preprocessor.texts, self.preprocessor.input, ()).inputs


def _limits(exported: Path, preprocessor: Preprocessor) -> dict[str, Any]:
    """The texts and patches that all of an engine's profiles take, and its largest batch; an ONNX file takes any batch
    and text.

    Triton makes a batch of any size, so the profiles have to take each of them with the same texts.
    """
    pictures = preprocessor.input
    packed = pictures is not None and pictures.packed
    patches = {"least_patches": 1, "most_patches": pictures.most} if pictures is not None and packed else {}
    longest, profiles = preprocessor.longest if preprocessor.texts is not None else 0, 0
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
        if preprocessor.texts is not None and preprocessor.texts.length is None:
            least = max(profile["text"][0] for profile in sidecar.profiles)
            longest = min(longest, *(profile["text"][2] for profile in sidecar.profiles))
        most = max(profile["batch"][2] for profile in sidecar.profiles)
        taken = {n for p in sidecar.profiles for n in range(p["batch"][0], p["batch"][2] + 1)}
        if packed:
            # The front fills up smaller pictures with zeros.
            patches = {
                "least_patches": max(profile["patches"][0] for profile in sidecar.profiles),
                "most_patches": min(profile["patches"][2] for profile in sidecar.profiles),
            }
        short = preprocessor.texts is not None and least > longest
        if short or (missing := [n for n in range(1, most + 1) if n not in taken]):
            what = "have no length of text in common" if short else f"take no batch of {missing[0]}"
            raise InputError(
                f"{exported}: its profiles {what}, and Triton makes batches of every size from 1 to {most} of any "
                "texts; build it with profiles for that."
            )
    return {"least_text": least, "longest_text": longest, "most_batch": most, "profiles": profiles, **patches}


def _model(folder: Path, graph: _Graph, backend: str) -> None:
    version, exported, limits = folder / "1", graph.exported, graph.limits
    version.mkdir(parents=True)
    shutil.copy(exported, version / ("model.plan" if backend == "tensorrt" else "model.onnx"))
    if (weights := exported.with_name(exported.name + ".data")).exists():
        shutil.copy(weights, version / "model.onnx.data")
    if backend == "python":
        shutil.copy(HERE / "runner.py", version / "model.py")
    _write_labels(folder, graph.labels)
    (folder / "warmup").mkdir()
    fixed = graph.preprocessor.texts.length if graph.preprocessor.texts is not None else None
    (folder / "warmup" / "ones").write_bytes(np.ones(fixed or WARM_TEXT, np.int64).tobytes())
    usual = graph.preprocessor.input.usual if graph.preprocessor.input is not None else 1
    dynamic = {"text": WARM_TEXT, "patches": max(usual, limits.get("least_patches", 1))}
    inputs = [
        Tensor(
            port.name,
            KINDS[port.dtype],
            [-1 if isinstance(side, str) else side for side in port.shape[1:]],
            warm=[dynamic[side] if isinstance(side, str) else side for side in port.shape[1:]],
        )
        for port in graph.inputs
    ]
    warmup = {tensor.name: "ones" if tensor.name == MASK else "zero" for tensor in inputs}
    dynamic_text = any("text" in port.shape for port in graph.inputs)
    text = model_config(
        folder.name,
        backend,
        inputs,
        _outputs(graph),
        most_batch=limits["most_batch"],
        profiles=limits["profiles"],
        warmup=warmup if not dynamic_text or limits["least_text"] <= WARM_TEXT <= limits["longest_text"] else None,
    )
    (folder / "config.pbtxt").write_text(text, "utf-8")


def _outputs(graph: _Graph, upper: bool = False) -> list[Tensor]:
    """The graph's outputs, in the front's config under names in capitals."""
    return [
        Tensor(
            port.name.upper() if upper else port.name,
            KINDS[port.dtype],
            [-1 if isinstance(side, str) else side for side in port.shape[1:]],
            labels=port.name == LOGITS,
        )
        for port in graph.outputs
    ]


def _front(folder: Path, graph: _Graph) -> None:
    version, preprocessor, limits = folder / "1", graph.preprocessor, graph.limits
    version.mkdir(parents=True)
    shutil.copy(HERE / "front.py", version / "model.py")
    own = [PACKAGE / "image_processor" / f"{name}.py" for name in ("open_picture", "pixels", "patches")]
    for file in (*own, PACKAGE / "runtime" / "scores.py"):
        shutil.copy(file, version)
    texts, pictures, tokenizer = preprocessor.texts, preprocessor.input, preprocessor.tokenizer
    told: dict[str, Any] = {
        "model": f"{folder.name}_model",
        "task": graph.values["task"],
        "labels": graph.labels,
        "outputs": [port.name for port in graph.outputs],
        "most_batch": limits["most_batch"],
        "padding_matters": (graph.values["reductions"] or {}).get("semantics") == "reference",
        "image": None,
        "text": None,
    }
    inputs = []
    if pictures is not None and preprocessor.image is not None:
        inputs.append(Tensor("IMAGE", "STRING", [pictures.images]))
        told |= {
            "image": asdict(preprocessor.image),
            "patch": pictures.patch if pictures.packed else None,
            "least_patches": limits.get("least_patches"),
            "most_patches": limits.get("most_patches"),
        }
    if texts is not None:
        inputs.append(Tensor("TEXT", "STRING", [1]))
        if (backend := getattr(tokenizer, "backend_tokenizer", None)) is None:
            raise InputError("Triton's front needs a tokenizer that the package tokenizers runs, and this one is not.")
        backend.save(str(version / "tokenizer.json"))
        told["text"] = {
            "pad_token_id": preprocessor.pad_id,
            "least": limits["least_text"],
            "longest": limits["longest_text"],
            "length": texts.length,
            "masked": texts.masked,
            "padding": texts.padding,
            "truncated_to": preprocessor.longest,
            "truncation_side": tokenizer.truncation_side,
            "vocab_size": preprocessor.vocabulary,
        }
    _write_labels(folder, graph.labels)
    (version / "front.json").write_text(json.dumps(told, indent=2) + "\n", "utf-8")
    answers = [Tensor("ANSWER", "STRING", [1]), Tensor("SCORE", "FP32", [1])] if graph.labels is not None else []
    outputs = [*answers, *_outputs(graph, upper=True)]
    text = model_config(folder.name, "python", inputs, outputs, most_batch=limits["most_batch"], instances=2, cpu=True)
    (folder / "config.pbtxt").write_text(text, "utf-8")


def _write_labels(folder: Path, labels: list[str] | None) -> None:
    """One on a line, as Triton reads them for clients that ask for the best classes."""
    if labels is None:
        return
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


def _guide(graphs: Sequence[_Graph], backend: str) -> str:
    first = graphs[0]
    return (
        (HERE / "guide.md")
        .read_text("utf-8")
        .format(
            sources=" and ".join(f"`{graph.exported.name}`" for graph in graphs),
            models=" ".join([*(_sentence(graph) for graph in graphs), *_scores(graphs)]),
            example=_example(first),
            front=first.name,
            model=f"{first.name}_model",
            packages="pillow tokenizers" + (" onnxruntime-gpu" if backend == "python" else ""),
            engine=_version(first.values) if backend == "tensorrt" else "",
            shapes="".join(f" --shape {port.name}:{WARM_TEXT}" for port in first.inputs if "text" in port.shape),
            delay=DELAY,
            most=first.limits["most_batch"],
        )
    )


def _sentence(graph: _Graph) -> str:
    """What the models of a graph take and give."""
    pictures = graph.preprocessor.input
    takes, gives = [], []
    if pictures is not None:
        takes.append(f"the bytes of {'two pictures' if pictures.images > 1 else 'a picture'} (IMAGE)")
    if graph.preprocessor.texts is not None:
        takes.append("a text (TEXT)")
    if graph.labels is not None:
        gives.append("the answer (ANSWER), its score (SCORE)")
    gives += [
        f"all logits ({port.name.upper()})" if port.name == LOGITS else port.name.upper() for port in graph.outputs
    ]
    return (
        f"`{graph.name}` takes {' and '.join(takes)} and gives {' and '.join(gives)}; `{graph.name}_model` takes and "
        "gives tensors."
    )


def _scores(graphs: Sequence[_Graph]) -> list[str]:
    """How a client compares what the models of two graphs give; nothing where they compare nothing."""
    similarity = Similarity.of_sidecar(graphs[0].values)
    if similarity is None or len(graphs) == 1:
        return []
    first, second = (graph.outputs[0].name.upper() for graph in graphs)
    return [
        f"A row of {first} and one of {second} are unit vectors; {exp(similarity.logit_scale):.6g} times their product "
        f"plus {similarity.logit_bias:.6g} is the logit of the pair, of which the model makes scores by "
        f"{similarity.scores}."
    ]


def _example(graph: _Graph) -> str:
    """Lines of Python that ask the front."""
    pictures, one = graph.preprocessor.input, 'open("a.jpg", "rb").read()'
    lines, inputs, data = [], [], []
    if pictures is not None:
        example = ", ".join(one.replace("a.jpg", f"{name}.jpg") for name in "ab"[: pictures.images])
        lines.append(f"image = np.array([[{example}]], np.object_)")
        inputs.append('triton.InferInput("IMAGE", image.shape, "BYTES")')
        data.append("image")
    if graph.preprocessor.texts is not None:
        inputs.append('triton.InferInput("TEXT", [1, 1], "BYTES")')
        data.append('np.array([[b"what is it?"]], np.object_)')
    lines.append(f"inputs = [{', '.join(inputs)}]")
    lines += [f"inputs[{place}].set_data_from_numpy({value})" for place, value in enumerate(data)]
    gives = "ANSWER" if graph.labels is not None else graph.outputs[0].name.upper()
    ask = f'triton.InferenceServerClient("localhost:8001").infer("{graph.name}", inputs)'
    lines.append(f'print({ask}.as_numpy("{gives}"))')
    return "\n".join(f"    {line}" for line in lines)
