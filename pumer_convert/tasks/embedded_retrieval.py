"""Image-text retrieval by embeddings: recall at 1, 5 and 10, both ways."""

from collections.abc import Sequence

from torch import Tensor

from pumer_convert.data.sample import Picture, Sample
from pumer_convert.tasks.base import Judgement
from pumer_convert.tasks.embeddings import EmbeddingTask
from pumer_convert.tasks.retrieval import Gallery, Ranks, check_images


class Task(EmbeddingTask):
    """Every caption beside every picture."""

    name = "retrieval"

    def check(self, samples: Sequence[Sample]) -> None:
        """Raises InputError also when the captions are of one image only."""
        super().check(samples)
        check_images(samples)

    def pictures_in(self, samples: Sequence[Sample]) -> Sequence[Picture]:
        """Each picture once."""
        return Gallery.of(samples).pictures

    def judge(self, images: Tensor, texts: Tensor, samples: Sequence[Sample]) -> Judgement:
        """The recalls; a caption earns 1 where its own image comes first. The answer is the identity of that which
        does."""
        ranks = Ranks.of(lambda part: texts[part] @ images.T, Gallery.of(samples).truth, len(images))
        identities = list(dict.fromkeys(str(sample.target) for sample in samples))
        return Judgement((ranks.image == 0).float(), [identities[i] for i in ranks.first.tolist()], ranks.recalls())
