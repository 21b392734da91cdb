"""Whole tiny Idefics3s, language model, tokenizer and processor included."""

from pathlib import Path
from typing import Any

import tiny_tiles
from tiny_tiles import IMAGE
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers
from transformers import Idefics3Processor, PreTrainedTokenizerFast
from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil

TEMPLATE = (
    "<bos> {% for part in messages[0]['content'] %}"
    "{{ '<image> ' if part['type'] == 'image' else part['text'] }}"
    "{% endfor %}{{ ' w6' if add_generation_prompt }}"
)
"""How one is asked."""
MARKS = ["<fake_token_around_image>", "<end_of_utterance>", "<image>", "<global-img>"]
MARKS += [f"<row_{i}_col_{j}>" for i in range(1, 5) for j in range(1, 5)]


def tokenizer() -> PreTrainedTokenizerFast:
    words = {"<pad>": 0, "<unk>": 1, "<bos>": 2, "<eos>": 3, **{f"w{i}": i for i in range(4, 96)}}
    words |= {mark: 96 + i for i, mark in enumerate(MARKS)}
    assert words["<image>"] == IMAGE
    plain = Tokenizer(models.WordLevel(words, "<unk>"))
    plain.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    plain.add_special_tokens([AddedToken(mark, special=True, normalized=False) for mark in MARKS])
    return PreTrainedTokenizerFast(
        tokenizer_object=plain,
        pad_token="<pad>",
        unk_token="<unk>",
        bos_token="<bos>",
        eos_token="<eos>",
        padding_side="left",
    )


def write(folder: Path, template: str = "", **options: Any) -> Path:
    """One whose processor makes four tokens of each tile, with a chat `template` if one is given."""
    tiny_tiles.write(folder, "idefics3", **options)
    processor = Idefics3Processor(Idefics3ImageProcessorPil.from_pretrained(folder), tokenizer(), image_seq_len=4)
    if template:
        processor.chat_template = template
    processor.save_pretrained(folder)
    return folder
