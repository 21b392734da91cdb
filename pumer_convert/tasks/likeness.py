"""How near the embeddings of pictures are to a dense model's, for want of captions and classes."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from pumer_convert.data.sample import Picture, Sample
from pumer_convert.tasks.base import Judgement
from pumer_convert.tasks.embeddings import EmbeddingTask


class Task(EmbeddingTask):
    """Pictures alone. `dense` [samples, D] are the embeddings to be near to, of the samples' pictures in their order;
    `image_graph` is the tower that makes them, whether or not there is one of texts."""

    name = "pictures"

    def __init__(self, image_graph: str, dense: Tensor) -> None:
        self.image_graph, self.text_graph, self.dense = image_graph, "", dense

    def pictures_in(self, samples: Sequence[Sample]) -> Sequence[Picture]:
        """Each sample's."""
        return [sample.pictures[0] for sample in samples]

    def texts_of(self, samples: Sequence[Sample]) -> Sequence[str]:
        """None."""
        return []

    def judge(self, images: Tensor, texts: Tensor, samples: Sequence[Sample]) -> Judgement:
        """The cosine of each, which may be below 0. There is no answer in words."""
        cosines = F.cosine_similarity(images, self.dense)
        return Judgement(cosines, [""] * len(samples), {"cosine": float(cosines.double().mean())})
