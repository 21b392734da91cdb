"""One step of the optimiser: forward, loss, backward, update."""

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from pumer_convert.models.rates import Rates
from pumer_convert.recipe.settings import DistillSettings
from pumer_convert.tasks.batches import Batch
from pumer_convert.training.ema import Average
from pumer_convert.training.loss import Loss
from pumer_convert.training.ramp import Ramp
from pumer_convert.training.rates import BETAS, factor, groups
from pumer_convert.training.teacher import Teacher


class Learner:
    """The student with its optimiser; those of its parameters stand still that take no gradient. `teacher` None: the
    task's loss alone. `measures` name what `step` gives, in this order."""

    def __init__(
        self,
        model: nn.Module,
        loss: Loss,
        settings: DistillSettings,
        rates: Rates,
        steps: int,
        accelerator: Accelerator,
        teacher: Teacher | None,
    ) -> None:
        self.loss, self.settings, self.steps = loss, settings, steps
        self.measures = ("loss", *loss.terms, loss.metric, "gradient_norm")
        self.accelerator, self.teacher = accelerator, teacher
        # Without dropout the two modes are the same, and a text tower's default dropout is not in the config's sense.
        model.train(drops_out(getattr(model, "config", {})))
        optimiser = torch.optim.AdamW(groups(model, rates, settings.weight_decay), betas=BETAS)
        self.model, self.optimiser = accelerator.prepare(model, optimiser)
        self.average = Average(self.plain, settings.ema) if settings.ema is not None else None
        self.ramp = Ramp(self.plain, settings.ramp, steps)

    @property
    def plain(self) -> nn.Module:
        """The student itself, without what accelerate has put around it."""
        found: nn.Module = self.accelerator.unwrap_model(self.model)
        return found

    def rate(self, step: int) -> float:
        """What the learning rates are multiplied with at `step`."""
        return factor(step, self.steps, self.settings.warmup)

    def step(self, step: int, parts: Sequence[Batch]) -> Tensor:
        """Step number `step` (from 0) on the parts of one batch, which are on the device.

        Gives the `measures` of this process, float32 on the device: reading them would make a GPU wait.
        """
        for group in self.optimiser.param_groups:
            group["lr"] = group["rate"] * self.rate(step)
        self.ramp.set(step)
        self.optimiser.zero_grad(set_to_none=True)
        rows = []
        for number, batch in enumerate(parts):
            # Gradients are exchanged between processes only once, with the last part.
            last = number == len(parts) - 1
            with nullcontext() if last else self.accelerator.no_sync(self.model):
                output = self.model(**self.loss.inputs(batch))
                taught = None if self.teacher is None else self.teacher(batch)
                found = self.loss(output, taught, batch)
                self.accelerator.backward(found.total / len(parts))
            rows.append(torch.stack([found.total.detach(), *found.terms, found.score]).float())
        norm = self.accelerator.clip_grad_norm_(self.model.parameters(), self.settings.clip or float("inf"))
        self.optimiser.step()
        if self.average is not None:
            self.average.update(self.plain, step + 1)
        return torch.cat([torch.stack(rows).mean(0), torch.as_tensor(norm).float().reshape(1).to(rows[0].device)])


def drops_out(config: dict[str, Any]) -> bool:
    """Whether a config asks for dropout."""
    sections = (config, *(part for part in map(config.get, ("text", "vision_config")) if isinstance(part, dict)))
    names = ("hidden_dropout_prob", "attention_probs_dropout_prob", "attention_dropout", "drop_path_rate")
    return any(float(section.get(name) or 0) > 0 for section in sections for name in names)
