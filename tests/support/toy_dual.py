"""A family of two graphs: a tower for pictures, a tower for texts of a fixed length without a mask, an embedding each.

It is made known by one line: `FAMILIES["toy_dual"] = "toy_dual"`.
"""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from pumer_convert.demo import CHECKPOINT
from pumer_convert.models import attention
from pumer_convert.models.body import Body
from pumer_convert.models.family import Family
from pumer_convert.models.inputs import TextInput
from pumer_convert.models.output import Output
from pumer_convert.models.rates import Rates
from pumer_convert.models.signature import Port
from pumer_convert.models.spec import GraphSpec, ImageSpec, Layer, Lengths, ModelSpec, grid, sides_of
from pumer_convert.reducers.site import SiteReducers, Trace
from pumer_convert.tokens import Tokens
from pumer_convert.weights import EMBEDDINGS, Checkpoint, RawCheckpoint, TensorSlice

WIDTH, HEADS, LAYERS, PATCH, TEXT, OUT = 32, 4, 3, 8, 8, 16
CONFIG = {"model_type": "toy_dual", "image_size": 48, "vocab_size": 77}
POSITIONS = "image.positions"


class Block(nn.Module):
    """Attention and a feed-forward, and between them a place to reduce."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.qkv, self.out = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.mlp = nn.Sequential(
            nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 2 * WIDTH), nn.GELU(), nn.Linear(2 * WIDTH, WIDTH)
        )

    def forward(self, tokens: Tokens, step: SiteReducers | None, trace: Trace) -> Tokens:
        q, k, v = (attention.split_heads(x, HEADS) for x in self.qkv(self.norm(tokens.states)).chunk(3, -1))
        bias = attention.key_bias(tokens.mask, q.dtype, tokens.weights)
        mixed = self.out(attention.join_heads(attention.fused(q, k, v, bias)))
        tokens = tokens.with_states(tokens.states + mixed)
        if step is not None:
            asked = None
            if step.score == "cls_attention":
                asked = attention.relevance(q[:, :, :1], k, bias, tokens.mask[:, :1])
            tokens = step.of_image(tokens.with_keys(k.mean(1).detach()), asked, trace)
        return tokens.with_states(tokens.states + self.mlp(tokens.states))


class ImageTower(nn.Module):
    """Patches with a CLS token."""

    def __init__(self, places: int) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, WIDTH, PATCH, PATCH)
        self.cls = nn.Parameter(torch.zeros(1, 1, WIDTH))
        self.positions = nn.Parameter(torch.zeros(1, 1 + places, WIDTH))
        self.blocks = nn.ModuleList(Block() for _ in range(LAYERS))
        self.projection = nn.Linear(WIDTH, OUT)


class TextTower(nn.Module):
    """Words, all of which are seen, padding too."""

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.words = nn.Embedding(vocabulary, WIDTH)
        self.positions = nn.Parameter(torch.zeros(1, TEXT, WIDTH))
        self.blocks = nn.ModuleList([Block()])
        self.projection = nn.Linear(WIDTH, OUT)


class ToyDual(Body):
    """Two towers that never meet."""

    def __init__(self, config: Mapping[str, Any], image_size: Any = None) -> None:
        super().__init__()
        self.config = dict(config)
        rows, columns = grid(image_size or config["image_size"], PATCH)
        self.image, self.text = ImageTower(rows * columns), TextTower(config["vocab_size"])

    def forward(self, pixel_values: Tensor, trace: Trace | None = None) -> Output:
        """The graph "image"."""
        trace = Trace() if trace is None else trace
        x = self.image.patches(pixel_values).flatten(2).transpose(1, 2)
        x = torch.cat([self.image.cls.expand(x.shape[0], -1, -1), x], 1) + self.image.positions
        tokens = Tokens.start(x, torch.ones_like(x[..., 0], dtype=torch.bool), first=1)
        for i, block in enumerate(self.image.blocks):
            tokens = block(tokens, self.step(f"vision.{i}"), trace)
        embedding = F.normalize(self.image.projection(tokens.states[:, 0]), dim=-1)
        return Output({"image_embeds": embedding}, {"image": tokens}, trace)

    def of_text(self, input_ids: Tensor) -> Output:
        """The graph "text"."""
        x = self.text.words(input_ids) + self.text.positions
        tokens = Tokens.start(x, torch.ones_like(input_ids, dtype=torch.bool))
        for block in self.text.blocks:
            tokens = block(tokens, None, Trace())
        return Output(
            {"text_embeds": F.normalize(self.text.projection(tokens.states[:, -1]), dim=-1)}, {"text": tokens}
        )

    def run(self, graph: str, inputs: Mapping[str, Tensor], trace: Trace | None = None) -> Output:
        """See `Body`."""
        return self(**inputs, trace=trace) if graph == "image" else self.of_text(**inputs)


class ToyDualFamily(Family):
    """See `Family`."""

    name = "toy_dual"
    known_by = (POSITIONS,)
    image_processor = "ViTImageProcessor"
    tokenizer = "vilt"
    positions = POSITIONS
    rates: ClassVar[Mapping[str, Rates]] = {}
    heads: ClassVar[tuple[str, ...]] = ("image.projection.", "text.projection.")
    config: ClassVar[dict[str, Any]] = CONFIG

    def recognise(self, raw: RawCheckpoint) -> Checkpoint | None:
        """See `Family`."""
        if raw.config.get("model_type") != self.name:
            return None
        slices = {name: TensorSlice(name) for name in raw.source.names()}
        config = self.checked(raw.config, raw.path)
        where = (raw.path, "toy folder", self.name, EMBEDDINGS, config, raw.source, slices)
        return Checkpoint(*where, companions=raw.companions)

    def checked(self, config: Mapping[str, Any], where: object) -> dict[str, Any]:
        """See `Family`."""
        return {**self.config, **config}

    def spec(self, config: Mapping[str, Any], image_size: Any = None) -> ModelSpec:
        """See `Family`."""
        size = sides_of(image_size or config["image_size"])
        rows, columns = grid(size, PATCH)

        def block(before: Lengths, after: Lengths) -> int:
            return before.image * (4 * WIDTH**2 + 2 * before.image * WIDTH) + 4 * after.image * WIDTH**2

        def words(before: Lengths, after: Lengths) -> int:
            return TEXT * (8 * WIDTH**2 + 2 * TEXT * WIDTH)

        scores = {"cls_attention": lambda before, after: before.image * WIDTH}
        how = {"modalities": ("image",), "width": WIDTH, "key_width": WIDTH // HEADS, "graph": "image"}
        layers = [
            Layer(f"vision.{i}", block, f"vision.{i}", scores, depth=i / LAYERS, **how)  # type: ignore[arg-type]
            for i in range(LAYERS)
        ]
        return ModelSpec(
            image_tokens=1 + rows * columns,
            layers=(*layers, Layer("text.0", words, graph="text")),
            head=2 * WIDTH * OUT,
            text=TextInput(config["vocab_size"], TEXT, 0, length=TEXT, masked=False),
            image=ImageSpec(size, PATCH),
            graphs=(
                GraphSpec("image", (Port("image_embeds", "float32", ("batch", OUT)),), text=False),
                GraphSpec("text", (Port("text_embeds", "float32", ("batch", OUT)),), pictures=False),
            ),
        )

    def build(self, config: dict[str, Any], image_size: Any = None) -> ToyDual:
        """See `Family`."""
        return ToyDual(config, image_size)

    def processor(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """See `Family`."""
        side = config["image_size"]
        return {"image_processor_type": self.image_processor, "size": {"height": side, "width": side}}


FAMILY = ToyDualFamily()


def write(folder: Path, seed: int = 0) -> Path:
    """A folder with random weights, a processor's file, and the demo's tokenizer, which is to give no mask."""
    file = write_model(folder, ToyDual(CONFIG), FAMILY, seed) / "tokenizer_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "model_input_names": ["input_ids"]}))
    return folder


def write_model(folder: Path, model: Body, family: ToyDualFamily, seed: int) -> Path:
    """The same of any toy."""
    folder.mkdir(parents=True)
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.3)
    save_file(model.state_dict(), folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(family.config))
    (folder / "preprocessor_config.json").write_text(json.dumps(family.processor(family.config)))
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(CHECKPOINT / name, folder)
    return folder
