"""What a CLIP's config, tokenizer or recipe says and this package does not do is refused; what is missing is said."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny_clip
from PIL import Image

from pumer_convert.checkpoint.read import check_complete, open_checkpoint
from pumer_convert.convert.apply import prepare_apply
from pumer_convert.convert.inspect import inspect
from pumer_convert.data.preprocess import Preprocessor
from pumer_convert.errors import InputError


def vision(**values: Any) -> Callable[[dict[str, Any]], None]:
    return lambda config: config["vision_config"].update(values)


def text(**values: Any) -> Callable[[dict[str, Any]], None]:
    return lambda config: config["text_config"].update(values)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (vision(use_swiglu=True), "vision_config.use_swiglu is true in its config; that key is not known here"),
        (vision(hidden_act="xielu"), 'vision_config.hidden_act is "xielu"'),
        (vision(num_attention_heads=5), "vision_config.num_attention_heads is 5 in its config; hidden_size, 64"),
        (vision(num_channels=4), "vision_config.num_channels is 4"),
        (vision(patch_size=100), "vision_config.patch_size is 100 in its config; image_size is 48"),
        (vision(image_size=[48, 32]), "only squares are read"),
        (vision(model_type="siglip_vision_model"), "it has to be clip_vision_model"),
        (text(eos_token_id=[92, 93]), r"text_config.eos_token_id is \[92, 93\]"),
        (text(eos_token_id=None), "text_config.eos_token_id is null"),
        (text(eos_token_id=93), "no text can end with it, for vocab_size is 93"),
        (text(layer_norm_eps="small"), "text_config.layer_norm_eps"),
        (lambda config: config.update(vision_config=[1]), "it has to be an object"),
        (lambda config: config.update(projection_dim=None), "projection_dim is null"),
        (lambda config: config.update(text_projection="linear"), "that key is not known here"),
        (lambda config: config.update(architectures=["CLIPForImageClassification"]), "one of these heads has to be"),
        (lambda config: config.update(architectures=["CLIPVisionModel"]), "unexpected"),
        (vision(num_hidden_layers=5), "missing: vision_model.encoder.layers.4"),
        (lambda config: config.update(model_type="chinese_clip"), "no format that is read here"),
        (lambda config: config.pop("model_type"), "the weights of a CLIP without its config.json"),
    ],
)
def test_what_is_not_understood_is_refused(tmp_path: Path, change: Callable[[Any], Any], message: str) -> None:
    folder = tiny_clip.edit(tiny_clip.write(tmp_path / "dense"), change)
    with pytest.raises(InputError, match=message) as refused:
        check_complete(open_checkpoint(folder))
    assert "\n" not in str(refused.value)


def test_a_tower_alone_is_refused_by_its_own_keys(tmp_path: Path) -> None:
    folder = tiny_clip.write(tmp_path / "dense", "CLIPVisionModel")
    tiny_clip.edit(folder, lambda config: config.update(registers=4))
    with pytest.raises(InputError, match=r"dense: registers is 4 in its config"):
        open_checkpoint(folder)
    tiny_clip.edit(folder, lambda config: (config.pop("registers"), config.update(architectures=["CLIPModel"])))
    with pytest.raises(InputError, match=r"architectures is .*; its model_type is clip_vision_model"):
        open_checkpoint(folder)


def test_texts_are_left_whole_and_a_recipe_is_told_so(tmp_path: Path) -> None:
    folder = tiny_clip.write(tmp_path / "dense")
    why = r"; the text's tower is causal and read at its end, so it is left whole\."
    for step, message in (
        ("{at: vision.1, merge: {text: 0.2}}", rf"no text runs through vision\.1, so it cannot be reduced there{why}"),
        ("{at: text.1, merge: {text: 0.2}}", rf"the model has no site 'text\.1'; it has vision\.0-3{why}"),
        ("{at: vision.1, prune: {image: 0.2}}", r"prune\.by cannot be 'relevance'"),
        (
            "{at: vision.1, prune: {image: 0.2, by: probe_attention}}",
            r"'probe_attention' at vision\.1, whose image no probe pools; allowed there: cls_attention, random, u",
        ),
    ):
        (tmp_path / "r.yaml").write_text(f"recipe: 1\nmodel: clip\nreduce:\n  - {step}\n")
        with pytest.raises(InputError, match=message):
            prepare_apply(folder, tmp_path / "r.yaml")
    alone = tiny_clip.write(tmp_path / "text", "CLIPTextModel")
    (tmp_path / "r.yaml").write_text("recipe: 1\nmodel: clip\nreduce:\n  - {at: vision.0, merge: {image: 0.3}}\n")
    with pytest.raises(InputError, match=r"no site 'vision\.0'; it has none; the text's tower is causal"):
        prepare_apply(alone, tmp_path / "r.yaml")
    (tmp_path / "r.yaml").write_text("recipe: 1\nmodel: clip\nimage_size: 96\n")
    with pytest.raises(InputError, match=r"image_size: the model takes no pictures\."):
        prepare_apply(alone, tmp_path / "r.yaml")


def test_a_tokenizer_without_an_end_is_refused(tmp_path: Path) -> None:
    folder = tiny_clip.write(tmp_path / "dense", text={"eos_token_id": 60})
    with pytest.raises(InputError, match=r"its tokenizer ends no text with the id 60 \(eos_token_id\)"):
        Preprocessor.of(folder)


def test_what_is_missing_is_said_of_the_towers_there_are(tmp_path: Path) -> None:
    picture, words = (tiny_clip.write(tmp_path / name, f"CLIP{name}Model") for name in ("Vision", "Text"))
    assert open_checkpoint(picture).notes == ()
    (picture / "preprocessor_config.json").unlink()
    assert "CLIPImageProcessor does, the shorter side 48 pixels" in " ".join(open_checkpoint(picture).notes)
    assert open_checkpoint(words).notes == ()
    told = inspect(words)
    assert (told.pictures, told.image_size, told.sites) == ("no pictures", None, ())
    assert told.graphs == {"text": (("input_ids", "attention_mask"), ("pooler_output",))}
    assert inspect(picture).graphs == {"image": (("pixel_values",), ("pooler_output",))}
    preprocessor = Preprocessor.of(words)
    with pytest.raises(InputError, match="the model takes no pictures"):
        preprocessor.pixels(Image.new("RGB", (9, 9)))
