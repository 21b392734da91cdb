"""What the config of a CLIP+FDT's training says beside its weights: the temperature of the codebook above all."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pumer_convert.errors import InputError
from pumer_convert.models.towers.settings import ATTENTIONS, POOLS
from pumer_convert.models.trainer_configs import configs_beside
from pumer_convert.models.values import wrong
from pumer_convert.rules import Rule
from pumer_convert.weights import RawCheckpoint

_STEP = "last_iter"
_KINDS = ("clip_fdt_vitb16", "clip_fdt_vitb32")
_OFF = {"positional_embedding_flag": True, "text_encode_type": "Transformer"}
"""Keys of the tower of texts with the value that is read; the others are sizes, or mean nothing for answers."""
_KNOWN = {
    "image_encode": {"embed_dim", "checkpoint", "dropout", "emb_dropout", "heads"},
    "text_encode": {"embed_dim", "checkpoint", "bpe_path", "text_model_utils", "transformer_heads", *_OFF},
    "fdt": {"sd_temperature", "use_allgather", "att_func_type", "pool_type"},
}


_DECAY = {
    "org_t": Rule(float, above=True),
    "sd_T_decay_iter": Rule(int, least=1),
    "sd_T_decay_w": Rule(float, above=True),
    "sd_T_min": Rule(float),
}
"""How the temperature falls."""
_FUNCTIONS = {"att_func_type": Rule(words=ATTENTIONS), "pool_type": Rule(words=POOLS)}


@dataclass(frozen=True)
class Told:
    """What the `file` says: `kwargs` of the model by part, the codebook's functions, and its temperature."""

    file: Path
    kwargs: Mapping[str, Mapping[str, Any]]
    codebook: Mapping[str, Any]
    temperature: float

    def check(self, sizes: Mapping[str, int]) -> None:
        """Raises InputError where a key says otherwise than these sizes, of the weights, or is not known."""
        for part, values in self.kwargs.items():
            for key, value in values.items():
                name = f"{part}.{key}"
                if name in sizes:
                    if value != sizes[name]:
                        raise wrong(self.file, f"model.kwargs.{name}", value, f"by the weights it is {sizes[name]}")
                elif key not in _KNOWN[part]:
                    why = "that key is not known here, and may change the answers; remove it"
                    raise wrong(self.file, f"model.kwargs.{name}", value, why)
                elif key in _OFF and value != _OFF[key]:
                    raise wrong(self.file, f"model.kwargs.{name}", value, "a model with that is not supported")

    def heads(self, name: str, width: int) -> Any:
        """How many heads a tower of that width has: 64 wide, unless told otherwise."""
        part, _, key = name.partition(".")
        return self.kwargs[part].get(key, max(width // 64, 1))


def told(raw: RawCheckpoint) -> Told:
    """What the training's config says, which lies beside the weights or a folder above. Raises InputError where there
    is none, or several that differ, and for a value that is not understood."""
    folder = (raw.path if raw.path.is_dir() else raw.path.parent).absolute()
    for place in (folder, folder.parent):
        found = [_read(raw, file, values) for file, values in configs_beside(place) if _is_one(values)]
        for other in found[1:]:
            if (other.kwargs, other.temperature) != (found[0].kwargs, found[0].temperature):
                raise InputError(
                    f"{raw.path}: {found[0].file} and {other.file.name} say different things; leave the one that the "
                    "training went by."
                )
        if found:
            return found[0]
    raise InputError(
        f"{raw.path}: the weights of a CLIP+FDT, and neither beside them nor in the folder above the config of their "
        "training (config.json or a .yaml with model.kwargs.fdt and t_decay), which says the temperature of the "
        "codebook; put it there."
    )


def _is_one(values: Mapping[str, Any]) -> bool:
    model = values.get("model")
    kwargs = model.get("kwargs") if isinstance(model, Mapping) else None
    return isinstance(kwargs, Mapping) and "fdt" in kwargs


def _read(raw: RawCheckpoint, file: Path, values: Mapping[str, Any]) -> Told:
    kind = values["model"].get("type")
    if kind not in _KINDS:
        raise wrong(file, "model.type", kind, f"what is read is {' and '.join(_KINDS)}")
    kwargs = values["model"]["kwargs"]
    parts = {part: _section(kwargs, part, file, "model.kwargs.") for part in _KNOWN}
    functions, decay = parts["fdt"], _section(values, "t_decay", file)
    for name, part, rules in (("model.kwargs.fdt", functions, _FUNCTIONS), ("t_decay", decay, _DECAY)):
        for key, rule in rules.items():
            if not rule.holds(part.get(key, "")):
                raise wrong(file, f"{name}.{key}", part.get(key), f"allowed: {rule.allowed}")
    codebook = {"attention": functions["att_func_type"], "pool": functions["pool_type"]}
    return Told(file, parts, codebook, _temperature(raw, decay))


def _section(values: Mapping[str, Any], key: str, file: Path, prefix: str = "") -> Mapping[str, Any]:
    found = values.get(key, {} if prefix else None)
    if not isinstance(found, Mapping):
        raise wrong(file, prefix + key, found, "it has to be an object")
    return found


def _temperature(raw: RawCheckpoint, decay: Mapping[str, Any]) -> float:
    """As the original evaluates: it falls with every step of the training, also within an epoch."""
    start, share, every, least = (decay[key] for key in ("org_t", "sd_T_decay_w", "sd_T_decay_iter", "sd_T_min"))
    steps = raw.hints.get(_STEP, 0 if share == 1 else None)
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 0:
        raise InputError(
            f"{raw.path}: the file says no {_STEP}, how far its training went, by which the codebook's temperature "
            "falls (t_decay); take the file as the training wrote it."
        )
    try:
        return float(max(start * share ** (steps / every), least))
    except OverflowError:
        return float("inf")  # refused where the config is checked
