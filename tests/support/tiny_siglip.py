"""Tiny SigLIP checkpoints as transformers saves them, with a processor and a tokenizer of either kind."""

import json
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, normalizers, pre_tokenizers, processors
from tokenizers.models import BPE
from transformers import SiglipConfig, SiglipImageProcessor, SiglipTextConfig, SiglipVisionConfig

CLASSES = ("SiglipModel", "SiglipVisionModel", "SiglipTextModel")
TEXT = {
    "vocab_size": 99,
    "hidden_size": 48,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 16,
    "projection_size": 64,
    "attention_dropout": 0.1,
}
VISION = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "image_size": 48,
    "patch_size": 8,
    "attention_dropout": 0.1,
}

GEMMA = {
    **{f"{name}_token": f"<{name}>" for name in ("pad", "eos", "bos", "unk")},
    "add_bos_token": False,
    "add_eos_token": True,
    "model_input_names": ["input_ids"],
    "model_max_length": 1000000000000000019884624838656,
    "padding_side": "right",
    "processor_class": "SiglipProcessor",
    "tokenizer_class": "GemmaTokenizer",
}
"""What tokenizer_config.json of a SigLIP 2 says."""
SENTENCEPIECE = {
    **{"eos_token": "</s>", "pad_token": "</s>", "unk_token": "<unk>"},
    "do_lower_case": True,
    "model_input_names": ["input_ids"],
    "model_max_length": 16,
    "processor_class": "SiglipProcessor",
    "sp_model_kwargs": {},
    "tokenizer_class": "SiglipTokenizer",
}
"""The same of a SigLIP."""
_LETTERS = "abcdefghijklmnopqrstuvwxyz"


def write_gemma(out: Path, **config: Any) -> Path:
    """The tokenizer of a SigLIP 2: byte-pair encoding, an <eos> behind every text. `config` says otherwise what its
    tokenizer_config.json says. Gives `out`."""
    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]
    words = [*special, *_LETTERS, *_LETTERS.upper()[:8], "\u2581", *".,!?'", "ca", "cat", "\u2581a", "re", "red"]
    merges = [("c", "a"), ("ca", "t"), ("\u2581", "a"), ("r", "e"), ("re", "d")]
    numbers = {word: i for i, word in enumerate(words)}
    made = Tokenizer(BPE(vocab=numbers, merges=merges, fuse_unk=True, unk_token="<unk>", byte_fallback=True))
    made.normalizer = normalizers.Replace(" ", "\u2581")
    made.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    made.post_processor = processors.TemplateProcessing(single="$A <eos>", special_tokens=[("<eos>", 1)])
    made.add_special_tokens(special)
    made.save(str(out / "tokenizer.json"))
    (out / "tokenizer_config.json").write_text(json.dumps({**GEMMA, **config}))
    return out


def write_sentencepiece(out: Path, **config: Any) -> Path:
    """The tokenizer of a SigLIP instead: sentencepiece's unigrams. `config` as in `write_gemma`."""
    from transformers.utils import sentencepiece_model_pb2_new as protocol

    model = protocol.ModelProto()
    model.trainer_spec.unk_id, model.trainer_spec.model_type = 2, 1
    for name, kind in (("<pad>", 3), ("</s>", 3), ("<unk>", 2)):
        model.pieces.add(piece=name, score=0, type=kind)
    for i, piece in enumerate(("\u2581", *_LETTERS, "\u2581a", "\u2581cat", "\u2581red", "\u2581dont", "\u03c2")):
        model.pieces.add(piece=piece, score=-1.0 - i / 7 + 3 * len(piece), type=1)
    for i in range(len(model.pieces), TEXT["vocab_size"]):
        model.pieces.add(piece=f"<unused{i}>", score=-99, type=5)
    (out / "tokenizer.json").unlink(missing_ok=True)
    (out / "spiece.model").write_bytes(model.SerializeToString())
    (out / "tokenizer_config.json").write_text(json.dumps({**SENTENCEPIECE, **config}))
    return out


def write(
    out: Path,
    architecture: str = "SiglipModel",
    *,
    dtype: torch.dtype = torch.float32,
    text: dict[str, Any] | None = None,
    vision: dict[str, Any] | None = None,
    **saved: Any,
) -> Path:
    """A folder of this class with random weights, of which the `text` and `vision` sections say otherwise what they
    say; `saved` goes to save_pretrained. Gives `out`."""
    config = SiglipConfig(
        text_config=SiglipTextConfig(**{**TEXT, **(text or {})}).to_dict(),
        vision_config=SiglipVisionConfig(**{**VISION, **(vision or {})}).to_dict(),
    )
    if architecture != "SiglipModel":
        config = config.vision_config if "Vision" in architecture else config.text_config
    torch.manual_seed(0)
    model = getattr(transformers, architecture)(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() < 2:
                parameter.add_(torch.randn_like(parameter) * 0.1)
            else:
                parameter.normal_(0, 0.5 if "embedding.w" in name else 1.2 / parameter[0].numel() ** 0.5)
    model.to(dtype).save_pretrained(out, **saved)
    if "Vision" not in architecture:
        write_gemma(out)
    if "Text" not in architecture:
        side = config.vision_config.image_size if architecture == "SiglipModel" else config.image_size
        SiglipImageProcessor(size={"height": side, "width": side}).save_pretrained(out)
    return out
