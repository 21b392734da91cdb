"""The first stage: a checkpoint and a recipe -> a reduced checkpoint folder."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pumer_convert import __version__
from pumer_convert.checkpoint.locate import beside, resolve
from pumer_convert.checkpoint.origin import origin_entry
from pumer_convert.checkpoint.read import check_complete, open_checkpoint
from pumer_convert.checkpoint.resized import resized
from pumer_convert.checkpoint.write import write_safetensors
from pumer_convert.convert.codes import text_files, with_codes
from pumer_convert.convert.load import TEXT_LENGTH, choices_of, spec_of
from pumer_convert.convert.plan import Plan, edits_of, make_plan, pumer_section
from pumer_convert.data.tokenizer import check_fits
from pumer_convert.errors import InputError
from pumer_convert.image_processor.picture_input import in_words, picture_input, squashed
from pumer_convert.models.family import family_of
from pumer_convert.models.spec import ModelSpec
from pumer_convert.recipe.schema import Recipe, load_recipe
from pumer_convert.recipe.shipped import locate
from pumer_convert.system.output import output_folder
from pumer_convert.system.owned import write_report
from pumer_convert.weights import Checkpoint


@dataclass(frozen=True)
class ApplyPlan:
    """Everything that `apply` will do, decided before a weight is read; `write` does it. `original` is the checkpoint
    as it is; `checkpoint` the same with what the recipe says in its config. `inputs` are what all of it was read from,
    which `out` may not replace."""

    original: Checkpoint
    checkpoint: Checkpoint
    recipe: Recipe
    spec: ModelSpec
    plan: Plan
    out: Path
    inputs: tuple[Path, ...]

    @property
    def pictures(self) -> str:
        """What becomes of a picture, in words."""
        return in_words(self.checkpoint) + " (the dense checkpoint keeps their shape)" * ("fit" in self.choices)

    @property
    def choices(self) -> dict[str, str]:
        """See `choices_of`."""
        return choices_of(self.checkpoint)

    def write(self, *, overwrite: bool = False, progress: Callable[[str], None] = lambda line: None) -> dict[str, Any]:
        """Write the folder `out` as `apply` does; gives its report. Raises InputError for weights that were changed
        since the plan was made; nothing is written then."""
        checkpoint = self.checkpoint
        with output_folder(self.out, overwrite, self.inputs) as folder:
            progress(f"copying {checkpoint.parameters / 1e6:.1f}M parameters")
            layout = {n: (checkpoint.source.dtype(p.key), checkpoint.shape(n)) for n, p in checkpoint.slices.items()}
            hashes = write_safetensors(folder, checkpoint.tensors(), layout)
            for file in checkpoint.companions:
                shutil.copyfile(file, folder / file.name)
            for name, text in checkpoint.extra_files.items():
                (folder / name).write_text(text, "utf-8")
            (folder / "config.json").write_text(json.dumps(checkpoint.config, indent=2) + "\n", "utf-8")
            (folder / "recipe.yaml").write_text(self.recipe.text, "utf-8")
            (folder / "README.md").write_text(_card(self), "utf-8", "surrogateescape")
            return write_report(folder, _report(self, hashes), hashes)


def prepare_apply(
    path: Path | str,
    recipe: Path | str,
    out: Path | str | None = None,
    *,
    tokenizer: Path | str | None = None,
    text_length: int | None = None,
) -> ApplyPlan:
    """Decide what `apply` would do, for the plan to be shown or written; reads no weight. Raises InputError when the
    recipe does not fit."""
    parsed, path = load_recipe(recipe), resolve(path)
    tokenizer = resolve(tokenizer, weights=False) if tokenizer is not None else None
    checkpoint = open_checkpoint(path, tokenizer)
    if tokenizer is not None:
        if family_of(checkpoint.family).spec(checkpoint.config).text is None:
            raise InputError(f"{path}: takes no text, so that a tokenizer is not for it.")
        check_fits(tokenizer, checkpoint.family, checkpoint.config)
    if parsed.model != checkpoint.family:
        raise parsed.error(_line(parsed, "model"), f"model: '{parsed.model}', but {path} is a {checkpoint.family}.")
    if parsed.task is not None and parsed.task != checkpoint.task:
        raise parsed.error(
            _line(parsed, "task"), f"task: '{parsed.task}', but the head of {path} is '{checkpoint.task}'."
        )
    if checkpoint.config.get("pumer", {}).get("edits"):
        raise InputError(f"{path}: reduced already; apply the recipe to the dense checkpoint it was made from.")
    original, dense = checkpoint, spec_of(checkpoint)
    if parsed.image_size is not None:
        try:
            checkpoint = resized(original, parsed.image_size)
        except InputError as error:
            raise parsed.error(_line(parsed, "image_size"), f"image_size: {error}") from None
    if parsed.choices.get("fit") == "squash" or parsed.semantics == "reference":
        checkpoint = squashed(checkpoint)
    before, now = picture_input(original), picture_input(checkpoint)
    height, width = (None, None) if before is None else before.nominal
    fit = "squash" if before is not None and now is not None and before.packed and not now.packed else None
    section = pumer_section(parsed, old_size=height if height == width else [height, width], fit=fit)
    spec = spec_of(_with(checkpoint, section))  # which costs follow the family's choices
    edits = with_codes(edits_of(parsed, spec), parsed, original)
    checkpoint = _with(checkpoint, {**section, "edits": list(edits)})
    spec = spec_of(checkpoint)
    try:
        spec.weights_of(parsed.export.keep_float32)
    except InputError as error:
        raise parsed.error(_line(parsed, "export"), f"export.keep_float32: {error}") from None
    length = min(TEXT_LENGTH, spec.max_text) if text_length is None else text_length
    plan = make_plan(spec, edits, length, dense)
    check_complete(checkpoint)
    target = Path(out) if out is not None else beside(path, "pumer")
    if path.is_dir() and target.resolve().is_relative_to(path.resolve()):
        raise InputError(f"{target}: lies inside the checkpoint itself; choose another place with -o.")
    texts = [file for file, _ in text_files(parsed).values()]
    inputs = (path, locate(recipe), *texts, *((tokenizer,) if tokenizer is not None else ()))
    return ApplyPlan(original, checkpoint, parsed, spec, plan, target, inputs)


def apply(
    path: Path | str,
    recipe: Path | str,
    out: Path | str | None = None,
    *,
    tokenizer: Path | str | None = None,
    text_length: int | None = None,
    overwrite: bool = False,
    progress: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Insert the recipe's reducers into the checkpoint at `path` and write the folder `out` (default: PATH-pumer;
    of a name on the Hub, NAME-pumer here).

    The weights are copied tensor by tensor under their names of the one form; the edits go into config.json. Gives
    the report. Raises InputError for anything that does not fit; nothing is written then.
    """
    prepared = prepare_apply(path, recipe, out, tokenizer=tokenizer, text_length=text_length)
    return prepared.write(overwrite=overwrite, progress=progress)


def _with(checkpoint: Checkpoint, section: dict[str, Any]) -> Checkpoint:
    return replace(checkpoint, config={**checkpoint.config, "pumer": section})


def _report(prepared: ApplyPlan, hashes: dict[str, str]) -> dict[str, Any]:
    checkpoint = prepared.checkpoint
    return {
        "pumer_convert": __version__,
        "versions": {name: version(name) for name in ("torch", "transformers", "safetensors")},
        "source": origin_entry(prepared.original, prepared.out),
        "out": str(prepared.out),
        "model": checkpoint.family,
        "task": checkpoint.task,
        "parameters": checkpoint.parameters,
        "sha256": hashes,
        "recipe": prepared.recipe.to_json(),
        "plan": prepared.plan.to_json(),
        "pictures": prepared.pictures,
        "choices": prepared.choices,
        "ignored_weights": list(checkpoint.ignored),
        "notes": list(checkpoint.notes),
    }


def _card(prepared: ApplyPlan) -> str:
    plan, last = prepared.plan, prepared.plan.rows[-1]
    first, notes = plan.rows[0], "".join(f"{note}\n\n" for note in prepared.checkpoint.notes)
    return (
        f"# {prepared.out.name}\n\n"
        f"A {prepared.checkpoint.family} checkpoint ({prepared.checkpoint.task}) with PuMer token reducers, made by "
        f"pumer-convert {__version__} from `{prepared.checkpoint.path.name}`.\n\n"
        f"At {plan.text_length} text tokens: {first.image_in} image tokens -> {last.image_out}, "
        f"{first.text_in} text tokens -> {last.text_out}, {plan.dense_macs / 1e9:.2f} -> "
        f"{(plan.macs + plan.reducer_macs) / 1e9:.2f} GMACs.\n\n"
        f"{notes}"
        "`recipe.yaml` is the recipe word for word, `report.json` what was done. The weights are those of the "
        "dense checkpoint: a short distillation finetune is what brings the accuracy back.\n"
    )


def _line(recipe: Recipe, key: str) -> int:
    lines = recipe.text.splitlines()
    return next((i for i, line in enumerate(lines, 1) if line.startswith(f"{key}:")), 1)
