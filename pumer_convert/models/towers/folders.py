"""Folders of transformers with a tower for pictures and one for texts, or with one of them, as maps to the names of the
whole model; nothing here reads a weight."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pumer_convert.errors import InputError
from pumer_convert.models.values import only_architecture, square, wrong
from pumer_convert.weights import EMBEDDINGS, Checkpoint, RawCheckpoint, TensorSlice


def without_config(raw: RawCheckpoint, spelled: str) -> InputError:
    """An error to raise about weights that nothing says how to use, of a family as a person writes it."""
    article = "an" if spelled[0] in "AEIOU" else "a"
    return InputError(
        f"{raw.path}: the weights of {article} {spelled} without its config.json, which says how they are used; put it "
        "beside them and give the folder."
    )


def saved(
    raw: RawCheckpoint,
    family: str,
    config: dict[str, Any],
    slices: dict[str, TensorSlice],
    task: str = EMBEDDINGS,
    kind: str | None = None,
    **more: Any,
) -> Checkpoint:
    """A folder of transformers, of which messages speak as that `kind` or else as its architecture, or one that this
    project wrote. Raises InputError for pictures that transformers' network does not take: its tables of positions are
    square."""
    if "pumer" in config:
        return Checkpoint.of(raw, "pumer-convert folder", family, task, config, slices, **more)
    own = config.get("vision_config", config)
    if "image_size" in own:
        square(own, "image_size", 1, raw.path)
    origin = f"transformers {kind or config['architectures'][0]} folder"
    return Checkpoint.of(raw, origin, family, task, config, slices, **more)


_BARE = ("embeddings.", "encoder.", "pre_layrnorm.", "post_layernorm.", "final_layer_norm.", "head.")
"""How the names of a tower begin that has no model around it."""
_UNUSED = ("embeddings.position_ids", "embeddings.token_type_ids", "embeddings.mask_token")


@dataclass(frozen=True)
class TwoTowers:
    """How transformers saves a family of two towers.

    spelled        the family as a person writes it.
    architectures  the classes that are read, with the towers of each, "vision" and "text"; the first has both.
    mark           how a name of a weight ends that no other family has.
    sections       what checks the values of a tower alone, with `where` and a prefix for messages.
    checked        see `Family.checked`.
    """

    family: str
    spelled: str
    architectures: Mapping[str, tuple[str, ...]]
    mark: str
    sections: Mapping[str, Callable[[Mapping[str, Any], object, str], object]]
    checked: Callable[[Mapping[str, Any], object], dict[str, Any]]

    def recognise(self, raw: RawCheckpoint, renamed: Callable[[str], str] = str) -> Checkpoint | None:
        """The checkpoint in the one form, or None when it is not of the family; `renamed` gives the names that
        transformers saves today. Raises InputError for weights of one that nothing says how to use."""
        kinds = {self.family: None, **{f"{self.family}_{tower}_model": tower for tower in ("vision", "text")}}
        kind = raw.config.get("model_type")
        if kind is None and any(name.endswith(self.mark) for name in raw.source.names()):
            raise without_config(raw, self.spelled)
        if not isinstance(kind, str) or kind not in kinds:
            return None
        config = self._config(raw, kinds[kind])
        architecture = config["architectures"][0]
        tower, *more = self.architectures[architecture]
        start = "" if more else f"{tower}_model."
        slices: dict[str, TensorSlice] = {}
        for name in raw.source.names():
            if not name.endswith(_UNUSED):
                slices[start + name if name.startswith(_BARE) else renamed(name)] = TensorSlice(name)
        return saved(raw, self.family, config, slices)

    def _config(self, raw: RawCheckpoint, tower: str | None) -> dict[str, Any]:
        """The config in the one form: a section for every tower, of which a model of one tower has its own alone."""
        config = dict(raw.config)
        named = only_architecture(config, self.architectures, raw.path)
        architecture = self._architecture(set(raw.source.names())) if named is None else named
        if tower is not None:
            if self.architectures[architecture] != (tower,):
                raise wrong(raw.path, "architectures", named, f"its model_type is {config['model_type']}")
            self.sections[tower](config, raw.path, "")
            config = {"model_type": self.family, f"{tower}_config": config}
        config["architectures"] = [architecture]
        return self.checked(config, raw.path)

    def _architecture(self, names: set[str]) -> str:
        """What the weights are of, where the config does not say."""
        vision = any(name.endswith("patch_embedding.weight") for name in names)
        text = any(name.endswith("token_embedding.weight") for name in names)
        towers = ("vision",) * vision + ("text",) * text
        projected = any("_projection." in name for name in names)
        fitting = [name for name, own in self.architectures.items() if own == towers]
        return next((n for n in fitting if n.endswith("WithProjection") == projected), next(iter(self.architectures)))


def cropping(kind: str, size: tuple[int, int]) -> dict[str, Any]:
    """What a processor of pictures of that class says for (H, W) pixels that it cuts out of the middle."""
    height, width = size
    return {
        "image_processor_type": kind,
        "size": {"shortest_edge": min(height, width)},
        "crop_size": {"height": height, "width": width},
    }


def squashing(kind: str, size: tuple[int, int]) -> dict[str, Any]:
    """The same of one whose pictures become that size whatever their shape."""
    return {"image_processor_type": kind, "size": {"height": size[0], "width": size[1]}}
