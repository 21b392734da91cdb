"""Whole tiny LLaVA folders, language model, tokenizer and processor included. A word is a token: w2, w3, ..."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import tiny_llava
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoProcessor, LlavaProcessor, PreTrainedTokenizerFast
from transformers.models.llava.image_processing_pil_llava import LlavaImageProcessorPil

IMAGE, PAD = 98, 0
TEMPLATE = (
    "{% for part in messages[0]['content'] %}{{ 'w5 <image> ' if part['type'] == 'image' else part['text'] }}"
    "{% endfor %}{{ ' w6' if add_generation_prompt }}"
)
"""How a question is put, for `write`."""


def write(folder: Path, template: str = "", **config: Any) -> Path:
    """A tiny LLaVA with a processor of pictures and texts, and a chat `template` if one is given."""
    tiny_llava.write(folder, **config)
    words = {"<pad>": PAD, "<unk>": 1, **{f"w{i}": i for i in range(2, IMAGE)}, "<image>": IMAGE}
    plain = Tokenizer(models.WordLevel(words, "<unk>"))
    plain.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=plain,
        pad_token="<pad>",
        unk_token="<unk>",
        additional_special_tokens=["<image>"],
        padding_side="left",
    )
    values = json.loads((folder / "config.json").read_text())
    strategy = values["vision_feature_select_strategy"]
    processor = LlavaProcessor(
        LlavaImageProcessorPil.from_pretrained(folder),
        tokenizer,
        patch_size=8,
        vision_feature_select_strategy=strategy,
        num_additional_image_tokens=1 if "clip" in values["vision_config"]["model_type"] else 0,
        chat_template=template or None,
    )
    processor.save_pretrained(folder)
    return folder


def inputs(folder: Path) -> Any:
    """Two prompts of different lengths with a picture each, padded on the left."""
    random = np.random.default_rng(0)
    pictures = [Image.fromarray(random.integers(0, 256, (*side, 3), np.uint8)) for side in ((48, 48), (60, 90))]
    processor = AutoProcessor.from_pretrained(folder)
    return processor(images=pictures, text=["w5 <image> w7 w9", "<image> w3"], padding=True, return_tensors="pt")
