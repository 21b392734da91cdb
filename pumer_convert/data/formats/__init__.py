"""Reading data in whatever format it comes. A format is a module (see `Format`) and one line here.

Every row and every picture is checked when the data are read, not when training comes to them.
"""

import importlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol, cast

from pumer_convert.data.formats.simple import TASKS as SIMPLE
from pumer_convert.data.formats.source import DataSource
from pumer_convert.data.picture_files import CHECKS, check_picture
from pumer_convert.data.sample import CellPicture, FilePicture, Sample, ShardPicture, fault_of_text
from pumer_convert.errors import InputError, UnjudgedError, nearest
from pumer_convert.image_processor.open_picture import MAX_PIXELS
from pumer_convert.weights import EMBEDDINGS

FORMATS = {
    "vqav2": "pumer_convert.data.formats.vqav2",
    "nlvr2": "pumer_convert.data.formats.nlvr2",
    "snli-ve": "pumer_convert.data.formats.snli_ve",
    "karpathy": "pumer_convert.data.formats.karpathy",
    "pumer": "pumer_convert.data.formats.published",
    "coco": "pumer_convert.data.formats.coco",
    "gqa": "pumer_convert.data.formats.gqa",
    "textvqa": "pumer_convert.data.formats.textvqa",
    "pope": "pumer_convert.data.formats.pope",
    "datasets": "pumer_convert.data.formats.hub",
    "pictures": "pumer_convert.data.formats.picture_folder",
    "class-folders": "pumer_convert.data.formats.class_folders",
    "webdataset": "pumer_convert.data.formats.webdataset",
    "simple": "pumer_convert.data.formats.simple",
}
"""In the order they are tried; simple comes last, for it asks for the least."""

TASKS = (*SIMPLE, "pope")
ON_ERROR = ("raise", "skip")
TWO_TOWERS = ("retrieval", "zero_shot", "pictures")
"""What data can hold for a model of two towers, the most first: captions, classes, or pictures alone."""
ALONE = TWO_TOWERS[2:]


class Format(Protocol):
    """What the module of a format offers."""

    KIND: str
    """What it is, for messages."""
    TASKS: tuple[str, ...]

    def recognises(self, source: DataSource) -> bool:
        """Is this the format? Judged by the content."""
        ...

    def read(
        self, source: DataSource, task: str, images: Path | None, split: str | None
    ) -> Iterable[Sample | InputError]:
        """The samples. What is wrong with one of them stands in its place; what is wrong with all is raised."""
        ...


@dataclass(frozen=True)
class SampleSet:
    """What was read: the samples, a sentence for each that was skipped, the name of the format, and `notes` on what
    was left out by custom and on ids that are not unique."""

    samples: list[Sample]
    skipped: list[str] = field(default_factory=list)
    format: str = ""
    notes: list[str] = field(default_factory=list)


def read_samples(
    path: Path | str,
    task: str,
    *,
    images: Path | str | None = None,
    split: str | None = None,
    on_error: str = "raise",
    check: str = "quick",
    max_pixels: int = MAX_PIXELS,
) -> SampleSet:
    """The samples of a file or folder for a task, all of them checked.

    `images`: the folder of the pictures, where they do not lie beside the data. `split`: train, val, test, ..., for
    data that hold several. A row with a missing field or picture raises InputError naming its file and line, or with
    `on_error` "skip" is left out and told in `skipped`. `check` of pictures: "exists", "quick" (the header and the
    end of every file; what looks odd is decoded) or "decode" (every one, which takes minutes for COCO). A picture of
    more than `max_pixels` is refused.
    """
    if task == EMBEDDINGS:
        raise InputError(
            "the model gives embeddings and answers nothing; `evaluate` and `distill` alone read data for it."
        )
    for name, value, allowed in (
        ("on_error", on_error, ON_ERROR),
        ("check", check, CHECKS),
        ("task", task, TASKS),
    ):
        if value not in allowed:
            raise InputError(f"{name} cannot be '{value}'; allowed: {', '.join(allowed)}.{nearest(value, allowed)}")
    source = DataSource(Path(path))
    name, module = _recognised(source, task)
    if module is None:
        raise _unknown(source)
    if task not in module.TASKS:
        raise InputError(f"{path}: {module.KIND}, which is for {' or '.join(module.TASKS)}, not for {task}.")
    samples: list[Sample] = []
    skipped: list[str] = []
    unjudged: Counter[str] = Counter()
    known: dict[str, str | None] = {}
    for item in module.read(source, task, Path(images) if images is not None else None, split):
        if isinstance(item, UnjudgedError):
            unjudged[str(item)] += 1
            continue
        item = item if isinstance(item, InputError) else _limited(item, max_pixels)
        fault = str(item) if isinstance(item, InputError) else _broken(item, check, known)
        if fault is None:
            samples.append(cast(Sample, item))
        elif on_error == "raise":
            raise InputError(f"{fault} (--on-error skip leaves such samples out.)")
        else:
            skipped.append(fault)
    if not samples:
        rest = f"; the first of {len(skipped)} that were skipped: {skipped[0]}" if skipped else ""
        of = f" of split '{split}'" if split else ""
        raise InputError(f"{path}: there is no sample{of} in it{rest}.")
    notes = [f"{count} row(s) left out for the {why}." for why, count in unjudged.items()]
    notes += _doubled(samples)
    return SampleSet(samples, skipped, name, notes)


def embedded_task(path: Path | str, *, images: Path | str | None = None, split: str | None = None) -> str:
    """What data hold for a model of two towers: "retrieval" where a row has a caption, else "zero_shot" where one has a
    class, else "pictures". Data of none of these are told by `read_samples`."""
    source, folder = DataSource(Path(path)), Path(images) if images is not None else None
    found = {task: _recognised(source, task) for task in TWO_TOWERS}
    fits = [(task, module) for task, (_, module) in found.items() if module is not None and task in module.TASKS]
    for task, module in fits[:-1]:
        if any(isinstance(item, Sample) for item in module.read(source, task, folder, split)):
            return task
    return fits[-1][0] if fits else TWO_TOWERS[0]


def _recognised(source: DataSource, task: str) -> tuple[str, Format | None]:
    for name, place in FORMATS.items():
        module = cast(Format, importlib.import_module(place))
        # To another task a folder of pictures is of a better kind, or of none.
        if (task in module.TASKS or module.TASKS != ALONE) and module.recognises(source):
            return name, module
    return "", None


def _unknown(source: DataSource) -> InputError:
    if source.other:
        return InputError(f"{source.path}: {source.other}.")
    if isinstance(source.document.get("annotations"), list) and "question_id" in source.first:
        return InputError(
            f"{source.path}: answers without their questions; name the file of questions, which finds them."
        )
    return InputError(
        f"{source.path}: no format that is read here ({source.looks}); readable are the official files of VQAv2, "
        "GQA, TextVQA, POPE, NLVR2, SNLI-VE, COCO's captions and the Karpathy splits, PuMer's prepared jsonl, a folder "
        "saved by `datasets`, shards of webdataset, folders of pictures, and the simple jsonl of "
        "pumer_convert/data/formats/simple.py."
    )


def _doubled(samples: list[Sample]) -> list[str]:
    """A sentence on samples that have the id of another, [] when none has."""
    first: dict[str, Sample] = {}
    twice = [sample for sample in samples if first.setdefault(sample.id, sample) is not sample]
    if not twice:
        return []
    one = twice[0]
    return [
        f"{len(twice)} sample(s) have the id of another ('{one.id}' at {first[one.id].where} and {one.where}); every "
        "one counts."
    ]


def _limited(sample: Sample, max_pixels: int) -> Sample:
    limits = (FilePicture, CellPicture, ShardPicture)
    pictures = (replace(one, max_pixels=max_pixels) if isinstance(one, limits) else one for one in sample.pictures)
    return sample if max_pixels == MAX_PIXELS else replace(sample, pictures=tuple(pictures))


def _broken(sample: Sample, check: str, known: dict[str, str | None]) -> str | None:
    """What is wrong with a sample's text or pictures, None when nothing; `known` pictures were looked at before."""
    if wrong := fault_of_text(sample.text):
        return f"{sample.where}: {wrong}"
    for picture in sample.pictures:
        if not isinstance(picture, FilePicture | ShardPicture):
            continue
        if picture.name not in known:
            known[picture.name] = check_picture(picture, check)
        if (fault := known[picture.name]) is not None:
            return f"{sample.where}: {fault}"
    return None
