"""The METER network: the original's names, fused attention, reducers inside the tower and the fusion layers."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from pumer_convert.models.body import Body
from pumer_convert.models.meter.config import MeterSettings
from pumer_convert.models.output import Output
from pumer_convert.models.precision import Linear
from pumer_convert.models.signature import LOGITS
from pumer_convert.models.spec import grid, sides_of
from pumer_convert.models.towers.bert import Bert, Pooler, classifier, table
from pumer_convert.models.towers.clip import VisionTower
from pumer_convert.models.towers.fusion import FusionHalf, fuse
from pumer_convert.reducers.site import Trace
from pumer_convert.tokens import Tokens


class Meter(Body):
    """METER with its head.

    Called as model(input_ids [B, T], attention_mask [B, T], pixel_values [B, 3, H, W], or [B, 2, 3, H, W] for image
    pairs) -> Output. H, W are fixed when it is built; text is padded on the right.
    """

    def __init__(self, config: dict[str, Any], image_size: Any = None) -> None:
        super().__init__()
        self.config = config
        settings = MeterSettings.read(config)
        self.image_size = sides_of(image_size or settings.image_size)
        rows, columns = grid(self.image_size, settings.patch_size)
        self.published = config.get("pumer", {}).get("attention") == "reference"
        self.sequential = settings.fusion_order == "sequential"
        c = settings.hidden_size
        self.vit_model = nn.Module()
        self.vit_model.visual = VisionTower(settings.vision, settings.patch_size, rows * columns)
        self.text_transformer = Bert(settings.text)
        self.cross_modal_text_transform = Linear(settings.text.hidden_size, c)
        self.cross_modal_image_transform = Linear(settings.vision.hidden_size, c)
        self.token_type_embeddings = table(settings.modality_type_vocab_size, c)
        half, layers = settings.half, range(settings.num_fusion_layers)
        self.cross_modal_text_layers = nn.ModuleList(FusionHalf(half, self.published) for _ in layers)
        self.cross_modal_image_layers = nn.ModuleList(FusionHalf(half, self.published) for _ in layers)
        self.cross_modal_text_pooler, self.cross_modal_image_pooler = Pooler(c), Pooler(c)
        self.head_name, self.images = settings.head, settings.images
        if self.head_name == "rank_output":
            self.rank_output = Linear(2 * c, 1)
        else:
            setattr(self, self.head_name, classifier(2 * c * self.images, 2 * c, settings.labels))

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, pixel_values: Tensor, trace: Trace | None = None
    ) -> Output:
        """See the class. Raises InputError when the pixels are not of the size it was built for."""
        trace = Trace() if trace is None else trace
        self.check_pixels(pixel_values, self.image_size)
        kind = self.token_type_embeddings.weight[1 : 1 + self.images, None]
        if self.images > 1:
            # One pass over all images: example b's images are rows b * images, b * images + 1, ...
            input_ids, attention_mask = (v.repeat_interleave(self.images, 0) for v in (input_ids, attention_mask))
            kind = kind.repeat(pixel_values.shape[0], 1, 1)
            pixel_values = pixel_values.flatten(0, 1)
        words = self.text_transformer(input_ids, attention_mask > 0)
        words = self.cross_modal_text_transform(words) + self.token_type_embeddings.weight[0]
        image = self.vit_model.visual(pixel_values, self.step, trace)  # type: ignore[operator]
        image = image.with_states(self.cross_modal_image_transform(image.states) + kind)
        mask = attention_mask.float() if self.published else attention_mask > 0
        text, image = Tokens.start(words, mask, first=1), replace(image, mask=image.mask.to(mask.dtype))
        pairs = zip(self.cross_modal_text_layers, self.cross_modal_image_layers, strict=True)
        for i, (text_half, image_half) in enumerate(pairs):
            step = self.step(f"fusion.{i}")
            text, image, _ = fuse(
                text_half,  # type: ignore[arg-type]
                image_half,  # type: ignore[arg-type]
                text,
                image,
                step,
                trace,
                sequential=self.sequential,
            )
        pooled = torch.cat([self.cross_modal_text_pooler(text), self.cross_modal_image_pooler(image)], -1)
        if self.images > 1:
            pooled = pooled.reshape(-1, self.images * pooled.shape[1])
        logits = getattr(self, self.head_name)(pooled)
        return Output({LOGITS: logits}, {"image": image, "text": text}, trace)
