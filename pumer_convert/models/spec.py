"""What planning needs to know of a model: its sites and what each costs, without torch and without weights."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pumer_convert.amount import Amount
from pumer_convert.errors import InputError, nearest
from pumer_convert.models.inputs import PictureInput, Port, TextInput
from pumer_convert.models.signature import LOGITS, Signature


@dataclass(frozen=True)
class Lengths:
    """Tokens of each modality, CLS included; `whole` those of towers that run on beside them, None: as many."""

    image: int
    text: int
    whole: "Lengths | None" = None

    @property
    def towers(self) -> "Lengths":
        """Those of the towers."""
        return self.whole or self

    def entering(self, layer: "Layer") -> "Lengths":
        """Those that enter a layer, where some come back, are pooled or leave."""
        image = (layer.arriving or self.image) - layer.leaves
        return self if image == self.image else replace(self, image=image)


Cost = Callable[[Lengths, Lengths], int]
"""Multiply-accumulates of a layer, from the lengths that enter it and the lengths after its reduction."""


@dataclass(frozen=True)
class Layer:
    """One layer. `site` is the name a recipe uses for it, None where nothing can be reduced.

    `scores` are those by which image tokens can be pruned there, with what each costs; paid only when they are.
    `modalities` are those that run through it; `depth` is its number in its stack of layers over the layers of that;
    `width` and `key_width` are those of its hidden states and attention heads; `graph` the one that it is part of.
    `beside`: what is reduced at the site stays whole in towers that run on beside it.
    `weights` are how the names of its parameters begin. `frozen` image tokens, such as CLS, stay whatever is reduced;
    the `leaves` first ones are gone from here on. Where tokens that merge can get their places back, a recipe says
    one of what it `unmerges` for, and has to where what follows takes a grid (`gridded`); so many tokens are `arriving`
    here, whatever came before (0: those that are left).
    `part`: the part of the model that its cost is counted to. Where a
    recipe can say on which side of the layer its site is, this one is the layer where that is before it, and `after`
    the same where it is behind. `codes`: how many codes a score by a codebook is of.
    """

    name: str
    cost: Cost
    site: str | None = None
    scores: Mapping[str, Cost] = field(default_factory=dict)
    modalities: tuple[str, ...] = ("image", "text")
    depth: float = 0.0
    width: int = 0
    key_width: int = 0
    graph: str = "model"
    beside: bool = False
    weights: tuple[str, ...] = ()
    frozen: int = 1
    unmerges: tuple[str, ...] = ()
    gridded: bool = False
    arriving: int = 0
    leaves: int = 0
    part: str = ""
    codes: int = 0
    after: "Layer | None" = None

    def on(self, side: str) -> "Layer":
        """The layer with its site on that side, "before" or "after"."""
        return self.after if side == "after" and self.after is not None else self


@dataclass(frozen=True)
class ImageSpec:
    """The pictures that a network is built for: (H, W) `size` and the side of a `patch` in pixels, `images` of an
    example. Where it `keeps_shape`, pictures of several shapes can be in one batch, each of at most `limit` patches
    (None: any)."""

    size: tuple[int, int]
    patch: int
    images: int = 1
    keeps_shape: bool = False
    limit: int | None = None


@dataclass(frozen=True)
class GraphSpec:
    """One of the graphs that a model is exported as: whether it takes `text` and `pictures`, as batches of their own
    where they are `apart`, and what it gives."""

    name: str
    outputs: tuple[Port, ...]
    text: bool = True
    pictures: bool = True
    apart: bool = False

    def signature(self, text: TextInput | None, pictures: PictureInput | None) -> Signature:
        """What it takes and gives, for a model that takes texts and pictures like this."""
        taken = (text if self.text else None, pictures if self.pictures else None)
        return Signature(self.name, *taken, self.outputs, self.apart)


@dataclass(frozen=True)
class ModelSpec:
    """A model as layers in the order they run, and as the graphs that it is exported as.

    The layers run once for every picture of an example; `head` are the multiply-accumulates of an example behind them,
    and `head_weights` how the names of its parameters begin.
    `image_tokens` are the tokens that a picture begins as; without pictures `image` is None. `published` are those that
    the published PuMer reduces, in layers of both modalities: these also under `semantics: reference`. `text_whole`
    says why no text can be reduced, where a recipe might expect it to be. `similarity` is what makes scores of the
    logits where the model compares pictures with texts (see `Similarity`), None where it does not; `joint` is the graph
    of both towers that such a model is exported as on request. `prompt` is the most text that a language model behind
    it reads beside the pictures, which no graph takes and plans count; 0 without one.
    """

    image_tokens: int
    layers: tuple[Layer, ...]
    head: int
    text: TextInput | None
    image: ImageSpec | None
    graphs: tuple[GraphSpec, ...]
    published: bool = False
    text_whole: str = ""
    similarity: str | None = None
    head_weights: tuple[str, ...] = ()
    joint: GraphSpec | None = None
    prompt: int = 0

    @property
    def sites(self) -> tuple[str, ...]:
        """Every site, in order."""
        return tuple(layer.site for layer in self.layers if layer.site is not None)

    @property
    def guided(self) -> tuple[str, ...]:
        """The sites where the text has met the image."""
        return tuple(layer.site for layer in self.layers if layer.site is not None and "relevance" in layer.scores)

    def weights(self, graph: str | None = None) -> dict[str, tuple[str, ...]]:
        """How the names of the parameters begin, by the layer that has them, of all layers or of those of a `graph`;
        what stands behind the layers is called "head"."""
        own = {layer.name: layer.weights for layer in self.layers if layer.weights and self.holds(graph, layer)}
        return {**own, "head": self.head_weights} if self.head_weights else own

    def weights_of(self, names: Iterable[str]) -> tuple[str, ...]:
        """How the names of the parameters of these layers begin. Raises InputError for a layer that it has not."""
        known = self.weights()
        for name in names:
            if name not in known:
                has = ", ".join(in_ranges(known)) or "none by name"
                raise InputError(f"the model has no layer '{name}'; it has {has}.{nearest(name, known)}")
        return tuple(start for name in names for start in known[name])

    @property
    def pictures(self) -> ImageSpec:
        """Its pictures. Raises InputError when it takes none."""
        if self.image is None:
            raise InputError("the model takes no pictures.")
        return self.image

    @property
    def images(self) -> int:
        """How often the layers run for an example: once for every picture."""
        return 1 if self.image is None else self.image.images

    @property
    def max_text(self) -> int:
        """The most tokens of a text, or of a prompt; 0 for a model that takes none."""
        return self.prompt if self.text is None or self.text.longest is None else self.text.longest

    def graph(self, name: str | None = None) -> GraphSpec:
        """The graph of that name, the first one for None. Raises InputError when there is none."""
        graphs = self.graphs if self.joint is None else (*self.graphs, self.joint)
        for graph in graphs:
            if name in (None, graph.name):
                return graph
        raise InputError(f"the model has no graph '{name}'; it has {', '.join(g.name for g in graphs)}.")

    def holds(self, graph: str | None, layer: Layer) -> bool:
        """Whether a layer is part of the graph of that name; for None of any."""
        return graph is None or graph == layer.graph or (self.joint is not None and graph == self.joint.name)


def logits(labels: int) -> tuple[GraphSpec, ...]:
    """The one graph of a model that takes texts and pictures and gives logits [batch, labels]."""
    return (GraphSpec("model", (Port(LOGITS, "float32", ("batch", labels)),)),)


def removed(action: Mapping[str, Any], entry: int, n: int, frozen: int) -> int:
    """How many of `n` tokens an action of a config's edits removes, where `entry` stood when its step began."""
    least = max(frozen, 1) if action["op"] == "prune" else (n + max(2 * frozen, 1)) // 2
    return min(int(Amount.from_json(action["amount"]).removed(entry, n)), n - min(n, least))


def image_left(layers: Iterable[Layer], tokens: int, edits: Sequence[Mapping[str, Any]]) -> int:
    """How many of a picture's `tokens` are left behind the last of these layers."""
    actions = {edit["at"]: edit["actions"] for edit in edits}
    for layer in layers:
        entry = tokens = (layer.arriving or tokens) - layer.leaves
        for action in actions.get(layer.site, ()):
            if action["modality"] == "image":
                tokens -= removed(action, entry, tokens, layer.frozen)
    return tokens


def in_ranges(names: Iterable[str]) -> list[str]:
    """Names for a reader, those that follow each other in a stack as one: "fusion.0-3"."""
    found: list[tuple[str, int, int]] = []
    for name in names:
        stack, _, number = name.partition(".")
        at = int(number) if number.isdecimal() else -1
        if found and found[-1][0] == stack and found[-1][2] == at - 1:
            found[-1] = (stack, found[-1][1], at)
        else:
            found.append((stack if at >= 0 else name, at, at))
    return [stack if first < 0 else f"{stack}.{first}" + f"-{last}" * (last > first) for stack, first, last in found]


def grid(image_size: Any, patch: int) -> tuple[int, int]:
    """Rows and columns of patches of an image size given as S or [H, W]."""
    height, width = sides_of(image_size)
    return height // patch, width // patch


def sides_of(image_size: Any) -> tuple[int, int]:
    """(H, W) of an image size given as S or [H, W]."""
    height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
    return int(height), int(width)
