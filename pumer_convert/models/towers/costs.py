"""Multiply-accumulates of the layers in towers; torch-free."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pumer_convert.models.spec import Cost, Layer, Lengths
from pumer_convert.models.towers.settings import Codebook, Sizes


def block(width: int, wide: int, n: int, left: int) -> int:
    """A layer of self-attention over `n` tokens and a feed-forward over those that are `left`."""
    return 4 * width * width * n + 2 * n * n * width + 2 * width * wide * left


def fusion(c: int, wide: int, sequential: bool = False) -> Cost:
    """A fusion layer, see `fusion.fuse`."""

    def cost(before: Lengths, after: Lengths) -> int:
        n, m, n2, m2 = before.image, before.text, after.image, after.text
        seen = m2 if sequential else m
        words = 4 * c * c * m + 2 * m * m * c + 2 * c * c * (m + n) + 2 * m * n * c + 2 * c * wide * m2
        picture = 4 * c * c * n2 + 2 * n2 * n2 * c + 2 * c * c * (n2 + seen) + 2 * n2 * seen * c + 2 * c * wide * n2
        return words + picture

    return cost


def one_query(c: int) -> Cost:
    """One query of width `c` over all image tokens, whose keys are computed for it."""
    return lambda before, after: (before.image + 1) * c * c + before.image * c


def columns(c: int) -> Cost:
    """The attention of all image tokens to each other, of queries and keys of width `c` that are there."""
    return lambda before, after: before.image**2 * c


def fusion_scores(c: int) -> dict[str, Cost]:
    """The scores that a fusion layer gives of its image tokens."""

    def relevance(before: Lengths, after: Lengths) -> int:
        return before.text * before.image * c

    # CLS: the image half's own query and keys, which it computes once more on the tokens that are left.
    return {"relevance": relevance, "cls_attention": one_query(c), "attention": one_query(c)}


def fusion_layer(
    number: int, count: int, c: int, wide: int, heads: int, *, sequential: bool = False, **more: Any
) -> Layer:
    """One of `count` fusion layers, which is the site "fusion.i"; its halves are `c` and within `wide`."""
    site, key_width = f"fusion.{number}", c // heads
    own: dict[str, Any] = {"depth": number / count, "width": c, "key_width": key_width, **more}
    return Layer(site, fusion(c, wide, sequential), site, fusion_scores(c), **own)


def joint_layers(settings: Sizes, blocks: str) -> list[Layer]:
    """The blocks of a joint encoder of texts and pictures, which are its sites "encoder.i"."""
    c, inner, count = settings.hidden_size, settings.intermediate_size, settings.num_hidden_layers

    def cost(before: Lengths, after: Lengths) -> int:
        return block(c, inner, before.image + before.text, after.image + after.text)

    def cls_attention(before: Lengths, after: Lengths) -> int:
        return (before.text + before.image) * c

    def relevance(before: Lengths, after: Lengths) -> int:
        return before.text * (before.text + before.image) * c

    scores: dict[str, Cost] = {"relevance": relevance, "cls_attention": cls_attention, "attention": cls_attention}
    key_width, both = c // settings.num_attention_heads, ("image", "text")
    return [
        Layer(name, cost, name, scores, both, i / count, c, key_width, weights=(f"{blocks}{i}.",))
        for i, name in enumerate(f"encoder.{i}" for i in range(count))
    ]


VISION, TEXT = "vision_model.encoder.layers.", "text_model.encoder.layers."
BEFORE = ("vision_model.embeddings.", "vision_model.pre_layrnorm.")


def image_layers(
    settings: Sizes,
    patch: int,
    patches: int,
    graph: str,
    *,
    cls: bool,
    blocks: str = VISION,
    before: tuple[str, ...] = BEFORE,
) -> list[Layer]:
    """The patches and the blocks of a tower for pictures, which are its sites "vision.i". It has a CLS token, or else a
    probe that pools its tokens. The names of its blocks' weights begin with `blocks` and a number, and those of what
    stands `before` them so."""
    c, inner, count = settings.hidden_size, settings.intermediate_size, settings.num_hidden_layers
    key_width = c // settings.num_attention_heads

    def cost(before: Lengths, after: Lengths) -> int:
        return block(c, inner, before.image, after.image)

    def cls_attention(before: Lengths, after: Lengths) -> int:
        return before.image * c

    scores: dict[str, Cost] = {"probe_attention": one_query(c), "column_attention": columns(c)}
    if cls:
        scores = {"cls_attention": cls_attention, "attention": cls_attention}
    macs = patches * patch * patch * 3 * c
    layers = [Layer("patches", lambda before, after: macs, graph=graph, weights=before)]
    for i in range(count):
        site = f"vision.{i}"
        layers.append(
            Layer(
                site,
                cost,
                site,
                scores,
                modalities=("image",),
                depth=i / count,
                width=c,
                key_width=key_width,
                graph=graph,
                weights=(f"{blocks}{i}.",),
                frozen=int(cls),
            )
        )
    return layers


def text_layers(settings: Sizes, graph: str, blocks: str = TEXT) -> list[Layer]:
    """The blocks of a tower for texts, which are left whole."""
    c, inner = settings.hidden_size, settings.intermediate_size

    def cost(before: Lengths, after: Lengths) -> int:
        return block(c, inner, before.text, before.text)

    return [
        Layer(f"text.{i}", cost, modalities=("text",), graph=graph, weights=(f"{blocks}{i}.",))
        for i in range(settings.num_hidden_layers)
    ]


def projection(graph: str, macs: int, *weights: str) -> Layer:
    """What makes an embedding of what the tower of a graph pools."""
    return Layer(f"{graph}_projection", lambda before, after: macs, graph=graph, weights=weights)


def _asked(book: Codebook, c: int, tokens: int, codes: int) -> int:
    """So many tokens of width `c` asking for so many codes."""
    products = codes * (tokens if book.pool == "max" else 1)
    return tokens * (c * book.width + book.width**2) + products * book.width


def codebook_behind(graph: str, book: Codebook, c: int, *weights: str) -> Layer:
    """The codebook behind the tower of a graph, of a width; of pictures it reads all tokens but CLS."""

    def cost(before: Lengths, after: Lengths) -> int:
        tokens = before.image - 1 if graph == "image" else before.text
        return _asked(book, c, tokens, book.codes) + book.codes * book.width

    return Layer(f"{graph}_codebook", cost, graph=graph, weights=weights)


def pruned_by_codebook(layers: list[Layer], book: Codebook, codes: Mapping[str, int]) -> list[Layer]:
    """Blocks whose tokens can be pruned by a codebook too, and behind them; `codes`: by how many at a site, where these
    are not all."""
    return [layer if layer.site is None else _pruned(layer, book, codes.get(layer.site)) for layer in layers]


def _pruned(layer: Layer, book: Codebook, codes: int | None) -> Layer:
    def asked(before: Lengths, after: Lengths) -> int:
        return _asked(book, layer.width, before.image - 1, book.codes if codes is None else codes)

    found = replace(layer, scores={"codebook": asked, **layer.scores}, codes=book.codes)
    return replace(found, after=replace(found, cost=lambda before, after: layer.cost(before, before)))
