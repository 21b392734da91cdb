"""What half precision changes: the same checkpoint as ONNX in three types, on the demo's drawn world.

    pumer-convert demo -o /tmp/demo && python tools/measure/precision.py /tmp/demo

Of each type: the share of answers that are float32's, and of the reducers' decisions those that differ. ONNX Runtime's
CPU has no bfloat16 arithmetic, so there the weights alone are rounded.
"""

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pumer_convert.data.preprocess import Preprocessor
from pumer_convert.demo.path import lessons
from pumer_convert.export.onnx import export_onnx
from pumer_convert.verification.session import open_graph

TYPES = ("float32", "float16", "bfloat16")
BATCH = 50


def run(onnx_file: Path, samples: Sequence[Any], preprocessor: Preprocessor) -> tuple[Any, dict[str, Any]]:
    """Answers [questions], and by the reducer's name what it decided, all batches in one row."""
    answers: list[Any] = []
    decided: dict[str, list[Any]] = {}
    with open_graph(onnx_file) as graph:
        for i in range(0, len(samples), BATCH):
            part = samples[i : i + BATCH]
            words = preprocessor.words([sample.text for sample in part])
            pictures = preprocessor.arrange([[preprocessor.pixels(sample.pictures[0].open())] for sample in part])
            outputs, decisions = graph.run(words | pictures)
            answers.append(outputs["logits"].argmax(-1))
            for name, value in decisions.items():
                decided.setdefault(name, []).append(value.ravel())
    return np.concatenate(answers), {name: np.concatenate(values) for name, values in decided.items()}


def compare(checkpoint: Path, questions: int) -> list[tuple[str, float, dict[str, float]]]:
    """Of every half type (name, share of equal answers, by the reducer's name the share of decisions that differ)."""
    preprocessor, samples = Preprocessor.of(checkpoint), lessons("vqa", "test", questions)
    found = {}
    with tempfile.TemporaryDirectory() as scratch:
        for dtype in TYPES:
            file = Path(scratch) / f"{dtype}.onnx"
            export_onnx(checkpoint, file, dtype=dtype)
            found[dtype] = run(file, samples, preprocessor)
    answers, decided = found["float32"]
    return [
        (
            dtype,
            float((found[dtype][0] == answers).mean()),
            {name: float((found[dtype][1][name] != value).mean()) for name, value in decided.items()},
        )
        for dtype in TYPES[1:]
    ]


def main(words: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--test", type=int, default=2000, help="questions")
    args = parser.parse_args(words)
    for dtype, same, differ in compare(args.checkpoint, args.test):
        print(f"{dtype}: {same:.2%} of the answers of float32 on {args.test} questions; decisions that differ:")
        for name, share in differ.items():
            print(f"  {name:<24}{share:7.2%}")


if __name__ == "__main__":
    main()
