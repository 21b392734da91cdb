"""The demo's model in training: its forward pass on chosen patches, and the heads that help it to learn."""

import math
from collections.abc import Iterator
from random import Random
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from demo_batches import PATCH, ROWS, Batch, look
from torch import Tensor, nn

from pumer_convert.demo.scene import MOST, SIDE, VALUES, make_scene
from pumer_convert.demo.words import ANSWERS, VOCABULARY
from pumer_convert.models.towers.joint import Joint
from pumer_convert.models.vilt.network import Vilt
from pumer_convert.reducers.site import Trace
from pumer_convert.tokens import Tokens

FACTS = [len(values) for values in VALUES.values()]


def config(width: int, heads: int, layers: int) -> dict[str, Any]:
    """config.json of the checkpoint."""
    return {
        "architectures": ["ViltForQuestionAnswering"],
        "model_type": "vilt",
        "vocab_size": len(VOCABULARY),
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "intermediate_size": 4 * width,
        "image_size": SIDE,
        "patch_size": PATCH,
        "num_channels": 3,
        "max_position_embeddings": 40,
        "modality_type_vocab_size": 2,
        "type_vocab_size": 2,
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        "layer_norm_eps": 1e-6,
        "qkv_bias": True,
        "max_image_length": -1,
        "num_images": -1,
        "id2label": {str(i): answer for i, answer in enumerate(ANSWERS)},
        "label2id": {answer: i for i, answer in enumerate(ANSWERS)},
    }


class Trainee(nn.Module):
    """The model, and the heads that help to train it."""

    def __init__(self, settings: dict[str, Any]) -> None:
        super().__init__()
        self.model = Vilt(settings)
        c, last = settings["hidden_size"], settings["num_hidden_layers"] - 1
        start(self.model, c)
        # What patches show: the facts, a thing at all, its middle, the offset from there, its pixels.
        self.shown = nn.ModuleDict({str(i): head(c, sum(FACTS) + 4 + PATCH * PATCH) for i in (1, 2)})
        self.meant = nn.ModuleDict({str(i): head(c, 2) for i in range(2, last)})
        # What the first word knows of the two groups: how many, and of a single thing its facts and place.
        self.told = nn.ModuleDict({str(last - 1): head(c, 2 * (MOST + 1 + sum(FACTS) + 2))})

    def forward(self, b: Batch, sees_only: bool = False) -> tuple[Tensor, dict[str, Tensor]]:
        """Logits [B, answers] and losses by name; with `sees_only`, no text and the first three blocks alone."""
        losses: dict[str, Tensor] = {}
        for i, text, image in blocks(self.model, b, 0 if sees_only else b.ids.shape[1]):
            if str(i) in self.shown:
                shown = shown_losses(self.shown[str(i)](image.states[:, 1:]), b)
                losses |= {f"{name}{i}": loss / 5 for name, loss in shown.items()}
            if sees_only and i == 2:
                return torch.zeros(len(b.kinds), len(ANSWERS)), losses
            if str(i) in self.meant:
                scores = self.meant[str(i)](image.states[:, 1:])
                weight = torch.where(b.thing, 1.5, 0.2)[..., None]
                losses[f"meant{i}"] = F.binary_cross_entropy_with_logits(scores, b.meant.float(), weight)
            if str(i) in self.told:
                told = told_losses(self.told[str(i)](text.states[:, 0]), b)
                losses |= {f"told {name}": loss / 10 for name, loss in told.items()}
        logits = self.model.classifier(pooled(self.model, text))
        losses["answer"] = F.cross_entropy(logits, b.answer)
        return logits, losses


def fast_products(on: bool) -> None:
    """Matrix products on bfloat16 hardware where there is some: twice as fast, and exact enough to train with.

    The fused attention kernel becomes ten times slower by it, so attention is made of plain products then.
    """
    torch.backends.mkldnn.matmul.fp32_precision = "bf16" if on else "ieee"  # type: ignore[attr-defined]


def blocks(model: Vilt, b: Batch, words: int, places: Tensor | None = None) -> Iterator[tuple[int, Tokens, Tokens]]:
    """The model's own blocks on the patches of a batch and its first `words` words: text and image after each block.

    `places` [B]: 1 or 2, whether each picture is the first or the second; all are the first where it is left out.
    """
    e = model.vilt.embeddings
    projection = e.patch_embeddings.projection
    x = F.linear(b.patches, projection.weight.flatten(1), projection.bias) + e.position_embeddings[0, 1 + b.which]
    first = (e.cls_token + e.position_embeddings[:, :1]).expand(x.shape[0], -1, -1)
    kind = e.token_type_embeddings.weight[torch.ones(1, dtype=torch.long) if places is None else places]
    x = torch.cat([first, x], 1) + kind[:, None]
    text = Tokens.start(e.text(b.ids[:, :words]), b.mask[:, :words])
    image = Tokens.start(x, torch.ones_like(x[..., 0], dtype=torch.bool))
    joint, trace = Joint.of(text, image), Trace()
    for i, block in enumerate(model.vilt.encoder.layer):
        joint = block(joint, None, trace)
        yield i, *joint.apart()


def pooled(model: Vilt, text: Tokens) -> Tensor:
    """What the head reads: [B, C]."""
    return model.vilt.pooler(text.with_states(model.vilt.layernorm(text.states)))  # type: ignore[no-any-return]


def head(c: int, outputs: int) -> nn.Module:
    """A head on hidden states."""
    return nn.Sequential(nn.LayerNorm(c), nn.Linear(c, outputs))


def shown_losses(scores: Tensor, b: Batch) -> dict[str, Tensor]:
    """Of the heads that tell what patches show: `scores` [B, K, facts + 68]."""
    *facts, thing, middle, offset, cover = torch.split(scores, [*FACTS, 1, 1, 2, PATCH * PATCH], -1)
    there = b.thing
    losses = {
        "thing": F.binary_cross_entropy_with_logits(thing[..., 0], there.float()),
        "middle": F.binary_cross_entropy_with_logits(middle[..., 0][there], b.middle[there].float()),
        "cover": 2 * F.binary_cross_entropy_with_logits(cover[there], b.cover[there].float()),
        "offset": 5 * F.smooth_l1_loss(offset[there], b.offset[there]),
    }
    for i, (name, fact) in enumerate(zip(VALUES, facts, strict=True)):
        losses[name] = F.cross_entropy(fact[there], b.facts[..., i][there])
    return losses


def told_losses(scores: Tensor, b: Batch) -> dict[str, Tensor]:
    """Of the head that tells what the question is about: `scores` [B, 2 * (MOST + 1 + facts + 2)]."""
    *facts, number, at = torch.split(scores.reshape(len(scores), 2, -1), [*FACTS, MOST + 1, 2], -1)
    one = b.told[..., 0] >= 0
    losses = {
        "number": 2 * F.cross_entropy(number.flatten(0, 1), b.number.flatten(), ignore_index=-1),
        "at": 20 * F.smooth_l1_loss(at[one], b.at[one]),
    }
    for i, (name, fact) in enumerate(zip(VALUES, facts, strict=True)):
        losses[name] = F.cross_entropy(fact[one], b.told[..., i][one])
    return losses


def start(model: Vilt, c: int) -> None:
    """Start the embeddings well: every direction in which patches differ is as strong as any other.

    Patches are projected on their principal components, evened out down to the noise; positions are sines and cosines
    of row and column, a quarter of the width each.
    """
    random = Random("start")
    seen = [look(make_scene(random, "train")) for _ in range(600)]
    patches = np.concatenate([one.patches[one.owner >= 0] for one in seen])
    x = torch.from_numpy(patches).double() / 127.5 - 1
    values, directions = torch.linalg.eigh(torch.cov(x.T))
    weight = (directions / (values.clamp(min=0) + 0.01).sqrt()).flip(1)[:, :c].T
    angles = torch.arange(ROWS)[:, None] * (math.pi / ROWS) * 1.5 ** torch.arange(c // 4)[None].clamp(max=7)
    waves = torch.cat([angles.sin(), angles.cos()], 1)
    grid = torch.cat([waves[:, None].expand(-1, ROWS, -1), waves[None].expand(ROWS, -1, -1)], -1)
    with torch.no_grad():
        e = model.vilt.embeddings
        e.patch_embeddings.projection.weight.copy_(weight.reshape(c, 3, PATCH, PATCH))
        e.patch_embeddings.projection.bias = nn.Parameter((-weight @ x.mean(0)).float())
        e.position_embeddings[0, 1:] = 0.7 * grid[..., :c].reshape(ROWS * ROWS, c)
        e.token_type_embeddings.weight.mul_(0.3)
