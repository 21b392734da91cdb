"""Write the input file of tools/trt_app: a picture and a text, preprocessed by an exported model's sidecar.

    python tools/trt_app/trt_input.py model.engine input.npz --image scene.png --text "what color is the star ?"

The tokenizer's files lie beside the model. An engine that takes no text as short as this one needs --pad-to.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from pumer_convert.artifact.engine_sidecar import Sidecar
from pumer_convert.artifact.sidecar import read_sidecar
from pumer_convert.data.preprocess import Preprocessor
from pumer_convert.data.sample import FilePicture
from pumer_convert.errors import InputError, PumerError


def write(model: Path, out: Path, pictures: Sequence[Path], text: str, pad_to: int | None = None) -> None:
    """Write one example to `out`, every input of the model under its name, in an uncompressed .npz."""
    values = read_sidecar(model)
    preprocessor = Preprocessor.of_sidecar(values, model.parent)
    if preprocessor.input is None or len(pictures) != (takes := preprocessor.input.images):
        raise InputError(f"{len(pictures)} picture(s), but '{values['task']}' takes {takes}.")
    least = 1
    if model.suffix == ".engine":
        least = Sidecar.of(model).least_patches
    if pad_to is not None and not 2 <= pad_to <= preprocessor.longest:
        raise InputError(f"a text of {pad_to} tokens does not fit; this model takes 2 to {preprocessor.longest}.")
    words = replace(preprocessor, pad_to=pad_to).words([text])
    seen = [preprocessor.pixels(FilePicture(picture).open(), name=str(picture)) for picture in pictures]
    arranged = preprocessor.arrange([seen], least)
    try:
        with out.open("wb") as file:  # a file, because savez would add .npz to another name
            np.savez(file, **words, **arranged)
    except OSError as error:
        raise InputError(f"{out}: cannot be written ({error}).") from None


def main(words: Sequence[str] | None = None) -> int:
    """Write the file; gives the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="the engine or ONNX file, with its sidecar beside it")
    parser.add_argument("out", type=Path)
    parser.add_argument("--image", dest="images", type=Path, action="append", required=True, help="twice for a pair")
    parser.add_argument("--text", required=True)
    parser.add_argument("--pad-to", type=int, help="tokens; shorter texts are filled up")
    args = parser.parse_args(words)
    try:
        write(args.model, args.out, args.images, args.text, args.pad_to)
    except PumerError as error:
        print(f"Error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
