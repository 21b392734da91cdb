"""The layout hf: transformers loads the whole folder and generates with the reduced vision part."""

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tiny_clip
import torch
from click.testing import CliRunner
from in_place import handed, without_cache
from registered import DENSE, restore
from transformers import (
    AutoModelForImageTextToText,
    LlavaForConditionalGeneration,
)
from whole_llava import IMAGE, PAD, inputs, write

import pumer_convert
from pumer_convert.checkpoint.read import open_checkpoint
from pumer_convert.cli import cli
from pumer_convert.convert.apply import apply
from pumer_convert.convert.load import load
from pumer_convert.errors import InputError
from pumer_convert.export.layouts.hf import export_hf

NEW = 6
RECIPE = """recipe: 1
model: llava
reduce:
  - {at: vision.1, merge: {image: 0.2, by: pitome}}
  - {at: projector, prune: {image: {keep: 9}, by: divprune}}
"""


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    with torch.no_grad():
        yield
    restore()


def reduced(folder: Path, **config: Any) -> Path:
    write(folder / "dense", **config)
    (folder / "r.yaml").write_text(RECIPE.replace("vision.1", "vision.0"))
    apply(folder / "dense", folder / "r.yaml", folder / "part")
    return folder / "part"


FORMS: dict[str, dict[str, Any]] = {
    "as published": {},
    "every token": {"vision_feature_select_strategy": "full"},
    "SigLIP": {"tower": "siglip", "vision_feature_layer": -1, "vision_feature_select_strategy": "full"},
    "in shards": {"shards": "60KB"},
}


@pytest.mark.parametrize("form", FORMS)
def test_it_generates_what_the_reduced_model_gives_it_to_read(form: str, tmp_path: Path) -> None:
    part = reduced(tmp_path, **FORMS[form])
    report = export_hf(part, tmp_path / "whole")
    assert report["image_tokens"] == 9
    pumer_convert.register()
    model = AutoModelForImageTextToText.from_pretrained(tmp_path / "whole").eval()
    assert type(model).__name__ == "ReducedLlava"
    given = inputs(tmp_path / "whole")
    assert (given["input_ids"] == IMAGE).sum(1).tolist() == [9, 9]
    asked = {"max_new_tokens": NEW, "do_sample": False, "pad_token_id": PAD, "eos_token_id": None}
    found = model.generate(**given, **asked)[:, given["input_ids"].shape[1] :]
    dense = LlavaForConditionalGeneration.from_pretrained(tmp_path / "dense").eval()
    output, vision = load(part)(given["pixel_values"]), load(tmp_path / "dense")(given["pixel_values"])
    embedded, positions = handed(dense, given, output, vision.outputs["image_features"].shape[1], IMAGE)
    mask = given["attention_mask"]
    expected = dense.generate(inputs_embeds=embedded, attention_mask=mask, position_ids=positions, **asked)
    assert torch.equal(found, expected)
    assert found.unique().numel() > 1
    assert torch.equal(found, without_cache(dense, embedded, mask, positions, NEW))
    # One pass over the prompt, with a mask and, where nothing is padded, without.
    logits = dense(inputs_embeds=embedded, attention_mask=mask, position_ids=positions).logits
    torch.testing.assert_close(model(**given).logits[mask == 1], logits[mask == 1], atol=1e-4, rtol=1e-4)
    alone = {name: given[name][1:] for name in ("input_ids", "pixel_values")}
    alone["input_ids"] = alone["input_ids"][:, mask[1] == 1]
    for more in ({}, {"use_cache": False}):
        torch.testing.assert_close(model(**alone, **more).logits, logits[1:, mask[1] == 1], atol=1e-4, rtol=1e-4)
        again = model.generate(**alone, **asked, **more)[:, alone["input_ids"].shape[1] :]
        assert torch.equal(again, found[1:])


def test_positions_are_renumbered_where_that_is_asked_for(tmp_path: Path) -> None:
    part = reduced(tmp_path)
    words = ["export", str(part), "--layout", "hf", "--positions", "renumbered", "-o", str(tmp_path / "whole")]
    CliRunner().invoke(cli, words, catch_exceptions=False)
    assert "positions one after the other" in (tmp_path / "whole" / "README.md").read_text()
    pumer_convert.register()
    model = AutoModelForImageTextToText.from_pretrained(tmp_path / "whole").eval()
    given, asked = inputs(tmp_path / "whole"), {"max_new_tokens": NEW, "do_sample": False, "eos_token_id": None}
    dense = LlavaForConditionalGeneration.from_pretrained(tmp_path / "dense").eval()
    embedded, positions = handed(dense, given, load(part)(given["pixel_values"]), 36, IMAGE)
    plain = {"inputs_embeds": embedded, "attention_mask": given["attention_mask"], **asked}
    found = model.generate(**given, **asked)[:, given["input_ids"].shape[1] :]
    assert torch.equal(found, expected := dense.generate(**plain))
    assert not torch.equal(expected, dense.generate(**plain, position_ids=positions))
    config = json.loads((tmp_path / "whole" / "config.json").read_text())
    config["pumer"]["positions"] = "other"
    (tmp_path / "whole" / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match=r"pumer\.positions.*'other', not one of original, renumbered"):
        open_checkpoint(tmp_path / "whole")
    with pytest.raises(InputError, match="positions: 'other'; allowed: original, renumbered"):
        export_hf(part, tmp_path / "again", positions="other")


def test_places_are_those_of_what_was_pruned(tmp_path: Path) -> None:
    write(tmp_path / "dense")
    (tmp_path / "r.yaml").write_text(
        "recipe: 1\nmodel: llava\nreduce:\n  - {at: projector, prune: {image: {keep: 9}, by: cls_attention}}\n"
    )
    apply(tmp_path / "dense", tmp_path / "r.yaml", tmp_path / "part")
    found = load(tmp_path / "part")(inputs(tmp_path / "dense")["pixel_values"])
    assert torch.equal(found.image.place, found.trace.taken["projector/prune.image"])


def test_a_chat_goes_on_behind_its_cache(tmp_path: Path) -> None:
    """A second picture, and words alone: logits of the last step are those of everything computed anew."""
    part = reduced(tmp_path)
    export_hf(part, tmp_path / "whole")
    pumer_convert.register()
    model = AutoModelForImageTextToText.from_pretrained(tmp_path / "whole").eval()
    dense = LlavaForConditionalGeneration.from_pretrained(tmp_path / "dense").eval()
    random = torch.Generator().manual_seed(5)
    pixels = torch.randn(2, 3, 48, 48, generator=random)
    asked = {"max_new_tokens": 2, "do_sample": False, "eos_token_id": None, "pad_token_id": PAD}
    more = {"return_dict_in_generate": True, "output_logits": True}
    first = torch.tensor([[5, *[IMAGE] * 9, 7]])
    said = model.generate(input_ids=first, pixel_values=pixels[:1], **asked, **more)
    for added, pictures in (([3, *[IMAGE] * 9, 8], 2), ([3, 8], 1)):
        ids = torch.cat([said.sequences, torch.tensor([added])], 1)
        new = {"pixel_values": pixels[1:]} if pictures == 2 else {}
        cache = copy.deepcopy(said.past_key_values)
        found = model.generate(input_ids=ids, cache=cache, **new, **asked, **more)
        given = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        embedded, positions = handed(dense, given, load(part)(pixels[:pictures]), 36, IMAGE)
        expected = dense(inputs_embeds=embedded, position_ids=positions, attention_mask=given["attention_mask"])
        torch.testing.assert_close(found.logits[0][0], expected.logits[0, -1], atol=1e-4, rtol=1e-4)
    alone = {"input_ids": torch.tensor([[3, 8]]), "attention_mask": torch.ones(1, 15, dtype=torch.int64)}
    with pytest.raises(InputError, match="the ids are not those of the whole prompt; give all of them"):
        model.generate(**alone, cache=said.past_key_values, **asked)


def test_embeddings_beside_pictures_do_not_say_where_they_stand(tmp_path: Path) -> None:
    export_hf(reduced(tmp_path), tmp_path / "whole")
    pumer_convert.register()
    model = AutoModelForImageTextToText.from_pretrained(tmp_path / "whole").eval()
    given = inputs(tmp_path / "whole")
    embedded = model.get_input_embeddings()(given["input_ids"])
    pictures = {"inputs_embeds": embedded, "pixel_values": given["pixel_values"]}
    for call in (model, lambda **given: model.generate(**given, max_new_tokens=1, pad_token_id=PAD)):
        with pytest.raises(InputError, match="embeddings beside pictures do not say where these stand; give input_ids"):
            call(**pictures, attention_mask=given["attention_mask"])


def test_what_is_saved_again_loads_again(tmp_path: Path) -> None:
    export_hf(reduced(tmp_path), tmp_path / "whole")
    pumer_convert.register()
    model = AutoModelForImageTextToText.from_pretrained(tmp_path / "whole").eval()
    model.save_pretrained(tmp_path / "again")
    assert json.loads((tmp_path / "again" / "config.json").read_text())["architectures"] == [DENSE["llava"].__name__]
    given = inputs(tmp_path / "whole")
    again = AutoModelForImageTextToText.from_pretrained(tmp_path / "again").eval()
    assert type(again) is type(model)
    assert torch.equal(again(**given).logits, model(**given).logits)


def test_a_step_behind_a_cache_has_to_say_where_it_stands(tmp_path: Path) -> None:
    export_hf(reduced(tmp_path), tmp_path / "whole")
    pumer_convert.register()
    model = AutoModelForImageTextToText.from_pretrained(tmp_path / "whole").eval()
    given = inputs(tmp_path / "whole")
    cache = model(**given).past_key_values
    for network, name in ((model, "cache"), (model.model, "cache"), (model.model, "past_key_values")):
        with pytest.raises(InputError, match="a step behind a cache needs position_ids; generate gives them"):
            network(input_ids=given["input_ids"][:, -1:], attention_mask=given["attention_mask"], **{name: cache})
    del given["pixel_values"]
    with pytest.raises(InputError, match="nothing says which tokens are left of the pictures; give generate pixel"):
        model.generate(**given, max_new_tokens=1, pad_token_id=PAD)


def test_without_registration_transformers_stops(tmp_path: Path) -> None:
    export_hf(reduced(tmp_path), tmp_path / "whole")
    model = LlavaForConditionalGeneration.from_pretrained(tmp_path / "whole").eval()
    with pytest.raises(ValueError, match="do not match"):
        model.generate(**inputs(tmp_path / "whole"), max_new_tokens=1, pad_token_id=PAD)


def test_a_dense_model_is_what_it_was(tmp_path: Path) -> None:
    folder = write(tmp_path / "dense")
    given = inputs(folder)
    dense = LlavaForConditionalGeneration.from_pretrained(folder).eval()(**given).logits
    pumer_convert.register()
    model = AutoModelForImageTextToText.from_pretrained(folder).eval()
    torch.testing.assert_close(model(**given).logits, dense, atol=1e-5, rtol=1e-5)


def test_weights_are_linked_and_the_files_tell_the_count(tmp_path: Path) -> None:
    part = reduced(tmp_path)
    found = CliRunner().invoke(
        cli, ["export", str(part), "--layout", "hf", "-o", str(tmp_path / "whole")], catch_exceptions=False
    )
    assert found.stdout == f"wrote {tmp_path / 'whole'} (9 tokens of a picture)\n"
    assert (tmp_path / "whole" / "model.safetensors").samefile(tmp_path / "dense" / "model.safetensors")
    values = {
        name: json.loads((tmp_path / "whole" / f"{name}.json").read_text()) for name in ("config", "processor_config")
    }
    assert values["config"]["image_seq_length"] == 9
    assert values["processor_config"]["num_additional_image_tokens"] == 9 - 36 + 1
    export_hf(part, tmp_path / "whole", overwrite=True)
    assert (tmp_path / "dense" / "model.safetensors").exists()


def test_what_has_no_whole_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="a clip has no language model to generate with"):
        export_hf(tiny_clip.write(tmp_path / "clip"), tmp_path / "out")
    part = reduced(tmp_path)
    with pytest.raises(InputError, match="nothing says what it was made from; the layout hf needs the whole model"):
        export_hf(tmp_path / "dense", tmp_path / "out")
    (tmp_path / "dense").rename(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="is not there any more; the layout hf needs the whole model"):
        export_hf(part, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_weights_that_were_saved_there_since_are_not_replaced(tmp_path: Path) -> None:
    part = reduced(tmp_path)
    export_hf(part, tmp_path / "whole")
    model = LlavaForConditionalGeneration.from_pretrained(tmp_path / "whole")
    for parameter in model.parameters():
        parameter.add_(1)
    before = (tmp_path / "dense" / "model.safetensors").read_bytes()
    config = (tmp_path / "whole" / "config.json").read_bytes()
    model.save_pretrained(tmp_path / "whole")
    (tmp_path / "whole" / "config.json").write_bytes(config)
    assert (tmp_path / "dense" / "model.safetensors").read_bytes() == before
    trained = (tmp_path / "whole" / "model.safetensors").read_bytes()
    with pytest.raises(InputError, match=r"not overwritten, for not all in it .*: model\.safetensors;"):
        export_hf(part, tmp_path / "whole", overwrite=True)
    assert (tmp_path / "whole" / "model.safetensors").read_bytes() == trained


@pytest.mark.parametrize("idle", [["--opset", "23"], ["--trt", "--profile", "1:1:1,4:4:4"], ["--dtype", "float16"]])
def test_options_that_mean_nothing_to_it_are_refused(tmp_path: Path, idle: list[str]) -> None:
    found = CliRunner().invoke(cli, ["export", "part", "--layout", "hf", "-o", str(tmp_path / "whole"), *idle])
    assert isinstance(found.exception, InputError)
    assert "--layout hf takes -o, --positions, --overwrite, --json alone beside it; leave" in str(found.exception)
