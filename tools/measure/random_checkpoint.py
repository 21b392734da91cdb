"""Write a checkpoint with random weights in any format that pumer-convert reads, for tests and measurements.

python tools/measure/random_checkpoint.py --model meter --format original --task vqa meter.ckpt
"""

import json
import math
from pathlib import Path
from typing import Any

import click
import torch
from safetensors.torch import save_file
from torch import Tensor

from pumer_convert.models.family import family_of

TASKS = ("vqa", "nlvr2", "ve", "retrieval")
FORMATS = {
    "vilt": ("transformers", "sharded", "bin", "original", "published", "published-dense"),
    "meter": ("original", "published", "published-dense"),
}
SETTINGS = {
    ("vilt", "vqa"): ([2, 5, 8], 0.1, 0.3, 0.2),
    ("vilt", "ve"): ([2, 4, 6, 8], 0.1, 0.3, 0.2),
    ("vilt", "nlvr2"): ([2, 5, 8], 0.1, 0.3, 0.2),
    ("vilt", "retrieval"): ([2, 5, 8], 0.1, 0.3, 0.2),
    ("meter", "vqa"): ([0, 2, 4, 6], 0.2, 0.2, 0.2),
    ("meter", "ve"): ([0, 2, 4, 6], 0.3, 0.5, 0.2),
    ("meter", "nlvr2"): ([2, 4, 6], 0.3, 0.5, 0.2),
    ("meter", "retrieval"): ([0, 2, 4, 6], 0.2, 0.2, 0.2),
}
"""reduce_layers, prune_r, merge_r, merge_text of the published folders (retrieval: those of vqa)."""
ARCHITECTURES = {
    ("vilt", "vqa"): "ViltForQuestionAnswering",
    ("vilt", "ve"): "ViltForQuestionAnswering",
    ("vilt", "nlvr2"): "ViltForImagesAndTextClassification",
    ("vilt", "retrieval"): "ViltForImageAndTextRetrieval",
    ("meter", "vqa"): "MeterForQuestionAnswering",
    ("meter", "ve"): "MeterForVisualEntailment",
    ("meter", "nlvr2"): "MeterForVisualReasoning",
    ("meter", "retrieval"): "MeterForImageAndTextRetrieval",
}
LABELS = {"vqa": 3129, "ve": 3, "nlvr2": 2}
VILT_BLOCK = {
    "layernorm_before": "norm1",
    "layernorm_after": "norm2",
    "attention.output.dense": "attn.proj",
    "intermediate.dense": "mlp.fc1",
    "output.dense": "mlp.fc2",
}
VILT_REST = (
    ("vilt.embeddings.text_embeddings.", "text_embeddings."),
    ("vilt.embeddings.patch_embeddings.projection.", "transformer.patch_embed.proj."),
    ("vilt.embeddings.token_type_embeddings.", "token_type_embeddings."),
    ("vilt.embeddings.cls_token", "transformer.cls_token"),
    ("vilt.embeddings.position_embeddings", "transformer.pos_embed"),
    ("vilt.layernorm.", "transformer.norm."),
    ("vilt.pooler.", "pooler."),
    ("rank_output.", "rank_output."),
)
VILT_HEADS = {"vqa": "vqa_classifier.", "ve": "ve_classifier.", "nlvr2": "nlvr2_classifier."}


def config(model: str, task: str, *, base: bool, depth: int | None = None, fusion: int | None = None) -> dict[str, Any]:
    """The config of a model of the published size, or of a tiny one with enough layers and tokens for every recipe;
    `depth` is the number of layers of ViLT or of METER's image tower, `fusion` that of METER's fusion, if another."""
    c, layers, vocabulary = (768, 12, 30522) if base else (64, 9, 99)
    heads = c // 64 if base else 2
    common = {
        "model_type": model,
        "architectures": [ARCHITECTURES[model, task]],
        "hidden_size": c,
        "num_attention_heads": heads,
        "intermediate_size": 4 * c,
        "layer_norm_eps": 1e-12,
        "modality_type_vocab_size": 3 if task == "nlvr2" else 2,
        "pumer_task": task,
    }
    if task in LABELS:
        count = LABELS[task] if base else min(LABELS[task], 5)
        common["id2label"] = {str(i): f"LABEL_{i}" for i in range(count)}
    if model == "vilt":
        return common | {
            "num_hidden_layers": depth or layers,
            "image_size": 384 if base else 64,  # a multiple of 32, so that a square picture keeps its size
            "patch_size": 32 if base else 8,
            "num_channels": 3,
            "vocab_size": vocabulary,
            "max_position_embeddings": 40,
            "type_vocab_size": 2,
            "qkv_bias": True,
            "pad_token_id": 0,
            "num_images": 2 if task == "nlvr2" else -1,
        }
    tower = {"hidden_size": c, "intermediate_size": 4 * c, "num_attention_heads": heads, "layer_norm_eps": 1e-5}
    text = {
        "num_hidden_layers": 12 if base else 2,
        "vocab_size": 50265 if base else 99,
        "max_position_embeddings": 514 if base else 44,
        "type_vocab_size": 1,
        "pad_token_id": 1,
    }
    side = (288 if task == "nlvr2" else 384) if base else 48
    return common | {
        "num_fusion_layers": fusion or (6 if base else 4),
        "fusion_order": "parallel",
        "image_size": side,
        "patch_size": 16 if base else 8,
        "vision": {**tower, "num_hidden_layers": depth or 11},
        "text": {**tower, **text},
    }


def weights(settings: dict[str, Any], seed: int = 0) -> dict[str, Tensor]:
    """Random weights under this project's names, large enough that attention is not flat."""
    with torch.device("meta"):
        network = family_of(settings["model_type"]).build(settings)
    generator = torch.Generator().manual_seed(seed)
    state: dict[str, Tensor] = {}
    for name, parameter in network.named_parameters():
        table = "embedding" in name or parameter.dim() < 2
        scale = 0.1 if table else 1.5 / math.sqrt(parameter[0].numel())
        state[name] = torch.empty(parameter.shape).normal_(0, scale, generator=generator)
        if parameter.dim() == 1 and name.endswith("weight"):
            state[name] += 1
    return state


def original_vilt(state: dict[str, Tensor], task: str) -> dict[str, Tensor]:
    """The weights under the original ViLT's names, with some that readers must ignore."""
    renamed: dict[str, Tensor] = {}
    for name, value in state.items():
        if name.startswith("vilt.encoder.layer."):
            number, rest = name.removeprefix("vilt.encoder.layer.").split(".", 1)
            part, kind = rest.rsplit(".", 1)
            if part == "attention.attention.query":
                thirds = [state[name.replace("query", which)] for which in ("query", "key", "value")]
                renamed[f"transformer.blocks.{number}.attn.qkv.{kind}"] = torch.cat(thirds)
            elif part in VILT_BLOCK:
                renamed[f"transformer.blocks.{number}.{VILT_BLOCK[part]}.{kind}"] = value
            continue
        prefixes = (*VILT_REST, ("classifier.", VILT_HEADS.get(task, "")))
        new, old = next(pair for pair in prefixes if name.startswith(pair[0]))
        renamed[old + name.removeprefix(new)] = value
    positions = state["vilt.embeddings.text_embeddings.position_embeddings.weight"].shape[0]
    renamed["text_embeddings.position_ids"] = torch.arange(positions)[None]
    renamed["mlm_score.bias"] = torch.zeros(9)
    return renamed


def original_meter(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights as in a METER .ckpt (its names are this project's), with some that readers must ignore."""
    words = state["text_transformer.embeddings.word_embeddings.weight"].shape[1]
    positions = state["text_transformer.embeddings.position_embeddings.weight"].shape[0]
    return {
        **state,
        "vit_model.positional_embedding": torch.zeros(77, 512),
        "text_transformer.pooler.dense.weight": torch.zeros(words, words),
        "text_transformer.embeddings.position_ids": torch.arange(positions)[None],
    }


def published_meter(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights under the names of a published PuMer METER folder."""
    renamed: dict[str, Tensor] = {}
    for name, value in state.items():
        head = name.startswith(("vqa_classifier", "nlvr2_classifier", "snli_classifier", "rank_output"))
        new = name if head else f"meter.{name.replace('vit_model.visual.', 'vit_model.')}"
        renamed[new.replace("snli_classifier", "ve_classifier")] = value
    return renamed


def write(
    out: Path,
    model: str,
    form: str,
    task: str = "vqa",
    *,
    base: bool = False,
    depth: int | None = None,
    fusion: int | None = None,
    state: dict[str, Tensor] | None = None,
    heads: int | None = None,
) -> Path:
    """Write a checkpoint of `form` to `out`, of random weights (see `config`) or of `state` with its `heads`; gives
    `out`."""
    settings = config(model, task, base=base, depth=depth, fusion=fusion)
    state = weights(settings) if state is None else state
    plain = {"num_heads": heads or settings["num_attention_heads"]}
    if form == "original":
        named = original_vilt(state, task) if model == "vilt" else original_meter(state)
        torch.save({"state_dict": named, "hyper_parameters": {"config": plain}, "epoch": 1}, out)
        return out
    out.mkdir()
    if form in ("published", "published-dense"):
        if model == "vilt":
            named = {k if "classifier" in k else f"vilt.{k}": v for k, v in original_vilt(state, task).items()}
        else:
            named = published_meter(state)
        torch.save(named, out / "pytorch_model.bin")
        settings = {"model_type": model, **plain, "sim_method": "mean_head", "merge_style": "tome"}
        if form == "published":
            layers, prune, merge, text = SETTINGS[model, task]
            settings |= {"reduce_layers": layers, "prune_r": prune, "merge_r": merge, "merge_text": text}
    elif form == "bin":
        torch.save(state, out / "pytorch_model.bin")
    elif form == "sharded":
        _shards(out, state)
    else:
        save_file(state, out / "model.safetensors")
    (out / "config.json").write_text(json.dumps(settings, indent=2))
    return out


def _shards(out: Path, state: dict[str, Tensor]) -> None:
    names, where = list(state), {}
    half = len(names) // 2
    for i, part in enumerate((names[:half], names[half:]), 1):
        file = f"model-{i:05}-of-00002.safetensors"
        save_file({name: state[name] for name in part}, out / file)
        where.update(dict.fromkeys(part, file))
    (out / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": where}))


@click.command()
@click.option("--model", type=click.Choice(list(FORMATS)), required=True)
@click.option("--format", "form", required=True, help="One of: " + "; ".join(f"{m}: {f}" for m, f in FORMATS.items()))
@click.option("--task", type=click.Choice(TASKS), default="vqa", show_default=True)
@click.option("--tiny", is_flag=True, help="A tiny model instead of one of the published size.")
@click.argument("out", type=click.Path(path_type=Path))
def main(model: str, form: str, task: str, tiny: bool, out: Path) -> None:
    """Write a checkpoint with random weights to OUT (a file for `original`, else a folder)."""
    if form not in FORMATS[model]:
        raise click.UsageError(f"{model} has the formats {', '.join(FORMATS[model])}.")
    write(out, model, form, task, base=not tiny)


if __name__ == "__main__":
    main()
