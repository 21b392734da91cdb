"""Random configs that transformers can save a ViLT of.

A draw is made of parts, each a function of a `random.Random` that gives keyword arguments; to draw more of what a
config says, add a part.
"""

from collections.abc import Callable
from random import Random
from typing import Any

from transformers.activations import ACT2CLS

HEADS = ("ViltForQuestionAnswering", "ViltForImagesAndTextClassification", "ViltForImageAndTextRetrieval")


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
        "vocab_size": random.randint(60, 120),
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
