"""What image tokens are pruned by: the text's relevance, the attention of the image's CLS, or nothing at all."""

from pathlib import Path
from typing import Any

import golden
import pytest
import tiny
import torch
from torch import nn

from pumer_convert.amount import Amount
from pumer_convert.convert.apply import apply, prepare_apply
from pumer_convert.convert.load import load
from pumer_convert.convert.plan import TOP_K
from pumer_convert.demo import CHECKPOINT
from pumer_convert.errors import InputError
from pumer_convert.export.onnx import export_onnx
from pumer_convert.models.body import insert
from pumer_convert.recipe.schema import parse_recipe
from pumer_convert.reducers import KINDS
from pumer_convert.reducers.base import Guide
from pumer_convert.reducers.random_prune import RandomPruneReducer, arbitrary
from pumer_convert.tokens import Tokens
from pumer_convert.verification.verify import Case

SCORES = ("relevance", "cls_attention", "random")
"""Those of a model whose image has a CLS and no probe."""


@pytest.fixture(autouse=True)
def no_gradients():
    with torch.no_grad():
        yield


def pruned(model: nn.Module, site: str, score: str) -> nn.Module:
    """The model with 3/10 of its image tokens pruned at a site."""
    action = {"op": "prune", "modality": "image", "amount": {"share": "3/10"}, "by": score}
    return insert(model, {"edits": [{"at": site, "actions": [action]}]})


def best(scores: torch.Tensor, count: int) -> list[list[int]]:
    """CLS and the `count` - 1 other positions with the highest scores, in order."""
    scores[:, 0] = 2
    return [sorted(row.argsort(descending=True, stable=True)[:count].tolist()) for row in scores]


def heads(x: torch.Tensor, count: int) -> torch.Tensor:
    return x.unflatten(-1, (count, -1)).transpose(1, 2)


def of_cls(q: torch.Tensor, k: torch.Tensor, count: int) -> torch.Tensor:
    """The mean over heads of the attention that q [B, 1, C] pays to k [B, N, C]: [B, N]."""
    scores = heads(q, count) @ heads(k, count).transpose(-1, -2)
    return (scores / (q.shape[-1] / count) ** 0.5).softmax(-1).mean(1)[:, 0]


def test_vilt_prunes_by_the_attention_of_the_images_cls() -> None:
    model = pruned(load(CHECKPOINT), "encoder.0", "cls_attention")
    inputs = tiny.batch(rows=2, text=9)
    inputs["attention_mask"][:] = 1
    taken = model(**inputs).trace.taken["encoder.0/prune.image"]
    e, block = model.vilt.embeddings, model.vilt.encoder.layer[0]
    image = e.image(inputs["pixel_values"], e.token_type_embeddings.weight[1:2, None])
    x = block.layernorm_before(torch.cat([e.text(inputs["input_ids"]), image], 1))
    parts = block.attention.attention
    scores = of_cls(parts.query(x[:, 9:10]), parts.key(x), block.attention.heads)[:, 9:]
    assert taken.tolist() == best(scores, taken.shape[1])


def test_meter_prunes_by_the_attention_of_the_image_half(tmp_path: Path) -> None:
    case = golden.CASES["meter-vqa"]
    model = pruned(load(golden.write(case, tmp_path / "checkpoint")), "fusion.0", "cls_attention")
    seen: list[Tokens] = []
    half = model.cross_modal_image_layers[0]
    model.vit_model.visual.register_forward_hook(lambda _, __, out: seen.append(out))
    taken = model(**golden.inputs(case)).trace.taken["fusion.0/prune.image"]
    image = model.cross_modal_image_transform(seen[0].states) + model.token_type_embeddings.weight[1:2, None]
    parts = half.attention.self
    scores = of_cls(parts.query(image[:, :1]), parts.key(image), half.attention.heads)
    assert taken.tolist() == best(scores, taken.shape[1])


def test_arbitrary_scores_never_tie_and_are_always_the_same() -> None:
    scores = arbitrary(torch.arange(TOP_K))
    assert len(scores.unique()) == TOP_K
    assert 0 <= scores.min() < scores.max() < 1
    assert float(scores.mean()) == pytest.approx(0.5, abs=0.02)
    assert abs(float(torch.corrcoef(torch.stack([scores, torch.arange(TOP_K)]))[0, 1])) < 0.05
    assert torch.equal(arbitrary(torch.arange(TOP_K).int()), scores), "32-bit integers hold every step"


@pytest.mark.parametrize("length", [1, 2, 7, 30])
def test_random_pruning_looks_at_nothing(length: int) -> None:
    generator = torch.Generator().manual_seed(length)
    states = torch.randn(2, length + 4, 6, generator=generator)
    mask = torch.arange(length + 4) < torch.tensor([length, length])[:, None]
    padded = Tokens.start(states, mask, first=1).with_keys(states)
    alone = Tokens.start(states[:, :length], mask[:, :length], first=1).with_keys(states[:, :length])
    reducer = RandomPruneReducer(Amount.share("0.4"))
    found, bare = (reducer(tokens, Guide(tokens.mask)) for tokens in (padded, alone))
    kept = bare.decision
    assert torch.equal(kept[0], kept[1]), "the same for every example"
    assert int(kept[0, 0]) == 0, "CLS is kept"
    assert bool((kept[0, 1:] > kept[0, :-1]).all()), "so is the order"
    assert torch.equal(found.tokens.states[:, : kept.shape[1]], bare.tokens.states), "padding changes nothing"
    assert reducer.function == "Prune"


@pytest.mark.parametrize("score", SCORES)
def test_padded_text_changes_nothing(score: str) -> None:
    model = pruned(load(CHECKPOINT), "encoder.2", score)
    short = tiny.batch(rows=2, text=9)
    short["attention_mask"][:] = 1
    long = {**short} | {k: nn.functional.pad(short[k], (0, 5)) for k in ("input_ids", "attention_mask")}
    one, other = model(**short), model(**long)
    assert one.image.states.shape[1] == 145 - 44
    assert torch.equal(one.trace.taken["encoder.2/prune.image"], other.trace.taken["encoder.2/prune.image"])
    torch.testing.assert_close(one.logits, other.logits, atol=1e-5, rtol=1e-5)


def test_a_score_costs_what_it_computes(tmp_path: Path) -> None:
    def cost(score: str) -> int:
        body = f"  - at: encoder.2\n    prune: {{image: 0.3, by: {score}}}\n"
        return prepare_apply(CHECKPOINT, tiny.recipe(tmp_path / "r.yaml", body)).plan.reducer_macs

    width = load(CHECKPOINT).config["hidden_size"]
    assert cost("relevance") == 32 * (32 + 145) * width
    assert cost("cls_attention") == (32 + 145) * width
    assert cost("random") == 0


@pytest.mark.parametrize("score", [kind for kind in KINDS["prune"] if kind != "relevance"])
def test_the_reference_semantics_know_only_relevance(score: str) -> None:
    text = "recipe: 1\nmodel: vilt\nsemantics: reference\nreduce:\n  - at: encoder.1\n"
    with pytest.raises(InputError, match=f"prune.by cannot be '{score}'"):
        parse_recipe(f"{text}    prune: {{image: 0.1, by: {score}}}\n    merge: {{image: 0.3}}\n")


def test_both_are_the_same_in_onnx(tmp_path: Path) -> None:
    steps = zip((1, 3), SCORES[1:], strict=True)
    body = "".join(f"  - at: encoder.{n}\n    prune: {{image: 0.3, by: {score}}}\n" for n, score in steps)
    apply(CHECKPOINT, tiny.recipe(tmp_path / "r.yaml", body), tmp_path / "out")
    report: dict[str, Any] = export_onnx(tmp_path / "out", cases=(Case(1, 2, padded=False), Case(3, 17)))
    assert report["verification"]["logits_error"] < 1e-4
    assert report["verification"]["decisions_that_differ"] == 0
