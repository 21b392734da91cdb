"""The loss of a tower of pictures: what transformers' models say, sums by hand, rows that lie in several processes."""

from collections.abc import Callable
from pathlib import Path

import pytest
import tiny_clip
import tiny_siglip
import torch
import torch.nn.functional as F
import transformers

from pumer_convert.models.output import Output
from pumer_convert.models.similarity import Similarity
from pumer_convert.recipe.settings import DistillSettings
from pumer_convert.tasks.batches import Batch
from pumer_convert.training.embedding_loss import LOSSES, EmbeddingLoss, Sigmoid, Softmax, logits_of
from pumer_convert.training.loss import TeacherOutput
from pumer_convert.training.towers import Towers

KINDS = {"softmax": Similarity("softmax", 2.3), "sigmoid": Similarity("sigmoid", 2.3, -4.0)}


@pytest.mark.parametrize(("scores", "write"), [("softmax", tiny_clip.write), ("sigmoid", tiny_siglip.write)])
def test_the_contrastive_loss_is_transformers_own(tmp_path: Path, scores: str, write: Callable[[Path], Path]) -> None:
    model = getattr(transformers, {"softmax": "CLIPModel", "sigmoid": "SiglipModel"}[scores]).from_pretrained(
        write(tmp_path / "model")
    )
    torch.manual_seed(0)
    ids, words = torch.randint(0, 50, (3, 16)), {}
    if scores == "softmax":
        ids[:, -1] = model.config.text_config.eos_token_id
        words["attention_mask"] = torch.ones_like(ids)
    with torch.no_grad():
        said = model.eval()(input_ids=ids, pixel_values=torch.randn(3, 3, 48, 48), return_loss=True, **words)
    bias = model.logit_bias.item() if scores == "sigmoid" else 0.0
    similarity = Similarity(scores, model.logit_scale.item(), bias)
    logits = logits_of(said.image_embeds, said.text_embeds, similarity)
    torch.testing.assert_close(logits, said.logits_per_image, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(LOSSES[scores].contrastive(logits, torch.eye(3).bool()), said.loss)


def test_captions_of_one_picture_are_all_right() -> None:
    same = torch.tensor([[1, 1, 0], [1, 1, 0], [0, 0, 1]]).bool()
    sure = torch.where(same, 40.0, -40.0)
    assert Sigmoid.contrastive(sure, same) == pytest.approx(0, abs=1e-6)
    assert Softmax.contrastive(sure, same) == pytest.approx(2 / 3 * 0.6931, abs=1e-3)
    assert Softmax.contrastive(sure, torch.eye(3).bool()) == pytest.approx(2 / 3 * 0.6931, abs=1e-3)
    assert Sigmoid.contrastive(sure, torch.eye(3).bool()) > 10


def test_divergences_by_hand() -> None:
    student, teacher = torch.tensor([[1.0, 0.0], [0.0, 0.0]]), torch.tensor([[0.0, 2.0], [0.0, 0.0]])

    def kl(p: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
        return (p * (p / q).log()).sum(-1)

    rows = kl(teacher.softmax(1), student.softmax(1)).mean()
    columns = kl(teacher.T.softmax(1), student.T.softmax(1)).mean()
    torch.testing.assert_close(Softmax.divergence(student, teacher, 1.0), (rows + columns) / 2)
    yes, no = ((teacher * s).sigmoid() * ((teacher * s).sigmoid() / (student * s).sigmoid()).log() for s in (1, -1))
    torch.testing.assert_close(Sigmoid.divergence(student, teacher, 1.0), (yes + no).sum() / 2)
    for kind in (Softmax, Sigmoid):
        assert kind.divergence(teacher, teacher, 2.0) == 0
        torch.testing.assert_close(
            kind.divergence(student, teacher, 2.0), 4 * kind.divergence(student / 2, teacher / 2, 1)
        )
    # A bias moves every yes, and no share of a softmax.
    torch.testing.assert_close(Softmax.divergence(student - 3, teacher - 3, 1), Softmax.divergence(student, teacher, 1))
    assert Sigmoid.divergence(student - 3, teacher - 3, 1) != pytest.approx(
        float(Sigmoid.divergence(student, teacher, 1))
    )


@pytest.mark.parametrize("scores", KINDS)
def test_rows_of_several_processes_have_the_gradient_that_they_have_in_one(scores: str) -> None:
    torch.manual_seed(0)
    images, answers = torch.randn(6, 5), torch.randn(6, 10)
    picture = torch.tensor([0, 0, 1, 2, 3, 3])
    settings = DistillSettings(kd=0.7, contrastive=0.3, cosine=0.9)
    towers = Towers("image", "text", 5, 0.9, KINDS[scores])

    def gradient(rank: int, world: int) -> tuple[torch.Tensor, torch.Tensor]:
        part = slice(rank * 6 // world, (rank + 1) * 6 // world)

        def gather(own: object) -> object:
            if isinstance(own, tuple):
                return answers[:, :5], answers[:, 5:], picture
            return images

        own = images[part].clone().requires_grad_()
        batch = Batch({}, {"picture": picture[part]}, [], [])
        loss = EmbeddingLoss(towers, settings, gather, rank, world)
        found = loss(Output({"image_embeds": own}), TeacherOutput(answers[part]), batch)
        found.total.backward()
        return found.total.detach(), own.grad

    total, expected = gradient(0, 1)
    halves = [gradient(rank, 2) for rank in range(2)]
    # What DistributedDataParallel takes is the mean over the processes.
    torch.testing.assert_close(torch.cat([grad for _, grad in halves]) / 2, expected)
    torch.testing.assert_close((halves[0][0] + halves[1][0]) / 2, total)


def test_the_cosine_is_that_of_torch() -> None:
    torch.manual_seed(0)
    own, dense = torch.randn(4, 5), torch.randn(4, 5)
    loss = EmbeddingLoss(Towers("image", "", 5, 2.0, None), DistillSettings())
    found = loss(Output({"pooler_output": own}), TeacherOutput(dense), Batch({}, {}, [], []))
    cosine = F.cosine_similarity(own, dense).mean()
    torch.testing.assert_close(found.total, 2 * (1 - cosine))
    assert [float(term) for term in found.terms[1:]] == [0, 0, 0]
    torch.testing.assert_close(found.score, cosine)
