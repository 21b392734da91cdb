"""Where the weights are in what a trainer saved: the nested dictionary that holds them, and the wrappers' prefixes."""

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from pumer_convert.errors import InputError

TRAINED = ("state_dict", "model_state_dict", "model_state", "model", "module", "net", "network", "weights", "params")
"""Names that trainers give to the weights they have trained."""
AVERAGED = ("ema", "model_ema", "ema_model", "ema_state_dict", "model_ema_state_dict", "state_dict_ema", "ema_weights")
"""Names of a running average of them: taken, and said, where there is nothing else."""
_BESIDE = ("optim", "sched", "scaler", "rng", "callback", "loop", "criterion", "loss", "sampler", "amp")
"""Parts of names that hold tensors but no model: an optimiser's state and the like."""
_WRAPPERS = ("_orig_mod", "module", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_forward_module")
"""What torch.compile, DDP, FSDP and Lightning's strategies put before a name, or into it."""
_OWNERS = ("model", "net", "network")
"""What a training script calls the network it holds: Lightning's `self.model`."""

_ADAPTER = re.compile(r"(^|\.)(lora_[A-Z]\w*|base_layer|base_model\.model|modules_to_save)\.")


def find_state(content: Any, file: object) -> tuple[tuple[str, ...], list[str]]:
    """The keys that lead to the state dict in what a file holds, () when that is one itself, and notes on the choice.

    Raises InputError when there is none, or when there are several models of which none is the obvious one.
    """
    keys: tuple[str, ...] = ()
    notes: list[str] = []
    while True:
        if not isinstance(content, Mapping):
            raise InputError(f"{file}: holds a {kind(content)}, not named tensors{_whole(content)}.")
        key = _inner(content, file, notes)
        if key is None:
            break
        keys, content = (*keys, key), content[key]
    if not any(is_tensor(value) for value in content.values()):
        raise InputError(f"{file}: holds no named tensors{_instead(content)}.")
    return keys, notes


def _inner(content: Mapping[Any, Any], file: object, notes: list[str]) -> str | None:
    """The key under which the weights lie, None when they lie here."""
    holding = [key for key, value in content.items() if isinstance(key, str) and _holds_tensors(value)]
    holding = [key for key in holding if not any(part in key.lower() for part in _BESIDE)]
    trained = [key for key in holding if key in TRAINED]
    averaged = [key for key in holding if key in AVERAGED or key == "shadow_params"]
    if not trained and any(is_tensor(value) and "." in str(name) for name, value in content.items()):
        return None
    others = [key for key in holding if key not in averaged]
    for names in (trained, averaged if not others else [], others):
        if len(names) > 1:
            listed = ", ".join(f"'{name}'" for name in names)
            raise InputError(f"{file}: holds several sets of weights ({listed}); save the one that is meant alone.")
        if names:
            left = [f"'{key}'" for key in holding if key not in names]
            if left or names[0] not in TRAINED:
                rest = f"; it holds weights under {', '.join(left)} as well, which were left" if left else ""
                notes.append(f"The weights are those under '{names[0]}' of the file{rest}.")
            return names[0]
    return None


def _holds_tensors(value: Any, depth: int = 3) -> bool:
    if not isinstance(value, Mapping):
        return False
    return any(is_tensor(v) or (depth > 0 and _holds_tensors(v, depth - 1)) for v in value.values())


def _instead(content: Mapping[Any, Any]) -> str:
    for key, value in content.items():
        if isinstance(value, Sequence) and value and is_tensor(value[0]):
            return f" ('{key}' is a list of tensors, which have no names)"
        if whole := _whole(value):
            return f"; '{key}' is a {kind(value)}{whole}"
    return ""


def _whole(value: Any) -> str:
    state = getattr(value, "state", None)
    module = isinstance(state, Mapping) and "_parameters" in state
    return ": a whole model was pickled; save its state_dict() instead" if module else ""


def unwrapped(names: Sequence[str], file: object) -> tuple[dict[str, str], list[str]]:
    """Name without what wrappers put into it -> name, and notes on what changed any and on a running average that lies
    beside the weights, name by name, and is left.

    Raises InputError when two names become the same.
    """
    plain: dict[str, str] = {}
    average: dict[str, str] = {}
    gone: dict[str, None] = {}
    for name in names:
        new = ".".join(_plain(name.split("."), gone))
        start, _, rest = new.partition(".")
        if start in AVERAGED:
            average[new] = ".".join(_plain(rest.split("."), {}))
        if new in plain:
            raise InputError(
                f"{file}: holds '{plain[new]}' and '{name}', two weights for one name; save the model alone."
            )
        plain[new] = name
    had = ", ".join(f"{part}." for part in gone)
    notes = [f"Names in the file have {had} before them, which is left off."] if gone else []
    if any(own in plain for own in average.values()):
        plain = {new: name for new, name in plain.items() if new not in average}
        left = ", ".join(f"'{start}.'" for start in dict.fromkeys(name.partition(".")[0] for name in average))
        notes.append(f"Beside the weights lies a running average of them, under {left}, which was left.")
    return plain, notes


def _plain(parts: list[str], gone: dict[str, None]) -> Iterator[str]:
    first = True
    for part in parts:
        if part in _WRAPPERS or (first and part in _OWNERS):
            gone[part] = None
        else:
            first = False
            yield part


def owner(names: Collection[str], known: Sequence[str], file: object) -> str:
    """What a training script put before the names of the model that it holds ("vilt." of `self.vilt = ...`), by the
    names of weights that such models are `known` by; "" where nothing is.

    Raises InputError when several models are held so.
    """
    if any(name in names for name in known):
        return ""
    found = {name.removesuffix(end) for name in names for end in known if name.endswith(f".{end}")}
    if len(found) > 1:
        held = ", ".join(f"'{start}'" for start in sorted(found))
        raise InputError(f"{file}: holds several models, named {held} and on; save the one that is meant alone.")
    return next(iter(found), "")


def check_plain(names: Iterable[str], shape: Callable[[str], Sequence[int]], file: object) -> None:
    """Raises InputError for weights that are one part of a model: an adapter of PEFT, or what ZeRO leaves of
    parameters that it has spread over several files."""
    for name in names:
        if _ADAPTER.search(name):
            raise InputError(
                f"{file}: holds '{name}', of an adapter of PEFT; merge it into its model (merge_and_unload) and save "
                "that."
            )
        if name.endswith((".weight", ".bias")) and tuple(shape(name)) == (0,):
            raise InputError(
                f"{file}: '{name}' is empty: DeepSpeed's ZeRO has spread the weights over several files; put them "
                "together by the zero_to_fp32.py that lies beside its checkpoint."
            )


def is_tensor(value: Any) -> bool:
    """Whether a value is a tensor of torch."""
    import torch

    return isinstance(value, torch.Tensor)


def kind(value: Any) -> str:
    """A value's type as its own library calls it."""
    return "dict" if isinstance(value, dict) else getattr(type(value), "stands_for", type(value).__name__)
