"""The values of a config.json: each by the rule of a settings class, and every key known; else refused by name."""

import dataclasses
import json
from collections.abc import Collection, Mapping
from typing import Any, TypeGuard

from pumer_convert.errors import InputError
from pumer_convert.models.spec import grid
from pumer_convert.rules import Rule

WHOLE = 2**19
"""The largest of sizes: torch counts the bytes of weights that are as wide and high."""
LAYERS = 200
"""The most layers of a stack."""
_PIXELS = f"allowed: whole numbers of pixels from 1 to {WHOLE}, one of a square or [height, width]"
_SIDE = Rule(int, least=1, most=WHOLE)
ACTIVATIONS = (
    *("gelu", "gelu_10", "gelu_accurate", "gelu_fast", "gelu_new", "gelu_python", "gelu_python_tanh"),
    *("gelu_pytorch_tanh", "hardswish", "laplace", "leaky_relu", "linear", "mish", "quick_gelu", "relu", "relu2"),
    *("relu6", "sigmoid", "silu", "sqrtsoftplus", "swish", "tanh"),
)
"""transformers' names of activations, without prelu and xielu, which have parameters of their own."""

GENERAL = frozenset(
    (
        *("architectures", "model_type", "transformers_version", "name_or_path", "auto_map", "tokenizer_class"),
        *("id2label", "label2id", "num_labels", "problem_type", "finetuning_task", "task_specific_params"),
        *("dtype", "torch_dtype", "torchscript", "tf_legacy_loss", "use_bfloat16", "xla_device", "attn_implementation"),
        *("output_attentions", "output_hidden_states", "return_dict", "use_return_dict", "output_past", "use_cache"),
        *("gradient_checkpointing", "chunk_size_feed_forward", "initializer_range", "tie_word_embeddings"),
        *("tie_encoder_decoder", "tie_last_hidden_states"),
        *("bos_token_id", "eos_token_id", "sep_token_id", "pad_token_id", "decoder_start_token_id", "prefix"),
        # What generates text, which no head here does.
        *("max_length", "min_length", "do_sample", "early_stopping", "num_beams", "num_beam_groups", "temperature"),
        *("diversity_penalty", "top_k", "top_p", "typical_p", "repetition_penalty", "encoder_repetition_penalty"),
        *("length_penalty", "no_repeat_ngram_size", "encoder_no_repeat_ngram_size", "bad_words_ids"),
        *("force_words_ids", "num_return_sequences", "output_scores", "return_dict_in_generate"),
        *("forced_bos_token_id", "forced_eos_token_id", "remove_invalid_values", "exponential_decay_length_penalty"),
        *("suppress_tokens", "begin_suppress_tokens", "epsilon_cutoff", "eta_cutoff", "num_assistant_tokens"),
        *("num_assistant_tokens_schedule", "assistant_confidence_threshold", "assistant_lookbehind"),
        *("target_lookbehind",),
        # What other tools write into the file: for training, and for a browser.
        *("classifier_dropout", "label_smoothing", "loss_type", "seed", "transformers.js_config", "unsloth_version"),
    )
)
"""Keys that transformers writes for every kind of model, of version 4 or 5, and that change no logit here."""
BRIDGETOWER_PROGRAM = frozenset(
    (
        *("cache_dir", "model_type", "tokenizer", "vocab_size", "max_text_len", "image_size", "patch_size", "vit"),
        *("hidden_size", "num_heads", "num_layers", "mlp_ratio", "drop_rate", "classifier_drop_rate"),
        *("head_hidden_scale", "nlvr2_drop_rate", "nlvr2_head_format", "task_head_layers", "loss_names"),
        *("resolution_before", "input_image_embed_size", "input_text_embed_size", "stop_gradient"),
        *("vit_remove_last", "vit_layernorm_shared", "vit_layernorm_init_from_vit", "init_layernorm_from_vit"),
        *("link_tower_shared", "link_tower_type", "cross_modal_transform_shared", "meter_fusion"),
        *("downstream_fusion", "downstream_fusion_layers", "downstream_fusion_method"),
        *("only_load_cross_modal_from_meter", "log_dir", "num_nodes", "test_only"),
        *(f"freeze_{part}" for part in ("RoBERTa", "ViT", "layer_count_roberta", "layer_count_vit")),
        *(f"unfreeze_RoBERTa_{part}" for part in ("attention", "embeddings", "encoder", "layernorm")),
        *(f"unfreeze_ViT_{part}" for part in ("attention", "layernorm")),
    )
)
"""Keys of the program that BridgeTower was trained with, as they stand in the published files of models and processors;
where a class of transformers has no such key, it reads over it."""
FORMER = {"ViltForVisualQuestionAnswering": "ViltForQuestionAnswering"}
"""What transformers' classes were called when published checkpoints were written -> what they are called."""
OFF: dict[str, tuple[Any, ...]] = {
    "pruned_heads": (None, {}, []),
    "quantization_config": (None,),
    "per_layer_config": (None, {}),
    "is_decoder": (None, False),
    "position_embedding_type": (None, "absolute"),
    "is_encoder_decoder": (None, False),
    "add_cross_attention": (None, False),
    "cross_attention_hidden_size": (None,),
}
"""Keys that it also writes, with the values that change nothing; any other asks for another network."""


def wrong(where: object, key: str, value: object, why: str) -> InputError:
    """An error to raise about one value of a config."""
    told = json.dumps(value, default=repr)
    return InputError(f"{where}: {key} is {told if len(told) < 80 else told[:76] + ' ...'} in its config; {why}.")


def read_values(cls: type, config: Mapping[str, Any], where: object, prefix: str = "") -> dict[str, Any]:
    """The values of those fields of a dataclass that have a rule (`settings.setting`), their defaults where `config`
    has none. Raises InputError naming the key and the value that is not allowed."""
    found = {}
    for part in dataclasses.fields(cls):
        rule = part.metadata.get("rule")
        if rule is None:
            continue
        found[part.name] = value = config.get(part.name, part.default)
        if not rule.holds(value):
            raise wrong(where, prefix + part.name, value, f"allowed: {rule.allowed}")
    return found


def check_keys(config: Mapping[str, Any], known: Collection[str], where: object, prefix: str = "") -> None:
    """Raises InputError for a key that is not `known`, whose value may therefore change the answer. Those that begin
    with an underscore are transformers' own notes, and a null asks for nothing."""
    for key, value in config.items():
        if key in OFF:
            if not any(value == off and type(value) is type(off) for off in OFF[key]):
                raise wrong(where, prefix + key, value, "a model with that is not supported")
        elif key not in known and value is not None and not key.startswith("_"):
            raise wrong(where, prefix + key, value, "that key is not known here, and may change the answers; remove it")


def sides(config: Mapping[str, Any], key: str, default: int, where: object) -> int | list[int]:
    """A size in pixels that is given as S, [H, W] or {"height": H, "width": W}: S of a square, else [H, W]."""
    value = config.get(key, default)
    given = [value["height"], value["width"]] if _is_named(value) else value
    both = list(given) if isinstance(given, list | tuple) else [given, given]
    if len(both) != 2 or not all(_SIDE.holds(side) for side in both):
        raise wrong(where, key, value, _PIXELS)
    return both[0] if both[0] == both[1] else both


def square(config: Mapping[str, Any], key: str, default: int, where: object) -> int:
    """The side of a square of pixels; see `sides`."""
    found = sides(config, key, default, where)
    if not isinstance(found, int):
        raise wrong(where, key, config[key], "only squares are read")
    return found


def _is_named(value: object) -> TypeGuard[Mapping[str, Any]]:
    return isinstance(value, Mapping) and set(value) == {"height", "width"}


def section(config: Mapping[str, Any], key: str, where: object, *, optional: bool = False) -> Mapping[str, Any]:
    """The object under a key, {} where it is `optional` and not there. Raises InputError when it is none."""
    value = config.get(key)
    if value is None and optional:
        return {}
    if not isinstance(value, Mapping):
        raise wrong(where, key, value, "it has to be an object")
    return value


def only_architecture(config: Mapping[str, Any], heads: Collection[str], where: object) -> str | None:
    """The one of `heads` that a config's architectures names; None when it names nothing at all."""
    given = config.get("architectures")
    if given is None or given == []:
        return None
    named = [given] if isinstance(given, str) else given
    if isinstance(named, list):
        names = [FORMER.get(name, name) for name in named if isinstance(name, str)]
        found = [name for name in names if name in heads]
        if len(found) == 1:
            return found[0]
    raise wrong(where, "architectures", given, f"one of these heads has to be named: {', '.join(heads)}")


def needed_architecture(config: Mapping[str, Any], heads: Collection[str], where: object) -> str:
    """The same of a config that has to name one."""
    found = only_architecture(config, heads, where)
    if found is None:
        raise InputError(f"{where}: its config has no architectures; name one of {', '.join(heads)}.")
    return found


def check_heads(width: int, heads: int, where: object, prefix: str = "") -> None:
    """Raises InputError for attention heads that do not divide the width."""
    if width % heads:
        raise wrong(where, f"{prefix}num_attention_heads", heads, f"hidden_size, {width}, is no multiple of it")


def check_kinds(kinds: int, images: int, where: object) -> None:
    """Raises InputError for fewer embeddings of kinds of tokens than text and so many images have."""
    if kinds < 1 + images:
        raise wrong(where, "modality_type_vocab_size", kinds, f"text and {images} image(s) need {1 + images}")


def check_patches(size: int | list[int], patch: int, channels: int, where: object, prefix: str = "") -> None:
    """Raises InputError for channels other than three, and for pictures without a whole patch."""
    if channels != 3:
        raise wrong(where, f"{prefix}num_channels", channels, "pictures are read with 3 channels alone")
    if 0 in grid(size, patch):
        raise wrong(where, f"{prefix}patch_size", patch, f"image_size is {size}")
