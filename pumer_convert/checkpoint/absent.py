"""What lies in a folder instead of weights, and how they are got from it."""

from pathlib import Path

from pumer_convert.checkpoint.locate import WEIGHTS

_INSTEAD = (
    (
        ("zero_to_fp32.py", "*_model_states.pt", "*/*_model_states.pt"),
        "'{}' is of DeepSpeed, which spreads weights over several files; put them together by its zero_to_fp32.py.",
    ),
    (
        ("*.distcp", "*/*.distcp"),
        "'{}' is a part of a checkpoint of torch.distributed; put the parts together by `python -m "
        "torch.distributed.checkpoint.format_utils dcp_to_torch FOLDER pytorch_model.bin`.",
    ),
    (
        ("*.h5", "*.msgpack", "*.ckpt.index"),
        "'{}' holds weights of TensorFlow or Flax; save them by transformers in PyTorch (from_tf, from_flax).",
    ),
    (("*.gguf",), "'{}' holds quantized weights; give the checkpoint that it was made from."),
    (
        ("*.crdownload", "*.part", "*.partial", "*.incomplete", "*.aria2", "*.download"),
        "'{}' is a download that has not ended; download it again.",
    ),
    (("*.onnx", "*.engine"), "'{}' is an exported model; give the checkpoint that it was made from, or run that file."),
    (("*/*.pth.tar",), "'{}' is a checkpoint of a training; name that file, or another of them."),
    (("checkpoint-*", "*.ckpt"), "'{}' is a folder of a trainer; name that one, or another of them."),
    (
        tuple(f"*/{name}" for name in WEIGHTS),
        "'{}' lies in a folder of its own; name that folder.",
    ),
)
"""Names, and what is said of the first that is there."""


def instead_of_weights(folder: Path) -> str:
    """A sentence on a folder without weights, to be put after its name."""
    for names, said in _INSTEAD:
        found = sorted(path for name in names for path in folder.glob(name))
        if found:
            return f"no weights there; {said.format(found[0].relative_to(folder))}"
    return "no weights there; expected model.safetensors, pytorch_model.bin or one .ckpt file."
