"""Models of two towers, or of one, as students: their tower of pictures is taught, all else stands still."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from pumer_convert.convert.load import similarity_of
from pumer_convert.data.preprocess import Preprocessor
from pumer_convert.data.prompts import Classes
from pumer_convert.data.sample import Sample
from pumer_convert.errors import InputError
from pumer_convert.models.body import Body
from pumer_convert.models.family import family_of
from pumer_convert.models.inputs import IDS, SHORTEST
from pumer_convert.models.similarity import Similarity
from pumer_convert.models.spec import ModelSpec
from pumer_convert.recipe.settings import DistillSettings
from pumer_convert.tasks import open_embedding_task
from pumer_convert.tasks.embeddings import EmbeddingTask, embedding_of, tower_graphs
from pumer_convert.training.features import ALONE, Places, check_settings
from pumer_convert.weights import Checkpoint


@dataclass(frozen=True)
class Towers:
    """What is taught of such a model: the graph `image`, whose embeddings have `width` numbers. `text` is the other's
    name, "" without one. `similarity` of pictures and captions is None where they are not compared, which `alone` tells
    the reason of. `cosine` is the weight of that term. `places` are where the tokens stand of a vision part, which has
    one embedding for each; None where a picture has one."""

    image: str
    text: str
    width: int
    cosine: float
    similarity: Similarity | None
    alone: str = ""
    places: Places | None = None

    @property
    def compares(self) -> bool:
        """Whether captions are read."""
        return self.similarity is not None


def towers_of(checkpoint: Checkpoint, samples: Sequence[Sample], settings: DistillSettings) -> Towers:
    """What is taught of a checkpoint that gives embeddings, by these samples and settings. Raises InputError for a
    model without a tower of pictures, and for settings that do not fit it or its samples."""
    here, spec = checkpoint.path, family_of(checkpoint.family).spec(checkpoint.config)
    image, text = tower_graphs(spec)
    shape: tuple[Any, ...] = () if image is None else image.outputs[0].shape[1:]
    if image is None or image != spec.graphs[0] or len(shape) not in (1, 2):
        gives = ", ".join(port.name for graph in spec.graphs for port in graph.outputs)
        raise InputError(f"{here}: gives {gives}; taught are towers that make embeddings of a picture by itself.")
    for name, why in (("candidates", "ranks nothing"), ("cross_modal_multiplier", "has no cross-modal layers")):
        if getattr(settings, name) != getattr(DistillSettings, name):
            raise InputError(f"{here}: {name} is not for this model, which {why}; leave it out.")
    cosine = 1.0 if settings.cosine is None else settings.cosine
    if len(shape) == 2:
        check_settings(settings, here)
        return Towers(image.name, "", shape[1], cosine, None, ALONE, Places.of(checkpoint))
    similarity, alone = similarity_of(checkpoint), ""
    if not captioned(samples):
        alone = "the data have no captions"
    elif text is None:
        alone = "the model has no tower of texts"
    elif similarity is None:
        alone = "nothing tells how the model scores a picture beside a text"
    elif not settings.kd and not settings.contrastive:
        alone = "neither kd nor contrastive has a weight"
    if alone:
        similarity = None
        if settings.contrastive:
            raise InputError(f"{here}: the contrastive loss compares pictures with captions, but {alone}.")
        if not cosine and not settings.hidden:
            raise InputError(f"{here}: there is nothing to learn from, for {alone}; give `cosine` a weight.")
    elif settings.accumulation > 1:
        raise InputError("accumulation is 1 where captions are compared: a batch in parts would be another loss.")
    elif settings.batch_size < 2:
        raise InputError("a batch of 1 compares its picture with one caption alone; give it more, or no captions.")
    return Towers(image.name, "" if text is None else text.name, shape[0], cosine, similarity, alone)


def captioned(samples: Sequence[Sample]) -> bool:
    """Whether samples have captions. Raises InputError when some have and some have not."""
    silent = next((sample for sample in samples if not sample.text), None)
    if silent is not None and any(sample.text for sample in samples):
        raise InputError(f"{silent.where}: it has no caption, and others have; give all of them one, or none.")
    return silent is None


def measurement(spec: ModelSpec, samples: Sequence[Sample], classes: Classes | None) -> EmbeddingTask | None:
    """What samples can validate a model with: retrieval where they have captions, zero_shot where they have classes;
    None where the pictures are alone, or the model has no tower of texts. Raises InputError for samples that are not
    for it."""
    found: EmbeddingTask | None = None
    if samples and tower_graphs(spec)[1] is not None:
        if captioned(samples):
            found = open_embedding_task("retrieval", spec)
        elif samples[0].target is not None:
            found = open_embedding_task("zero_shot", spec, classes=classes)
    if classes is not None and (found is None or found.name != "zero_shot"):
        raise InputError(
            "a file of classes is for validating by pictures of classes, on a model with a tower of texts."
        )
    if found is not None:
        found.check(samples)
    return found


def freeze(model: Body, towers: Towers, preprocessor: Preprocessor, spec: ModelSpec) -> list[str]:
    """Leave to be trained what the embedding of a picture follows from, found by asking for one's gradient, and that of
    no text; gives the names of the other parameters."""
    assert preprocessor.input is not None
    blank = np.zeros((3, *preprocessor.input.nominal), np.float32)
    inputs = {name: torch.from_numpy(value) for name, value in preprocessor.arrange([[blank]]).items()}
    parameters = dict(model.named_parameters())
    embedding = embedding_of(model.run(towers.image, inputs))
    gradients = torch.autograd.grad(embedding.sum(), [*parameters.values()], allow_unused=True)
    still = [name for name, gradient in zip(parameters, gradients, strict=True) if gradient is None]
    rest = [name for name in parameters if name not in still]
    text = spec.text if towers.text else None
    if text is not None:
        shape = (1, text.length or SHORTEST)
        words = {port.name: torch.full(shape, text.end_id or 0 if port.name == IDS else 1) for port in text.ports}
        embedding = embedding_of(model.run(towers.text, words))
        gradients = torch.autograd.grad(embedding.sum(), [parameters[name] for name in rest], allow_unused=True)
        still += [name for name, gradient in zip(rest, gradients, strict=True) if gradient is not None]
    for name in still:
        parameters[name].requires_grad_(False)
    return still


def check_still(teacher: Checkpoint, student: nn.Module, names: Sequence[str]) -> None:
    """Raises InputError when the teacher has other parameters of these names: its embeddings would be taught to a model
    whose texts mean something else."""
    own, wanted = dict(student.named_parameters()), set(names)
    for name, tensor in teacher.tensors():
        if name in wanted and not torch.equal(tensor.float(), own[name].detach().float()):
            raise InputError(
                f"{teacher.path}: cannot teach this student; its '{name}' is another, and beside other texts an "
                "embedding means something else."
            )


def told(model: nn.Module, still: Sequence[str]) -> str:
    """A sentence on what is trained, by the names under which it stands in the model."""
    parts = dict.fromkeys(name.split(".")[0] for name, p in model.named_parameters() if p.requires_grad)
    count = sum(p.numel() for p in model.parameters() if p.requires_grad)
    rest = ", ".join(dict.fromkeys(name.split(".")[0] for name in still))
    left = f"; {rest} {'stay as they are' if ',' in rest else 'stays as it is'}" if rest else ""
    return f"trained: {', '.join(parts)} ({count:,} parameters){left}."
