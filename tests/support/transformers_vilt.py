"""Small ViLT folders as transformers itself saves them: model, processor and tokenizer, with random weights."""

from pathlib import Path
from typing import Any

import torch
import transformers

WORDS = (
    *(
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        "what",
        "is",
        "the",
        "color",
        "of",
        "a",
        "cat",
        "dog",
        "in",
        "this",
    ),
    *("picture", "how", "many", "are", "there", "?", ".", ","),
)
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"
HEADS = {
    "vqa": "ViltForQuestionAnswering",
    "ve": "ViltForQuestionAnswering",
    "nlvr2": "ViltForImagesAndTextClassification",
    "retrieval": "ViltForImageAndTextRetrieval",
}
ENTAILMENT = ("contradiction", "neutral", "entailment")


def write(folder: Path, task: str = "vqa", size: int = 96, processor: dict[str, Any] | None = None, **more: Any) -> Any:
    """A folder for a task; gives transformers' model. `processor` are other settings of it, `more` of the config."""
    folder.mkdir(parents=True, exist_ok=True)
    words = [*WORDS, *LETTERS, *(f"##{letter}" for letter in LETTERS)]
    (folder / "vocab.txt").write_text("\n".join(dict.fromkeys(words)) + "\n", "utf-8")
    tokenizer = transformers.BertTokenizer(vocab=str(folder / "vocab.txt"))
    tokenizer.save_pretrained(folder)
    names = {"ve": ENTAILMENT, "nlvr2": ("False", "True")}.get(task, tuple(f"answer-{i}" for i in range(7)))
    torch.manual_seed(11)
    settings = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128}
    settings |= {"image_size": size, "patch_size": 16, "vocab_size": len(tokenizer), "num_images": 2}
    settings |= {"modality_type_vocab_size": 3} if task == "nlvr2" else {}
    config = transformers.ViltConfig(**{**settings, **more})
    config.id2label = dict(enumerate(names))
    config.label2id = {name: i for i, name in config.id2label.items()}
    if task == "ve":
        config.pumer_task = "ve"
    model = getattr(transformers, HEADS[task])(config).eval()
    for parameter in model.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.12)
    model.save_pretrained(folder)
    half = [0.5, 0.5, 0.5]
    values = {"size": {"shortest_edge": size}, "size_divisor": 16, "image_mean": half, "image_std": half}
    transformers.ViltImageProcessor(**{**values, **(processor or {})}).save_pretrained(folder)
    return model


def logits(model: Any, folder: Path, pictures: list[list[Any]], texts: list[str], dtype: str = "float32") -> Any:
    """What transformers answers, [B, labels] as numpy: pictures through its processor one example at a time, texts
    through its tokenizer, cut to what the model takes; each example alone, with the padding it has in the batch."""
    make = transformers.ViltImageProcessor.from_pretrained(folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    words = tokenizer(texts, padding=True, truncation=True, max_length=40, return_tensors="pt")
    rows = []
    for i, example in enumerate(pictures):
        seen = make(example, return_tensors="pt")
        given = {
            name: value.to(getattr(torch, dtype)) if value.is_floating_point() else value
            for name, value in seen.items()
        }
        if len(example) > 1:
            given = {name: value[None] for name, value in given.items()}
        text = {name: words[name][i : i + 1] for name in ("input_ids", "attention_mask")}
        with torch.no_grad():
            rows.append(model.to(getattr(torch, dtype))(**text, **given).logits[0])
    return torch.stack(rows).numpy()
