"""Tiny checkpoints in the real formats whose weights follow from their names alone, and inputs for them.

`golden.json` holds what the authors' own code (METER, ViLT, PuMer) computes from exactly these files and inputs, in
float64: the logits, and the image and text tokens after every layer that its settings reduce.
"""

import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

NUMBERS = Path(__file__).parent / "golden.json"
WIDTH = {"meter": 128, "vilt": 64}
HEADS, IMAGE, PATCH, VOCABULARY, TEXT = 2, 64, 8, 99, 40
LABELS = {"vqa": 7, "ve": 3, "nlvr2": 2}
HEAD = {"vqa": "vqa_classifier", "ve": "snli_classifier", "nlvr2": "nlvr2_classifier"}
VILT_BLOCKS, METER_FUSION, METER_BLOCKS, METER_TEXT = 6, 4, 2, 2

Shapes = Iterator[tuple[str, tuple[int, ...]]]


@dataclass(frozen=True)
class Case:
    """One checkpoint and one batch. `published`: a PuMer folder with these `settings`, else an original .ckpt.

    `pads` is how many places of the second text are padding; `seed` chooses a batch in which no decision is a near-tie:
    scores lie apart by more than 3e-5 of the highest, so that float32 decides as float64 does.
    """

    family: str
    task: str
    published: bool = False
    pads: int = 7
    settings: dict[str, Any] = field(default_factory=dict)
    seed: int = 0


def _reduced(layers: list[int], prune: float, merge: float, text: float) -> dict[str, Any]:
    return {"reduce_layers": layers, "prune_r": prune, "merge_r": merge, "merge_text": text}


CASES = {
    "meter-vqa": Case("meter", "vqa"),
    "meter-ve": Case("meter", "ve"),
    "meter-nlvr2": Case("meter", "nlvr2"),
    "vilt-vqa": Case("vilt", "vqa"),
    "vilt-nlvr2": Case("vilt", "nlvr2"),
    "pumer-meter-vqa-ft": Case("meter", "vqa", True),
    "pumer-meter-ve-ft": Case("meter", "ve", True),
    "pumer-meter-nlvr2-ft": Case("meter", "nlvr2", True),
    "pumer-meter-vqa": Case("meter", "vqa", True, 0, _reduced([0, 2, 4, 6], 0.2, 0.2, 0.2), 17),
    "pumer-meter-ve": Case("meter", "ve", True, 0, _reduced([0, 2, 4, 6], 0.3, 0.5, 0.2), 20),
    "pumer-meter-nlvr2": Case("meter", "nlvr2", True, 0, _reduced([2, 4, 6], 0.3, 0.5, 0.2), 1),
    # Odd numbers are never reached: the published code counts two per fusion layer.
    # No more than two pads: METER's pads are all alike, and which of them a word merges into is then left to rounding.
    "pumer-meter-padded": Case("meter", "vqa", True, 2, _reduced([0, 1, 2, 5], 0.2, 0.2, 0.2), 17),
    # Without image merging METER forgets its pruning, yet merges text; without pruning it does nothing at all.
    "pumer-meter-no-merge": Case("meter", "vqa", True, 0, _reduced([0, 2, 4], 0.2, 0, 0.2), 11),
    "pumer-meter-no-prune": Case("meter", "vqa", True, 0, _reduced([0, 2, 4], 0, 0.2, 0.2)),
    "pumer-meter-no-text": Case("meter", "vqa", True, 0, _reduced([0, 2, 4], 0.2, 0.2, 0), 11),
    "pumer-vilt-vqa-ft": Case("vilt", "vqa", True),
    "pumer-vilt-ve-ft": Case("vilt", "ve", True),
    "pumer-vilt-nlvr2-ft": Case("vilt", "nlvr2", True),
    "pumer-vilt-vqa": Case("vilt", "vqa", True, 0, _reduced([1, 2, 4], 0.1, 0.3, 0.2), 22),
    "pumer-vilt-ve": Case("vilt", "ve", True, 0, _reduced([1, 2, 3, 4], 0.1, 0.3, 0.2), 23),
    "pumer-vilt-nlvr2": Case("vilt", "nlvr2", True, 0, _reduced([1, 2, 4], 0.1, 0.3, 0.2), 2),
    "pumer-vilt-padded": Case("vilt", "vqa", True, 7, _reduced([1, 2, 4], 0.1, 0.3, 0.2), 23),
    "pumer-vilt-no-merge": Case("vilt", "vqa", True, 0, _reduced([1, 2, 4], 0.1, 0, 0.2), 22),
    "pumer-vilt-no-prune": Case("vilt", "vqa", True, 0, _reduced([1, 2, 4], 0, 0.3, 0.2)),
    "pumer-vilt-no-text": Case("vilt", "vqa", True, 0, _reduced([1, 2, 4], 0.1, 0.3, 0), 11),
}


def numbers() -> dict[str, Any]:
    """The golden numbers of every case: {"logits": [B][labels], "tokens": [[image, text] after each reduction]}."""
    return json.loads(NUMBERS.read_text())  # type: ignore[no-any-return]


def uniform(name: str, shape: tuple[int, ...], scale: float) -> Tensor:
    """Numbers of variance scale², the same for a name on every machine (numpy never changes this generator)."""
    stream = np.random.RandomState(zlib.crc32(name.encode()))
    return torch.from_numpy((stream.random_sample(shape) * 2 - 1) * (scale * 3**0.5)).float()


def weight(name: str, shape: tuple[int, ...]) -> Tensor:
    """The weight of that name, at a scale at which every layer matters."""
    if name.endswith("position_ids"):
        return torch.arange(shape[1])[None]
    if len(shape) == 1 and name.endswith("weight"):
        return 1 + uniform(name, shape, 0.2)
    if len(shape) == 1:
        return uniform(name, shape, 0.1)
    gain = 1.4 if "query" in name or "key" in name or "qkv" in name or "in_proj" in name else 1.0
    return uniform(name, shape, gain / prod(shape[1:]) ** 0.5)


def _dense(name: str, outer: int, inner: int) -> Shapes:
    yield f"{name}.weight", (outer, inner)
    yield f"{name}.bias", (outer,)


def _norm(name: str, c: int) -> Shapes:
    yield f"{name}.weight", (c,)
    yield f"{name}.bias", (c,)


def _words(name: str, c: int, places: int, kinds: int) -> Shapes:
    yield f"{name}.position_ids", (1, places)
    yield f"{name}.word_embeddings.weight", (VOCABULARY, c)
    yield f"{name}.position_embeddings.weight", (places, c)
    yield f"{name}.token_type_embeddings.weight", (kinds, c)
    yield from _norm(f"{name}.LayerNorm", c)


def _bert_layer(name: str, c: int, attentions: tuple[str, ...]) -> Shapes:
    for attention in attentions:
        for part in ("self.query", "self.key", "self.value", "output.dense"):
            yield from _dense(f"{name}.{attention}.{part}", c, c)
        yield from _norm(f"{name}.{attention}.output.LayerNorm", c)
    yield from _dense(f"{name}.intermediate.dense", 4 * c, c)
    yield from _dense(f"{name}.output.dense", c, 4 * c)
    yield from _norm(f"{name}.output.LayerNorm", c)


def _head(task: str, wide: int, inner: int) -> Shapes:
    yield from _dense(f"{HEAD[task]}.0", inner, wide)
    yield from _norm(f"{HEAD[task]}.1", inner)
    yield from _dense(f"{HEAD[task]}.3", LABELS[task], inner)


def meter_shapes(task: str) -> Shapes:
    """Every tensor of an original METER .ckpt, those of no use included."""
    c, visual = WIDTH["meter"], "vit_model.visual"
    yield "vit_model.positional_embedding", (77, 32)
    yield from _norm("vit_model.ln_final", 32)
    yield f"{visual}.class_embedding", (c,)
    yield f"{visual}.positional_embedding", ((IMAGE // PATCH) ** 2 + 1, c)
    yield f"{visual}.conv1.weight", (c, 3, PATCH, PATCH)
    yield from _norm(f"{visual}.ln_pre", c)
    for i in range(METER_BLOCKS):
        block = f"{visual}.transformer.resblocks.{i}"
        yield f"{block}.attn.in_proj_weight", (3 * c, c)
        yield f"{block}.attn.in_proj_bias", (3 * c,)
        yield from _dense(f"{block}.attn.out_proj", c, c)
        yield from _norm(f"{block}.ln_1", c)
        yield from _dense(f"{block}.mlp.c_fc", 4 * c, c)
        yield from _dense(f"{block}.mlp.c_proj", c, 4 * c)
        yield from _norm(f"{block}.ln_2", c)
    yield from _norm(f"{visual}.ln_post", c)
    yield from _words("text_transformer.embeddings", c, TEXT + 2, 1)
    for i in range(METER_TEXT):
        yield from _bert_layer(f"text_transformer.encoder.layer.{i}", c, ("attention",))
    yield from _dense("text_transformer.pooler.dense", c, c)
    yield "token_type_embeddings.weight", (3 if task == "nlvr2" else 2, c)
    for modality in ("text", "image"):
        yield from _dense(f"cross_modal_{modality}_transform", c, c)
        for i in range(METER_FUSION):
            yield from _bert_layer(f"cross_modal_{modality}_layers.{i}", c, ("attention", "crossattention"))
        yield from _dense(f"cross_modal_{modality}_pooler.dense", c, c)
    yield from _head(task, 4 * c if task == "nlvr2" else 2 * c, 2 * c)


def vilt_shapes(task: str) -> Shapes:
    """Every tensor of an original ViLT .ckpt, those of no use included."""
    c = WIDTH["vilt"]
    yield from _words("text_embeddings", c, TEXT, 2)
    yield "token_type_embeddings.weight", (3 if task == "nlvr2" else 2, c)
    yield "transformer.cls_token", (1, 1, c)
    yield "transformer.pos_embed", (1, (IMAGE // PATCH) ** 2 + 1, c)
    yield "transformer.patch_embed.proj.weight", (c, 3, PATCH, PATCH)
    yield "transformer.patch_embed.proj.bias", (c,)
    for i in range(VILT_BLOCKS):
        block = f"transformer.blocks.{i}"
        yield from _norm(f"{block}.norm1", c)
        yield from _dense(f"{block}.attn.qkv", 3 * c, c)
        yield from _dense(f"{block}.attn.proj", c, c)
        yield from _norm(f"{block}.norm2", c)
        yield from _dense(f"{block}.mlp.fc1", 4 * c, c)
        yield from _dense(f"{block}.mlp.fc2", c, 4 * c)
    yield from _norm("transformer.norm", c)
    yield from _dense("pooler.dense", c, c)
    yield from _head(task, 2 * c if task == "nlvr2" else c, 2 * c)


def state(case: Case) -> dict[str, Tensor]:
    """The weights of a case under the original's names."""
    shapes = meter_shapes(case.task) if case.family == "meter" else vilt_shapes(case.task)
    return {name: weight(name, shape) for name, shape in shapes}


def published_name(family: str, name: str) -> str | None:
    """What a published PuMer folder calls it; None for what it leaves out."""
    if name.startswith(tuple(HEAD.values())):
        return name.replace("snli_", "ve_")
    if name.startswith("text_transformer.pooler."):
        return None
    if name.startswith("vit_model."):
        rest = name.removeprefix("vit_model.visual.")
        return None if rest == name else f"meter.vit_model.{rest}"
    return f"{family}.{name}"


def write(case: Case, folder: Path) -> Path:
    """The checkpoint of a case, written into `folder` in its real format; the path to load it by."""
    folder.mkdir(parents=True, exist_ok=True)
    own = state(case)
    if not case.published:
        path = folder / f"{case.family}_{case.task}.ckpt"
        hyper = {"config": {"num_heads": HEADS, "hidden_size": WIDTH[case.family], "image_size": IMAGE}}
        torch.save({"epoch": 9, "global_step": 100, "state_dict": own, "hyper_parameters": hyper}, path)
        return path
    renamed = {published_name(case.family, name): value for name, value in own.items()}
    torch.save({name: value for name, value in renamed.items() if name}, folder / "pytorch_model.bin")
    config = {
        "model_type": case.family,
        "hidden_size": WIDTH[case.family],
        "num_heads": HEADS,
        "num_layers": METER_TEXT if case.family == "meter" else VILT_BLOCKS,
        "max_text_len": TEXT,
        "mlp_ratio": 4,
        "token_types": 3 if case.task == "nlvr2" else 2,
        "vocab_size": VOCABULARY,
        "vqa_label_size": LABELS["vqa"],
        "sim_method": "mean_head",
        "merge_style": "tip" if case.family == "meter" else "tome",
    }
    if case.family == "meter":
        config |= {"image_size": IMAGE, "num_top_layer": METER_FUSION, "vit_patch_size": PATCH}
    (folder / "config.json").write_text(json.dumps({**config, **case.settings}))
    return folder


def inputs(case: Case) -> dict[str, Tensor]:
    """The batch of a case: two examples of 20 text tokens, the second padded on the right."""
    stream = np.random.RandomState(case.seed)
    ids = torch.from_numpy(stream.randint(5, VOCABULARY, (2, 20)))
    mask = torch.ones_like(ids)
    mask[1, 20 - case.pads :] = 0
    ids[mask == 0] = 1 if case.family == "meter" else 0
    shape = (2, 2, 3, IMAGE, IMAGE) if case.task == "nlvr2" else (2, 3, IMAGE, IMAGE)
    return {"input_ids": ids, "attention_mask": mask, "pixel_values": uniform(f"pixels {case.seed}", shape, 1.0)}
