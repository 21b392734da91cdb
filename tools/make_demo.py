"""Make the embedded demo checkpoint: a tiny ViLT with random weights and a real tokenizer and processor.

python tools/make_demo.py pumer_convert/demo/checkpoint
"""

import json
import sys
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast, ViltConfig, ViltForQuestionAnswering

WORDS = [
    "what",
    "which",
    "how",
    "many",
    "is",
    "are",
    "there",
    "the",
    "a",
    "an",
    "of",
    "in",
    "on",
    "to",
    "left",
    "right",
    "above",
    "below",
    "color",
    "shape",
    "size",
    "number",
    "object",
    "objects",
    "circle",
    "square",
    "triangle",
    "star",
    "red",
    "green",
    "blue",
    "yellow",
    "purple",
    "orange",
    "black",
    "white",
    "small",
    "large",
    "big",
    "same",
    "any",
    "does",
    "it",
    "than",
    "more",
    "fewer",
    "between",
    "and",
    "or",
    "not",
    "picture",
    "image",
    "one",
    "two",
    "three",
    "four",
    "five",
    "yes",
    "no",
    "?",
    ".",
    ",",
]
ANSWERS = [
    "yes",
    "no",
    *["zero", "one", "two", "three", "four", "five"],
    "red",
    "green",
    "blue",
    "yellow",
    "circle",
    "square",
]


def main(folder: Path) -> None:
    """Write config, weights, tokenizer and processor to `folder`."""
    torch.manual_seed(0)
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    config = ViltConfig(
        vocab_size=len(vocabulary),
        hidden_size=64,
        num_hidden_layers=6,
        num_attention_heads=2,
        intermediate_size=256,
        image_size=96,
        patch_size=8,
        max_position_embeddings=40,
        initializer_range=0.15,
        id2label=dict(enumerate(ANSWERS)),
        label2id={a: i for i, a in enumerate(ANSWERS)},
    )
    ViltForQuestionAnswering(config).eval().save_pretrained(folder)
    tokenizer = Tokenizer(models.WordPiece({word: i for i, word in enumerate(vocabulary)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    special = {"unk_token": "[UNK]", "pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=40, **special).save_pretrained(folder)
    processor = {
        "image_processor_type": "ViltImageProcessor",
        "do_resize": True,
        "size": {"shortest_edge": 96},
        "size_divisor": 8,
        "resample": 3,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": [0.5] * 3,
        "image_std": [0.5] * 3,
        "do_pad": True,
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(processor, indent=2) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
