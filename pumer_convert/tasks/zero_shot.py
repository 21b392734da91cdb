"""Zero-shot classification: the class whose name is nearest to a picture (Radford et al., ICML 2021, section 3.1)."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from pumer_convert.data.prompts import Classes, filled
from pumer_convert.data.sample import Picture, Sample
from pumer_convert.errors import InputError, nearest
from pumer_convert.models.spec import ModelSpec
from pumer_convert.tasks.base import Judgement
from pumer_convert.tasks.embeddings import EmbeddingTask

TOP = 5


class Task(EmbeddingTask):
    """A picture and its class. Without `classes` they are those of the samples, by the names that these give them."""

    name = "zero_shot"

    def __init__(self, spec: ModelSpec, classes: Classes | None = None) -> None:
        super().__init__(spec)
        self.given = classes

    def check(self, samples: Sequence[Sample]) -> None:
        """Raises InputError also for a class that is not among the given ones, for one class alone, and where classes
        have numbers and nothing says what these are called."""
        super().check(samples)
        known = self._classes(samples).names
        if self.given is None and all(name.isdecimal() for name in known):
            raise InputError(
                f"{samples[0].where}: its class is the number {samples[0].target}, which says nothing to a model; give "
                "--classes with a line for each: the number, a tab, what a text calls it, be it the number."
            )
        for sample in samples:
            if sample.target not in known:
                raise InputError(
                    f"{sample.where}: its class '{sample.target}' is not among the {len(known)} of the file of "
                    f"classes.{nearest(sample.target, known)}"
                )
        if len(known) < 2:
            raise InputError(f"{samples[0].where}: all pictures are of one class; there is nothing to tell apart.")

    def pictures_in(self, samples: Sequence[Sample]) -> Sequence[Picture]:
        """Each sample's."""
        return [sample.pictures[0] for sample in samples]

    def texts_of(self, samples: Sequence[Sample]) -> Sequence[str]:
        """The names in every template, template by template."""
        classes = self._classes(samples)
        return [text for template in classes.templates for text in filled(template, [*classes.names.values()])]

    def judge(self, images: Tensor, texts: Tensor, samples: Sequence[Sample]) -> Judgement:
        """The accuracy, and of more classes than that the accuracy of the best five; a class stands for the mean of its
        texts. A tie is no success. The answer is the class by the name that the data give it."""
        names = self._classes(samples).names
        classes = F.normalize(texts.reshape(-1, len(names), texts.shape[-1]).mean(0), dim=-1)
        scores, place = images @ classes.T, {key: i for i, key in enumerate(names)}
        right = torch.tensor([place[sample.target] for sample in samples])
        rank = (scores >= scores.gather(1, right[:, None])).sum(1) - 1
        first, told = (rank == 0).float(), [*names]
        metrics = {"accuracy": float(first.double().mean())}
        if len(names) > TOP:
            metrics[f"top{TOP}_accuracy"] = float((rank < TOP).double().mean())
        return Judgement(first, [told[i] for i in scores.argmax(1).tolist()], metrics)

    def _classes(self, samples: Sequence[Sample]) -> Classes:
        return self.given or Classes({name: name for name in sorted({str(sample.target) for sample in samples})})
