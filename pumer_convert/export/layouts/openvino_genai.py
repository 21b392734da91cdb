"""The layout openvino-genai: a reduced vision part in the place of the dense one of a folder of OpenVINO GenAI.

That runtime counts the image tokens by what its vision model gives, so one model is exchanged and no file of settings
is touched.
"""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import torch

from pumer_convert.checkpoint.origin import origin_entry, origin_of
from pumer_convert.checkpoint.read import open_checkpoint
from pumer_convert.convert.load import load, signature_of
from pumer_convert.errors import InputError, VerificationError
from pumer_convert.export.layouts.part import Part
from pumer_convert.image_processor.picture_input import settings_of
from pumer_convert.models.inputs import PIXELS
from pumer_convert.models.towers.vision_part import OUTPUT
from pumer_convert.system.json_file import read_object
from pumer_convert.system.output import changed_folder, check_out, link_into, output_folder
from pumer_convert.system.owned import REPORT, digest, listed, unproven, write_list, write_report
from pumer_convert.verification.openvino_session import EXACT, open_in_openvino
from pumer_convert.verification.verify import TOLERANCE, Case, sample, tensors, verify_onnx
from pumer_convert.weights import PROCESSOR, processor_of

LAYOUT = "openvino-genai"
VISION = "openvino_vision_embeddings_model"
ENDS = (".xml", ".bin")
DENSE = f"{VISION}.dense"
SIDECAR = f"{VISION}.pumer.json"
NEEDED = ("config.json", PROCESSOR, "openvino_language_model.xml", *(VISION + end for end in ENDS))
SAME = 0.9
"""The least cosine of the embeddings that the folder's vision model and the dense model give of one picture, by which
they are taken for the same; weights of 8 bits and of 4 leave it above."""


def export_openvino_genai(
    path: Path | str,
    into: Path | str,
    out: Path | str | None = None,
    *,
    dtype: str | None = None,
    overwrite: bool = False,
    progress: Callable[[str], None] = lambda line: None,
    in_subprocess: bool = False,
) -> dict[str, Any]:
    """Put the vision part at `path`, in `dtype` (None: the recipe's), into the folder `into` of OpenVINO GenAI, in one
    step, and keep the dense one beside it as openvino_vision_embeddings_model.dense.xml; or with `out` leave `into` as
    it is and write another folder, with links to the rest of its files.

    Weights are saved in the type that was asked for, and what OpenVINO makes of them is verified as an export is. Gives
    the report. Raises InputError for a folder of another kind or another model and, without `overwrite`, for one that
    has a vision part of ours already; VerificationError when OpenVINO computes something else than eager.
    """
    part, into = Part.of_pictures(path, LAYOUT), Path(into)
    slot = _Slot.of(into, part)
    if out is None and slot.ours and not overwrite:
        raise InputError(f"{into}: its vision part is one of pumer-convert's already; replace it with --overwrite.")
    if out is not None:
        check_out(Path(out), overwrite, (part.path, into))
    notes = [*part.notes, *_check_same_model(slot, part)]
    with contextlib.ExitStack() as stack:
        if out is None:
            folder = stack.enter_context(changed_folder(into))
            for end in ENDS:
                if not slot.ours:
                    (folder / f"{VISION}{end}").rename(folder / f"{DENSE}{end}")
                (folder / f"{VISION}{end}").unlink(missing_ok=True)
            (folder / SIDECAR).unlink(missing_ok=True)
        else:
            folder = stack.enter_context(output_folder(Path(out), overwrite, (part.path, into)))
            names = [*(name + end for name in (VISION, DENSE) for end in ENDS), SIDECAR, REPORT]
            link_into(into, folder, names)
        scratch = folder.parent / "export"
        onnx_file, report = part.export(scratch, dtype, progress, in_subprocess)
        target = folder / f"{VISION}.xml"
        progress("verifying OpenVINO against eager")
        signature = signature_of(part.checkpoint)
        opened = partial(open_in_openvino, onnx_file=onnx_file, dtype=report["dtype"], signature=signature)
        check = verify_onnx(target, part.checkpoint, keep_float32=report["keep_float32"], opened=opened)
        _save(onnx_file, target, slot)
        _check_saved(target, onnx_file, part, report["dtype"])
        told = {
            "layout": LAYOUT,
            "out": str(into if out is None else out),
            "source": origin_entry(part.checkpoint, into if out is None else Path(out)),
            "image_tokens": part.tokens,
            "dense_tokens": part.dense,
            "dtype": report["dtype"],
            "openvino": openvino.__version__,
            "verification": check["verification"],
            "notes": notes,
        }
        write_list(folder / SIDECAR, told, {VISION + end: digest(folder / f"{VISION}{end}") for end in ENDS})
        if out is None and listed(folder / REPORT) is None:
            return told
        (folder / REPORT).unlink(missing_ok=True)
        return write_report(folder, told)


@dataclass(frozen=True)
class _Slot:
    """The place of a vision part in a folder: the file of the model there now or, where that is `ours`, of the dense
    one (None: gone), and the names of its input and its output."""

    dense: Path | None
    ours: bool
    given: frozenset[str]
    gives: frozenset[str]

    @classmethod
    def of(cls, folder: Path, part: Part) -> "_Slot":
        """That of a folder. Raises InputError for one that is not of OpenVINO GenAI or that the part does not fit."""
        if not folder.is_dir():
            raise InputError(f"{folder}: there is no such folder.")
        for name in NEEDED:
            if not (folder / name).is_file():
                raise InputError(f"{folder}: not a folder of OpenVINO GenAI with a vision part; it has no {name}.")
        kind, own = read_object(folder / "config.json").get("model_type"), part.checkpoint.config["model_type"]
        if kind != own:
            raise InputError(f"{folder}: of a {kind}, and {part.path} is the vision part of a {own}.")
        ours = _is_ours(folder)
        kept = folder / f"{DENSE}.xml"
        if kept.exists() and not ours:
            raise InputError(
                f"{folder}: {kept.name} is there, and {VISION}.xml is not what pumer-convert wrote beside it; move one "
                "of them away, with its .bin."
            )
        dense = (kept if kept.exists() else None) if ours else folder / f"{VISION}.xml"
        file = dense or folder / f"{VISION}.xml"
        model = _read(file)
        if len(model.inputs) != 1 or len(model.outputs) != 1:
            raise InputError(f"{file}: takes or gives more than one tensor; only pixels to embeddings are replaced.")
        taken, gives = model.inputs[0].partial_shape, model.outputs[0].partial_shape
        _check(file, "takes pixels", taken, (None, 3, *part.size))
        _check(file, "gives embeddings", gives, (None, part.dense if dense else None, part.width))
        _check_pictures(folder, part)
        return cls(dense, ours, frozenset(model.inputs[0].get_names()), frozenset(model.outputs[0].get_names()))


def _is_ours(folder: Path) -> bool:
    names = [VISION + end for end in ENDS]
    return listed(folder / SIDECAR) is not None and not unproven(folder, SIDECAR, names)


def _read(file: Path) -> Any:
    try:
        return openvino.Core().read_model(file)
    except RuntimeError as error:
        last = str(error).strip().splitlines()[-1]
        raise InputError(f"{file}: OpenVINO cannot read it: {last}") from None


def _check(file: Path, does: str, shape: Any, sides: tuple[int | None, ...]) -> None:
    """Raises InputError for a shape that is not of these sides; one that is left open on either side fits."""
    fits = not shape.rank.is_static or (
        len(shape) == len(sides)
        and all(
            own is None or not there.is_static or there.get_length() == own
            for there, own in zip(shape, sides, strict=True)
        )
    )
    if not fits:
        words = ", ".join("?" if side is None else str(side) for side in sides)
        raise InputError(f"{file}: {does} {shape}, and those of this vision part are [{words}].")


def _check_pictures(folder: Path, part: Part) -> None:
    """Raises InputError for a folder whose pictures become other pixels than those of the part."""
    own, family = part.checkpoint, part.checkpoint.family
    theirs = settings_of(processor_of(folder, [folder / PROCESSOR]), family)
    ours = settings_of(own.processor, family)
    for name in ("size", "mean", "std", "scale"):
        if getattr(theirs, name) != getattr(ours, name):
            raise InputError(
                f"{folder}: its {PROCESSOR} makes pictures of {name} {getattr(theirs, name)}, and {part.path} takes "
                f"{getattr(ours, name)}."
            )


def _check_same_model(slot: _Slot, part: Part) -> list[str]:
    """Raises InputError when the folder's own vision model and the dense one give embeddings that are not alike; gives
    a note where that cannot be told."""
    origin = origin_of(part.path)
    place = part.path if "pumer" not in part.checkpoint.config else None if origin is None else origin.place
    if place is None or slot.dense is None:
        return ["that the folder is of the same model was not checked: the dense vision part is not there any more"]
    signature = signature_of(open_checkpoint(place))
    inputs = sample(signature, Case(1, 2))
    with torch.no_grad():
        expected = load(place).run(signature.name, tensors(inputs, torch.float32)).outputs[OUTPUT].double()
    compiled = openvino.Core().compile_model(_read(slot.dense), "CPU", EXACT)
    found = torch.from_numpy(np.array(compiled([inputs[PIXELS]])[0])).double()
    cosine = float(torch.cosine_similarity(found, expected, dim=-1).mean())
    if not cosine >= SAME:
        raise InputError(
            f"{slot.dense}: of another model than {place}, whose embeddings of a picture have a cosine of {cosine:.2f} "
            "with its."
        )
    return []


def _save(onnx_file: Path, target: Path, slot: _Slot) -> None:
    model = _read(onnx_file)
    model.inputs[0].get_tensor().set_names(set(slot.given))
    model.outputs[0].get_tensor().set_names(set(slot.gives))
    # It would halve the weights else, whatever their type is.
    openvino.save_model(model, target, compress_to_fp16=False)


def _check_saved(target: Path, onnx_file: Path, part: Part, dtype: str) -> None:
    """Raises VerificationError when the files that were written compute something else than what was verified."""
    inputs = sample(signature_of(part.checkpoint), Case(2, 2))[PIXELS]
    saved, made = (
        np.array(openvino.Core().compile_model(_read(file), "CPU", EXACT)([inputs])[0]) for file in (target, onnx_file)
    )
    if saved.shape != made.shape or np.abs(saved - made).max() > TOLERANCE[dtype] * np.abs(made).max():
        raise VerificationError(f"{target.name}: does not compute what the ONNX file does that it was made from.")
