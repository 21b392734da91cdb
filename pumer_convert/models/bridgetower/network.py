"""The BridgeTower network: transformers' names, fused attention, reducers in the image's tower and in fusion layers."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from pumer_convert.models.body import Body
from pumer_convert.models.bridgetower.config import CONTRASTIVE, BridgeTowerSettings, pools
from pumer_convert.models.output import Output
from pumer_convert.models.precision import LayerNorm, Linear
from pumer_convert.models.signature import LOGITS
from pumer_convert.models.spec import grid, sides_of
from pumer_convert.models.towers.bert import Bert, Pooler, table
from pumer_convert.models.towers.clip import VisionBlock
from pumer_convert.models.towers.embeddings import PatchEmbeddings
from pumer_convert.models.towers.encoder import unit
from pumer_convert.models.towers.fusion import FusionHalf, Link, fuse, of_members
from pumer_convert.reducers.site import Trace
from pumer_convert.tokens import Tokens


class Visual(nn.Module):
    """The image's tower: what begins it, its blocks, and what ends it after any of them."""

    def __init__(self, settings: BridgeTowerSettings, patches: int) -> None:
        super().__init__()
        vision = settings.vision
        c, eps = vision.hidden_size, vision.layer_norm_eps
        self.embeddings = PatchEmbeddings(c, settings.patch_size, patches, cls=True, bias=False)
        self.ln_pre, self.ln_post = LayerNorm(c, eps=eps), LayerNorm(c, eps=eps)
        self.transformer = nn.Module()
        self.transformer.resblocks = nn.ModuleList(VisionBlock(vision) for _ in range(settings.text.num_hidden_layers))


class Fusion(nn.Module):
    """Both towers and the fusion layers above them, one of each modality for every layer of a tower from `split` on."""

    def __init__(self, settings: BridgeTowerSettings, patches: int) -> None:
        super().__init__()
        self.token_type_embeddings = table(2, settings.hidden_size)
        c, eps, count = settings.hidden_size, settings.layer_norm_eps, settings.num_hidden_layers
        self.split, self.count = settings.split, count
        self.vision_model = nn.Module()
        self.vision_model.visual = Visual(settings, patches)
        self.text_model: Any = Bert(settings.text)
        one, single = settings.share_cross_modal_transformer_layers, settings.share_link_tower_layers
        for name, width in (("text", settings.text.hidden_size), ("image", settings.vision.hidden_size)):
            transforms = [Linear(width, c) for _ in range(1 if one else count)]
            links = [Link(settings.link_tower_type, c, eps) for _ in range(1 if single else count - 1)]
            parts = {
                "transform": transforms[0] if one else nn.ModuleList(transforms),
                "layernorm": LayerNorm(c, eps=eps),
                "link_tower": links[0] if single else nn.ModuleList(links),
                "layers": nn.ModuleList(FusionHalf(settings.text) for _ in range(count)),
                "pooler": Pooler(c),
            }
            for part, module in parts.items():
                setattr(self, f"cross_modal_{name}_{part}", module)

    def part(self, name: str, number: int) -> Any:
        """A part of a fusion layer: the one of its `number`, or the one that all share."""
        found = getattr(self, f"cross_modal_{name}")
        return found[number] if isinstance(found, nn.ModuleList) else found

    def entry(self, number: int, name: str, tower: Tensor, fused: Tensor) -> Tensor:
        """What enters one side ("text", "image") of a fusion layer: what the `tower` says and, from the second layer
        on, what was `fused` of it."""
        kind = self.token_type_embeddings.weight[int(name == "image")]
        own = self.part(f"{name}_transform", number)(tower) + kind
        if number == 0:
            return self.part(f"{name}_layernorm", number)(own)  # type: ignore[no-any-return]
        return self.part(f"{name}_link_tower", number - 1)(own, fused)  # type: ignore[no-any-return]


class BridgeTower(Body):
    """BridgeTower with its head.

    Called as model(input_ids [B, T], attention_mask [B, T], pixel_values [B, 3, H, W]) -> Output. H, W are fixed when
    it is built; text is padded on the right. For retrieval the one logit of a pair is how much the "match" of
    transformers' two is above the other: its sigmoid is their softmax. Else it gives text_embeds, image_embeds and
    cross_embeds [B, E] of length 1.

    Where fusion layer i reduces, the states of both towers are reduced with the fused ones by the same decisions, so
    that the rest of the towers gets shorter too. Under `links: pool` the towers run whole, and what a link reads is,
    for every fused token, the mean over the tower's tokens that stand in it.
    """

    def __init__(self, config: dict[str, Any], image_size: Any = None) -> None:
        super().__init__()
        self.config = config
        settings = BridgeTowerSettings.read(config)
        self.image_size = sides_of(image_size or settings.image_size)
        rows, columns = grid(self.image_size, settings.patch_size)
        c, self.images = settings.hidden_size, 1
        self.bridgetower = Fusion(settings, rows * columns)
        self.contrastive, self.pools = settings.architecture == CONTRASTIVE, pools(config)
        if self.contrastive:
            wide = settings.contrastive_hidden_size
            heads = {"itc_text_head": c, "itc_image_head": c, "itc_cross_modal_head": 2 * c}
        else:
            wide, heads = 2, {"itm_score": 2 * c}
        for name, width in heads.items():
            head = nn.Module()
            head.fc = Linear(width, wide or 0)
            setattr(self, name, head)

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, pixel_values: Tensor, trace: Trace | None = None
    ) -> Output:
        """See the class. Raises InputError when the pixels are not of the size it was built for."""
        trace = Trace() if trace is None else trace
        self.check_pixels(pixel_values, self.image_size)
        model = self.bridgetower
        visual: Any = model.vision_model.visual
        blocks, encoder = visual.transformer.resblocks, model.text_model.encoder.layer
        words = model.text_model.embeddings(input_ids)
        text = Tokens.start(words, attention_mask > 0, first=1)
        x = visual.ln_pre(visual.embeddings(pixel_values))
        image = Tokens.start(x, torch.ones_like(x[..., 0], dtype=torch.bool), first=1)
        for i in range(model.split):
            text, image = encoder[i].of_tokens(text), blocks[i](image, self.step(f"vision.{i}"), trace)
        # From here on each has its own tokens in a tower, beside those of the fusion layers.
        own_text, own_image = text, image
        if self.pools:
            text, image = text.as_originals(), image.as_originals()
        all_text, all_image = text, image
        for i in range(model.count):
            if i:
                # Nothing is reduced here: the towers have the tokens that the fusion layers left, or all.
                number = model.split + i - 1
                own_text, own_image = encoder[number].of_tokens(own_text), blocks[number](own_image, None, trace)
            words, patches = own_text.states, visual.ln_post(own_image.states)
            if self.pools:
                words, patches = of_members(text, all_text, words), of_members(image, all_image, patches)
            text = text.with_states(model.entry(i, "text", words, text.states))
            image = image.with_states(model.entry(i, "image", patches, image.states))
            halves = model.part("text_layers", i), model.part("image_layers", i)
            # Above the last layer nothing asks for the towers but a head, for what they say to the end of themselves.
            riders = None if self.pools or i == model.count - 1 else (own_text.states, own_image.states)
            text, image, riders = fuse(*halves, text, image, self.step(f"fusion.{i}"), trace, riders)
            if riders is not None:
                own_text, own_image = text.with_states(riders[0]), image.with_states(riders[1])
        pooled = torch.cat([model.part("text_pooler", 0)(text), model.part("image_pooler", 0)(image)], -1)
        if self.pools:
            text = replace(text, source=own_text.moved(text.known))
            image = replace(image, source=own_image.moved(image.known))
        streams = {"image": image, "text": text}
        if not self.contrastive:
            scores = self.head("itm_score", pooled)
            return Output({LOGITS: scores[:, 1:] - scores[:, :1]}, streams, trace)
        kind = model.token_type_embeddings.weight[1]
        seen = model.part("image_transform", 0)(visual.ln_post(own_image.states[:, 0])) + kind
        embeddings = {
            "text_embeds": self.head("itc_text_head", own_text.states[:, 0]),
            "image_embeds": self.head("itc_image_head", seen),
            "cross_embeds": self.head("itc_cross_modal_head", pooled),
        }
        return Output({name: unit(value) for name, value in embeddings.items()}, streams, trace)

    def head(self, name: str, pooled: Tensor) -> Tensor:
        """One of the linear heads."""
        return getattr(self, name).fc(pooled)  # type: ignore[no-any-return]
