"""What fuzz_readers.py tries of dual encoders: open_clip's names, tokenizers of both kinds, folders by class."""

import json
import random
import shutil
from pathlib import Path
from typing import Any

from fuzz_inputs import Reader, break_bytes, break_json, broken, read_model

WIDTH, WORDS, LETTERS = 8, 24, "abcdefghijklmnopqrstuvwxyz"
BLOCK: dict[str, tuple[int, ...]] = {
    **{f"ln_{i}.{kind}": (WIDTH,) for i in (1, 2) for kind in ("weight", "bias")},
    **{"attn.in_proj_weight": (3 * WIDTH, WIDTH), "attn.in_proj_bias": (3 * WIDTH,)},
    **{"attn.out_proj.weight": (WIDTH, WIDTH), "attn.out_proj.bias": (WIDTH,)},
    **{"mlp.c_fc.weight": (2 * WIDTH, WIDTH), "mlp.c_fc.bias": (2 * WIDTH,)},
    **{"mlp.c_proj.weight": (WIDTH, 2 * WIDTH), "mlp.c_proj.bias": (WIDTH,)},
}
SHAPES: dict[str, tuple[int, ...]] = {
    **{f"{tower}transformer.resblocks.0.{name}": shape for tower in ("visual.", "") for name, shape in BLOCK.items()},
    **{f"visual.ln_{place}.{kind}": (WIDTH,) for place in ("pre", "post") for kind in ("weight", "bias")},
    **{f"ln_final.{kind}": (WIDTH,) for kind in ("weight", "bias")},
    **{"visual.class_embedding": (WIDTH,), "visual.positional_embedding": (5, WIDTH)},
    **{"visual.conv1.weight": (WIDTH, 3, 8, 8), "visual.proj": (WIDTH, 4)},
    **{"token_embedding.weight": (WORDS, WIDTH), "positional_embedding": (16, WIDTH)},
    **{"text_projection": (WIDTH, 4), "logit_scale": ()},
}  # fmt: skip
OPEN_CLIP: dict[str, Any] = {
    "model_cfg": {
        "embed_dim": 4,
        "quick_gelu": True,
        "vision_cfg": {
            **{"image_size": 16, "layers": 1, "width": WIDTH, "head_width": 4},
            **{"patch_size": 8, "mlp_ratio": 2.0},
        },
        "text_cfg": {
            **{"context_length": 16, "vocab_size": WORDS, "width": WIDTH, "heads": 2, "layers": 1, "mlp_ratio": 2.0},
        },
    },
    "preprocess_cfg": {
        **{"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.4]},
        **{"interpolation": "bicubic", "resize_mode": "shortest"},
    },
}


def open_clip(folder: Path) -> None:
    """A CLIP of one layer in each tower, as open_clip saves it."""
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(0)
    weights = {name: torch.randn(shape) for name, shape in SHAPES.items()}
    save_file(weights, folder / "open_clip_model.safetensors")
    (folder / "open_clip_config.json").write_text(json.dumps(OPEN_CLIP))


def siglip(folder: Path) -> None:
    """A SigLIP of one layer in each tower with sentencepiece's tokenizer and, in `other`, Gemma's."""
    import torch
    import transformers
    from tokenizers import Tokenizer, processors
    from tokenizers.models import BPE
    from transformers.utils import sentencepiece_model_pb2_new as protocol

    torch.manual_seed(0)
    transformers.utils.logging.disable_progress_bar()
    tower = {"hidden_size": WIDTH, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = transformers.SiglipConfig(
        text_config={**tower, "vocab_size": 40, "max_position_embeddings": 16, "projection_size": WIDTH},
        vision_config={**tower, "image_size": 16, "patch_size": 8},
    )
    transformers.SiglipModel(config).save_pretrained(folder)
    transformers.SiglipImageProcessor(size={"height": 16, "width": 16}).save_pretrained(folder)

    model = protocol.ModelProto()
    model.trainer_spec.unk_id, model.trainer_spec.model_type = 2, 1
    for name, kind in (("<pad>", 3), ("</s>", 3), ("<unk>", 2)):
        model.pieces.add(piece=name, score=0, type=kind)
    for piece in ("\u2581", *LETTERS, "\u2581cat"):
        model.pieces.add(piece=piece, score=-len(piece), type=1)
    (folder / "spiece.model").write_bytes(model.SerializeToString())
    common = {"padding_side": "right", "model_max_length": 16, "processor_class": "SiglipProcessor"}
    told = {**common, "eos_token": "</s>", "pad_token": "</s>", "unk_token": "<unk>", "do_lower_case": True}
    told |= {"model_input_names": ["input_ids"], "tokenizer_class": "SiglipTokenizer"}
    (folder / "tokenizer_config.json").write_text(json.dumps(told))

    other = folder / "other"
    other.mkdir()
    names = ["<pad>", "<eos>", "<bos>", "<unk>"]
    made = Tokenizer(BPE({word: i for i, word in enumerate([*names, *LETTERS, "ca"])}, [("c", "a")], unk_token="<unk>"))
    made.post_processor = processors.TemplateProcessing(single="$A <eos>", special_tokens=[("<eos>", 1)])
    made.add_special_tokens(names)
    made.save(str(other / "tokenizer.json"))
    told = {**common, **{f"{name}_token": f"<{name}>" for name in ("pad", "eos", "bos", "unk")}}
    told |= {"add_eos_token": True, "model_input_names": ["input_ids"], "tokenizer_class": "GemmaTokenizer"}
    (other / "tokenizer_config.json").write_text(json.dumps(told))


def break_tokenizer(folder: Path, chance: random.Random) -> None:
    """Breaks a file of one of both tokenizers, which then is the model's."""
    if chance.random() < 0.5:
        (folder / "spiece.model").unlink()
        shutil.copytree(folder / "other", folder, dirs_exist_ok=True)
        break_json("tokenizer.json", "tokenizer_config.json")(folder, chance)
    elif chance.random() < 0.7:
        break_bytes("spiece.model")(folder, chance)
    else:
        break_json("tokenizer_config.json")(folder, chance)


def read_texts(folder: Path) -> None:
    """Makes ids of texts by the model's own tokenizer."""
    from pumer_convert.data.preprocess import Preprocessor

    Preprocessor.of(folder).text(["a cat", "", "A red, red cat!"])


def classes(folder: Path) -> None:
    """Pictures in folders by class, with the names of the classes and a template in a file."""
    from PIL import Image

    for name in ("cat", "n02", "\u00e9t\u00e9"):
        (folder / "pictures" / name).mkdir(parents=True)
        Image.new("RGB", (20, 16), "red").save(folder / "pictures" / name / "a.png")
    (folder / "classes.txt").write_text("a photo of a {}\ncat\nn02\ta dog\n\u00e9t\u00e9\tsummer\n", "utf-8")


def break_classes(folder: Path, chance: random.Random) -> None:
    """Breaks the file, a picture, or where a picture lies."""
    picture = folder / "pictures" / "cat" / "a.png"
    kind = chance.random()
    if kind < 0.6:
        break_bytes("classes.txt")(folder, chance)
    elif kind < 0.8:
        picture.write_bytes(broken(picture.read_bytes(), chance))
    else:
        name = chance.choice((".a.png", "a", "a.txt", "b/a.png", "\udce9.png", "a.PNG", "x" * 250, "a\n.png"))
        target = picture.parent / name
        target.parent.mkdir(exist_ok=True)
        picture.rename(target)


def read_class_folders(folder: Path) -> None:
    """Reads the classes, and every picture with what its class is called."""
    from pumer_convert.data.formats import read_samples
    from pumer_convert.data.prompts import filled, read_classes

    found = read_classes(folder / "classes.txt")
    for template in found.templates:
        filled(template, [*found.names.values()])
    for sample in read_samples(folder / "pictures", "zero_shot").samples:
        for one in sample.pictures:
            one.open()


READERS = {
    "open_clip": Reader(open_clip, break_json("open_clip_config.json"), read_model),
    "tokenizer": Reader(siglip, break_tokenizer, read_texts),
    "classes": Reader(classes, break_classes, read_class_folders),
}
