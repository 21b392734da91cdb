"""What an earlier export left, and whether it is what is asked for now: then a later stage builds on it."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pumer_convert.errors import InputError
from pumer_convert.system.json_file import read_object
from pumer_convert.system.owned import LIST, digest, listed
from pumer_convert.system.partial import recover
from pumer_convert.system.whole import check_whole

if TYPE_CHECKING:
    from pumer_convert.export.tensorrt import EngineSettings

OTHER = "use --overwrite, or another folder with -o"


def standing_onnx(
    out: Path, wanted: Mapping[str, Any], parts: tuple[str, ...], companions: Iterable[Path]
) -> dict[str, Any] | None:
    """The report of the verified export that is at `out`, if its sidecar says all that is `wanted` and the files are
    whole; None when nothing is there.

    `companions` are the files that belong beside it. Raises InputError that names what differs.
    """
    recover(out)  # a killed run may have left half of it
    if not any(out.with_name(out.name + part).exists() for part in ("", *parts)):
        return None
    values = _read(out.with_name(f"{out.name}.json"))
    if "verification" not in values or not out.exists():
        raise InputError(f"{out}: exists already, and does not say what it was made from; {OTHER}.")
    differing = _differing(values, wanted)
    for file in companions:
        beside = out.with_name(file.name)
        if not beside.is_file() or beside.read_bytes() != file.read_bytes():
            differing.append(f"{file.name} is another")
    if differing:
        raise InputError(f"{out}: exists already, but {'; '.join(differing)}; {OTHER}.")
    check_whole(out)
    told = {name: values[name] for name in ("opset", "image_size", "dtype", "verification")}
    told["keep_float32"] = wanted["keep_float32"]
    return {"onnx": str(out), "graph": wanted["graph"], **told, "there_already": True}


def standing_engine(engine: Path, onnx_file: Path, settings: "EngineSettings", version: str) -> dict[str, Any] | None:
    """The sidecar of the engine that is there, if it was built from this ONNX file with these settings (a flavour that
    was chosen, profiles given) by this version; None when there is none. Raises InputError that names what differs."""
    if not engine.exists():
        return None
    values = _read(engine.with_name(f"{engine.name}.json"))
    differing = _differing(values.get("settings") or {}, asdict(settings))
    if (values.get("onnx") or {}).get("sha256") != digest(onnx_file):
        differing = [f"it was built from another {onnx_file.name}"]
    elif values.get("tensorrt_version") != version:
        differing.append(_differs("TensorRT", values.get("tensorrt_version"), version))
    elif (values.get("engine") or {}).get("sha256") != digest(engine):
        differing = ["it is not the file that its sidecar tells of"]
    if differing:
        raise InputError(f"{engine}: exists already; {'; '.join(differing)}; {OTHER}.")
    return values


def stale(onnx_file: Path) -> list[str]:
    """The names of what lies beside an ONNX file and was made from the one that was there before."""
    found, now = [], digest(onnx_file)
    for file in sorted((*onnx_file.parent.glob("*.engine.json"), *onnx_file.parent.glob("*.onnx.json"))):
        values = _read(file)
        of = (values.get("quantized") or {}).get("of") if file.name.endswith(".onnx.json") else values.get("onnx")
        if isinstance(of, dict) and of.get("file") == onnx_file.name and of.get("sha256") != now and listed(file):
            found.append(file.name.removesuffix(".json"))
    return found


def without_list(values: Mapping[str, Any]) -> dict[str, Any]:
    """What a sidecar says of the model, for another file that is made from it."""
    return {name: value for name, value in values.items() if name not in (LIST, "onnx", "verification")}


def _read(file: Path) -> dict[str, Any]:
    try:
        return read_object(file)
    except InputError:
        return {}


def _differing(there: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    asked = json.loads(json.dumps(wanted))
    # Earlier versions could do no otherwise.
    usual = {"inlined_functions": False, "graph": "model", "outputs": asked.get("outputs")}
    there = {**usual, "keep_float32": [], "similarity": None, **there}
    if isinstance(there.get("text"), Mapping):
        there = {**there, "text": {"length": None, "masked": True, "padding": "right", **there["text"]}}
    return [_differs(name, there.get(name), value) for name, value in asked.items() if there.get(name) != value]


def _differs(name: str, there: Any, asked: Any) -> str:
    """What is told of a difference; of values too long to show, that there is one."""
    if name == "source":
        return "it was made from another checkpoint, or from this one before it was changed"
    shown = [json.dumps(value).strip('"') for value in (there, asked)]
    if max(map(len, shown)) > 60:
        return f"its {name} is another"
    return f"its {name} is {shown[0]}, not {shown[1]}"
