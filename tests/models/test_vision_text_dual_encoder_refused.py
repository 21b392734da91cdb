"""What a VisionTextDualEncoderModel's config, tokenizer or recipe says and this package does not do is refused."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny_pairs

from pumer_convert.checkpoint.read import check_complete, open_checkpoint
from pumer_convert.convert.apply import prepare_apply
from pumer_convert.data.preprocess import Preprocessor
from pumer_convert.errors import InputError


def vision(**values: Any) -> Callable[[dict[str, Any]], None]:
    return lambda config: config["vision_config"].update(values)


def text(**values: Any) -> Callable[[dict[str, Any]], None]:
    return lambda config: config["text_config"].update(values)


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        ("vit", vision(model_type="swin"), 'vision_config.model_type is "swin" .* are vit and clip_vision_model'),
        ("vit", vision(model_type=["vit"]), r'vision_config.model_type is \["vit"\]'),
        ("vit", vision(model_type="clip"), "vision_config.vision_config is null in its config; it has to be an object"),
        ("vit", vision(pooler_output_size=32), "pooler_output_size is 32 in its config; what follows takes .*, 64"),
        ("vit", vision(pooler_act="gelu_new_new"), 'vision_config.pooler_act is "gelu_new_new"'),
        ("vit", vision(attention_dropout=0.5), "vision_config.attention_dropout is 0.5 .* that key is not known here"),
        ("vit", vision(num_channels=1), "vision_config.num_channels is 1"),
        ("vit", vision(image_size=[48, 32]), "only squares are read"),
        ("vit", vision(qkv_bias=False), "12 unexpected: vision_model.encoder.layer.0.attention.attention.key.bias"),
        ("clip_vision_model", vision(qkv_bias=True), "vision_config.qkv_bias is true .* not known here"),
        ("vit", text(model_type="distilbert"), 'text_config.model_type is "distilbert" .* bert, roberta'),
        ("vit", text(is_decoder=True), "text_config.is_decoder is true"),
        ("vit", text(position_embedding_type="relative_key"), "position_embedding_type"),
        ("vit", text(pad_token_id=1000), "text_config.pad_token_id is 1000"),
        ("vit", text(num_attention_heads=7), "text_config.num_attention_heads is 7 .* hidden_size, 48"),
        ("vit", text(max_text_len=7), "text_config.max_text_len is 7 .* not known here"),
        ("vit", lambda config: config.update(text_config="bert"), 'text_config is "bert" .* an object'),
        ("vit", lambda config: config.update(projection_dim=None), "projection_dim is null"),
        ("vit", lambda config: config.update(projection_dim=25), "of another shape: .*_projection.weight"),
        ("vit", lambda config: config.update(pooling="mean"), "pooling is .* that key is not known here"),
        ("vit", lambda config: config.update(architectures=["CLIPModel"]), "architectures is .* has to be named"),
        ("vit", lambda config: config.pop("model_type"), "a VisionTextDualEncoderModel without its config.json"),
    ],
)
def test_what_is_not_understood_is_refused(
    tmp_path: Path, kind: str, change: Callable[[Any], Any], message: str
) -> None:
    folder = tiny_pairs.edit(tiny_pairs.write(tmp_path / "dense", kind), change)
    with pytest.raises(InputError, match=message) as refused:
        check_complete(open_checkpoint(folder))
    assert "\n" not in str(refused.value)


def test_a_whole_clip_in_the_config_is_its_tower_of_pictures(tmp_path: Path) -> None:
    folder = tiny_pairs.write(tmp_path / "dense", "clip_vision_model")
    own = open_checkpoint(folder).config

    def wrapped(config: dict[str, Any]) -> None:
        inner = {key: value for key, value in config["vision_config"].items() if key != "model_type"}
        config["vision_config"] = {"model_type": "clip", "projection_dim": 9, "vision_config": inner}

    check_complete(open_checkpoint(tiny_pairs.edit(folder, wrapped)))
    assert open_checkpoint(folder).config == own


def test_what_a_config_leaves_out_or_says_to_nobody(
    tmp_path: Path,
) -> None:
    folder = tiny_pairs.write(tmp_path / "dense")
    tiny_pairs.edit(folder, text(pooler_type="first_token_transform", directionality="bidi", pooler_fc_size=768))
    check_complete(open_checkpoint(folder))
    tiny_pairs.edit(folder, lambda config: (config.update(vision_config=None), config.pop("text_config")))
    config = open_checkpoint(folder).config
    assert (config["vision_config"]["model_type"], config["vision_config"]["image_size"]) == ("vit", 48)
    assert (config["text_config"]["model_type"], config["text_config"]["vocab_size"]) == ("bert", 30522)


def test_texts_are_left_whole_and_a_recipe_is_told_so(tmp_path: Path) -> None:
    folder = tiny_pairs.write(tmp_path / "dense")
    why = r"; the text's tower meets no picture, so it is left whole\."
    for step, message in (
        ("{at: vision.1, merge: {text: 0.2}}", rf"no text runs through vision\.1, so it cannot be reduced there{why}"),
        ("{at: text.1, merge: {text: 0.2}}", rf"the model has no site 'text\.1'; it has vision\.0-3{why}"),
        ("{at: vision.1, prune: {image: 0.2}}", r"prune\.by cannot be 'relevance'"),
    ):
        (tmp_path / "r.yaml").write_text(f"recipe: 1\nmodel: vision-text-dual-encoder\nreduce:\n  - {step}\n")
        with pytest.raises(InputError, match=message):
            prepare_apply(folder, tmp_path / "r.yaml")


@pytest.mark.parametrize(("kind", "file"), [("bert", "vocab.txt"), ("roberta", "vocab.json")])
def test_the_tokenizer_is_of_the_texts_kind(tmp_path: Path, kind: str, file: str) -> None:
    """From the vocabulary alone; the files of the other kind would be none for its class, which makes up an empty
    one."""
    folder, other = (
        tiny_pairs.write(tmp_path / name, "vit", name) for name in (kind, "bert" if file != "vocab.txt" else "roberta")
    )
    words = Preprocessor.of(folder).words(["the cat is red"])
    own = tiny_pairs.tokenizer(kind)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()
        (other / name).unlink()
    own.backend_tokenizer.model.save(str(folder))
    assert (folder / file).exists()
    assert Preprocessor.of(folder).words(["the cat is red"])["input_ids"].tolist() == words["input_ids"].tolist()
    for name in ("vocab.txt", "vocab.json", "merges.txt"):
        if (folder / name).exists():
            shutil.move(folder / name, other / name)
    with pytest.raises(
        InputError, match=r"its tokenizer (is read as a \w+Tokenizer, of which there is no file|cannot)"
    ):
        Preprocessor.of(other)


def test_a_checkpoint_without_a_processor_gets_that_of_its_tower(tmp_path: Path) -> None:
    for kind, (_, processor) in tiny_pairs.VISION.items():
        folder = tiny_pairs.write(tmp_path / kind, kind)
        told = json.loads((folder / "processor_config.json").read_text())["image_processor"]
        (folder / "processor_config.json").unlink()
        checkpoint = open_checkpoint(folder)
        assert checkpoint.processor is not None
        assert checkpoint.processor["image_processor_type"] == processor.__name__.removesuffix("Pil")
        assert told["size"] == checkpoint.processor["size"]
        assert "There is no preprocessor_config.json" in " ".join(checkpoint.notes)
