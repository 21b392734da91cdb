"""What classes of transformers need to run a reduced vision part; each family's `generation` has those."""

import inspect
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor
from transformers import PreTrainedModel, conversion_mapping
from transformers.modeling_outputs import BaseModelOutputWithPooling

from pumer_convert.errors import InputError
from pumer_convert.models.body import Body, insert
from pumer_convert.models.reductions import POSITIONS
from pumer_convert.models.towers.vision_folders import own_name
from pumer_convert.models.towers.vision_part import OUTPUT, tokens_of_part
from pumer_convert.models.towers.vision_positions import original_positions

BESIDE = "embeddings beside pictures do not say where these stand; give input_ids as well, or position_ids."


@dataclass(frozen=True)
class _Part:
    """The vision part without weights, and how many tokens of a picture it gives and the dense one gave."""

    body: Body
    left: int
    dense: int
    renumbered: bool

    @property
    def plain(self) -> bool:
        """Whether positions are as transformers gives them: it has all tokens, or they are to be renumbered."""
        return self.left == self.dense or self.renumbered


class ReducedVision:
    """For a model of transformers, before its dense class: the vision part runs with the reducers that config.json
    records under "pumer", on the weights of the dense model, under the same names, and what is left of a picture has
    the positions that it had among all of it, unless the config says otherwise."""

    network: ClassVar[type[Body]]
    first_position: ClassVar[int] = 0
    """Of a prompt, where its dense class numbers it."""
    listed: ClassVar[bool] = False
    """Whether its dense class gives a list of [N, D]."""
    _made: tuple[_Part, ...] = ()  # in a tuple, so that it is no part of this module

    @property
    def part(self) -> _Part:
        """The vision part, made once."""
        if not self._made:
            values = json.loads(self.config.to_json_string())  # type: ignore[attr-defined]
            with torch.device("meta"):
                build: Any = self.network
                body: Any = insert(build(values), values.get("pumer", {})).eval()
            left, dense = tokens_of_part(body.settings, values), tokens_of_part(body.settings, {})
            self._made = (_Part(body, left, dense, values.get("pumer", {}).get("positions") == POSITIONS[1]),)
        return self._made[0]

    def get_image_features(
        self,
        pixel_values: Tensor,
        vision_feature_layer: int | list[int] | None = None,
        vision_feature_select_strategy: str | None = None,
        **kwargs: Any,
    ) -> BaseModelOutputWithPooling:
        """The embeddings of each picture, `pooler_output` [B, N, D] or listed, and with them `places` [B, N]: which of
        the dense tokens each is. Raises InputError for features that are to be chosen otherwise than config.json
        says."""
        asked = {"layer": vision_feature_layer, "select_strategy": vision_feature_select_strategy}
        for name, value in asked.items():
            own = getattr(self.config, f"vision_feature_{name}", None)  # type: ignore[attr-defined]
            if value is not None and value != own:
                raise InputError(f"the vision part was reduced for the features {own!r}, not {value!r}.")
        return self.features(pixel_values)

    def features(self, pixel_values: Tensor) -> BaseModelOutputWithPooling:
        """The same of pictures or tiles [B, 3, H, W]."""
        model: Any = self
        weights = {own_name(name): value for name, value in model.named_parameters()}
        body = self.part.body
        needed: dict[str, Tensor] = {name: weights[name] for name, _ in body.named_parameters()}
        found: Any = torch.func.functional_call(body, needed, (pixel_values,))
        embeddings: Any = found.outputs[OUTPUT]
        embeddings = list(embeddings) if self.listed else embeddings
        features: Any = BaseModelOutputWithPooling(pooler_output=embeddings)
        features.places = found.image.place
        return features  # type: ignore[no-any-return]

    def positions(self, ids: Tensor, mask: Tensor | None, features: Any, cached: int = 0) -> Tensor:
        """The position of each token of prompts `ids` [B, S], int64 [B, S], from 0 on; see `original_positions`. Raises
        InputError where nothing says which tokens are left of the pictures, or where these are others than the
        prompts'."""
        if mask is not None and mask.shape != ids.shape:
            raise InputError("the ids are not those of the whole prompt; give all of them, or position_ids.")
        part, valid = self.part, torch.ones_like(ids, dtype=torch.bool) if mask is None else mask.bool()
        pictures = ids == self.config.image_token_id  # type: ignore[attr-defined]
        new = int(pictures[:, cached:].sum())
        places = getattr(features, "places", None)
        if places is None:
            if new:
                raise InputError(
                    "nothing says which tokens are left of the pictures; give generate pixel_values, or position_ids."
                )
            places = torch.zeros(0, part.left, dtype=torch.int64, device=ids.device)
        if new != places.numel():
            raise InputError(f"the prompts have {new} tokens for pictures, of which {places.numel()} are given.")
        return original_positions(pictures, valid, places, part.dense, cached)

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        cache: Any = None,
        mm_encoder_outputs: Any = None,
        **kwargs: Any,
    ) -> Any:
        """The dense class's, with the positions that pictures had. Raises InputError for a step behind a cache, and for
        embeddings beside pictures, without position_ids, which alone tell where they stand."""
        model: Any = super()
        if (older := kwargs.pop("past_key_values", None)) is not None:
            cache = older
        if not self.part.plain and position_ids is None:
            if cache is not None and cache.get_seq_length():
                raise InputError("a step behind a cache needs position_ids; generate gives them.")
            if mm_encoder_outputs is None and kwargs.get("pixel_values") is not None:
                names = [name for name in inspect.signature(self.get_image_features).parameters if name in kwargs]
                mm_encoder_outputs = {"image": self.get_image_features(**{name: kwargs.pop(name) for name in names})}
            features = mm_encoder_outputs.get("image") if isinstance(mm_encoder_outputs, dict) else None
            if input_ids is not None:
                position_ids = self.positions(input_ids, attention_mask, features) + self.first_position
            elif mm_encoder_outputs is not None:
                raise InputError(BESIDE)
        if not self.part.plain and attention_mask is None and input_ids is not None and input_ids.shape[1] > 1:
            # Without one, transformers takes a gap in the positions for the beginning of another sequence.
            before = 0 if cache is None else cache.get_seq_length()
            attention_mask = input_ids.new_ones(input_ids.shape[0], before + input_ids.shape[1])
        return model.forward(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            cache=cache,
            mm_encoder_outputs=mm_encoder_outputs,
            **kwargs,
        )


class ReducedForGeneration:
    """The same for a model with its language model's head, whose `model` is `reduced`, a `ReducedVision`."""

    reduced: ClassVar[type[PreTrainedModel]]

    def __init__(self, config: Any) -> None:
        super().__init__(config)  # type: ignore[call-arg]
        model: Any = self
        model.model = self.reduced(config)
        model.post_init()

    def _prepare_position_ids_for_generation(self, inputs_tensor: Tensor, model_kwargs: dict[str, Any]) -> Tensor:
        model: Any = self
        ids = model_kwargs.get("input_ids")
        if ids is None or not ids.shape[1]:
            ids = inputs_tensor
        alone = ids.is_floating_point()
        if alone and not model.model.part.plain and {"pixel_values", "mm_encoder_outputs"} & set(model_kwargs):
            raise InputError(BESIDE)
        if alone or model.model.part.plain:  # of embeddings alone nothing says what they are of
            dense: Any = super()
            return dense._prepare_position_ids_for_generation(inputs_tensor, model_kwargs)  # type: ignore[no-any-return]
        # The features are made here, before the positions that follow from them, and handed on.
        model._prepare_multimodal_encoder_kwargs_for_generation(model_kwargs)
        cache, features = model_kwargs.get("cache"), model_kwargs["mm_encoder_outputs"].get("image")
        cached = 0 if cache is None else cache.get_seq_length()
        found: Tensor = model.model.positions(ids, model_kwargs.get("attention_mask"), features, cached)
        return found

    def save_pretrained(self, save_directory: Any, *args: Any, **kwargs: Any) -> None:
        """transformers', under the name of the dense class: what is reduced config.json says under "pumer"."""
        model: Any = self
        dense: Any = super()
        dense.save_pretrained(save_directory, *args, **kwargs)
        file = Path(save_directory) / "config.json"
        values = json.loads(file.read_text("utf-8"))
        own = next(cls for cls in type(self).__mro__ if cls.__module__.startswith("transformers."))
        values["architectures"] = model.config.architectures = [own.__name__]
        file.write_text(json.dumps(values, indent=2) + "\n", "utf-8")


def named_like(cls: type[PreTrainedModel], known: str) -> None:
    """Weights of `cls` have the names in files that transformers has for `known`, a class or a model_type. Without this
    a language model would be random."""
    names: Any = conversion_mapping
    names.register_checkpoint_conversion_mapping(
        cls.__name__, names.get_checkpoint_conversion_mapping(known), overwrite=True
    )
