"""The demo's model in training answers as the model that is kept, and learns."""

from random import Random

import torch
from demo_batches import PATCH, ROWS, batches, questions
from demo_trainee import Trainee, config

from pumer_convert.demo.questions import KINDS


def test_it_is_the_model_with_its_patches_cut_out_beforehand() -> None:
    torch.manual_seed(0)
    random = Random(0)
    items = questions(random, 4, "train", dict.fromkeys(KINDS, 1.0), 3, 1)
    (batch,) = batches(items, random, 4, ROWS * ROWS)
    trainee = Trainee(config(width=32, heads=2, layers=4))
    logits, losses = trainee(batch)
    whole = torch.zeros(4, ROWS * ROWS, 3 * PATCH * PATCH)
    whole.scatter_(1, batch.which[..., None].expand_as(batch.patches), batch.patches)
    pixels = whole.view(4, ROWS, ROWS, 3, PATCH, PATCH).permute(0, 3, 1, 4, 2, 5).reshape(4, 3, ROWS * PATCH, -1)
    expected = trainee.model(batch.ids, batch.mask.long(), pixels).logits
    torch.testing.assert_close(logits, expected, atol=1e-5, rtol=1e-5)
    sum(losses.values()).backward()
    assert trainee.model.vilt.pooler.dense.weight.grad.abs().max() > 0
