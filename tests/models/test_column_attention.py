"""Towers without CLS: what all patches attend to."""

from pathlib import Path

import pytest
import torch
import transformers

from pumer_convert.convert.apply import apply, prepare_apply
from pumer_convert.convert.load import load
from pumer_convert.errors import InputError
from pumer_convert.export.folder import export_folder
from pumer_convert.export.tensorrt import EngineSettings
from pumer_convert.models import attention
from tests.models.test_llava import FORMS, pixels
from tests.models.test_siglip import pixels as pictures
from tests.support import tiny_clip, tiny_llava, tiny_siglip


def recipe(model: str, at: str, by: str) -> str:
    return f"recipe: 1\nmodel: {model}\nreduce:\n  - {{at: {at}, prune: {{image: {{keep: 9}}, by: {by}}}}}\n"


def best(attentions: torch.Tensor) -> torch.Tensor:
    """The places [B, 9] that the maps [B, H, N, N] give most to, in their order."""
    return attentions.mean((1, 2)).topk(9).indices.sort(1).values


def test_a_block_keeps_what_its_patches_attend_to(tmp_path: Path) -> None:
    folder = tiny_siglip.write(tmp_path / "dense")
    (tmp_path / "r.yaml").write_text(recipe("siglip", "vision.1", "column_attention"))
    apply(folder, tmp_path / "r.yaml", tmp_path / "out")
    model = transformers.SiglipModel.from_pretrained(folder, attn_implementation="eager").eval()
    maps = model.vision_model(pictures(), output_attentions=True).attentions[1]
    found = load(tmp_path / "out")(pictures())
    assert torch.equal(found.trace.taken["vision.1/prune.image"], best(maps))


@pytest.mark.parametrize("by", ["column_attention", "visionzip"])
def test_a_projector_gets_what_the_last_block_attends_to(by: str, tmp_path: Path) -> None:
    folder = tiny_llava.write(tmp_path / "dense", **FORMS["SigLIP"])
    (tmp_path / "r.yaml").write_text(recipe("llava", "projector", by))
    plan = prepare_apply(folder, tmp_path / "r.yaml").plan
    apply(folder, tmp_path / "r.yaml", out := tmp_path / "out")
    model = transformers.LlavaForConditionalGeneration.from_pretrained(folder, attn_implementation="eager").eval()
    states = model.model.vision_tower(pixels(), output_attentions=True)
    taps = load(out).settings.blocks - 1
    maps, output = states.attentions[taps], load(out)(pixels())
    first = int(load(out).settings.trimmed)
    decision = output.trace.taken["projector/prune.image"]
    if by == "column_attention":
        assert torch.equal(decision, best(maps[..., first:]))
    else:  # 9 * 0.15625 = 1 contextual token, and 8 dominant ones
        n = decision.shape[1]
        chosen = maps[..., first:].mean((1, 2)).topk(8).indices.sort(1).values
        assert torch.equal(torch.stack([row.nonzero()[:, 0] for row in decision >= n]), chosen)
    row = next(row for row in plan.rows if row.layer == "projector")
    n, c = row.image_in, 64
    assert row.reducers >= 2 * n * c * c + n * n * c
    report = export_folder(out, dtype="float32")
    assert report["verification"]["decisions_that_differ"] == 0
    pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed")
    engine = EngineSettings("tensorrt-rtx", compute_capabilities=("8.9",))
    assert export_folder(out, tmp_path / "half", trt=engine, dtype="float16")["engine"]["bytes"] > 0


def test_a_tower_with_a_cls_goes_by_that(tmp_path: Path) -> None:
    folder = tiny_clip.write(tmp_path / "dense")
    (tmp_path / "r.yaml").write_text(recipe("clip", "vision.1", "column_attention"))
    with pytest.raises(InputError, match=r"'column_attention' at vision\.1, whose image has a CLS or has met the text"):
        prepare_apply(folder, tmp_path / "r.yaml")


def test_a_merged_token_asks_and_is_asked_as_often_as_its_members() -> None:
    q, k = torch.randn(2, 2, 4, 5, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).unbind(0)
    members, mask = torch.tensor([0, 1, 1, 1, 2, 3, 4, 4]), torch.ones(2, 5, dtype=torch.bool)
    sizes = torch.bincount(members).double().expand(2, 5)
    merged = attention.columns(q, k, attention.key_bias(mask, q.dtype, sizes), sizes)
    whole = attention.columns(q[:, :, members], k[:, :, members], None, torch.ones(2, 8, dtype=torch.float64))
    summed = torch.zeros(2, 5).index_add(1, members, whole)
    torch.testing.assert_close(merged, summed, rtol=1e-5, atol=1e-6)
