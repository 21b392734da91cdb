"""A family as decoders of pictures want one: texts of a fixed length padded on the left, the picture as a memory that
the text reads and that is never updated, a value that follows its tokens, and two outputs.

It is made known by one line: `FAMILIES["toy_memory"] = "toy_memory"`.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch
import toy_dual
from torch import Tensor, nn
from toy_dual import HEADS, PATCH, TEXT, WIDTH, Block

from pumer_convert.models import attention
from pumer_convert.models.body import Body
from pumer_convert.models.family import Interpolation
from pumer_convert.models.inputs import Port, TextInput
from pumer_convert.models.output import Output
from pumer_convert.models.spec import GraphSpec, ImageSpec, Layer, Lengths, ModelSpec, grid, sides_of
from pumer_convert.reducers.site import SiteReducers, Trace
from pumer_convert.tokens import Tokens

LAYERS, ANSWERS = 2, 5
CONFIG = {"model_type": "toy_memory", "image_size": 32, "vocab_size": 77}


class Reading(nn.Module):
    """The text attends to the memory; then the memory is reduced by what the text asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.kv, self.out = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 2 * WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, text: Tokens, memory: Tokens, step: SiteReducers | None, trace: Trace) -> tuple[Tokens, Tokens]:
        q = attention.split_heads(self.q(text.states), HEADS)
        k, v = (attention.split_heads(x, HEADS) for x in self.kv(memory.states).chunk(2, -1))
        bias = attention.key_bias(memory.mask, q.dtype, memory.weights)
        mixed = self.out(attention.join_heads(attention.fused(q, k, v, bias)))
        if step is not None:
            asked = attention.relevance(q, k, bias, text.mask) if step.score == "relevance" else None
            memory = step.of_image(memory.with_keys(k.mean(1).detach()), asked, trace)
        return text.with_states(text.states + mixed), memory


class ToyMemory(Body):
    """One graph with two outputs: `answers` [B, 5], and `place` [B, 2], where the tokens that are left once stood."""

    def __init__(self, config: Mapping[str, Any], image_size: Any = None) -> None:
        super().__init__()
        self.config, self.grid = dict(config), grid(image_size or config["image_size"], PATCH)
        self.patches = nn.Conv2d(3, WIDTH, PATCH, PATCH)
        self.positions = nn.Parameter(torch.zeros(1, self.grid[0] * self.grid[1], WIDTH))
        self.words = nn.Embedding(config["vocab_size"], WIDTH)
        self.blocks = nn.ModuleList(Block() for _ in range(LAYERS))
        self.reading = nn.ModuleList(Reading() for _ in range(LAYERS))
        self.answers = nn.Linear(WIDTH, ANSWERS)

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, pixel_values: Tensor, trace: Trace | None = None
    ) -> Output:
        """The one graph."""
        trace = Trace() if trace is None else trace
        x = self.patches(pixel_values).flatten(2).transpose(1, 2) + self.positions
        memory = Tokens.start(x, torch.ones_like(x[..., 0], dtype=torch.bool), mapped=True)
        text = Tokens.start(self.words(input_ids), attention_mask > 0)
        for i, (block, reading) in enumerate(zip(self.blocks, self.reading, strict=True)):
            text = block(text, None, trace)
            text, memory = reading(text, memory, self.step(f"reading.{i}"), trace)
        rows, columns = (torch.arange(side, dtype=x.dtype, device=x.device) for side in self.grid)
        places = torch.stack([rows.repeat_interleave(len(columns)), columns.repeat(len(rows))], -1)
        left = memory.pool(places.expand(x.shape[0], -1, -1)) * memory.mask[..., None]
        place = left.sum(1) / memory.mask.sum(1, keepdim=True)
        # Texts end at the last place, whatever their length.
        outputs = {"answers": self.answers(text.states[:, -1]), "place": place}
        return Output(outputs, {"image": memory, "text": text}, trace)


class ToyMemoryFamily(toy_dual.ToyDualFamily):
    """See `Family`."""

    name = "toy_memory"
    known_by = positions = "positions"  # type: ignore[assignment]
    heads: ClassVar[tuple[str, ...]] = ("answers.",)
    config = CONFIG
    interpolation = Interpolation("bicubic", first=0)

    def spec(self, config: Mapping[str, Any], image_size: Any = None) -> ModelSpec:
        """See `Family`."""
        size = sides_of(image_size or config["image_size"])
        rows, columns = grid(size, PATCH)

        def reading(before: Lengths, after: Lengths) -> int:
            return 2 * before.image * WIDTH**2 + 2 * TEXT * (WIDTH**2 + before.image * WIDTH)

        scores = {"relevance": lambda before, after: TEXT * before.image * WIDTH}
        layers = [
            Layer(f"reading.{i}", reading, f"reading.{i}", scores, ("image",), i / LAYERS, WIDTH, WIDTH // HEADS)
            for i in range(LAYERS)
        ]
        ports = (Port("answers", "float32", ("batch", ANSWERS)), Port("place", "float32", ("batch", 2)))
        return ModelSpec(
            image_tokens=rows * columns,
            layers=tuple(layers),
            head=WIDTH * ANSWERS,
            text=TextInput(config["vocab_size"], TEXT, 0, length=TEXT, padding="left"),
            image=ImageSpec(size, PATCH),
            graphs=(GraphSpec("model", ports),),
        )

    def build(self, config: dict[str, Any], image_size: Any = None) -> ToyMemory:  # type: ignore[override]
        """See `Family`."""
        return ToyMemory(config, image_size)


FAMILY = ToyMemoryFamily()


def write(folder: Path, seed: int = 0) -> Path:
    """A folder with random weights, a processor's file, and the demo's tokenizer."""
    return toy_dual.write_model(folder, ToyMemory(CONFIG), FAMILY, seed)
