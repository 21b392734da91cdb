"""What onnxruntime-genai's `Generator.set_inputs` takes of a prompt with pictures. Written by pumer-convert.

    model = og.Model(FOLDER)
    params = og.GeneratorParams(model)
    params.set_search_options(max_length=1024)
    generator = og.Generator(model, params)
    generator.set_inputs(inputs(ids, ["kitchen.jpg"]))     # the ids with one image token for each picture
    while not generator.is_done():
        generator.generate_next_token()

Needs onnxruntime-genai and pumer-convert, whose extras stay away: each would bring another onnxruntime.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime_genai as og

from pumer_convert import InputError, Preprocessor
from pumer_convert.image_processor.open_picture import open_picture

HERE = Path(__file__).parent


def inputs(ids: Sequence[int], pictures: Sequence[Path | str], folder: Path | str = HERE) -> Any:
    """The `og.NamedTensors` of a prompt whose `ids` have one image token for each of its pictures. Raises InputError
    for another number of them, and for a picture that cannot be read."""
    told = json.loads((Path(folder) / "pumer.json").read_text("utf-8"))
    token, tokens = told["image_token_id"], told["image_tokens"]
    if (there := list(ids).count(token)) != len(pictures):
        raise InputError(
            f"the prompt has {there} image tokens ({token}) for {len(pictures)} pictures; put one for each."
        )
    expanded = [one for given in ids for one in [given] * (tokens if given == token else 1)]
    named = og.NamedTensors()
    named["input_ids"] = np.array([expanded], np.int32)
    if pictures:
        preprocessor = Preprocessor.of_sidecar(told["vision"], Path(folder))
        pixels = [[preprocessor.pixels(open_picture(Path(picture)))] for picture in pictures]
        named["pixel_values"] = preprocessor.arrange(pixels)["pixel_values"]
        named["num_image_tokens"] = np.array([tokens] * len(pictures), np.int64)
    return named
