"""The layout embeddings: a vision part with what makes embeddings of pictures, for servers that take these."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pumer_convert.checkpoint.origin import origin_entry
from pumer_convert.export.layouts.part import FILE, Part
from pumer_convert.system.output import output_folder
from pumer_convert.system.owned import write_report

LAYOUT = "embeddings"
ENCODER = "encoder.py"
GUIDE = """# {name}

The vision part of a {family}, written by pumer-convert: `vision.onnx` gives {tokens} embeddings of {width} numbers for
a picture (the dense one gives {dense}). They go where the language model has its image token, id {image_token}; the
server loads the language model, and its own vision part stays idle.

    from encoder import Encoder                          # needs 'pumer-convert[gpu]', or [cpu]

    encode = Encoder()
    rows = encode(["a.jpg", "b.jpg"])                    # float32 [2, {tokens}, {width}]

Forms that servers take, by their documents and code; **none of them was run**:

- vLLM, started with `--enable-mm-embeds` (`LLM(..., enable_mm_embeds=True)`):
  `llm.generate(encode.vllm(prompt, [...]))`, a tensor [pictures, {tokens}, {width}], by which it counts the tokens.
- SGLang: `engine.generate(**encode.sglang(ids, [...]))`, a tensor [{tokens}, {width}] for each picture, and the ids of
  the prompt with {tokens} image tokens for each.
- TensorRT-LLM's LLM API: `llm.generate(encode.tensorrt_llm(prompt, [...]))`, a tensor [{tokens}, {width}] for each
  picture. An engine of `vision.onnx` (`pumer-convert export --trt`) gives the same embeddings.

Where fewer tokens are left than the dense model has, the kept ones get the positions of as many words, one after the
other. That costs most where places in the picture are asked for.
"""


def export_embeddings(
    path: Path | str,
    out: Path | str,
    *,
    dtype: str | None = None,
    overwrite: bool = False,
    progress: Callable[[str], None] = lambda line: None,
    in_subprocess: bool = False,
) -> dict[str, Any]:
    """Write the vision part at `path`, in `dtype` (None: the recipe's), to the folder `out`, with a program that makes
    embeddings of pictures with it. Gives the report. Raises InputError for a model without a language model."""
    part, out = Part.of_pictures(path, LAYOUT), Path(out)
    token = part.image_token
    with output_folder(out, overwrite, (part.path,)) as folder:
        _, report = part.export(folder, dtype, progress, in_subprocess)
        shutil.copyfile(Path(__file__).with_name(ENCODER), folder / ENCODER)
        counts = {"tokens": part.tokens, "dense": part.dense, "width": part.width, "image_token": token}
        (folder / "README.md").write_text(GUIDE.format(name=out.name, family=part.family.name, **counts), "utf-8")
        told = {
            "layout": LAYOUT,
            "out": str(out),
            "source": origin_entry(part.checkpoint, out),
            "image_tokens": part.tokens,
            "dense_tokens": part.dense,
            "width": part.width,
            "image_token_id": token,
            "dtype": report["dtype"],
            "onnx": FILE,
            "verification": report["verification"],
            "notes": part.notes,
        }
        return write_report(folder, told)
