"""Multiply-accumulates of the layers in towers; torch-free."""

from pumer_convert.models.spec import Cost, Lengths


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


def fusion_scores(c: int) -> dict[str, Cost]:
    """The scores that a fusion layer gives of its image tokens."""

    def relevance(before: Lengths, after: Lengths) -> int:
        return before.text * before.image * c

    def cls_attention(before: Lengths, after: Lengths) -> int:
        # The image half's own query and keys, which it computes once more on the tokens that are left.
        return (before.image + 1) * c * c + before.image * c

    return {"relevance": relevance, "cls_attention": cls_attention}
