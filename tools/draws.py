"""Random checkpoints as transformers saves them, and what came of reading each (tools/property_draws.py).

A draw is made of parts, each a function of a `random.Random` that gives keyword arguments; to draw more of what a
checkpoint says (its processor, its pictures), add a part.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import torch
import transformers
from transformers.activations import ACT2CLS

from pumer_convert.convert import load
from pumer_convert.errors import InputError

HEADS = ("ViltForQuestionAnswering", "ViltForImagesAndTextClassification", "ViltForImageAndTextRetrieval")
LIMIT = 1e-4
"""How far logits may be from transformers', as a share of the largest."""


def draw_sizes(random: Random) -> dict[str, Any]:
    """Widths, heads, layers, tables and sides."""
    heads, patch = random.choice((1, 2, 3, 4, 8)), random.choice((4, 8, 16))
    return {
        "hidden_size": heads * random.choice((4, 8, 12)),
        "num_attention_heads": heads,
        "num_hidden_layers": random.randint(1, 3),
        "intermediate_size": random.choice((8, 31, 64)),
        "patch_size": patch,
        "image_size": patch * random.randint(1, 5) + random.choice((0, 0, 0, patch - 1)),
        "vocab_size": random.randint(40, 90),
        "max_position_embeddings": random.choice((9, 16, 40)),
        "type_vocab_size": random.choice((1, 2, 2, 3)),
    }


def draw_values(random: Random) -> dict[str, Any]:
    """Values that change what the network computes; activations with weights of their own are rare."""
    plain = [name for name in ACT2CLS if name not in ("prelu", "xielu")]
    return {
        "hidden_act": "prelu" if random.random() < 0.01 else random.choice((*["gelu"] * 8, *plain)),
        "layer_norm_eps": random.choice((1e-12, 1e-12, 1e-6, 1e-5, 1e-2, 0.0)),
        "qkv_bias": random.random() < 0.8,
        "hidden_dropout_prob": random.choice((0.0, 0.0, 0.1)),
        "attention_probs_dropout_prob": random.choice((0.0, 0.0, 0.1)),
        "max_image_length": random.choice((-1, -1, -1, 200)),
        "num_channels": 1 if random.random() < 0.01 else 3,
    }


def draw_notes(random: Random) -> dict[str, Any]:
    """Values that transformers writes and its network does not read."""
    notes = {
        "initializer_range": random.choice((0.02, 0.1)),
        "tie_word_embeddings": random.random() < 0.5,
        "pad_token_id": random.choice((None, 0, 1)),
        "output_attentions": random.random() < 0.1,
        "problem_type": random.choice((None, None, "multi_label_classification")),
        "chunk_size_feed_forward": random.choice((0, 0, 8)),
        "bos_token_id": random.choice((None, 2)),
        "torchscript": False,
        "gradient_checkpointing": False,
        "top_k": 50,
        "finetuning_task": None,
    }
    return {key: value for key, value in notes.items() if random.random() < 0.5}


def draw_head(random: Random) -> dict[str, Any]:
    """The head, under "architectures", and the names of its answers: LABEL_0, ... or words, also such as "10"."""
    head = random.choice(HEADS)
    count = random.choice((1, 2, 2, 3, 7, 12))
    drawn: dict[str, Any] = {"architectures": [head]}
    if head == HEADS[1]:
        images = random.choice((1, 2, 2, 2, 3))
        drawn |= {"num_images": images, "modality_type_vocab_size": images + random.choice((1, 1, 2))}
    else:
        drawn |= {"modality_type_vocab_size": random.choice((2, 2, 3)), "num_images": random.choice((-1, -1, 2))}
    if random.random() < 0.5:
        return drawn | {"num_labels": count}
    names = random.sample(("yes", "no", "10", "2", "true", "", "a b", "Ärger", "é", "0", "none", "[UNK]"), count)
    return drawn | {"id2label": dict(enumerate(names)), "label2id": {name: i for i, name in enumerate(names)}}


PARTS: tuple[Callable[[Random], dict[str, Any]], ...] = (draw_sizes, draw_values, draw_notes, draw_head)


def draw_config(random: Random) -> dict[str, Any]:
    """Keyword arguments of a ViltConfig, which transformers can save a model of, run and load again."""
    return {key: value for part in PARTS for key, value in part(random).items()}


def save(kwargs: dict[str, Any], folder: Path, seed: int) -> torch.nn.Module:
    """Saves a model of a drawn config, with random weights, into `folder`; gives transformers' model of these files.

    The weights are large enough that attention is not flat.
    """
    config = transformers.ViltConfig(**kwargs)
    config._attn_implementation = "eager"
    kind = getattr(transformers, kwargs["architectures"][0])
    torch.manual_seed(seed)
    model = kind(config).eval()
    for name, parameter in model.named_parameters():
        scale = 0.12 if "embeddings" in name or parameter.dim() < 2 else 1.2 / parameter[0].numel() ** 0.5
        torch.nn.init.normal_(parameter, mean=float(parameter.dim() == 1 and name.endswith("weight")), std=scale)
    model.save_pretrained(folder)
    return kind.from_pretrained(folder, attn_implementation="eager").eval()


def inputs(config: Any, seed: int) -> dict[str, torch.Tensor]:
    """Random inputs of two examples for transformers' config, the second padded on the right."""
    generator = torch.Generator().manual_seed(seed)
    length, side = min(config.max_position_embeddings, 9), config.image_size
    ids = torch.randint(2, config.vocab_size, (2, length), generator=generator)
    mask = torch.ones_like(ids)
    mask[1, length // 2 :] = 0
    images = [config.num_images] if config.architectures == [HEADS[1]] and config.num_images > 1 else []
    pixels = torch.randn(2, *images, config.num_channels, side, side, generator=generator)
    return {"input_ids": ids * mask, "attention_mask": mask, "pixel_values": pixels}


@dataclass(frozen=True)
class Outcome:
    """What came of a draw: how far the logits are from transformers', or the sentence that refused the checkpoint."""

    kwargs: dict[str, Any]
    off: float | None = None
    refused: str | None = None

    @property
    def problem(self) -> str | None:
        """What is wrong with it: logits that differ, or a refusal that names no key of the config; None: nothing."""
        if self.off is not None:
            return None if self.off < LIMIT else f"off by {self.off:.1e}: {json.dumps(self.kwargs)}"
        if any(f"{key} is " in (self.refused or "") for key in self.kwargs):
            return None
        return f"refused without a key ({self.refused}): {json.dumps(self.kwargs)}"


def outcome(seed: int, folder: Path) -> Outcome:
    """Draws, saves and reads one checkpoint; `folder` is to be new."""
    kwargs = draw_config(Random(seed))
    theirs = save(kwargs, folder, seed)
    given = inputs(theirs.config, seed)
    with torch.no_grad():
        want = theirs(**given).logits
    try:
        ours = load(folder)
    except InputError as error:
        return Outcome(kwargs, refused=str(error))
    with torch.no_grad():
        got = ours(**given).logits
    if got.shape != want.shape:
        return Outcome(kwargs, off=float("inf"))
    return Outcome(kwargs, off=float((got - want).abs().max() / want.abs().max()))
