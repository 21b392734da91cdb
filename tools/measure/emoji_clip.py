"""A small CLIP trained from scratch on drawings, and what reducing it costs, in a style of drawing it has never seen.

    python tools/measure/emoji_clip.py emoji.json --work /tmp/emoji
    python tools/measure/emoji_clip.py emoji.json --table            # the table of README.md here, measuring nothing

Trained once by transformers' own classes and their contrastive loss; then every way to save about half of the image
tower is measured untrained, and one of them after `distill` has taught its image tower, with some seeds. What is done
goes by epochs, not by time, so that a busy machine measures the same; a second run goes on where the first ended.
"""

import json
import math
import random
from pathlib import Path
from typing import Any

import click
import torch
import transformers
from emoji_data import SIDE, fetch
from PIL import Image
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from pumer_convert import DistillSettings, distill, evaluate, prepare_apply, training_samples

START, END, LONGEST = "<|startoftext|>", "<|endoftext|>", 16
TOWER = {"num_attention_heads": 4, "hidden_act": "gelu", "projection_dim": 128, "attention_dropout": 0.0}
VISION = {**TOWER, "hidden_size": 128, "intermediate_size": 512, "num_hidden_layers": 8, "image_size": SIDE}
TEXT = {**TOWER, "hidden_size": 128, "intermediate_size": 512, "num_hidden_layers": 3}
BATCH, TEACHING_BATCH, RATE = 256, 128, 1e-3
WAYS = {
    "pitome": "reduce: [{at: vision.0-7, merge: {image: 0.175, by: pitome}}]",
    "tome": "reduce: [{at: vision.0-7, merge: {image: 0.175, by: tome}}]",
    "pruned by the CLS's attention": "reduce: [{at: vision.0-7, prune: {image: 0.175, by: cls_attention}}]",
    "pruned at random": "reduce: [{at: vision.0-7, prune: {image: 0.175, by: random}}]",
    "pictures of 48": "image_size: 48\nreduce: []",
    "pictures of 40": "image_size: 40\nreduce: []",
}
"""Recipes by name: half of the image tower's MACs, and the two sizes of pictures about it."""
TAUGHT = "pitome"


def tokenizer(names: list[str]) -> transformers.CLIPTokenizer:
    """CLIP's own kind of tokenizer, with the pieces that these names have most often."""
    made = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    made.normalizer = normalizers.Lowercase()
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    made.train_from_iterator(
        [word for name in names for word in name.split()],
        trainers.BpeTrainer(vocab_size=1200, initial_alphabet=alphabet, end_of_word_suffix="</w>", show_progress=False),
    )
    pieces = json.loads(made.to_str())["model"]
    words = dict(pieces["vocab"])
    for letter in alphabet:
        words.setdefault(letter + "</w>", len(words))
    for special in (START, END):
        words[special] = len(words)
    return transformers.CLIPTokenizer(vocab=words, merges=[tuple(pair) for pair in pieces["merges"]])


def drawn(rows: list[dict[str, str]], folder: Path) -> torch.Tensor:
    """Pictures [N, 3, SIDE + 8, SIDE + 8] from 0 to 1, with a white border to be cropped in."""
    found = torch.ones(len(rows), 3, SIDE + 8, SIDE + 8)
    for place, row in enumerate(rows):
        with Image.open(folder / row["image"]) as drawing:
            pixels = torch.frombuffer(bytearray(drawing.tobytes()), dtype=torch.uint8)
        found[place, :, 4:-4, 4:-4] = pixels.view(SIDE, SIDE, 3).permute(2, 0, 1) / 255
    return found


def augmented(pictures: torch.Tensor, chance: random.Random) -> torch.Tensor:
    """A crop of each, some mirrored, the batch with colours, contrast and resolution of its own."""
    x, y = chance.randrange(9), chance.randrange(9)
    found = pictures[:, :, y : y + SIDE, x : x + SIDE]
    if chance.random() < 0.5:
        found = found.flip(-1)
    if chance.random() < 0.3:
        found = found.mean(1, keepdim=True).expand_as(found)
    elif chance.random() < 0.5:
        found = found[:, torch.randperm(3)]
    if chance.random() < 0.5:
        small = torch.nn.functional.interpolate(found, scale_factor=chance.uniform(0.4, 0.9), mode="bilinear")
        found = torch.nn.functional.interpolate(small, size=(SIDE, SIDE), mode="bilinear")
    gain = 1 + 0.4 * (torch.rand(len(found), 3, 1, 1) - 0.5)
    return (0.5 + (found - 0.5) * gain + 0.2 * (torch.rand(len(found), 3, 1, 1) - 0.5)).clamp(0, 1)


def train(folder: Path, out: Path, epochs: int, seed: int) -> None:
    """Train a CLIP on the rows of train.jsonl and save it as transformers does. In an epoch each name is seen once, in
    one of the styles: the same name twice in a batch would be its own negative."""
    torch.manual_seed(seed)
    chance = random.Random(seed)
    rows = [json.loads(line) for line in (folder / "train.jsonl").read_text("utf-8").splitlines()]
    words = tokenizer(sorted({row["text"] for row in rows}))
    shared = {
        "bos_token_id": words.bos_token_id,
        "eos_token_id": words.eos_token_id,
        "pad_token_id": words.pad_token_id,
    }
    text = {**TEXT, **shared, "vocab_size": len(words), "max_position_embeddings": LONGEST}
    config = transformers.CLIPConfig(text_config=text, vision_config={**VISION, "patch_size": 8}, projection_dim=128)
    model = transformers.CLIPModel(config)
    side = {"height": SIDE, "width": SIDE}
    processor = transformers.CLIPImageProcessorPil(size=side, crop_size=side, do_center_crop=False)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (processor.image_mean, processor.image_std))
    pictures = drawn(rows, folder)
    inputs = words([row["text"] for row in rows], padding="max_length", max_length=LONGEST, truncation=True)
    inputs = {name: torch.tensor(inputs[name]) for name in ("input_ids", "attention_mask")}
    optimizer = torch.optim.AdamW(model.parameters(), RATE, weight_decay=0.1)
    half = len(rows) // 2
    steps, total = 0, epochs * (half // BATCH)
    model.train()
    for epoch in range(epochs):
        for part in torch.randperm(half).split(BATCH)[: half // BATCH]:
            for group in optimizer.param_groups:
                group["lr"] = RATE * min((steps + 1) / 100, 0.5 * (1 + math.cos(math.pi * steps / total)))
            chosen = part + half * torch.randint(2, part.shape)
            pixels = (augmented(pictures[chosen], chance) - mean) / std
            loss = model(pixel_values=pixels, return_loss=True, **{k: v[chosen] for k, v in inputs.items()}).loss
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            model.logit_scale.data.clamp_(max=math.log(100))
            steps += 1
        if not epoch % 10:
            click.echo(f"epoch {epoch}: loss {loss.item():.3f}", err=True)
    model.save_pretrained(out)
    words.model_max_length = LONGEST
    words.save_pretrained(out)
    processor.save_pretrained(out)


def measured(model: Path, data: Path) -> dict[str, float]:
    """Recalls of the right name among all and of the right drawing, in the unseen style, and the accuracy of the name
    among all as a class."""
    pairs = evaluate(model, data / "test.jsonl", task="retrieval", device="cpu", against=None).score.metrics
    shown = evaluate(model, data / "test", task="zero_shot", classes=data / "classes.txt", device="cpu").score.metrics
    return {**pairs, **shown}


def reduced(dense: Path, name: str, recipe: str, work: Path) -> tuple[Path, float]:
    """A folder that a recipe made of the `dense` one, and how many times fewer MACs its image tower takes."""
    out = work / name.replace(" ", "-").replace("'", "")
    (work / "recipe.yaml").write_text(f"recipe: 1\nmodel: clip\n{recipe}\n", "utf-8")
    prepared = prepare_apply(dense, work / "recipe.yaml", out)
    rows = [row for row in prepared.plan.rows if row.layer.startswith("vision")]
    prepared.write(overwrite=True)
    return out, sum(row.dense_macs for row in rows) / sum(row.macs + row.reducers for row in rows)


def taught(student: Path, data: Path, epochs: int, seed: int) -> Path:
    """`student` after some epochs of distillation."""
    samples, _ = training_samples(data / "train.jsonl", "retrieval")
    out = student.with_name(f"{student.name}-taught-{seed}")
    if not out.exists():
        settings = DistillSettings(epochs=epochs, batch_size=TEACHING_BATCH, kd=1.0, seed=seed, keep="last")
        distill(student, None, samples, out=out, settings=settings, device="cpu")
    return out


def table(report: dict[str, Any]) -> str:
    """The report as Markdown."""
    dense = {"name": "dense", "ratio": 1, "scores": [report["dense"]]}
    lines = [
        f"{report['names']} names in a style that training has not seen; trained for {report['train_epochs']} epochs, "
        f"taught for {report['epochs']} with {report['seeds']} seeds, of which the mean and the range.",
        "",
        f"| | fewer MACs | {' | '.join(report['dense'])} |",
        "|---" * (len(report["dense"]) + 2) + "|",
    ]
    for row in (dense, *report["rows"]):
        cells = []
        for name in report["dense"]:
            found = [one[name] for one in row["scores"]]
            spread = "" if len(found) == 1 else f" ({min(found):.1%} .. {max(found):.1%})"
            cells.append(f"{sum(found) / len(found):.1%}{spread}")
        lines.append(f"| {row['name']} | x{row['ratio']:.2f} | {' | '.join(cells)} |")
    return "\n".join(lines)


@click.command()
@click.argument("out", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--work", type=click.Path(path_type=Path, file_okay=False), help="Folder of pictures and models.")
@click.option("--train-epochs", default=200, show_default=True)
@click.option("--epochs", default=50, show_default=True, help="Of each distillation.")
@click.option("--seeds", type=int, default=3, show_default=True, help="Distillations.")
@click.option("--table", "only_table", is_flag=True, help="Print the table of OUT and stop.")
def main(out: Path, work: Path | None, train_epochs: int, epochs: int, seeds: int, only_table: bool) -> None:
    """Train, reduce, teach, measure; OUT is the report. A trained model in the work folder is taken again."""
    if only_table:
        click.echo(table(json.loads(out.read_text("utf-8"))))
        return
    if work is None:
        raise click.UsageError("--work says where pictures and models go.")
    transformers.logging.set_verbosity_error()
    data, dense = fetch(work / "pictures"), work / "dense"
    if not dense.exists():
        train(data, dense, train_epochs, seed=0)
    report = {
        "names": len((data / "classes.txt").read_text("utf-8").splitlines()),
        **{"train_epochs": train_epochs, "epochs": epochs, "seeds": seeds},
        "dense": measured(dense, data),
        "rows": [],
    }
    for name, recipe in WAYS.items():
        folder, ratio = reduced(dense, name, recipe, work)
        report["rows"].append({"name": name, "ratio": ratio, "scores": [measured(folder, data)]})
        click.echo(table(report).splitlines()[-1], err=True)
    folder, ratio = reduced(dense, TAUGHT, WAYS[TAUGHT], work)
    scores = [measured(taught(folder, data, epochs, seed), data) for seed in range(seeds)]
    report["rows"].append({"name": f"{TAUGHT}, taught", "ratio": ratio, "scores": scores})
    out.write_text(json.dumps(report, indent=1) + "\n", "utf-8")
    click.echo(table(report))


if __name__ == "__main__":
    main()
