"""The values of a config.json: obeyed as transformers obeys them, or refused by key and value."""

import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import random_checkpoint
import torch
import transformers
from draw_config import HEADS
from safetensors.torch import load_file, save_file
from saved_vilt import inputs, save
from transformers.activations import ACT2CLS, ACT2FN

import pumer_convert
from pumer_convert.checkpoint.read import open_checkpoint
from pumer_convert.data.preprocess import Preprocessor
from pumer_convert.errors import InputError
from pumer_convert.models.activations import FUNCTIONS
from pumer_convert.models.values import ACTIVATIONS, GENERAL, OFF
from pumer_convert.models.vilt.config import ViltSettings

TINY = {
    "architectures": [HEADS[0]],
    "hidden_size": 32,
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "intermediate_size": 48,
    "image_size": 32,
    "patch_size": 8,
    "vocab_size": 50,
    "num_labels": 5,
}


@pytest.fixture(autouse=True)
def no_gradients():
    with torch.no_grad():
        yield


def off(folder: Path, **more: Any) -> float:
    """How far our logits are from transformers' for a tiny model with these values, as a share of the largest."""
    theirs = save({**TINY, **more}, folder, 11)
    given = inputs(theirs.config, 3)
    want, got = theirs(**given).logits, pumer_convert.load(folder)(**given).logits
    return float((got - want).abs().max() / want.abs().max())


def changed(folder: Path, **values: Any) -> Path:
    """A saved tiny model whose config.json says these values too; `DROP` takes a key out."""
    save(TINY, folder, 11)
    file = folder / "config.json"
    config = {**json.loads(file.read_text()), **values}
    file.write_text(json.dumps({key: value for key, value in config.items() if value is not DROP}))
    return folder


DROP = object()


def test_every_activation_is_transformers_own() -> None:
    x = torch.cat([torch.linspace(-15, 15, 3001), torch.tensor([0.0])])
    assert tuple(FUNCTIONS) == ACTIVATIONS
    assert set(ACT2CLS) - set(ACTIVATIONS) <= {"prelu", "xielu"}, "transformers has an activation that is not read"
    for name in ACTIVATIONS:
        torch.testing.assert_close(FUNCTIONS[name](x), ACT2FN[name](x), atol=2e-6, rtol=1e-5, msg=name)


def test_every_activation_can_be_exported(tmp_path: Path) -> None:
    import onnxruntime

    class All(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.stack([FUNCTIONS[name](x) for name in ACTIVATIONS])

    x, file = torch.linspace(-15, 15, 301), tmp_path / "all.onnx"
    with warnings.catch_warnings(), torch.enable_grad():
        warnings.simplefilter("ignore")  # of the exporter's own
        torch.onnx.export(All().eval(), (x,), file, dynamo=True, opset_version=20, verbose=False)
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    (got,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    torch.testing.assert_close(torch.from_numpy(got), All()(x), atol=2e-6, rtol=1e-5)


@pytest.mark.parametrize(
    "values",
    [
        *({"hidden_act": name} for name in ("relu", "quick_gelu", "gelu_new", "mish", "sqrtsoftplus")),
        {"layer_norm_eps": 0.1},
        {"qkv_bias": False},
        {"type_vocab_size": 1},
        {"modality_type_vocab_size": 4},
        {"max_position_embeddings": 9},
        {"max_image_length": 16},
        {"image_size": 39},
        {"hidden_dropout_prob": 0.5, "attention_probs_dropout_prob": 0.5},
        {"num_images": 3},
        {"architectures": [HEADS[1]], "num_images": 1},
        {"architectures": [HEADS[1]], "num_images": 2, "modality_type_vocab_size": 3},
        {"architectures": [HEADS[1]], "num_images": 3, "modality_type_vocab_size": 4},
        {"architectures": [HEADS[2]]},
        {"num_labels": 1},
    ],
    ids=str,
)
def test_a_value_is_obeyed(tmp_path: Path, values: dict[str, Any]) -> None:
    assert off(tmp_path / "m", **values) < 1e-4


@pytest.mark.parametrize(
    "values",
    [
        {"image_size": [32, 32]},
        {"image_size": {"height": 32, "width": 32}, "patch_size": [8, 8]},
        {"architectures": HEADS[0]},
        {"architectures": ["ViltModel", HEADS[0]]},
        {"architectures": None},
        {"architectures": DROP},
        {"model_type": DROP},
        {"pruned_heads": {}, "quantization_config": None, "is_decoder": False, "cross_attention_hidden_size": None},
        dict.fromkeys(
            sorted(GENERAL - {"architectures", "model_type", "id2label", "label2id", "num_labels", "pad_token_id"})
        ),
        {"position_embedding_type": "absolute", "transformers.js_config": {"dtype": "q8"}, "classifier_dropout": 0.1},
        {"_name_or_path": "here", "_commit_hash": "ab", "_attn_implementation_autoset": True},
    ],
    ids=lambda values: ",".join(values)[:40],
)
def test_what_changes_nothing_is_read(tmp_path: Path, values: dict[str, Any]) -> None:
    plain, folder = changed(tmp_path / "plain"), changed(tmp_path / "m", **values)
    given = inputs(transformers.AutoConfig.from_pretrained(plain), 3)
    assert torch.equal(pumer_convert.load(folder)(**given).logits, pumer_convert.load(plain)(**given).logits)
    config = open_checkpoint(folder).config
    assert (config["image_size"], config["patch_size"], config["architectures"]) == (32, 8, [HEADS[0]])


@pytest.mark.parametrize("head", HEADS[1:])
def test_the_head_is_that_of_the_weights_when_the_config_names_none(tmp_path: Path, head: str) -> None:
    theirs = save({**TINY, "architectures": [head], "num_images": 2, "modality_type_vocab_size": 3}, tmp_path / "m", 1)
    file = tmp_path / "m" / "config.json"
    config = json.loads(file.read_text())
    file.write_text(json.dumps({k: v for k, v in config.items() if k not in ("architectures", "num_images")}))
    given = inputs(theirs.config, 3)
    want, got = theirs(**given).logits, pumer_convert.load(tmp_path / "m")(**given).logits
    assert float((got - want).abs().max() / want.abs().max()) < 1e-4


WRONG = [
    *(("hidden_size", value) for value in (None, "32", 32.0, 0, True)),
    *(("num_hidden_layers", value) for value in (None, "x", 0, 10**9)),
    *(("num_attention_heads", value) for value in (5, 0, -4, None)),
    *(("image_size", value) for value in (None, "32", [32, 40], [32], {"shortest_edge": 32}, 0, 7, True)),
    *(("patch_size", value) for value in (0, [8, 4], None, 64)),
    *(("hidden_act", value) for value in ("prelu", "xielu", "GELU", None, {}, [])),
    *(("layer_norm_eps", value) for value in (None, "1e-12", -1, -1e-9)),
    *(("qkv_bias", value) for value in (None, 1, "true")),
    *(("max_image_length", value) for value in (0, 15, None)),
    *(("hidden_dropout_prob", value) for value in (1.5, None)),
    *(("num_channels", value) for value in (1, 4)),
    *(("modality_type_vocab_size", value) for value in (1, 0)),
    *(("pad_token_id", value) for value in (50, -1, "0")),
    *(("architectures", value) for value in (["ViltForMaskedLM"], "Vilt", {}, 3, list(HEADS), [None])),
    *(("model_type", value) for value in ("bert", None)),
    *(("pumer", value) for value in (None, [1], "x", {"edits": 3}, {"edits": [{"at": "encoder.9", "actions": []}]})),
    *(("pumer_task", value) for value in ("nlvr2", "x", {})),
    *(
        (key, value)
        for key, value in zip(
            OFF, ({"0": [1]}, {"bits": 4}, {"0": {}}, True, "relative_key", True, True, 8), strict=True
        )
    ),
    *(("rotary", True), ("text_layer_norm_eps", 1e-6), ("embedding_size", 16), ("vision_config", {})),
]


@pytest.mark.parametrize(("key", "value"), WRONG, ids=lambda part: str(part)[:30])
def test_what_cannot_be_is_refused_by_name(tmp_path: Path, key: str, value: Any) -> None:
    folder = changed(tmp_path / "m", **{key: value})
    with pytest.raises(InputError, match=rf"^{folder}: .*{key}") as error:
        open_checkpoint(folder)
    assert "\n" not in str(error.value)
    with pytest.raises(InputError):
        pumer_convert.load(folder)


def test_the_preprocessing_reads_the_same_values(tmp_path: Path) -> None:
    folder = changed(tmp_path / "m", image_size=[32, 32])
    half = [0.5] * 3
    processor = {"size": {"shortest_edge": 32}, "image_mean": half, "image_std": half, "size_divisor": 8}
    processor |= {"image_processor_type": "ViltImageProcessor", "do_resize": True, "do_pad": True}
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    (folder / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\n")
    assert Preprocessor.of(folder).longest == 40
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"num_hidden_layers": "2"}))
    with pytest.raises(InputError, match="num_hidden_layers"):
        Preprocessor.of(folder)


def test_more_images_than_max_image_length_are_refused_at_another_size_too(tmp_path: Path) -> None:
    folder = changed(tmp_path / "m", max_image_length=16)
    assert pumer_convert.load(folder)
    with pytest.raises(InputError, match="max_image_length is 16"):
        pumer_convert.load(folder, image_size=40)


def test_dropout_acts_where_transformers_has_it(tmp_path: Path) -> None:
    settings = {"hidden_dropout_prob": 0.25, "attention_probs_dropout_prob": 0.5}
    theirs = save({**TINY, **settings}, tmp_path / "m", 11)
    ours = pumer_convert.load(tmp_path / "m")
    for model in (ours, theirs):
        found = sorted(m.p for m in model.modules() if isinstance(m, torch.nn.Dropout))
        assert found.count(0.25) >= 2 + 2
    given = inputs(theirs.config, 3)
    still = ours(**given).logits
    assert torch.equal(still, ours(**given).logits)
    ours.train()
    assert not torch.equal(still, ours(**given).logits)
    for module in ours.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    assert not torch.equal(still, ours(**given).logits), "that of the attention's probabilities"


def test_the_defaults_are_transformers() -> None:
    ours, theirs = ViltSettings.read({"architectures": [HEADS[0]]}).plain(), transformers.ViltConfig().to_dict()
    del ours["architectures"]
    assert ours == {key: theirs[key] for key in ours}


def test_what_transformers_writes_in_full_is_read(tmp_path: Path) -> None:
    theirs = save(TINY, tmp_path / "m", 11)
    (tmp_path / "m" / "config.json").write_text(theirs.config.to_json_string(use_diff=False))
    assert open_checkpoint(tmp_path / "m").config["hidden_size"] == 32


class TestMeter:
    """METER's own config.json, and what a .ckpt tells beside its weights."""

    def write(self, folder: Path, **values: Any) -> Path:
        config = random_checkpoint.config("meter", "vqa", base=False, depth=2, fusion=2)
        folder.mkdir()
        save_file(random_checkpoint.weights(config), folder / "model.safetensors")
        for key, value in values.items():
            section, _, inner = key.rpartition(".")
            (config[section] if section else config)[inner] = value
        (folder / "config.json").write_text(json.dumps(config))
        return folder

    @pytest.mark.parametrize(
        ("key", "value"),
        [
            *(("num_attention_heads", 3), ("vision.num_attention_heads", 0), ("text.hidden_size", None)),
            *(("text.layer_norm_eps", "x"), ("vision", None), ("text", [1]), ("fusion_order", "other")),
            *(("text.position_embedding_type", "relative_key"), ("hidden_act", "relu"), ("num_fusion_layers", 0)),
            *(("modality_type_vocab_size", 1), ("image_size", [48, 56, 3]), ("patch_size", 0), ("pumer_task", "ve")),
            *(("architectures", ["MeterForVisualReasoning"]), ("text.pad_token_id", 99), ("text.model_type", "t5")),
            ("text.max_position_embeddings", 3),
        ],
    )
    def test_what_cannot_be_is_refused_by_name(self, tmp_path: Path, key: str, value: Any) -> None:
        folder = self.write(tmp_path / "m", **{key: value})
        with pytest.raises(InputError, match=rf"^{folder}: {key} is "):
            open_checkpoint(folder)

    def ckpt(self, file: Path, types: int = 1, positions: int = 44, **settings: Any) -> Path:
        random_checkpoint.write(file, "meter", "original", depth=2, fusion=2)
        content = torch.load(file)
        words = "text_transformer.embeddings."
        for name, rows in (("token_type", types), ("position", positions)):
            content["state_dict"][f"{words}{name}_embeddings.weight"] = torch.randn(rows, 64)
        content["state_dict"].pop(f"{words}position_ids", None)
        content["hyper_parameters"]["config"] |= settings
        torch.save(content, file)
        return file

    @pytest.mark.parametrize(
        "settings",
        [
            *({"num_heads": 3}, {"num_heads": "x"}, {"num_heads": 0}, {"hidden_size": 96}, {"num_top_layer": 3}),
            *({"input_image_embed_size": 32}, {"vocab_size": 100}, {"patch_size": 16}),
            *({"input_text_embed_size": 32}, {"vqav2_label_size": 3129}, {"tokenizer": "bert-base-uncased"}),
        ],
        ids=str,
    )
    def test_a_hyper_parameter_that_is_not_of_the_weights_is_refused(
        self, tmp_path: Path, settings: dict[str, Any]
    ) -> None:
        (key,) = settings
        with pytest.raises(InputError, match=key):
            open_checkpoint(self.ckpt(tmp_path / "m.ckpt", **settings))

    def test_hyper_parameters_of_the_weights_are_read(self, tmp_path: Path) -> None:
        told = {"num_heads": 4, "hidden_size": 64, "num_top_layer": 2, "tokenizer": "roberta-base", "vocab_size": 99}
        config = open_checkpoint(self.ckpt(tmp_path / "m.ckpt", **told)).config
        assert (config["num_attention_heads"], config["text"]["model_type"]) == (4, "roberta")

    @pytest.mark.parametrize("settings", [{}, {"tokenizer": "bert-base-uncased"}], ids=str)
    def test_a_text_encoder_that_is_bert_is_run_as_bert(self, tmp_path: Path, settings: dict[str, Any]) -> None:
        file = self.ckpt(tmp_path / "m.ckpt", types=2, positions=40, **settings)
        checkpoint, ours = open_checkpoint(file), pumer_convert.load(file)
        text = checkpoint.config["text"]
        bert = transformers.BertModel(
            transformers.BertConfig(
                vocab_size=99,
                hidden_size=64,
                num_hidden_layers=2,
                num_attention_heads=2,
                intermediate_size=text["intermediate_size"],
                max_position_embeddings=40,
            ),
            add_pooling_layer=False,
        ).eval()
        state = {
            name.removeprefix("text_transformer."): value
            for name, value in torch.load(file)["state_dict"].items()
            if name.startswith("text_transformer.") and "pooler" not in name
        }
        bert.load_state_dict(state)
        ids, mask = torch.randint(2, 99, (2, 40)), torch.ones(2, 40, dtype=torch.int64)
        mask[1, 30:] = 0
        want = bert(input_ids=ids, attention_mask=mask).last_hidden_state
        got = ours.text_transformer(ids, mask > 0)
        torch.testing.assert_close(got, want, atol=1e-5, rtol=1e-5)
        assert text["pad_token_id"] == 0

    def test_an_original_vilt_is_told_apart_from_its_hyper_parameters(self, tmp_path: Path) -> None:
        file = random_checkpoint.write(tmp_path / "v.ckpt", "vilt", "original", depth=2)
        content = torch.load(file)
        for key, value in (("num_layers", 12), ("hidden_size", 768), ("vocab_size", 30522)):
            settings = {**content["hyper_parameters"]["config"], key: value}
            torch.save({**content, "hyper_parameters": {"config": settings}}, file)
            with pytest.raises(InputError, match=f"{key}: {value}, but its weights have"):
                open_checkpoint(file)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        *(
            ({"prune_r": "x"}, "prune_r"),
            ({"reduce_layers": "2,5"}, "reduce_layers"),
            ({"merge_text": -1}, "merge_text"),
        ),
        ({"num_heads": 7}, "num_heads"),
    ],
)
def test_a_published_folder_is_checked_too(tmp_path: Path, change: dict[str, Any], says: str) -> None:
    folder = random_checkpoint.write(tmp_path / "p", "vilt", "published")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | change))
    with pytest.raises(InputError, match=f"{says} is "):
        open_checkpoint(folder)


@pytest.mark.parametrize(
    "change",
    [
        *({"version": 2}, {"semantics": "x"}, {"attention": None}, {"proportional_attention": 1}, {"more": 1}),
        *({"edits": [{"at": "encoder.0"}]}, {"image_size": 3}),
        *(
            {"edits": [{"at": "encoder.0", "actions": [{"op": "merge", "modality": "text", "by": "bsm"} | part]}]}
            for part in (
                *({}, {"amount": 3}, {"amount": {"share": "x"}}, {"amount": {"share": 0.2}}, {"amount": {"keep": "3"}}),
                *({"amount": {"drop": 1}, "by": "x"}, {"amount": {"drop": 1}, "op": "prune"}),
                {"amount": {"drop": 1}, "by": "pitome"},
            )
        ),
    ],
    ids=str,
)
def test_a_record_of_reductions_that_cannot_be_replayed_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r": pumer.* in its config is "):
        open_checkpoint(changed(tmp_path / "m", pumer={"version": 1, **change}))


def test_a_model_without_its_head_says_so(tmp_path: Path) -> None:
    folder = changed(tmp_path / "m", architectures=DROP)
    state = load_file(folder / "model.safetensors")
    save_file({k: v for k, v in state.items() if "classifier" not in k}, folder / "model.safetensors")
    with pytest.raises(InputError, match="no architectures, and the weights have none of the heads"):
        open_checkpoint(folder)
