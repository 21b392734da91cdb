"""Teaching a tower of pictures whose codebook the texts are read by as well."""

from pathlib import Path

import tiny_fdt
import torch
from tower_lessons import QUICK, captions, cosine

import pumer_convert
from pumer_convert.models.body import Body


def of_texts(model: Body) -> torch.Tensor:
    ids = torch.tensor([[tiny_fdt.WORDS - 2, 5, 260, tiny_fdt.WORDS - 1]])
    with torch.no_grad():
        return model.run("text", {"input_ids": ids, "attention_mask": torch.ones_like(ids)}).outputs["text_embeds"]


def test_what_texts_are_read_by_stays(tmp_path: Path) -> None:
    teacher, recipe = tiny_fdt.write(tmp_path / "run"), tmp_path / "r.yaml"
    recipe.write_text("recipe: 1\nmodel: clip-fdt\nreduce:\n  - {at: vision.0-1, prune: {image: 0.5, by: codebook}}\n")
    student, out = tmp_path / "student", tmp_path / "out"
    pumer_convert.apply(teacher, recipe, student)
    samples, slowly = captions(tmp_path / "pictures"), QUICK.replaced({"epochs": 12, "learning_rate": 2e-4})
    report = pumer_convert.distill(student, teacher, samples, samples, out, slowly)["distill"]
    (said,) = (note for note in report["notes"] if note.startswith("trained: "))
    assert said.startswith("trained: vision_model, img_query_model (")
    assert "space_dict" in said.partition(";")[2]
    before, after = pumer_convert.load(student), pumer_convert.load(out)
    assert torch.equal(of_texts(before), of_texts(after))
    assert torch.equal(dict(before.named_parameters())["space_dict"], dict(after.named_parameters())["space_dict"])
    assert cosine(out, teacher, samples) > cosine(student, teacher, samples)
