"""The loss of a tower of pictures: its embeddings are to be the dense one's, and as similar to the captions of a batch.

The dense model and the captions stand still, so that what it says to a sample can be kept: the embedding of its picture
and, where captions are compared, that of its caption.
"""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from pumer_convert.models.body import Body
from pumer_convert.models.inputs import IDS, MASK
from pumer_convert.models.output import Output
from pumer_convert.models.similarity import Similarity
from pumer_convert.recipe.settings import DistillSettings
from pumer_convert.tasks.base import divergence
from pumer_convert.tasks.batches import Batch
from pumer_convert.tasks.embeddings import embedding_of
from pumer_convert.training.loss import Losses, TeacherOutput, distance, weighed
from pumer_convert.training.towers import Towers

Gather = Callable[[Any], Any]
"""Tensors [rows, ...] of this process -> those of all, in the order of the processes; without a gradient."""


class EmbeddingLoss:
    """cosine * (1 - cosine to the teacher) + kd * KL(teacher || student) of the similarities + contrastive * (the loss
    that the model was trained with) + hidden * (distance of the hidden states).

    Similarities are those of all pictures with all captions of a batch, over all processes: of rank `rank` of `world`,
    each of which takes the same loss of them, and the gradient of its own rows.
    """

    terms: ClassVar[tuple[str, ...]] = ("cosine_loss", "kd_loss", "contrastive_loss", "hidden_loss")
    metric: ClassVar[str] = "cosine"

    def __init__(
        self, towers: Towers, settings: DistillSettings, gather: Gather = lambda own: own, rank: int = 0, world: int = 1
    ) -> None:
        self.towers, self.settings = towers, settings
        self.gather, self.rank, self.world = gather, rank, world

    def inputs(self, batch: Batch) -> dict[str, Tensor]:
        """The pictures: the student's tower of texts is left as it is."""
        return {name: value for name, value in batch.inputs.items() if name not in (IDS, MASK)}

    def ask(self, model: Body, inputs: Mapping[str, Tensor]) -> TeacherOutput:
        """The embeddings of the pictures [rows, D], beside them those of the captions if they are compared."""
        image = model.run(self.towers.image, {n: value for n, value in inputs.items() if n not in (IDS, MASK)})
        found = embedding_of(image).float()
        if self.towers.compares:
            words = {name: value for name, value in inputs.items() if name in (IDS, MASK)}
            found = torch.cat([found, embedding_of(model.run(self.towers.text, words)).float()], 1)
        return TeacherOutput(found, image)

    def __call__(self, student: Output, taught: TeacherOutput | None, batch: Batch) -> Losses:
        """See `Loss`."""
        assert taught is not None
        settings, own = self.settings, embedding_of(student).float()
        said, texts = taught.answers[:, : self.towers.width], taught.answers[:, self.towers.width :]
        cosine = F.cosine_similarity(own, said).mean()
        kd = contrastive = hidden = torch.zeros_like(cosine)
        if (similarity := self.towers.similarity) is not None:
            dense, texts, picture = self.gather((said, texts, batch.target["picture"]))
            logits, kind = logits_of(self._everybodys(own), texts, similarity), LOSSES[similarity.scores]
            if settings.kd:
                kd = kind.divergence(logits, logits_of(dense, texts, similarity), settings.temperature)
            if settings.contrastive:
                contrastive = kind.contrastive(logits, picture[:, None] == picture)
        if settings.hidden and taught.output is not None:
            hidden = distance(student.image, taught.output.image)
        return weighed(
            (1 - cosine, self.towers.cosine),
            (kd, settings.kd),
            (contrastive, settings.contrastive or 0.0),
            (hidden, settings.hidden),
            score=cosine.detach(),
        )

    def _everybodys(self, own: Tensor) -> Tensor:
        """The embeddings of all processes. The gradient of one's own is `world` times what it is, for the mean of all
        is taken later and no other process has it."""
        rows: Tensor = self.gather(own.detach()).clone()
        place = slice(self.rank * len(own), (self.rank + 1) * len(own))
        rows[place] = own.detach() + self.world * (own - own.detach())
        return rows


def logits_of(images: Tensor, texts: Tensor, similarity: Similarity) -> Tensor:
    """The logit of every picture with every text, [pictures, texts], of embeddings [_, D]; see `Similarity`."""
    scale = torch.tensor(similarity.logit_scale, dtype=torch.float64).exp().to(images)
    return scale * F.normalize(images, dim=-1) @ F.normalize(texts, dim=-1).T + similarity.logit_bias


class Softmax:
    """Of CLIP's kind: which of the texts, and which of the pictures (Radford et al., ICML 2021)."""

    @staticmethod
    def divergence(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
        """The mean of both ways, over the texts of a picture and over the pictures of a text."""
        return (divergence(student, teacher, temperature) + divergence(student.T, teacher.T, temperature)) / 2

    @staticmethod
    def contrastive(logits: Tensor, same: Tensor) -> Tensor:
        """Cross-entropy both ways; captions of the `same` picture share the right answer."""
        right = same.float() / same.sum(-1, keepdim=True)
        return (F.cross_entropy(logits, right) + F.cross_entropy(logits.T, right)) / 2


class Sigmoid:
    """Of SigLIP's kind: whether they belong together, for each pair (Zhai et al., ICCV 2023). Sums over the pairs over
    the number of pictures."""

    @staticmethod
    def divergence(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
        """Between yes and no of every pair; times the temperature squared, as that of `divergence`."""
        own, theirs = student / temperature, teacher / temperature
        yes, no = (
            F.kl_div(F.logsigmoid(sign * own), F.logsigmoid(sign * theirs), reduction="sum", log_target=True)
            for sign in (1, -1)
        )
        return (yes + no) / len(own) * temperature**2

    @staticmethod
    def contrastive(logits: Tensor, same: Tensor) -> Tensor:
        """Binary cross-entropy; captions of the `same` picture belong to it too."""
        return F.binary_cross_entropy_with_logits(logits, same.float(), reduction="sum") / len(logits)


LOSSES: Mapping[str, type[Softmax] | type[Sigmoid]] = {"softmax": Softmax, "sigmoid": Sigmoid}
"""By what makes scores of a model's logits (see `Similarity`)."""
