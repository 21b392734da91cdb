"""What models answer that generate: a language model reads a picture's tokens and a question, and writes."""

import importlib
import inspect
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoProcessor, StoppingCriteria, StoppingCriteriaList

from pumer_convert.data.sample import Sample
from pumer_convert.data.tokenizer import load_tokenizer
from pumer_convert.errors import InputError, VerificationError
from pumer_convert.evaluation.predict import Predictions, Progress
from pumer_convert.models.family import family_of
from pumer_convert.system.quiet import errors_alone
from pumer_convert.tasks.base import GenerationTask
from pumer_convert.weights import Checkpoint

PARTS = ("vision", "prefill", "decode")
INSTRUCTION = "Answer the question using a single word or phrase."
"""What stands behind every question, on a line of its own, in LLaVA's own evaluations (Liu et al., CVPR 2024), unless
the family has another."""
LONGEST = 20
"""Tokens that an answer has at most."""


class _Clock(StoppingCriteria):
    """Never stops anything, and notes when the first token was there."""

    def __init__(self, generator: "Generator") -> None:
        self.generator, self.first = generator, 0.0

    def __call__(self, input_ids: Tensor, scores: Any, **kwargs: Any) -> Tensor:
        if not self.first:
            self.first = self.generator.now()
        return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)


@dataclass
class Generator:
    """A whole model of transformers with its processor, which notes the `seconds` that each of `PARTS` takes.
    `prompt_of` makes a prompt of question and instruction where no chat template does."""

    model: Any
    processor: Any
    device: torch.device
    instruction: str = INSTRUCTION
    prompt_of: Callable[[str, str], str] | None = None
    longest: int = LONGEST
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(PARTS, 0.0))
    warm: bool = False

    @classmethod
    def open(cls, checkpoint: Checkpoint, device: torch.device, instruction: str | None, longest: int) -> "Generator":
        """`instruction` None: the family's. Raises InputError for a folder that transformers cannot load, of which a
        weight is missing, or which says not how the model is asked."""
        processor, family = _processor(checkpoint), generation(checkpoint)
        said = getattr(family, "INSTRUCTION", INSTRUCTION) if instruction is None else instruction
        ask = getattr(family, "prompt_of", None)
        return cls(_whole_model(checkpoint).to(device).eval(), processor, device, said, ask, longest)

    def prompt(self, sample: Sample) -> str:
        """The question of a sample as the model is asked it. Raises InputError for one with a picture's token in it."""
        text = sample.text
        # What stands for a picture, and for one of its tokens.
        for holder in (self.processor, self.processor.tokenizer):
            if (token := getattr(holder, "image_token", None)) and token in f"{text} {self.instruction}":
                raise InputError(f"{sample.where}: '{token}' in a question would stand for a picture.")
        if self.prompt_of is not None:
            return self.prompt_of(text, self.instruction)
        text = f"{text}\n{self.instruction}" if self.instruction else text
        turn = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": text}]}
        prompt: str = self.processor.apply_chat_template([turn], add_generation_prompt=True)
        return prompt

    def answer(self, samples: Sequence[Sample]) -> list[str]:
        """An answer to each. Raises VerificationError for logits that are not finite."""
        prompts = [self.prompt(sample) for sample in samples]
        first = self.processor.tokenizer.bos_token
        inputs = self.processor(
            images=[[sample.pictures[0].open()] for sample in samples],
            text=prompts,
            # as transformers does: a template that writes the first token is not given another
            add_special_tokens=first is None or not prompts[0].startswith(first),
            padding=True,
            return_tensors="pt",
        ).to(self.device)
        if not self.warm:
            self._generate(inputs)  # kernels are chosen and memory is taken in the first pass
            self.seconds, self.warm = dict.fromkeys(PARTS, 0.0), True
        return self._generate(inputs)

    def _generate(self, inputs: Any) -> list[str]:
        ids, begun = inputs["input_ids"], self.now()
        # What it takes beside the words, by the names that its class has for it, as generate finds it.
        asked = inspect.signature(self.model.base_model.get_image_features).parameters
        pictures = {name: value for name, value in inputs.items() if name in asked}
        pictures["pixel_values"] = pictures["pixel_values"].to(self.model.dtype)
        features = self.model.base_model.get_image_features(**pictures)
        seen, tokens = self.now(), sum(map(len, features.pooler_output))
        places = int((ids == self.model.config.image_token_id).sum())
        if places != tokens:
            raise InputError(
                f"{self.model.name_or_path}: its processor keeps {places} places for the tokens of {len(ids)} "
                f"picture(s), and its vision part gives {tokens}."
            )
        given = {name: value for name, value in inputs.items() if name not in (*pictures, "labels")}
        clock = _Clock(self)
        with errors_alone("transformers"):  # it warns where generation_config.json says otherwise
            found = self.model.generate(
                **given,  # with the types of tokens where the model asks for them
                mm_encoder_outputs={"image": features},
                max_new_tokens=self.longest,
                do_sample=False,
                num_beams=1,
                temperature=None,
                top_p=None,
                top_k=None,
                pad_token_id=self.processor.tokenizer.pad_token_id,
                stopping_criteria=StoppingCriteriaList([clock]),
                output_logits=True,
                return_dict_in_generate=True,
            )
        ended = self.now()
        if not all(bool(logits.isfinite().all()) for logits in found.logits):
            raise VerificationError(
                "the model's logits are not finite numbers; its weights are damaged, or its number type is too narrow."
            )
        for part, seconds in zip(PARTS, (seen - begun, clock.first - seen, ended - clock.first), strict=True):
            self.seconds[part] += seconds
        words: list[str] = self.processor.batch_decode(found.sequences[:, ids.shape[1] :], skip_special_tokens=True)
        return [text.strip() for text in words]

    def now(self) -> float:
        """The time when all that was asked of the device is done."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()


def _processor(checkpoint: Checkpoint) -> Any:
    """The processor of a whole model, which pads texts on the left. Raises InputError where it is not whole."""
    path = checkpoint.path
    load_tokenizer(path, checkpoint.family, checkpoint.config)  # tells what is wrong with one
    with _loading(path):
        processor: Any = AutoProcessor.from_pretrained(path, local_files_only=True)  # type: ignore[no-untyped-call]
    if all(getattr(processor, name, None) is None for name in ("image_seq_length", "image_seq_len", "patch_size")):
        raise InputError(
            f"{path}: its processor says no patch_size, by which places for a picture's tokens are counted; put it "
            "into processor_config.json, beside vision_feature_select_strategy and num_additional_image_tokens."
        )
    if not hasattr(generation(checkpoint), "prompt_of") and not getattr(processor, "chat_template", None):
        raise InputError(
            f"{path}: there is no chat_template.jinja, which says how a question is put to the model; copy it there "
            "from where the model was published."
        )
    words = processor.tokenizer
    words.padding_side = "left"
    if words.pad_token is None:
        words.pad_token = words.eos_token
    if words.pad_token is None:
        raise InputError(f"{path}: its tokenizer has neither a token for padding nor one for the end of a text.")
    return processor


def _whole_model(checkpoint: Checkpoint) -> Any:
    """The model of transformers. Raises InputError for weights that transformers would draw at random."""
    path = checkpoint.path
    with _loading(path):
        model, told = generation(checkpoint).MODEL.from_pretrained(
            path,
            dtype="auto",
            local_files_only=True,
            ignore_mismatched_sizes=True,  # told below, by name
            output_loading_info=True,
        )
    if told["mismatched_keys"]:
        name, there, wanted = min(told["mismatched_keys"])
        raise InputError(f"{path}: the weight '{name}' is {[*there]}, but config.json asks for {[*wanted]}.")
    if told["missing_keys"]:
        name = min(told["missing_keys"])
        raise InputError(f"{path}: the weight '{name}' is missing, without which nothing can be generated.")
    return model


@contextmanager
def _loading(path: Path) -> Iterator[None]:
    """Inside, what transformers raises where it cannot load becomes an InputError, and its warnings are kept back."""
    try:
        with errors_alone("transformers"):
            yield
    except (OSError, ValueError, RuntimeError, TypeError, ImportError, LookupError, AttributeError) as error:
        why = str(error).strip().partition("\n")[0]
        raise InputError(f"{path}: transformers cannot load the whole of it ({why[:300]}).") from None


def generate_each(
    generators: Sequence[Generator],
    samples: Sequence[Sample],
    task: GenerationTask,
    *,
    batch_size: int,
    progress: Progress,
) -> list[Predictions]:
    """What each answers to the same samples. They take turns, batch by batch, so that whatever else the machine does
    meanwhile slows all of them alike."""
    answers: list[list[str]] = [[] for _ in generators]
    with torch.inference_mode():
        for start in range(0, len(samples), batch_size):
            some = samples[start : start + batch_size]
            for generator, found in zip(generators, answers, strict=True):
                found += generator.answer(some)
            progress(start + len(some), len(samples))
    judged = [task.judge(found, samples) for found in answers]
    ids, count = [sample.id for sample in samples], len(samples)
    return [
        Predictions(
            one.scores,
            one.answers,
            ids,
            one.metrics,
            sum(generator.seconds.values()),
            count,
            {part: seconds / count for part, seconds in generator.seconds.items()},
        )
        for one, generator in zip(judged, generators, strict=True)
    ]


def generation(checkpoint: Checkpoint) -> Any:
    """The module of a checkpoint's family that says how it generates."""
    place = family_of(checkpoint.family).generation
    assert place is not None
    return importlib.import_module(place)


def check_whole(checkpoint: Checkpoint) -> None:
    """Raises InputError for a vision part alone, which answers no questions."""
    path = checkpoint.path
    if not any(name.startswith(generation(checkpoint).LANGUAGE) for name in checkpoint.source.names()):
        raise InputError(
            f"{path}: the vision part alone, which answers nothing; `pumer-convert export {path} --layout hf -o WHOLE` "
            "writes it with its language model, and that can be evaluated."
        )
