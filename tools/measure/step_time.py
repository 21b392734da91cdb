"""Time a training step with a cached teacher against a plain finetune step of the dense model.

    python tools/measure/step_time.py --model vilt --batch-size 8

Both are the product's own steps (forward, loss, backward, AdamW; the one with a teacher reads its logits from the
cache on disk) on the same batches of random inputs, in turns. The ratio is the median over the pairs. On a busy machine
set OMP_NUM_THREADS=1: threads that wait for each other measure what else is running.
"""

import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import click
import torch
from gpu_suite import write_dense
from torch import Tensor, nn

import pumer_convert
from pumer_convert.benchmark.memory import taken
from pumer_convert.checkpoint.read import open_checkpoint
from pumer_convert.convert.build import build
from pumer_convert.recipe.settings import DistillSettings
from pumer_convert.system.heap import give_back_at_once
from pumer_convert.tasks import open_task
from pumer_convert.tasks.batches import Batch
from pumer_convert.training.cache import TeacherCache
from pumer_convert.training.device import accelerated
from pumer_convert.training.learner import Learner
from pumer_convert.training.loss import AnswerLoss
from pumer_convert.training.rates import rates_of
from pumer_convert.training.teacher import Teacher

SITES = {"vilt": "encoder.2,5,8", "meter": "fusion.0-3"}
BATCHES = 4


def make_batches(config: dict[str, Any], rows: int, length: int) -> list[Batch]:
    """Batches of random pixels and words, each with its first answer as the right one."""
    words = config.get("text", config)["vocab_size"]
    side, labels = config["image_size"], len(config["id2label"])
    found = []
    for number in range(BATCHES):
        ids = torch.randint(5, words, (rows, length))
        inputs = {
            "input_ids": ids,
            "attention_mask": torch.ones_like(ids),
            "pixel_values": torch.randn(rows, 3, side, side),
        }
        right = torch.nn.functional.one_hot(torch.zeros(rows, dtype=torch.int64), labels).float()
        indices = list(range(number * rows, (number + 1) * rows))
        found.append(Batch(inputs, {"soft": right, "score": right}, [str(i) for i in indices], indices))
    return found


def saved_for_backward(model: nn.Module, inputs: dict[str, Tensor]) -> int:
    """Bytes of the activations that a forward pass keeps for the backward pass; parameters do not count."""
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        logits = model(**inputs).logits  # holds the graph, so that no storage is used twice
    assert logits.requires_grad
    return sum(kept.values())


@click.command()
@click.option("--model", type=click.Choice(list(SITES)), default="vilt", show_default=True)
@click.option("--tiny", is_flag=True, help="A tiny model instead of one of the published size.")
@click.option("--checkpoint", type=click.Path(path_type=Path), help="A dense VQA checkpoint instead of random weights.")
@click.option("--prune", default="0.3", show_default=True)
@click.option("--merge", default="0.5", show_default=True)
@click.option("--text", default="0.2", show_default=True, help="Share of the text tokens that is merged.")
@click.option("--recipe", type=click.Path(path_type=Path, exists=True), help="Instead of the four options around this.")
@click.option("--at", help="Sites; default: the published ones of VQA.")
@click.option("--batch-size", type=int, default=8, show_default=True)
@click.option("--length", type=int, default=32, show_default=True, help="Text tokens.")
@click.option("--pairs", type=int, default=7, show_default=True)
@click.option("--amp", type=click.Choice(["no", "bf16", "fp16"]), default="no", show_default=True)
@click.option("--device", default="auto", show_default=True)
def main(
    model: str,
    tiny: bool,
    checkpoint: Path | None,
    prune: str,
    merge: str,
    text: str,
    recipe: Path | None,
    at: str | None,
    batch_size: int,
    length: int,
    pairs: int,
    amp: str,
    device: str,
) -> None:
    """Print the seconds and the memory of both steps and their ratio."""
    give_back_at_once()  # so that memory of an earlier step is not used again unseen
    with tempfile.TemporaryDirectory() as scratch, accelerated(device, amp) as accelerator:
        folder = Path(scratch)
        dense = checkpoint or write_dense(folder / "dense", model, base=not tiny)
        model = open_checkpoint(dense).family
        shares = f"prune: {{image: {prune}}}, merge: {{image: {merge}, text: {text}}}"
        if recipe is None:
            recipe = folder / "recipe.yaml"
            recipe.write_text(f"recipe: 1\nmodel: {model}\nreduce:\n  - {{at: ['{at or SITES[model]}'], {shares}}}\n")
        plan = pumer_convert.apply(dense, recipe, folder / "student")["plan"]
        config = open_checkpoint(dense).config
        task, settings = open_task("vqa", config), DistillSettings()
        batches = [batch.to(accelerator.device) for batch in make_batches(config, batch_size, length)]
        labels = len(config["id2label"])
        cache = TeacherCache(folder, "teacher", BATCHES * batch_size, labels)
        cache.write(range(BATCHES * batch_size), torch.randn(BATCHES * batch_size, labels))
        teacher = Teacher(open_checkpoint(dense), accelerator.device, accelerator.autocast, cache)
        learners = {
            name: Learner(
                build(open_checkpoint(path)),
                AnswerLoss(task, settings),
                settings,
                rates_of(settings, model, "vqa"),
                pairs + 1,
                accelerator,
                teacher if name == "student" else None,
            )
            for name, path in (("dense", dense), ("student", folder / "student"))
        }
        seconds: dict[str, list[float]] = {name: [] for name in learners}
        for step in range(pairs + 1):
            for name, learner in learners.items():
                start = time.perf_counter()
                learner.step(step, [batches[step % BATCHES]]).cpu()
                seconds[name].append(time.perf_counter() - start)
        # Gradients are given back at the begin of a step, so that they count; weights and the optimiser's state do not.
        memory = {
            name: taken(lambda one=learner: one.step(pairs, batches[:1]).cpu(), accelerator.device)
            for name, learner in learners.items()
        }
        activations = {name: saved_for_backward(learner.model, batches[0].inputs) for name, learner in learners.items()}
        ratios = [b / a for a, b in zip(seconds["dense"][1:], seconds["student"][1:], strict=True)]
        report = {
            "model": model,
            "image_tokens": [plan["rows"][0]["image_in"], plan["rows"][-1]["image_out"]],
            "macs_ratio": plan["ratio"],
            "device": str(accelerator.device),
            "dense_seconds": statistics.median(seconds["dense"][1:]),
            "student_seconds": statistics.median(seconds["student"][1:]),
            "ratio": statistics.median(ratios),
            "ratios": [round(ratio, 3) for ratio in ratios],
            "dense_bytes": memory["dense"],
            "student_bytes": memory["student"],
            "dense_activations": activations["dense"],
            "student_activations": activations["student"],
        }
    click.echo(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
