"""The parts of a training, each alone: rates, hidden states, average, ramp, cache, the bar."""

from pathlib import Path

import lessons
import pytest
import torch
from torch import nn

import pumer_convert
from pumer_convert.cli.progress import drawn, sentence
from pumer_convert.data.preprocess import Preprocessor
from pumer_convert.errors import InputError
from pumer_convert.models.family import family_of
from pumer_convert.models.rates import Rates
from pumer_convert.recipe.settings import DistillSettings
from pumer_convert.reducers.base import BaseReducer
from pumer_convert.tasks import open_task
from pumer_convert.tasks.batches import batches
from pumer_convert.tokens import Tokens
from pumer_convert.training.cache import TeacherCache
from pumer_convert.training.ema import Average
from pumer_convert.training.job import hash_samples, make_job
from pumer_convert.training.learner import drops_out
from pumer_convert.training.loss import distance
from pumer_convert.training.metrics import Metrics, Status
from pumer_convert.training.ramp import Ramp
from pumer_convert.training.rates import factor, groups, rates_of
from pumer_convert.training.teacher import Teacher


@pytest.mark.parametrize(
    ("family", "task"), [(family, task) for family in lessons.DEPTH for task in family_of(family).rates]
)
def test_every_parameter_is_in_one_group_with_its_rate(tmp_path: Path, family: str, task: str) -> None:
    model = pumer_convert.load(lessons.dense(tmp_path / "d", family, task))
    found = groups(model, Rates(1.0, 10.0, 5.0), 0.01)
    rate = {id(p): (group["rate"], group["weight_decay"]) for group in found for p in group["params"]}
    assert sum(len(group["params"]) for group in found) == len(list(model.parameters())) == len(rate)
    heads = 0
    for name, parameter in model.named_parameters():
        head = "classifier." in name or name.startswith("rank_output.")
        heads += head
        wanted = 10.0 if head else 5.0 if name.startswith("cross_modal") else 1.0
        assert rate[id(parameter)] == (wanted, 0.0 if parameter.dim() < 2 else 0.01), name
    assert heads >= 2


def test_rates_of_settings_go_before_the_published_ones() -> None:
    assert rates_of(DistillSettings(), "meter", "vqa") == Rates(5e-6, 50, 5)
    settings = DistillSettings(learning_rate=1e-3, head_multiplier=2.0)
    assert rates_of(settings, "meter", "ve") == Rates(1e-3, 2.0, 5)


def test_the_rate_rises_and_falls() -> None:
    found = [factor(step, 20, 0.2) for step in range(20)]
    assert found[:4] == pytest.approx([0.2, 0.4, 0.6, 0.8])
    assert found[4] == 1
    assert found[5:] == sorted(found[5:], reverse=True)
    assert found[-1] == pytest.approx(1 / 16)
    assert factor(0, 1, 0.1) == 1


def tokens(states: list[list[float]], source: list[int] | None = None) -> Tokens:
    values = torch.tensor(states)[None]
    made = Tokens.start(values, torch.ones(values.shape[:2], dtype=torch.bool))
    return made if source is None else Tokens(made.states, made.mask, source=torch.tensor([source]))


def test_hidden_states_are_compared_with_the_mean_of_what_was_merged() -> None:
    teacher = tokens([[1.0, 1.0], [3.0, 1.0], [9.0, 9.0], [5.0, 0.0]])
    # The first two were merged into token 0, the third was pruned, the fourth is token 1.
    assert distance(tokens([[2.0, 1.0], [5.0, 0.0]], [0, 0, -1, 1]), teacher) == 0
    assert distance(tokens([[2.0, 3.0], [5.0, 0.0]], [0, 0, -1, 1]), teacher) == pytest.approx(4 / 2 / 2)
    # An empty place behind the last token counts for nothing.
    assert distance(tokens([[2.0, 3.0], [7.0, 7.0]], [0, 0, -1, -1]), teacher) == pytest.approx(2.0)


def test_hidden_states_of_an_unreduced_model_are_its_own(tmp_path: Path) -> None:
    model = pumer_convert.load(lessons.dense(tmp_path / "d"))
    side = model.config["image_size"]
    ids = torch.tensor([[5, 6, 7, 8], [5, 6, 0, 0]])
    output = model(ids, (ids > 0).long(), torch.randn(2, 3, side, side))
    assert distance(output.text, output.text) == 0
    assert distance(output.image, output.image) == 0


def test_an_average_follows_and_is_taken_out_again() -> None:
    model = nn.Linear(2, 1, bias=False)
    nn.init.zeros_(model.weight)
    average = Average(model, 0.5)
    nn.init.ones_(model.weight)
    average.update(model, 100)
    assert average.values["weight"].tolist() == [[0.5, 0.5]]
    with average.inside(model):
        assert model.weight.tolist() == [[0.5, 0.5]]
    assert model.weight.tolist() == [[1.0, 1.0]]
    average.load({"weight": torch.full((1, 2), 3.0)})
    assert average.values["weight"].tolist() == [[3.0, 3.0]]


def test_a_ramp_grows_to_the_full_amounts(tmp_path: Path) -> None:
    model = pumer_convert.load(lessons.reduced(lessons.dense(tmp_path / "d")))
    side = model.config["image_size"]
    full = [m.amount for m in model.modules() if isinstance(m, BaseReducer)]
    ramp = Ramp(model, 0.5, 40)
    lengths = []
    for step in (0, 5, 10, 19, 20, 39):
        ramp.set(step)
        ids = torch.full((1, 12), 7)
        output = model(ids, torch.ones_like(ids), torch.randn(1, 3, side, side))
        lengths.append(output.image.states.shape[1])
    dense = (side // 8) ** 2 + 1
    assert lengths[0] == dense
    assert lengths == sorted(lengths, reverse=True)
    assert lengths[-1] == lengths[-2] < lengths[1]
    ramp.set(3)
    ramp.set(None)
    assert [m.amount for m in model.modules() if isinstance(m, BaseReducer)] == full


def test_a_cached_teacher_equals_an_uncached_one(tmp_path: Path) -> None:
    dense = lessons.dense(tmp_path / "d")
    samples = lessons.samples(tmp_path / "pictures")
    job = make_job(dense, dense, samples, (), tmp_path / "out", DistillSettings(batch_size=2))
    assert job.teacher is not None
    cpu = torch.device("cpu")
    plain = Teacher(job.teacher, cpu, torch.no_grad)
    cached = Teacher(job.teacher, cpu, torch.no_grad, TeacherCache(tmp_path, "key", len(samples), 5))
    for epoch in range(2):
        for batch in batches(samples, job.task, job.preprocessor, 2, epoch=epoch, train=True):
            torch.testing.assert_close(cached(batch).answers, plain(batch).answers, rtol=0, atol=2e-5)
    # Nothing is missing now, so another training never loads it.
    again = Teacher(job.teacher, cpu, torch.no_grad, TeacherCache(tmp_path, "key", len(samples), 5))
    for batch in batches(samples, job.task, job.preprocessor, 4, epoch=2, train=True):
        torch.testing.assert_close(again(batch).answers, plain(batch).answers, rtol=0, atol=2e-5)
    assert again._model is None


def test_a_cache_that_is_not_whole_or_of_others_is_refused(tmp_path: Path) -> None:
    cache = TeacherCache(tmp_path, "key", 4, 3)
    cache.write([1, 3], torch.ones(2, 3))
    assert cache.missing([0, 1, 2, 3]) == [0, 2]
    assert TeacherCache(tmp_path, "key", 4, 3).read([3]).tolist() == [[1.0, 1.0, 1.0]]
    with pytest.raises(InputError, match=r"a cache of \(4, 3\), not of \(4, 5\); delete it"):
        TeacherCache(tmp_path, "key", 4, 5)
    cache.file.write_bytes(cache.file.read_bytes()[:100])
    with pytest.raises(InputError, match="not a whole cache"):
        TeacherCache(tmp_path, "key", 4, 3)


def test_samples_of_other_pictures_texts_or_answers_have_another_hash(tmp_path: Path) -> None:
    samples = lessons.samples(tmp_path / "pictures")
    seen = {hash_samples(samples), hash_samples(samples[1:]), hash_samples(samples[::-1])}
    samples[0].pictures[0].path.write_bytes(b"1")
    seen.add(hash_samples(samples))
    assert len(seen) == 4
    samples[0].pictures[0].path.unlink()
    with pytest.raises(InputError, match=r"made:0: there is no picture .*0\.png"):
        hash_samples(samples)


def test_dropout_is_as_the_config_says() -> None:
    assert not drops_out({"hidden_dropout_prob": 0.0, "text": {"vocab_size": 3}})
    assert drops_out({"hidden_dropout_prob": 0.1})
    assert drops_out({"text": {"attention_probs_dropout_prob": 0.1}})


def test_half_a_record_is_forgotten(tmp_path: Path) -> None:
    file = tmp_path / "metrics.jsonl"
    file.write_text('{"step": 1, "loss": 2.0}\n{"step": 2, "loss": 1.5}\n{"step": 3, "lo')
    metrics = Metrics(file, 1)
    metrics.add({"step": 2, "loss": 1.25})
    metrics.close()
    assert file.read_text() == '{"step": 1, "loss": 2.0}\n{"step": 2, "loss": 1.25}\n'


def test_words_of_a_status() -> None:
    assert sentence(Status(20, 300, 1.2, 0.612, 35.14, 134.2)) == (
        "step 20/300, loss 1.2, accuracy 61.2%, 35.1 examples/s, 2:14 left"
    )
    assert sentence(Status(1, 300, None, None, 1, 3661)) == "step 1/300, 1.0 examples/s, 1:01:01 left"


def test_the_bar_takes_the_room_that_the_words_leave() -> None:
    status = Status(30, 300, None, None, 1.0, 60)
    said = sentence(status)
    assert drawn(status, 200) == f"[{'==':<24}] {said}"
    assert drawn(status, len(said) + 13) == f"[{'=':<10}] {said}"
    assert drawn(status, len(said) + 7) == said
    assert drawn(status, 10) == said[:10]


def test_a_retrieval_is_asked_anew_each_epoch(tmp_path: Path) -> None:
    dense = lessons.dense(tmp_path / "d", task="retrieval")
    samples = lessons.samples(tmp_path / "pictures", "retrieval")
    settings = DistillSettings(batch_size=2, candidates=3)
    job = make_job(dense, dense, samples, (), tmp_path / "out", settings)
    assert not job.repeats
    assert job.task.lines == 3
    assert open_task("retrieval", {}).lines == 16
    assert Preprocessor.of(dense).augment is None
