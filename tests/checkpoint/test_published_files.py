"""The small files of published checkpoints, as they stand on the Hub: read, and answered by as transformers does."""

import json
from pathlib import Path
from typing import Any

import pytest
import saved_bridgetower
import tiny_llava
import tiny_pairs
import torch
import transformers
from pictures import picture
from saved_vilt import inputs, save

import pumer_convert
from pumer_convert import Pipeline
from pumer_convert.checkpoint.read import open_checkpoint
from pumer_convert.errors import InputError

VQA = "ViltForQuestionAnswering"
PROGRAM: dict[str, Any] = {
    "downstream_fusion": False,
    "downstream_fusion_layers": 1,
    "downstream_fusion_method": "elmo",
    "drop_rate": 0.1,
    "freeze_RoBERTa": False,
    "freeze_ViT": False,
    "freeze_layer_count_roberta": False,
    "freeze_layer_count_vit": False,
    "head_hidden_scale": 2,
    "hidden_size": 768,
    "input_text_embed_size": 768,
    "link_tower_shared": False,
    "link_tower_type": "add",
    "log_dir": "log_dir",
    "loss_names": {"contras": 0, "irtr": 0, "itm": 0, "mlm": 0, "vqa": 1},
    "max_text_len": 50,
    "mlp_ratio": 4,
    "model_type": "bridgetower",
    "num_heads": 12,
    "num_layers": 6,
    "num_nodes": 1,
    "only_load_cross_modal_from_meter": False,
    "patch_size": 16,
    "resolution_before": 224,
    "stop_gradient": False,
    "task_head_layers": 2,
    "test_only": False,
    "tokenizer": "roberta-base",
    "unfreeze_RoBERTa_attention": False,
    "unfreeze_ViT_layernorm": False,
    "vit": "ViT-B/16",
    "vit_layernorm_init_from_vit": False,
    "vit_layernorm_shared": True,
    "vit_remove_last": False,
    "vocab_size": 50265,
}
"""What the processor's file of BridgeTower's base models says: what their program was started with."""
PROCESSORS = {
    "base": {**PROGRAM, "cache_dir": "/somewhere", "image_size": 288},
    "base-itm-mlm": {**PROGRAM, "size": 288},
    "large-itm-mlm": {"max_text_len": 50, "size": 288, "tokenizer": "roberta-large", "vocab_size": 50265},
}


@pytest.fixture(scope="module")
def bridgetower(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small one for pictures of 288 pixels, whose config says what the published ones say, and no more."""
    folder = tmp_path_factory.mktemp("published") / "bridgetower"
    saved_bridgetower.write(folder, vision={"image_size": 288, "patch_size": 32})
    file = folder / "config.json"
    config = json.loads(file.read_text())
    del config["architectures"], config["model_type"]
    config["vision_config"] |= {"vit_remove_last": False, "init_layernorm_from_vit": False}
    file.write_text(json.dumps(config))
    return folder


def test_the_vilt_that_answers_questions_names_its_class_as_it_was_once_called(tmp_path: Path) -> None:
    sizes = {"hidden_size": 32, "num_attention_heads": 4, "num_hidden_layers": 2, "intermediate_size": 48}
    sizes |= {"image_size": 32, "patch_size": 8, "vocab_size": 50, "num_labels": 5}
    theirs = save({"architectures": [VQA], **sizes}, tmp_path / "m", 11)
    file = tmp_path / "m" / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"architectures": ["ViltForVisualQuestionAnswering"]}))
    found = open_checkpoint(tmp_path / "m")
    assert (found.task, found.config["architectures"]) == ("vqa", [VQA])
    given = inputs(theirs.config, 3)
    with torch.no_grad():
        got = pumer_convert.load(tmp_path / "m")(**given).logits
        torch.testing.assert_close(got, theirs(**given).logits, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", PROCESSORS)
def test_bridgetowers_files_say_what_its_program_was_started_with(bridgetower: Path, tmp_path: Path, name: str) -> None:
    values = PROCESSORS[name]
    (bridgetower / "preprocessor_config.json").write_text(json.dumps(values))
    file = picture(tmp_path / "p.png")
    (got,) = Pipeline(bridgetower, device="cpu").pixels(file)
    theirs = transformers.BridgeTowerImageProcessorPil(**values)
    (want,) = theirs(transformers.image_utils.load_image(str(file)))["pixel_values"]
    torch.testing.assert_close(torch.tensor(got), torch.tensor(want), atol=1e-6, rtol=1e-6)


def test_other_keys_of_a_bridgetowers_processor_are_refused_by_name(bridgetower: Path) -> None:
    (bridgetower / "preprocessor_config.json").write_text(json.dumps({**PROGRAM, "sise": 288}))
    with pytest.raises(InputError, match=r"says 'sise', which is not understood. Did you mean 'size'\?"):
        open_checkpoint(bridgetower)


def test_keys_of_other_programs_that_no_network_reads(tmp_path: Path) -> None:
    """The seed of the scripts that trained pairs of towers in Flax, and what a fine-tuning tool writes of itself."""
    folder = tiny_pairs.write(tmp_path / "dense")
    before = open_checkpoint(folder).config
    after = open_checkpoint(tiny_pairs.edit(folder, lambda config: config.update(seed=42, unsloth_version="2025.1")))
    assert after.config == {**before, "seed": 42, "unsloth_version": "2025.1"}


@pytest.mark.parametrize("kind", ["llava", "llava_llama", "llava_mistral"])
def test_a_llava_of_its_authors_program_is_told_from_transformers(tmp_path: Path, kind: str) -> None:
    told = {"model_type": kind, "architectures": ["LlavaLlamaForCausalLM"], "freeze_mm_mlp_adapter": False}
    told |= {"mm_vision_tower": "openai/clip-vit-large-patch14-336", "mm_projector_type": "mlp2x_gelu"}
    folder = tiny_llava.write(tmp_path / "m")
    (folder / "config.json").write_text(json.dumps(told))
    with pytest.raises(InputError, match=r"a tower that lies elsewhere \(openai/clip-vit-large-patch14-336\); take"):
        open_checkpoint(folder)
