"""The Karpathy splits (caption_datasets.zip): dataset_flickr30k.json and dataset_coco.json, for retrieval.

One JSON document: images: [{filename, split, sentences: [{raw, sentid}], imgid, and of COCO filepath "val2014" and
cocoid}]. The split "train" takes COCO's "restval" with it, as everyone who trains on COCO does.
"""

from collections.abc import Iterator
from pathlib import Path

from pumer_convert.data.formats.snli_ve import FLICKR
from pumer_convert.data.formats.source import DataSource, Fields, field
from pumer_convert.data.formats.vqav2 import of_2017
from pumer_convert.data.picture_files import Pictures, roots
from pumer_convert.data.sample import Sample
from pumer_convert.errors import InputError, nearest

KIND = "a Karpathy split"
TASKS = ("retrieval",)


def recognises(source: DataSource) -> bool:
    """A document with images that have sentences."""
    if source.is_folder:
        return False
    images = source.document.get("images")
    return isinstance(images, list) and any(isinstance(i, dict) and "sentences" in i for i in images[:5])


def read(source: DataSource, task: str, images: Path | None, split: str | None) -> Iterator[Sample | InputError]:
    """A sample per caption, or what is wrong with an image. Raises InputError for a split that is not in the file."""
    rows = source.document["images"]
    there = {str(row.get("split")) for row in rows if isinstance(row, dict)}
    wanted = {"train", "restval"} & there if split == "train" else {split} & there
    if split is not None and not wanted:
        raise InputError(
            f"{source.path}: no split '{split}'; it has {', '.join(sorted(there))}.{nearest(split, there)}"
        )
    pictures = Pictures(roots(source.path, images))
    for number, row in enumerate(rows):
        where = f"{source.path}:images[{number}]"
        if not isinstance(row, dict):
            yield InputError(f"{where}: not a JSON object.")
        elif split is None or row.get("split") in wanted:
            try:
                yield from list(_captions(row, where, pictures))
            except InputError as error:
                yield error


def _captions(row: Fields, where: str, pictures: Pictures) -> Iterator[Sample]:
    file = field(row, "filename", where)
    folder = row.get("filepath")
    folder = folder or (file.split("_")[1] if file.startswith("COCO_") and file.count("_") > 1 else None)
    folders = (folder, "", f"images/{folder}") if folder else FLICKR
    names = [str(Path(f) / file) for f in folders]
    picture = pictures.find([*names, *(of_2017(file) if file.startswith("COCO_") else ())], where)
    for i, sentence in enumerate(field(row, "sentences", where, list)):
        text = field(sentence if isinstance(sentence, dict) else {}, "raw", f"{where}.sentences[{i}]")
        number = sentence.get("sentid", f"{file}#{i}")
        yield Sample(str(number), (picture,), text.strip(), file, where)
