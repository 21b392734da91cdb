"""Prompts with what is left of pictures, whose tokens stand where they stood among all."""

from typing import Any

import torch


def handed(dense: Any, given: Any, output: Any, whole: int, image: int) -> tuple[torch.Tensor, torch.Tensor]:
    """What a language model reads of a reduced vision part's output, and the position of each, token by token: a
    picture, the token `image`, takes `whole` of them."""
    ids, places = given["input_ids"], output.image.place
    picture = ids == image
    embedded = dense.get_input_embeddings()(ids.where(~picture, 0))
    embedded = embedded.masked_scatter(picture[..., None], output.outputs["image_features"])
    positions, pictures = torch.zeros_like(ids), iter(places.tolist())
    for row in range(len(ids)):
        now, kept = 0, []
        for column in range(ids.shape[1]):
            if not given["attention_mask"][row, column]:
                continue
            if not picture[row, column]:
                positions[row, column] = now
                now += 1
                continue
            kept = kept or list(next(pictures))
            positions[row, column] = now + kept.pop(0)
            now += 0 if kept else whole
    return embedded, positions


def without_cache(
    dense: Any, embedded: torch.Tensor, mask: torch.Tensor, positions: torch.Tensor, new: int
) -> torch.Tensor:
    """What a language model writes, all of it computed anew for every token."""
    found: list[torch.Tensor] = []
    for _ in range(new):
        passed = dense(inputs_embeds=embedded, attention_mask=mask, position_ids=positions, use_cache=False)
        found.append(passed.logits[:, -1].argmax(-1))
        embedded = torch.cat([embedded, dense.get_input_embeddings()(found[-1])[:, None]], 1)
        mask, positions = torch.cat([mask, mask[:, -1:]], 1), torch.cat([positions, positions[:, -1:] + 1], 1)
    return torch.stack(found, 1)
