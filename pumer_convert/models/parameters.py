"""The parts of a network as names and shapes of parameters, with which a checkpoint is checked without torch."""

Shapes = dict[str, tuple[int, ...]]


def linear(name: str, inner: int, outer: int, *, bias: bool = True) -> Shapes:
    """A linear layer from `inner` to `outer` channels."""
    weight: Shapes = {f"{name}.weight": (outer, inner)}
    return weight | {f"{name}.bias": (outer,)} if bias else weight


def norm(name: str, c: int) -> Shapes:
    """A LayerNorm over `c` channels."""
    return {f"{name}.weight": (c,), f"{name}.bias": (c,)}


def head(name: str, pooled: int, inner: int, labels: int) -> Shapes:
    """A classifier of two linear layers with a LayerNorm (and a GELU) between."""
    return linear(f"{name}.0", pooled, inner) | norm(f"{name}.1", inner) | linear(f"{name}.3", inner, labels)


def attention(name: str, c: int) -> Shapes:
    """An attention of BERT's, its LayerNorm included."""
    shapes = linear(f"{name}.output.dense", c, c) | norm(f"{name}.output.LayerNorm", c)
    for part in ("query", "key", "value"):
        shapes |= linear(f"{name}.self.{part}", c, c)
    return shapes


def feed_forward(name: str, c: int, wide: int) -> Shapes:
    """A feed-forward of BERT's, its LayerNorm included."""
    first, second = linear(f"{name}.intermediate.dense", c, wide), linear(f"{name}.output.dense", wide, c)
    return first | second | norm(f"{name}.output.LayerNorm", c)
