"""Pictures as embeddings, in the form that servers of language models take them in. Written by pumer-convert.

Needs pumer-convert with ONNX Runtime (`pip install 'pumer-convert[gpu]'`, or `[cpu]`), and torch for what servers take.
The forms of vLLM, SGLang and TensorRT-LLM are those of their documents and code; they were not run with these servers.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pumer_convert import InputError, Pipeline
from pumer_convert.runtime.pipeline import Picture

HERE = Path(__file__).parent


class Encoder:
    """The vision part that lies in `folder`; `options` as for `pumer_convert.Pipeline`. Pictures are files or PIL
    images, all of one prompt, in the order of their places in it."""

    def __init__(self, folder: Path | str = HERE, **options: Any) -> None:
        told = json.loads((Path(folder) / "report.json").read_text("utf-8"))
        self.tokens: int = told["image_tokens"]
        self.width: int = told["width"]
        self.image_token: int = told["image_token_id"]
        self.pipeline = Pipeline(Path(folder) / "vision.onnx", **options)

    def __call__(self, pictures: Sequence[Picture]) -> NDArray[np.float32]:
        """float32 [pictures, tokens, width]."""
        return self.pipeline.embed_images(list(pictures))

    def tensors(self, pictures: Sequence[Picture], dtype: str = "float16") -> Any:
        """The same as a tensor of torch, in the type of the language model."""
        import torch

        return torch.from_numpy(self(pictures)).to(getattr(torch, dtype))

    def vllm(self, prompt: str, pictures: Sequence[Picture], dtype: str = "float16") -> dict[str, Any]:
        """For `LLM(..., enable_mm_embeds=True).generate`; the prompt has one image token for each picture."""
        return {"prompt": prompt, "multi_modal_data": {"image": self.tensors(pictures, dtype)}}

    def sglang(self, ids: Sequence[int], pictures: Sequence[Picture], dtype: str = "float16") -> dict[str, Any]:
        """For `Engine(...).generate`; the ids of the prompt have one image token for each picture."""
        items = [{"format": "precomputed_embedding", "feature": one} for one in self.tensors(pictures, dtype)]
        return {"input_ids": self.expanded(ids, len(items)), "image_data": items}

    def tensorrt_llm(self, prompt: str, pictures: Sequence[Picture], dtype: str = "float16") -> dict[str, Any]:
        """For `LLM(...).generate` of TensorRT-LLM; the prompt has one image token for each picture."""
        return {"prompt": prompt, "multi_modal_embeddings": {"image": [*self.tensors(pictures, dtype)]}}

    def expanded(self, ids: Sequence[int], pictures: int) -> list[int]:
        """The ids with as many image tokens in the place of each as a picture has. Raises InputError when it is not
        one for each picture."""
        there = list(ids).count(self.image_token)
        if there != pictures:
            raise InputError(
                f"the prompt has {there} image tokens ({self.image_token}) for {pictures} pictures; put one for each."
            )
        return [token for given in ids for token in [given] * (self.tokens if given == self.image_token else 1)]
