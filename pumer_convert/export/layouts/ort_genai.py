"""The layout ort-genai: a vision part, and the words of its language model, as onnxruntime-genai reads them.

That runtime takes the names of all files from genai_config.json. Its own processors count the image tokens of the dense
model, so a prompt goes in by `set_inputs`, which a program that is written along makes.
"""

import contextlib
import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import onnx
from onnx import TensorProto, helper

from pumer_convert.artifact.sidecar import read_sidecar
from pumer_convert.checkpoint.origin import origin_entry
from pumer_convert.errors import InputError
from pumer_convert.export.layouts.part import Part
from pumer_convert.export.layouts.words import TYPES, word_table, write_words
from pumer_convert.export.onnx import INLINE_LIMIT
from pumer_convert.export.reuse import without_list
from pumer_convert.models.inputs import PIXELS
from pumer_convert.models.towers.vision_part import OUTPUT
from pumer_convert.system.json_file import read_object
from pumer_convert.system.output import changed_folder, check_out, link_into, output_folder
from pumer_convert.system.owned import REPORT, digest, listed, unproven, write_list, write_report

LAYOUT = "ort-genai"
CONFIG, DENSE, MERGE = "genai_config.json", "genai_config.dense.json", "genai_config.merge.json"
VISION, EMBEDDING, PROGRAM, SIDECAR = "vision.pumer.onnx", "embedding.pumer.onnx", "pictures.py", "pumer.json"
OWN = (VISION, f"{VISION}.data", EMBEDDING, f"{EMBEDDING}.data", PROGRAM, SIDECAR)
KINDS = "phi3v, gemma3, mistral3, videochat_flash_qwen"
"""What `type` may be in genai_config.json; with any of them the runtime takes the counts that it is given."""
COUNTED, COUNT = "videochat_flash_qwen", "num_visual_tokens"
"""The one of them that reads a count from there, and where from."""
SECTIONS: dict[str, dict[str, Any]] = {
    "vision": {"filename": VISION, "inputs": {PIXELS: PIXELS}, "outputs": {OUTPUT: OUTPUT}},
    "embedding": {
        "filename": EMBEDDING,
        "inputs": {"input_ids": "input_ids", OUTPUT: OUTPUT},
        "outputs": {"inputs_embeds": "inputs_embeds"},
    },
}
"""What these sections of "model" say."""


def export_ort_genai(
    path: Path | str,
    into: Path | str | None = None,
    out: Path | str | None = None,
    *,
    dtype: str | None = None,
    overwrite: bool = False,
    progress: Callable[[str], None] = lambda line: None,
    in_subprocess: bool = False,
) -> dict[str, Any]:
    """Put the vision part at `path`, in `dtype` (None: the recipe's), and the words of its language model into the
    folder `into` of onnxruntime-genai, in one step, whose settings of before are kept as genai_config.dense.json; or
    with `out` leave `into` as it is and write another folder, with links to the rest of its files; or without `into`
    one with the files alone and what is to be merged into a genai_config.json. Gives the report.

    Raises InputError for a folder of another kind or another width and, without `overwrite`, for one that has a vision
    part of ours already; and where the whole model is not known.
    """
    part = Part.of_pictures(path, LAYOUT)
    into, out = None if into is None else Path(into), None if out is None else Path(out)
    if into is None and out is None:
        raise InputError(f"the layout {LAYOUT} is written into a folder of that runtime, or to one of its own.")
    config = None if into is None else _checked(into, part)
    embeds = None if into is None or config is None else _embeds(into, config, part)
    ours = into is not None and _is_ours(into)
    if out is None and ours and not overwrite:
        raise InputError(f"{into}: its vision part is one of pumer-convert's already; replace it with --overwrite.")
    inputs = (part.path,) if into is None else (part.path, into)
    if out is not None:
        check_out(out, overwrite, inputs)
    whole = part.whole() if "pumer" in part.checkpoint.config else part.checkpoint
    token = part.image_token
    with contextlib.ExitStack() as stack:
        if out is None:
            assert into is not None
            folder = stack.enter_context(changed_folder(into))
            if not (folder / DENSE).exists():
                shutil.copyfile(into / CONFIG, folder / DENSE)
            for name in (CONFIG, *OWN):
                (folder / name).unlink(missing_ok=True)
        else:
            folder = stack.enter_context(output_folder(out, overwrite, inputs))
            if into is not None:
                link_into(into, folder, (CONFIG, DENSE, REPORT, *OWN))
        file, report = part.export(folder.parent / "export", dtype, progress, in_subprocess)
        progress("writing the words of the language model")
        write_words(folder / EMBEDDING, word_table(whole), token, embeds or report["dtype"], INLINE_LIMIT)
        _flatten(file, folder / VISION, part.width)
        shutil.copyfile(Path(__file__).with_name(PROGRAM), folder / PROGRAM)
        sections = {name: dict(section) for name, section in SECTIONS.items()}
        if config is None or config["model"]["type"] == COUNTED:
            sections["vision"][COUNT] = part.tokens
        merged = _merged(config or {}, sections)
        (folder / (MERGE if config is None else CONFIG)).write_text(json.dumps(merged, indent=4) + "\n", "utf-8")
        told = {
            "layout": LAYOUT,
            "out": str(out or into),
            "source": origin_entry(part.checkpoint, out or folder),
            "image_tokens": part.tokens,
            "dense_tokens": part.dense,
            "image_token_id": token,
            "dtype": report["dtype"],
            "inputs_embeds": embeds or report["dtype"],
            "verification": report["verification"],
            "notes": part.notes,
        }
        there = [name for name in OWN if (folder / name).exists()]
        sidecar = {**told, "vision": without_list(read_sidecar(file))}
        write_list(folder / SIDECAR, sidecar, {name: digest(folder / name) for name in there})
        if out is None and listed(folder / REPORT) is None:
            return told
        (folder / REPORT).unlink(missing_ok=True)
        return write_report(folder, told)


def _checked(folder: Path, part: Part) -> dict[str, Any]:
    """The settings of a folder of the runtime. Raises InputError for one that is none, or whose `type` it does not take
    other counts with."""
    if not (folder / CONFIG).is_file():
        raise InputError(f"{folder}: not a folder of onnxruntime-genai; it has no {CONFIG}.")
    config = read_object(folder / CONFIG)
    model = config.get("model")
    if not isinstance(model, dict) or not isinstance(decoder := model.get("decoder"), dict):
        raise InputError(f"{folder / CONFIG}: has no section model.decoder.")
    if str(model.get("type")) not in KINDS.split(", "):
        raise InputError(
            f"{folder / CONFIG}: of type '{model.get('type')}', with which onnxruntime-genai takes no count of image "
            f"tokens from outside; set model.type to one of {KINDS}."
        )
    if not isinstance(decoder.get("filename"), str) or not (folder / decoder["filename"]).is_file():
        raise InputError(f"{folder}: the language model that {CONFIG} names as model.decoder.filename is not there.")
    if not _is_ours(folder) and (there := [name for name in (*OWN, DENSE) if (folder / name).exists()]):
        raise InputError(f"{folder}: {there[0]} is there, and is not what pumer-convert wrote; move it away.")
    return config


def _embeds(folder: Path, config: Mapping[str, Any], part: Part) -> str:
    """The type in which a folder's language model takes embeddings. Raises InputError where it takes none, or of
    another width."""
    decoder = config["model"]["decoder"]
    file, name = folder / decoder["filename"], decoder.get("inputs", {}).get("inputs_embeds", "inputs_embeds")
    try:
        graph = onnx.load(str(file), load_external_data=False).graph
    except Exception as error:
        raise InputError(f"{file}: not a readable ONNX file.") from error
    kinds = {value: key for key, value in TYPES.items()}
    for port in graph.input:
        tensor = port.type.tensor_type
        if port.name == name and tensor.elem_type in kinds:
            width = tensor.shape.dim[-1].dim_value
            if width not in (0, part.width):
                raise InputError(f"{file}: takes embeddings of {width} numbers, and {part.path} gives {part.width}.")
            return kinds[tensor.elem_type]
    raise InputError(
        f"{file}: takes no {name}; onnxruntime-genai's builder leaves the words out by exclude_embeds=true."
    )


def _is_ours(folder: Path) -> bool:
    names = [name for name in OWN if (folder / name).exists()]
    return listed(folder / SIDECAR) is not None and not unproven(folder, SIDECAR, names)


def _flatten(file: Path, target: Path, width: int) -> None:
    """The vision part `file` as `target`, with the features of all pictures one behind the other: with a side for the
    pictures the runtime makes room for those of one alone."""
    model = onnx.load(str(file), load_external_data=False)
    inner = f"{OUTPUT}.of_each"
    for node in model.graph.node:
        for names in (node.input, node.output):
            names[:] = [inner if name == OUTPUT else name for name in names]
    sides = f"{OUTPUT}.sides"
    model.graph.initializer.append(helper.make_tensor(sides, TensorProto.INT64, [2], [-1, width]))
    model.graph.node.append(helper.make_node("Reshape", [inner, sides], [OUTPUT]))
    kind = model.graph.output[0].type.tensor_type.elem_type
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info(OUTPUT, kind, ["features", width]))
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = f"{target.name}.data"
    data = file.with_name(f"{file.name}.data")
    if data.exists():
        data.rename(target.with_name(f"{target.name}.data"))
    onnx.save(model, str(target))


def _merged(config: Mapping[str, Any], sections: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    model = dict(config.get("model", {}))
    for name, section in sections.items():
        model[name] = {**model.get(name, {}), **section}
    return {**config, "model": model}
