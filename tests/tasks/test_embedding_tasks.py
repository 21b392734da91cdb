"""Zero-shot classification and retrieval by embeddings: metrics worked out by hand, ties, and what is refused."""

from dataclasses import dataclass
from pathlib import Path

import pytest
import tiny_clip
import torch
import torch.nn.functional as F
from PIL import Image

from pumer_convert.checkpoint.read import open_checkpoint
from pumer_convert.data.prompts import Classes
from pumer_convert.data.sample import Sample
from pumer_convert.errors import InputError
from pumer_convert.models.family import family_of
from pumer_convert.models.spec import ModelSpec
from pumer_convert.tasks import open_embedding_task
from pumer_convert.tasks.retrieval import Ranks, recalls


@dataclass(frozen=True)
class Plain:
    name: str

    def open(self) -> Image.Image:
        return Image.new("RGB", (9, 9))


def spec(architecture: str, tmp_path: Path) -> ModelSpec:
    return family_of("clip").spec(open_checkpoint(tiny_clip.write(tmp_path / architecture, architecture)).config)


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> ModelSpec:
    return spec("CLIPModel", tmp_path_factory.mktemp("clip"))


def samples(*targets: str, text: str = "") -> list[Sample]:
    return [Sample(str(i), (Plain(f"p{target}"),), text, target, f"f:{i}") for i, target in enumerate(targets)]


def unit(*rows: list[float]) -> torch.Tensor:
    return F.normalize(torch.tensor(rows), dim=-1)


def test_zero_shot_by_hand(both: ModelSpec) -> None:
    task = open_embedding_task("zero_shot", both, classes=Classes({"n1": "cat", "n2": "dog"}, ("a {}", "the {}!")))
    data = samples("n1", "n1", "n2", "n2")
    task.check(data)
    assert task.texts_of(data) == ["a cat", "a dog", "the cat!", "the dog!"]
    assert [picture.name for picture in task.pictures_in(data)] == ["pn1", "pn1", "pn2", "pn2"]
    # A class is the mean of its texts: cat (1, 1) / sqrt 2, dog (0, -1).
    texts = unit([1.0, 0], [0, -1], [0, 1], [0, -1])
    images = unit([1.0, 1], [0, -1], [1, -1.5], [0, -1])
    found = task.judge(images, texts, data)
    assert found.answers == ["n1", "n2", "n2", "n2"]
    assert found.scores.tolist() == [1, 0, 1, 1]
    assert found.metrics == {"accuracy": 0.75}


def test_the_best_five_count_where_there_are_more(both: ModelSpec) -> None:
    task = open_embedding_task("zero_shot", both)
    data = samples("a", "b", "c", "d", "e", "f")
    assert task.texts_of(data) == ["a", "b", "c", "d", "e", "f"]
    texts = torch.eye(6)
    images = unit([6.0, 5, 4, 3, 2, 1], [6, 5, 4, 3, 2, 1], *([[6, 5, 4, 3, 2, 1]] * 4))
    found = task.judge(images, texts, data)
    assert found.metrics == {"accuracy": pytest.approx(1 / 6), "top5_accuracy": pytest.approx(5 / 6)}
    tied = task.judge(torch.ones(6, 6), texts, data)
    assert tied.metrics == {"accuracy": 0, "top5_accuracy": 0}, "one that knows nothing"


def test_classes_and_samples_that_do_not_fit_are_refused(both: ModelSpec) -> None:
    task = open_embedding_task("zero_shot", both, classes=Classes({"cat": "cat", "dog": "dog"}))
    with pytest.raises(InputError, match=r"f:1: its class 'cats' is not among the 2 .* Did you mean 'cat'\?"):
        task.check(samples("cat", "cats"))
    with pytest.raises(InputError, match="f:0: all pictures are of one class"):
        open_embedding_task("zero_shot", both).check(samples("cat", "cat"))
    with pytest.raises(InputError, match="f:0: all captions are of one image"):
        open_embedding_task("retrieval", both).check(samples("cat", "cat", text="a cat"))
    for name in ("zero_shot", "retrieval"):
        with pytest.raises(InputError, match="there is no sample"):
            open_embedding_task(name, both).check([])


def test_retrieval_by_hand(both: ModelSpec) -> None:
    task = open_embedding_task("retrieval", both)
    data = samples("x", "y", "x", "z", text="said")
    assert [picture.name for picture in task.pictures_in(data)] == ["px", "py", "pz"]
    images = torch.eye(3)
    texts = torch.tensor([[0.9, 0.1, 0.0], [0.5, 0.4, 0.1], [0.2, 0.6, 0.2], [0.0, 0.3, 0.7]])
    found = task.judge(images, texts, data)
    assert found.answers == ["x", "x", "y", "z"]
    assert found.scores.tolist() == [1, 0, 0, 1]
    assert found.metrics == recalls(texts @ images.T, (0, 1, 0, 2))
    assert found.metrics["image_r@1"] == 0.5
    assert found.metrics["text_r@1"] == pytest.approx(2 / 3), "y's own caption has 0.4, one of x 0.6"


def test_recalls_do_not_depend_on_the_blocks() -> None:
    random = torch.Generator().manual_seed(0)
    scores = torch.randint(0, 9, (37, 11), generator=random).float()
    truth = torch.randint(0, 11, (37,), generator=random).tolist()
    whole = Ranks.of(lambda part: scores[part], truth, 11, block=100)
    # As it is defined, one by one.
    own = [[truth[c] == i for i in range(11)] for c in range(37)]
    image = [sum(bool(scores[c, i] >= scores[c, truth[c]]) and not own[c][i] for i in range(11)) for c in range(37)]
    best = {i: max(float(scores[c, i]) for c in range(37) if own[c][i]) for i in sorted(set(truth))}
    text = [sum(bool(scores[c, i] >= top) and not own[c][i] for c in range(37)) for i, top in best.items()]
    assert (whole.image.tolist(), whole.text.tolist()) == (image, text)
    for block in (1, 5, 37):
        part = Ranks.of(lambda some: scores[some], truth, 11, block)
        assert part.recalls() == whole.recalls()
        assert torch.equal(part.first, whole.first)


def test_a_tower_alone_and_an_unknown_measurement_are_refused(both: ModelSpec, tmp_path: Path) -> None:
    for architecture, gives in (("CLIPVisionModel", "pooler_output"), ("CLIPTextModelWithProjection", "text_embeds")):
        with pytest.raises(InputError, match=f"the model gives {gives} and answers nothing; retrieval needs one with"):
            open_embedding_task("retrieval", spec(architecture, tmp_path))
    with pytest.raises(InputError, match=r"not measured by 'zeroshot', but by retrieval, zero_shot\. Did you mean"):
        open_embedding_task("zeroshot", both)
