"""How a picture is scored beside a text: read from the weights, told by the sidecar, what transformers computes."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_clip
import tiny_siglip
import torch
from safetensors.torch import load_file, save_file
from transformers import CLIPModel, SiglipModel

from pumer_convert.artifact.describe import describe, differing
from pumer_convert.artifact.sidecar import read_sidecar
from pumer_convert.checkpoint.read import open_checkpoint
from pumer_convert.convert.load import similarity_of
from pumer_convert.errors import InputError
from pumer_convert.models.similarity import Similarity, is_similarity


def rescaled(folder: Path, **values: Any) -> Path:
    """The folder with other scales and biases in its weights."""
    file = folder / "model.safetensors"
    state = load_file(file)
    state |= {name: torch.as_tensor(value, dtype=state[name].dtype) for name, value in values.items()}
    save_file(state, file, metadata={"format": "pt"})
    return folder


def test_logits_are_those_of_transformers(tmp_path: Path) -> None:
    clip = rescaled(tiny_clip.write(tmp_path / "clip"), logit_scale=3.3)
    siglip = rescaled(tiny_siglip.write(tmp_path / "siglip"), logit_scale=[2.2], logit_bias=[-4.5])
    ids, pixels = torch.randint(2, 90, (3, 16)), torch.randn(2, 3, 48, 48)
    for folder, model, scores in ((clip, CLIPModel, "softmax"), (siglip, SiglipModel, "sigmoid")):
        with torch.no_grad():
            theirs = model.from_pretrained(folder).eval()(input_ids=ids, pixel_values=pixels)
        cosines = theirs.image_embeds.double() @ theirs.text_embeds.double().T
        similarity = similarity_of(open_checkpoint(folder))
        assert similarity is not None
        assert similarity.scores == scores
        np.testing.assert_allclose(similarity.logits(cosines.numpy()), theirs.logits_per_image, rtol=1e-5, atol=1e-5)


def test_a_tower_alone_compares_nothing(tmp_path: Path) -> None:
    for architecture in ("CLIPVisionModelWithProjection", "CLIPTextModelWithProjection"):
        folder = tiny_clip.write(tmp_path / architecture, architecture)
        assert describe(open_checkpoint(folder))["similarity"] is None


def test_a_sidecar_tells_it_and_is_checked(tmp_path: Path) -> None:
    checkpoint = open_checkpoint(rescaled(tiny_siglip.write(tmp_path / "siglip"), logit_scale=[2.5], logit_bias=[-4.5]))
    for graph in ("image", "text"):
        values = json.loads(json.dumps(describe(checkpoint, graph=graph)))
        assert values["similarity"] == {"scores": "sigmoid", "logit_scale": 2.5, "logit_bias": -4.5}
        assert Similarity.of_sidecar(values) == similarity_of(checkpoint)
        assert differing(values, checkpoint) == []
        values["similarity"]["logit_bias"] = -4.0
        assert differing(values, checkpoint) == ["similarity"]
        del values["similarity"]
        assert differing(values, checkpoint) == []
        assert Similarity.of_sidecar(values) is None
        for wrong in ([], {"scores": "softmax"}, {"scores": "none", "logit_scale": 1, "logit_bias": 0}):
            (tmp_path / "image.onnx.json").write_text(json.dumps({**values, "similarity": wrong}))
            with pytest.raises(InputError, match=r"image\.onnx\.json: not a sidecar that pumer-convert wrote"):
                read_sidecar(tmp_path / "image.onnx")
    assert not is_similarity({"scores": "softmax", "logit_scale": float("nan"), "logit_bias": 0})
    assert not is_similarity({"scores": "softmax", "logit_scale": True, "logit_bias": 0})


def test_a_scale_that_is_no_number_is_refused(tmp_path: Path) -> None:
    folder = rescaled(tiny_clip.write(tmp_path / "nan"), logit_scale=float("nan"))
    with pytest.raises(InputError, match="the weights hold a NaN or an infinity, in 'logit_scale'"):
        similarity_of(open_checkpoint(folder))
    folder = rescaled(tiny_clip.write(tmp_path / "two"), logit_scale=[1.0, 2.0])
    with pytest.raises(InputError, match="'logit_scale' has to be one number, not 2"):
        similarity_of(open_checkpoint(folder))
