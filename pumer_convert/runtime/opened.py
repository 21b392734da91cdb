"""The graphs of a model, each opened when it is first needed: what runs one, what prepares its inputs, what is told of
it. A model of two towers is two exported files, which lie in one folder."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pumer_convert.artifact.sidecar import read_sidecar
from pumer_convert.checkpoint.locate import EXPORTED
from pumer_convert.data.preprocess import Preprocessor
from pumer_convert.errors import InputError
from pumer_convert.runtime.base import Runtime
from pumer_convert.runtime.open import open_runtime
from pumer_convert.system.whole import unchanged

TAKEN = {"pictures": "text", "text": "pictures"}
"""What a tower takes -> what the other one does; under these names sidecars tell of them."""


@dataclass(frozen=True)
class OpenGraph:
    """A graph that is open; `values` are those of its sidecar, or as many of a checkpoint."""

    runtime: Runtime
    preprocessor: Preprocessor
    values: Mapping[str, Any]

    def takes_alone(self, what: str) -> bool:
        """Whether it is a tower of "pictures" or of "text"."""
        signature = self.runtime.signature
        return getattr(signature, what) is not None and getattr(signature, TAKEN[what]) is None


class Graphs(ABC):
    """The graphs of the model at a path; `options` go to `open_runtime`."""

    def __init__(self, path: Path, options: Mapping[str, Any]) -> None:
        self.path, self.options = path, options

    @classmethod
    def at(cls, path: Path, options: Mapping[str, Any]) -> "Graphs":
        """Those of an exported file and its fellow, or of a checkpoint."""
        return ExportedGraphs(path, options) if path.suffix in EXPORTED else CheckpointGraphs(path, options)

    @cached_property
    @abstractmethod
    def first(self) -> OpenGraph:
        """The file's own, or the checkpoint's first."""

    def tower(self, what: str) -> OpenGraph:
        """The tower of "pictures" or of "text". Raises InputError when there is none."""
        return self.first if self.first.takes_alone(what) else self._other

    @cached_property
    def _other(self) -> OpenGraph:
        return self._open_other("text" if self.first.takes_alone("pictures") else "pictures")

    @abstractmethod
    def _open_other(self, what: str) -> OpenGraph: ...


class ExportedGraphs(Graphs):
    """An ONNX file or an engine, and the one beside it that was made of the same checkpoint; of both towers in one
    file, the two beside it."""

    @cached_property
    def first(self) -> OpenGraph:
        found = self._open(self.path)
        return self._beside("pictures", found.values) if found.runtime.signature.apart else found

    def _open(self, file: Path) -> OpenGraph:
        # CUDA graphs are for engines alone.
        options = {k: v for k, v in self.options.items() if k != "cuda_graph" or file.suffix == self.path.suffix}
        with unchanged(file):
            runtime, values = open_runtime(file, **options), read_sidecar(file)
        return OpenGraph(runtime, Preprocessor.of_sidecar(values, file.parent), values)

    def _open_other(self, what: str) -> OpenGraph:
        return self._beside(what, self.first.values)

    def _beside(self, what: str, values: Mapping[str, Any]) -> OpenGraph:
        """The tower that takes `what`, of the checkpoint that the sidecar's `values` tell of."""
        origin = _origin(values)
        fellows: list[Path] = []
        strangers: list[Path] = []
        broken: list[InputError] = []
        for sidecar in sorted(self.path.parent.glob("*.json")):
            file = sidecar.with_suffix("")
            if file.suffix not in EXPORTED or not file.is_file():
                continue
            try:
                other = read_sidecar(file)
            except InputError as error:
                broken.append(error)
                continue
            if other.get(what) is not None and other.get(TAKEN[what]) is None:
                (fellows if origin is not None and _origin(other) == origin else strangers).append(file)
        if fellows:
            # One that was made in the same way (text.int8.onnx of image.int8.onnx), or else of the same kind.
            _, _, ending = self.path.name.partition(".")
            return self._open(max(fellows, key=lambda f: (f.name.endswith(f".{ending}"), f.suffix == self.path.suffix)))
        if strangers:
            raise InputError(
                f"{self.path}: by their sidecars {strangers[0].name} beside it is not of the same checkpoint, so "
                "embeddings of the two cannot be compared; export both of one."
            )
        if broken:
            raise broken[0]
        alone = what if values.get(what) is None else f"{what} alone"
        raise InputError(
            f"{self.path}: takes no {alone}, and beside it lies no file of the same checkpoint that does; export "
            "writes one of a model that has both towers: copy it along."
        )


class CheckpointGraphs(Graphs):
    """A checkpoint, of which the graphs share one network."""

    @cached_property
    def first(self) -> OpenGraph:
        from pumer_convert.checkpoint.read import NO_TOKENIZER, open_checkpoint
        from pumer_convert.convert.load import similarity_of

        checkpoint = self._checkpoint = open_checkpoint(self.path)
        runtime, similarity = open_runtime(checkpoint, **self.options), similarity_of(checkpoint)
        self._values = {
            "task": checkpoint.task,
            "labels": checkpoint.config.get("id2label"),
            "similarity": None if similarity is None else similarity.to_sidecar(),
            # Whoever gives a text is told of a tokenizer that is missing.
            "notes": tuple(note for note in checkpoint.notes if note != NO_TOKENIZER),
        }
        return self._prepared(runtime)

    def _prepared(self, runtime: Runtime) -> OpenGraph:
        size, graph = self.options.get("image_size"), runtime.signature.name
        return OpenGraph(runtime, Preprocessor.of(self._checkpoint, image_size=size, graph=graph), self._values)

    def _open_other(self, what: str) -> OpenGraph:
        from pumer_convert.convert.load import signature_of
        from pumer_convert.models.family import family_of
        from pumer_convert.runtime.eager import TorchRuntime

        runtime, checkpoint = self.first.runtime, self._checkpoint
        assert isinstance(runtime, TorchRuntime)
        for graph in family_of(checkpoint.family).spec(checkpoint.config).graphs:
            if getattr(graph, what) and not getattr(graph, TAKEN[what]):
                signature = signature_of(checkpoint, graph.name, self.options.get("image_size"))
                return self._prepared(runtime.of_graph(signature))
        raise InputError(f"{self.path}: the model takes no {what}.")


def _origin(values: Mapping[str, Any]) -> Any:
    """The fingerprint of the checkpoint that an exported file was made of, None where its sidecar tells none."""
    source = values.get("source")
    return source.get("fingerprint") if isinstance(source, Mapping) else None
