"""Vision parts of decoder VLMs as students: each token is to be what the dense part gives of the places it stands for.

A token's target is the mean of the dense embeddings of the places that came together in it (`Tokens.source`), its own
alone where nothing merged; what was pruned has none. That is what the language model, which stays as it is, was trained
to read. `source` counts each place once: to a token of PruMerge that takes up others beside what it stands for, the
target is its own place, and the token that sums up all that is gone has their mean.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pumer_convert.errors import InputError
from pumer_convert.evaluation.predict import Predictions, evaluating
from pumer_convert.models.body import Body
from pumer_convert.models.family import family_of
from pumer_convert.models.output import Output
from pumer_convert.models.spec import grid
from pumer_convert.recipe.settings import DistillSettings
from pumer_convert.reducers import kinds_of
from pumer_convert.tasks.batches import Batch
from pumer_convert.tasks.embeddings import embedding_of
from pumer_convert.tokens import Tokens
from pumer_convert.training.loss import Losses, TeacherOutput, weighed
from pumer_convert.training.teacher import Teacher, given
from pumer_convert.weights import Checkpoint

PROJECTOR = "projector"
"""The site behind the tower."""
ALONE = "a language model reads what it gives"
"""Why captions are not compared."""
IDLE = {
    "contrastive": "compares pictures with captions",
    "hidden": "is of hidden states, and kd compares the tokens themselves",
    "temperature": "is of softmaxes",
}
"""Settings that mean nothing here, and why."""


@dataclass(frozen=True)
class Places:
    """The tokens that a dense vision part makes of a picture: `first` such as CLS, then `rows` x `columns`."""

    first: int
    rows: int
    columns: int

    @classmethod
    def of(cls, checkpoint: Checkpoint) -> "Places":
        """Those of a checkpoint without its reducers. Raises InputError for tokens that are no grid."""
        dense = {**checkpoint.config, "pumer": {**checkpoint.config.get("pumer", {}), "edits": []}}
        spec = family_of(checkpoint.family).spec(dense)
        assert spec.image is not None
        tokens, (rows, columns) = spec.graphs[0].outputs[0].shape[1], grid(spec.image.size, spec.image.patch)
        assert isinstance(tokens, int)
        for first in (0, 1):
            side = math.isqrt(rows * columns // max(tokens - first, 1))
            if side and rows % side + columns % side == 0 and rows * columns == side * side * (tokens - first):
                return cls(first, rows // side, columns // side)
        raise InputError(f"{checkpoint.path}: its {tokens} tokens are no grid of {rows} x {columns} patches.")

    @property
    def count(self) -> int:
        """How many there are."""
        return self.first + self.rows * self.columns

    def at(self, states: Tensor, other: "Places") -> Tensor:
        """States [B, count, D] as means over the parts of the picture in which `other` has its places, [B, N, D]."""
        if self == other:
            return states
        first, rest = states[:, : self.first], states[:, self.first :]
        squares = rest.mT.reshape(len(rest), -1, self.rows, self.columns)
        found = F.adaptive_avg_pool2d(squares, (other.rows, other.columns)).flatten(2).mT
        return torch.cat([first, found], 1)


class FeatureLoss:
    """kd * (squared distance / squared length of the target, over all tokens of a picture) + cosine * (1 - the mean of
    the cosines of its tokens), each a mean over the pictures."""

    terms: ClassVar[tuple[str, ...]] = ("cosine_loss", "kd_loss")
    metric: ClassVar[str] = "cosine"

    def __init__(self, cosine: float, kd: float, own: Places, dense: Places) -> None:
        self.cosine, self.kd, self.own, self.dense = cosine, kd, own, dense

    def inputs(self, batch: Batch) -> dict[str, Tensor]:
        """See `Loss`."""
        return batch.inputs

    def ask(self, model: Body, inputs: Mapping[str, Tensor]) -> TeacherOutput:
        """The tokens of the pictures, one behind the other: [rows, count * D]."""
        found: Output = model(**inputs)
        return TeacherOutput(embedding_of(found).float().flatten(1), found)

    def compared(self, student: Tokens, taught: Tensor) -> tuple[Tensor, Tensor]:
        """Of each picture [rows]: the squared distance as a share, and the cosine."""
        dense = self.dense.at(taught.reshape(len(taught), self.dense.count, -1), self.own)
        ahead = student.known().shape[1] - self.own.count  # tokens of the tower that it leaves out, which is CLS
        places = torch.ones_like(dense[..., :1])
        dense, places = (F.pad(value, (0, 0, ahead, 0)) for value in (dense, places))
        target, there = student.pool(dense), (student.pool(places)[..., 0] > 0).float()
        own = student.states.float()
        lengths = (target.square().sum(-1) * there).sum(1)
        shares = ((own - target).square().sum(-1) * there).sum(1) / lengths.clamp(min=torch.finfo().tiny)
        cosines = (F.cosine_similarity(own, target, dim=-1) * there).sum(1) / there.sum(1).clamp(min=1)
        return shares, cosines

    def __call__(self, student: Output, taught: TeacherOutput | None, batch: Batch) -> Losses:
        """See `Loss`."""
        assert taught is not None
        shares, cosines = self.compared(student.image, taught.answers)
        cosine = cosines.mean()
        return weighed((1 - cosine, self.cosine), (shares.mean(), self.kd), score=cosine.detach())


def check_changed(student: Checkpoint) -> None:
    """Raises InputError for a vision part whose tokens are those of the dense one that it was made from: pruning behind
    its tower alone changes none of them."""
    pumer = student.config.get("pumer", {})
    kinds = kinds_of(pumer.get("semantics", "default"))["prune"]
    if "image_size" not in pumer and all(
        edit["at"] == PROJECTOR and action["op"] == "prune" and not kinds[action["by"]].sums
        for edit in pumer.get("edits", ())
        for action in edit["actions"]
    ):
        raise InputError(
            f"{student.path}: there is nothing to learn, for every token that it keeps is its teacher's already; what "
            "changes tokens is merging, pruning inside the tower, another image_size, or pruning by "
            f"{' or '.join(name for name, kind in kinds.items() if kind.sums)}."
        )


def near(model: nn.Module, teacher: Teacher, loss: FeatureLoss, parts: Iterable[Batch]) -> Predictions:
    """How near the tokens of pictures are to those of the teacher: the cosine of each picture."""
    scores, ids = [], []
    with torch.inference_mode(), evaluating([model]):
        for batch in parts:
            student: Output = model(**loss.inputs(batch))
            scores.append(loss.compared(student.image, teacher.asked(given(batch)).answers)[1].cpu())
            ids += batch.ids
    found = torch.cat(scores)
    return Predictions(found, [""] * len(found), ids, {loss.metric: float(found.double().mean())}, 0.0, len(found))


def check_settings(settings: DistillSettings, where: object) -> None:
    """Raises InputError for settings that mean nothing to a vision part, and for those that leave nothing to learn."""
    for name, why in IDLE.items():
        if getattr(settings, name) not in (None, getattr(DistillSettings, name)):
            raise InputError(f"{where}: {name} is not for this model; it {why}. Leave it out.")
    if not settings.kd and settings.cosine == 0:
        raise InputError(f"{where}: there is nothing to learn from; give `kd` or `cosine` a weight.")
