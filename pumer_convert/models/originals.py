"""The authors' own files: the .ckpt of ViLT and METER, and the folders that PuMer published of them."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pumer_convert.errors import InputError
from pumer_convert.models.labels import label_map, placeholders
from pumer_convert.models.transforms import original_processor
from pumer_convert.models.values import wrong
from pumer_convert.rules import Rule
from pumer_convert.weights import PROCESSOR, Checkpoint, RawCheckpoint, TensorSlice, processor_of

ENTAILMENT = ("contradiction", "neutral", "entailment")
_ANSWERS = {"ve": ENTAILMENT, "nlvr2": ("False", "True")}

Head = tuple[str, str, str]
"""How the names of its weights begin, its task, and the architecture that says so."""


@dataclass(frozen=True)
class Original:
    """One of them: the `slices` that it has under the names of here; `spelled`: its family as a person writes it;
    `published`: it is PuMer's."""

    raw: RawCheckpoint
    spelled: str
    slices: dict[str, TensorSlice]
    published: bool

    def shape(self, name: str) -> tuple[int, ...]:
        """That of a weight by its name here. Raises InputError when it is not there."""
        if name not in self.slices:
            raise InputError(f"{self.raw.path}: a {self.spelled} without the weight '{name}'; the file is not whole.")
        return self.raw.source.shape(self.slices[name].key)

    def count(self, stack: str) -> int:
        """The layers of a stack, by how the names of its weights begin."""
        return len({name.removeprefix(stack).partition(".")[0] for name in self.slices if name.startswith(stack)})

    def heads(self, width: int) -> int:
        """The attention heads that the authors' files tell of, else one for every 64 channels as in all of theirs."""
        raw = self.raw
        given = (raw.config if raw.config.get("num_heads") is not None else raw.hints).get("num_heads")
        if given is None:
            return max(width // 64, 1)
        if not Rule(int, least=1).holds(given) or width % given:
            raise wrong(raw.path, "num_heads", given, f"it has to divide the width of the model, {width}")
        return int(given)

    def head(self, heads: Sequence[Head], names: Iterable[str]) -> Head:
        """The one of these whose weights are among the `names`. Raises InputError when there is none."""
        names = tuple(names)
        for head in heads:
            if any(name.startswith(head[0]) for name in names):
                return head
        tasks = ", ".join(dict.fromkeys(task for _, task, _ in heads))
        raise InputError(f"{self.raw.path}: a {self.spelled} without a head that is read ({tasks}).")

    def checkpoint(
        self,
        family: str,
        config: dict[str, Any],
        head: str,
        told: Mapping[str, int],
        processor: tuple[str, Mapping[str, Any]],
        notes: tuple[str, ...] = (),
    ) -> Checkpoint:
        """The checkpoint with this `config`, which gets the names of the answers of the `head`; `processor`: how the
        original prepares its pictures, and what PuMer has otherwise. Raises InputError for hyper-parameters other than
        what was `told` by the weights, by the names that they have there: such a file was put together of two."""
        raw, task = self.raw, config["pumer_task"]
        if task != "retrieval":
            config["id2label"] = _labels(raw.config, task, self.shape(f"{head}3.weight")[0], raw.path)
        answers = {"vqav2_label_size": len(config["id2label"])} if task == "vqa" else {}
        for key, value in {**told, **answers}.items():
            if raw.hints.get(key) not in (None, value):
                why = f"its hyper-parameters say {key}: {raw.hints[key]!r}, but its weights have {value}"
                raise InputError(f"{raw.path}: {why}.")
        kind = f"published PuMer {self.spelled} folder" if self.published else f"original {self.spelled} .ckpt"
        files = self._processor(config["image_size"], *processor)
        return Checkpoint.of(raw, kind, family, task, config, self.slices, extra_files=files, notes=notes)

    def _processor(self, side: int, usual: str, otherwise: Mapping[str, Any]) -> dict[str, str]:
        if processor_of(self.raw.path, self.raw.companions) is not None:
            return {}
        values = original_processor(self.raw.path, self.raw.hints, usual, side)
        if self.published:
            # PuMer squashes every picture to a square.
            values |= {"size": {"height": side, "width": side}, "do_center_crop": False, **otherwise}
        return {PROCESSOR: json.dumps(values, indent=2)}


def renamed(raw: RawCheckpoint, key: str, name: str, rules: Iterable[tuple[str, str]]) -> dict[str, TensorSlice]:
    """Where the weight `key` lies by the names of here. Of the `rules`, how a `name` begins there and here, the first
    that fits holds; * stands for query, key and value, which are one there. A name that none fits stays, and is
    reported as unexpected."""
    for old, new in rules:
        name, known = re.subn(f"^{old}", new, name)
        if known:
            break
    if "*" not in name:
        return {name: TensorSlice(key)}
    third = raw.source.shape(key)[0] // 3
    parts = enumerate(("query", "key", "value"))
    return {name.replace("*", part): TensorSlice(key, (i * third, (i + 1) * third)) for i, part in parts}


def with_ranking(raw: RawCheckpoint, slices: dict[str, TensorSlice], heads: tuple[str, ...]) -> dict[str, TensorSlice]:
    """The slices, and a ranking head where they have none of the `heads`. A pretrained file has none; the authors start
    it from the "match" row of the matching head."""
    if any(name.startswith(heads) for name in slices):
        return slices
    rows = {f"rank_output.{kind}": f"itm_score.fc.{kind}" for kind in ("weight", "bias")}
    names = raw.source.names()
    return slices | {name: TensorSlice(key, (1, 2)) for name, key in rows.items() if key in names}


def _labels(config: Mapping[str, Any], task: str, count: int, where: object) -> dict[str, str]:
    """id2label for a head of `count` logits of the authors': the names in the folder's config, else those that their
    code has in that order, else LABEL_0, LABEL_1, ...; see `label_map`."""
    found, answers = label_map(config, count, where), _ANSWERS.get(task, ())
    known = len(answers) == count and placeholders([*found.values()])
    return dict(zip(found, answers, strict=True)) if known else found
