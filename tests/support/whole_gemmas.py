"""Whole tiny PaliGemmas and Gemma 3s, language model, tokenizer and processor included."""

from pathlib import Path
from typing import Any

from tiny_gemmas import IMAGE, write_gemma3, write_paligemma
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import Gemma3Processor, PaliGemmaProcessor, PreTrainedTokenizerFast
from transformers.models.gemma3.image_processing_pil_gemma3 import Gemma3ImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

TEMPLATE = (
    "<bos> {% for part in messages[0]['content'] %}"
    "{{ '<start_of_image> ' if part['type'] == 'image' else part['text'] }}"
    "{% endfor %}{{ ' w6' if add_generation_prompt }}"
)
"""How a Gemma 3 is asked."""


def tokenizer() -> PreTrainedTokenizerFast:
    """A word is a token: w4, w5, ..."""
    marks = {"<start_of_image>": 96, "<end_of_image>": 97, "<image>": IMAGE}
    words = {"<pad>": 0, "<unk>": 1, "<bos>": 2, "<eos>": 3, **{f"w{i}": i for i in range(4, 96)}, **marks}
    plain = Tokenizer(models.WordLevel(words, "<unk>"))
    plain.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=plain,
        pad_token="<pad>",
        unk_token="<unk>",
        bos_token="<bos>",
        eos_token="<eos>",
        padding_side="left",
        extra_special_tokens={"image_token": "<image>", "boi_token": "<start_of_image>", "eoi_token": "<end_of_image>"},
    )


def whole(folder: Path, model: str, nested: bool = True, template: str = "") -> Path:
    """A tiny model with its processor, whose files are `nested` as transformers 5 writes them or else as published,
    and a chat `template` if one is given."""
    if model == "paligemma":
        write_paligemma(folder)
        processor: Any = PaliGemmaProcessor(SiglipImageProcessorPil.from_pretrained(folder), tokenizer())
    else:
        write_gemma3(folder)
        processor = Gemma3Processor(Gemma3ImageProcessorPil.from_pretrained(folder), tokenizer(), image_seq_length=9)
    if template:
        processor.chat_template = template
    if nested:
        (folder / "preprocessor_config.json").unlink()
    processor.save_pretrained(folder)
    if not nested:
        (folder / "processor_config.json").unlink()
    return folder
