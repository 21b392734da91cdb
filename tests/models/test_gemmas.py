"""The vision parts of PaliGemma and Gemma 3 are what transformers computes."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from registered import DENSE
from tiny_clip import edit
from tiny_gemmas import write_gemma3, write_paligemma
from transformers.models.gemma3.image_processing_pil_gemma3 import Gemma3ImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

from pumer_convert import Pipeline
from pumer_convert.checkpoint.read import check_complete, open_checkpoint
from pumer_convert.convert.load import load
from pumer_convert.errors import InputError

FORMS: dict[str, tuple[Callable[..., Path], dict[str, Any]]] = {
    "PaliGemma": (write_paligemma, {}),
    "PaliGemma with another activation": (write_paligemma, {"vision": {"hidden_act": "gelu"}}),
    "Gemma 3": (write_gemma3, {}),
    "Gemma 3 that pools nothing": (write_gemma3, {"mm_tokens_per_image": 36}),
    "Gemma 3 that pools all": (write_gemma3, {"mm_tokens_per_image": 1}),
}
PROCESSORS = {write_paligemma: SiglipImageProcessorPil, write_gemma3: Gemma3ImageProcessorPil}


@pytest.fixture(autouse=True)
def no_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


def theirs(folder: Path, pixels: torch.Tensor) -> torch.Tensor:
    kind = json.loads((folder / "config.json").read_text())["model_type"]
    model = DENSE[kind].from_pretrained(folder, dtype=pixels.dtype).eval()
    found: torch.Tensor = model.get_image_features(pixel_values=pixels).pooler_output
    return found


def close(found: torch.Tensor, expected: torch.Tensor, share: float) -> None:
    assert found.shape == expected.shape
    assert float((found - expected).abs().max() / expected.abs().max()) < share


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("form", FORMS)
def test_dense_is_transformers(form: str, dtype: torch.dtype, tmp_path: Path) -> None:
    write, options = FORMS[form]
    folder = write(tmp_path / "dense", **options)
    pixels = torch.randn(3, 3, 48, 48, generator=torch.Generator().manual_seed(1)).to(dtype)
    found = load(folder, dtype=str(dtype).removeprefix("torch."))(pixels).outputs["image_features"]
    # Gemma 3's own norm computes in float32.
    close(found, theirs(folder, pixels), 1e-9 if dtype == torch.float64 and write is write_paligemma else 1e-5)


@pytest.mark.parametrize("form", ["PaliGemma", "Gemma 3"])
def test_a_picture_becomes_what_the_classes_of_transformers_make_of_it(form: str, tmp_path: Path) -> None:
    write, options = FORMS[form]
    folder = write(tmp_path / "dense", **options)
    file = tmp_path / "p.png"
    Image.fromarray(np.random.default_rng(3).integers(0, 256, (70, 100, 3), np.uint8)).save(file)
    pixels = PROCESSORS[write].from_pretrained(folder)(Image.open(file), return_tensors="pt")["pixel_values"]
    found = Pipeline(folder).embed_images([file])
    close(torch.from_numpy(found), theirs(folder, pixels), 1e-5)


def test_the_smallest_config_is_read_with_the_values_of_its_class(tmp_path: Path) -> None:
    from transformers import Gemma3Config, PaliGemmaConfig

    from pumer_convert.models.family import family_of

    for config in (PaliGemmaConfig(), Gemma3Config()):
        config.vision_config.patch_size = 14
        whole = config.to_dict()
        spec = family_of(config.model_type).spec(whole)
        assert spec.graphs[0].outputs[0].shape[2] == config.text_config.hidden_size
    small = family_of("paligemma").checked({"model_type": "paligemma"}, "here")
    theirs = PaliGemmaConfig()
    assert small["vision_config"]["intermediate_size"] == theirs.vision_config.intermediate_size == 4096
    assert small["text_config"]["num_key_value_heads"] == theirs.text_config.num_key_value_heads == 1
    assert small["text_config"]["hidden_size"] == theirs.text_config.hidden_size


REFUSED: list[tuple[Callable[..., Path], dict[str, Any], str]] = [
    (write_paligemma, {"projection_dim": 40}, "projection_dim is 40 .*; the language model takes 48 numbers"),
    (write_paligemma, {"vision_config": {"model_type": "clip_vision_model"}}, "the tower that is read is siglip"),
    (write_paligemma, {"text_config": {"model_type": "phi"}}, "text_config.hidden_size is null .* 'phi' it has to be"),
    (write_paligemma, {"projector_scale": 2}, "projector_scale .* that key is not known here"),
    (write_gemma3, {"mm_tokens_per_image": 8}, "mm_tokens_per_image is 8 in its config; it has to be the square"),
    (write_gemma3, {"mm_tokens_per_image": 16}, "48 x 48 pixels are 6 x 6 patches, which do not pool to 4 x 4"),
    (write_gemma3, {"text_config": {"hidden_size": 40}}, "the weights do not fit the config"),
    (write_gemma3, {"architectures": ["Gemma3ForCausalLM"]}, "architectures is .*Gemma3ForConditionalGeneration"),
]


@pytest.mark.parametrize(("write", "change", "says"), REFUSED, ids=[says[:30] for _, _, says in REFUSED])
def test_what_is_not_understood_is_refused_by_name(
    write: Callable[..., Path], change: dict[str, Any], says: str, tmp_path: Path
) -> None:
    folder = write(tmp_path / "dense")
    edit(folder, lambda values: values.update(change))
    with pytest.raises(InputError, match=says):
        check_complete(open_checkpoint(folder))


def test_pictures_in_several_crops_are_refused(tmp_path: Path) -> None:
    folder = write_gemma3(tmp_path / "dense")
    Gemma3ImageProcessorPil(
        size={"height": 48, "width": 48},
        do_pan_and_scan=True,
        pan_and_scan_min_crop_size=16,
        pan_and_scan_max_num_crops=4,
        pan_and_scan_min_ratio_to_activate=1.2,
    ).save_pretrained(folder)
    with pytest.raises(InputError, match="do_pan_and_scan"):
        Pipeline(folder)
