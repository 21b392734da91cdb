"""Trains a small LLaVA from scratch on scenes, by transformers' own classes: a CLIP tower, a projector, a Llama.

All that is asked about a scene stands in one text, so that its picture is seen once. Answers alone would teach so small
a model to see only after very long, so that in training two heads help, which are thrown away: what each patch shows,
and, from CLS as in CLIP, which things there are.
"""

from pathlib import Path
from random import Random
from typing import Any

import click
import numpy as np
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer, pre_tokenizers
from tokenizers.models import WordLevel
from torch import Tensor, nn
from transformers import (
    CLIPVisionConfig,
    GenerationConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)
from transformers.models.llava.image_processing_pil_llava import LlavaImageProcessorPil
from vlm_scenes import LIST, PAIRS, listing, questions, scene_of, shown

from pumer_convert.demo.scene import SIDE
from pumer_convert.demo.words import WORDS

PATCH, WIDTH = 12, 64
SIZES = {"hidden_size": WIDTH, "num_attention_heads": 4}
VISION = {**SIZES, "intermediate_size": 4 * WIDTH, "num_hidden_layers": 5, "image_size": SIDE, "patch_size": PATCH}
LANGUAGE = {**SIZES, "intermediate_size": 3 * WIDTH, "num_hidden_layers": 4, "max_position_embeddings": 512}
BATCH, RATE, EACH, EVERY = 32, 1e-3, 4, 250
"""Scenes of a step, the highest learning rate, texts that each scene has, steps between two states."""
PAD, END, IMAGE = "<pad>", "</s>", "<image>"
NUMBERS = {word: i for i, word in enumerate(dict.fromkeys((PAD, END, IMAGE, *WORDS)))}
TEMPLATE = (
    "{% for part in messages[0]['content'] %}{{ '<image> ' if part['type'] == 'image' else part['text'] }}{% endfor %}"
)


def processor() -> LlavaProcessor:
    """A word is a token; the picture stands before the question, and nothing behind it."""
    plain = Tokenizer(WordLevel(NUMBERS, PAD))
    plain.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    named = {"pad_token": PAD, "eos_token": END, "unk_token": PAD, "additional_special_tokens": [IMAGE]}
    return LlavaProcessor(
        LlavaImageProcessorPil(size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE}),
        PreTrainedTokenizerFast(tokenizer_object=plain, padding_side="left", **named),
        patch_size=PATCH,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=TEMPLATE,
    )


def network() -> LlavaForConditionalGeneration:
    """With random weights."""
    language = LlamaConfig(**LANGUAGE, vocab_size=len(NUMBERS), pad_token_id=0, eos_token_id=1, bos_token_id=None)
    tokens = {"image_token_index": NUMBERS[IMAGE], "image_seq_length": (SIDE // PATCH) ** 2}
    config = LlavaConfig(vision_config=CLIPVisionConfig(**VISION), text_config=language, **tokens)
    model = LlavaForConditionalGeneration(config)
    model.generation_config = GenerationConfig(eos_token_id=1, pad_token_id=0)
    return model


class Lessons:
    """Scenes of training, each drawn once, with a few texts."""

    def __init__(self, count: int, made: LlavaProcessor) -> None:
        self.scenes = [scene_of(Random(f"train/{i}"), "train") for i in range(count)]
        told = [shown(scene, PATCH) for scene in self.scenes]
        pictures, labels, there = (torch.from_numpy(np.stack(values)) for values in zip(*told, strict=True))
        self.pictures, self.labels, self.there = pictures.permute(0, 3, 1, 2), labels, there
        values = made.image_processor.image_mean, made.image_processor.image_std
        self.mean, self.std = (torch.tensor(value).view(3, 1, 1) for value in values)
        self.texts: dict[tuple[int, int], tuple[list[int], list[int]]] = {}

    def text(self, place: int, number: int) -> tuple[list[int], list[int]]:
        """Text `number` of a scene: its tokens, and the same with -100 where no answer is."""
        if (place, number) not in self.texts:
            random, scene = Random(f"asked/{place}/{number}"), self.scenes[place]
            asked = [(q.text, q.answer) for q in questions(random, scene)] + [(LIST, listing(scene))]
            random.shuffle(asked)
            ids, answers = [], []
            for question, answer in asked:
                first, then = ([NUMBERS[w] for w in text.split()] for text in (question, f"{answer} {END}"))
                ids += first + then
                answers += [-100] * len(first) + then
            self.texts[place, number] = ids, answers
        return self.texts[place, number]

    def batch(self, places: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Pixels, tokens, answers, what patches show, what there is."""
        numbers = torch.randint(EACH, places.shape).tolist()
        rows = [self.text(place, number) for place, number in zip(places.tolist(), numbers, strict=True)]
        longest = max(len(ids) for ids, _ in rows)
        ids, answers = (
            torch.tensor([row[i] + [fill] * (longest - len(row[i])) for row in rows]) for i, fill in ((0, 0), (1, -100))
        )
        pixels = (self.pictures[places].float() / 255 - self.mean) / self.std
        return pixels, ids, answers, self.labels[places], self.there[places]


def losses(model: Any, sees: nn.Module, knows: nn.Module, batch: tuple[Tensor, ...]) -> tuple[Tensor, Tensor, Tensor]:
    """Of the answers, of what patches show, and of what there is."""
    pixels, ids, answers, labels, there = batch
    seen = model.model.vision_tower(pixel_values=pixels, output_hidden_states=True)
    features = seen.hidden_states[model.config.vision_feature_layer][:, 1:]
    embedded = torch.cat([model.model.multi_modal_projector(features), model.get_input_embeddings()(ids)], 1)
    states = model.model.language_model(inputs_embeds=embedded).last_hidden_state[:, features.shape[1] : -1]
    asked = answers[:, 1:] >= 0
    return (
        F.cross_entropy(model.lm_head(states[asked]), answers[:, 1:][asked]),
        F.cross_entropy(sees(features).flatten(0, 1), labels.flatten()),
        F.binary_cross_entropy_with_logits(knows(seen.pooler_output), there),
    )


def train(out: Path, steps: int, scenes: int, seed: int = 0) -> None:
    """Write a trained model to `out`; a state beside it is gone on from."""
    torch.manual_seed(seed)
    made, model = processor(), network()
    lessons = Lessons(scenes, made)
    heads = nn.ModuleDict({"sees": nn.Linear(WIDTH, PAIRS + 1), "knows": nn.Linear(WIDTH, PAIRS)})
    parameters = [*model.parameters(), *heads.parameters()]
    optimizer = torch.optim.AdamW(parameters, RATE, betas=(0.9, 0.98), weight_decay=0.05)
    state, begun = out.with_suffix(".state"), 0
    if state.exists():
        kept = torch.load(state)
        begun = kept["step"]
        for part, name in ((model, "model"), (heads, "heads"), (optimizer, "optimizer")):
            part.load_state_dict(kept[name])
    model.train()
    for step in range(begun, steps):
        if step % EVERY == 0 and step > begun:
            kept = {"model": model.state_dict(), "heads": heads.state_dict(), "optimizer": optimizer.state_dict()}
            torch.save({"step": step, **kept}, state.with_suffix(".partial"))
            state.with_suffix(".partial").replace(state)
        for group in optimizer.param_groups:
            group["lr"] = RATE * min((step + 1) / 200, 1.0, (steps - step) / (0.4 * steps))
        torch.manual_seed(1000003 * seed + step)
        found = losses(model, heads["sees"], heads["knows"], lessons.batch(torch.randint(scenes, (BATCH,))))
        optimizer.zero_grad()
        (found[0] + found[1] + 3 * found[2]).backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        if step % 100 == 0:
            told = zip(("answers", "patches", "things"), found, strict=True)
            click.echo(f"step {step}: {', '.join(f'{name} {loss.item():.3f}' for name, loss in told)}", err=True)
    model.eval().save_pretrained(out)
    made.save_pretrained(out)
    state.unlink(missing_ok=True)
