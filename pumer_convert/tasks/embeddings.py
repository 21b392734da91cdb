"""What is measured of models that embed pictures and texts apart: a pass for each of either, and then every picture
beside every text."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

from torch import Tensor

from pumer_convert.data.sample import Picture, Sample
from pumer_convert.errors import InputError
from pumer_convert.models.output import Output
from pumer_convert.models.spec import GraphSpec, ModelSpec
from pumer_convert.tasks.base import Judgement, Measurement


def tower_graphs(spec: ModelSpec) -> tuple[GraphSpec | None, GraphSpec | None]:
    """The graphs that take pictures alone and texts alone, None where a model has none."""
    images = [graph for graph in spec.graphs if graph.pictures and not graph.text]
    texts = [graph for graph in spec.graphs if graph.text and not graph.pictures]
    return next(iter(images), None), next(iter(texts), None)


def embedding_of(output: Output) -> Tensor:
    """The embeddings [B, D] that a tower gives."""
    return next(iter(output.outputs.values()))


class EmbeddingTask(Measurement, ABC):
    """A measurement of two towers; `image_graph` and `text_graph` are the names of their graphs."""

    def __init__(self, spec: ModelSpec) -> None:
        """Raises InputError for a model that has not a tower of pictures and one of texts."""
        image, text = tower_graphs(spec)
        if image is None or text is None:
            gives = ", ".join(port.name for graph in spec.graphs for port in graph.outputs)
            raise InputError(
                f"the model gives {gives} and answers nothing; {self.name} needs one with a tower of pictures and a "
                "tower of texts."
            )
        self.image_graph, self.text_graph = image.name, text.name

    @abstractmethod
    def pictures_in(self, samples: Sequence[Sample]) -> Sequence[Picture]:
        """The pictures that are to be embedded."""

    @abstractmethod
    def judge(self, images: Tensor, texts: Tensor, samples: Sequence[Sample]) -> Judgement:
        """Of the embeddings of those pictures and texts, unit vectors [pictures, D] and [texts, D]."""
