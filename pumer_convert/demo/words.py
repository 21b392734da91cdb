"""Every word that the demo's texts use, its answers, and how things are named in them."""

from collections.abc import Mapping

from pumer_convert.demo.scene import COLORS, SHAPES, SIZES, TEXTURES

NUMBERS = ("zero", "one", "two", "three", "four", "five")
ANSWERS = ("yes", "no", *NUMBERS, *COLORS, *SHAPES)
"""What questions are answered with; the labels of the demo checkpoint in this order."""
RELATIONS = {"left of": (-1, 0), "right of": (1, 0), "above": (0, -1), "below": (0, 1)}
"""Where the first of two things is, seen from the second: the sign of x or of y (down)."""
WORDS = (
    *("what", "which", "how", "many", "is", "are", "there", "the", "a", "an", "of", "left", "right", "above", "below"),
    *("color", "shape", "size", "object", "objects", *SHAPES, "circles", "squares", "triangles", "stars", "crosses"),
    *(*COLORS, *SIZES, *TEXTURES, "same", "as", "than", "more", "fewer", "larger", "smaller", *NUMBERS, "yes", "no"),
    *("and", "or", "not", "in", "both", "neither", "only", "one", "image", "images", "picture", "has", "contain"),
    *("?", ".", ","),
)
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
VOCABULARY = (*SPECIAL, *dict.fromkeys(WORDS))
"""Tokens of the demo's tokenizer; the place is the id."""


def name(attributes: Mapping[str, str], many: bool = False) -> str:
    """ "small striped red star"; "small objects" where `many`; the order of the words is always the same."""
    noun = attributes.get("shape", "object")
    if many:
        noun += "es" if noun == "cross" else "s"
    return " ".join([*(attributes[key] for key in ("size", "texture", "color") if key in attributes), noun])


def a(text: str) -> str:
    """ "a red star", "an orange star"."""
    return f"an {text}" if text[0] in "aeiou" else f"a {text}"
