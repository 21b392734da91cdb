"""A recipe's YAML, read as nodes rather than values, so that numbers stay exact and every mistake has a line."""

import re
from collections.abc import Collection
from fractions import Fraction
from typing import NoReturn

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from pumer_convert.amount import Amount
from pumer_convert.errors import InputError, nearest

AMOUNTS = "a share from 0 to below 1 (0.2, 20% or 1/5), `24 tokens`, {share: 0.2}, {drop: 24} or {keep: 120}"
HINTS = {
    ("prune", "text"): " The text is what asks, so it cannot be pruned; merge it: `merge: {text: ...}`.",
    ("prune", "relevance"): " Say `by: relevance` where the text has met the image; CDPruner has no text tower to ask.",
}
"""What to do instead of a key that stands in no list of keys."""
_NUMBER = re.compile(r"[+-]?[\d.]{1,40}(?:e[+-]?\d{1,2})?|\d{1,7}/\d{1,7}", re.ASCII | re.IGNORECASE)
_COUNT = re.compile(r"0|[1-9]\d{0,8}", re.ASCII)
_FINEST = 1_000_000  # keeps 2 * length * numerator far inside int64


class YamlReader:
    """Reads the nodes of the file at `path`; raises InputError, in one sentence that names the line."""

    def __init__(self, path: str) -> None:
        self.path = path

    def fail(self, at: Node | int, message: str) -> NoReturn:
        """Raise an error about a node or a line."""
        line = at if isinstance(at, int) else at.start_mark.line + 1
        raise InputError(f"{self.path}:{line}: {message}")

    def compose(self, text: str) -> Node:
        """The root node of the YAML text."""
        try:
            root: Node | None = yaml.compose(text, Loader=yaml.SafeLoader)
        except (yaml.YAMLError, RecursionError, ValueError, OverflowError) as error:
            mark = getattr(error, "problem_mark", None)
            line = mark.line if mark else text.count("\n", 0, getattr(error, "position", 0))
            parts = (getattr(error, "context", None), getattr(error, "problem", None))
            why = ", ".join(filter(None, parts)) or "it is nested too deeply or holds an impossible character"
            self.fail(line + 1, f"this is not valid YAML: {' '.join(why.split())}.")
        if root is None:
            self.fail(1, "the recipe is empty; it must hold at least `recipe: 1` and `model: ...`.")
        return root

    def mapping(self, node: Node, name: str, allowed: Collection[str]) -> dict[str, Node]:
        """The values of a mapping by key."""
        listed = ", ".join(allowed)
        if not isinstance(node, MappingNode):
            self.fail(node, f"{name} must be a mapping; its keys may be: {listed}.")
        found: dict[str, Node] = {}
        for key_node, value in node.value:
            key = key_node.value if isinstance(key_node, ScalarNode) else "[...]"
            if key not in allowed:
                hint = HINTS.get((name, key)) or nearest(key, allowed)
                self.fail(key_node, f"{quote(key)} is not a key of {name}; allowed: {listed}.{hint}")
            if key in found:
                first = found[key].start_mark.line + 1
                self.fail(key_node, f"{name} says '{key}' again after line {first}; keep one.")
            found[key] = value
        return found

    def items(self, node: Node, name: str) -> list[Node]:
        """The nodes of a list."""
        if not isinstance(node, SequenceNode):
            self.fail(node, f"{name} must be a list.")
        return list(node.value)

    def several(self, node: Node | None) -> list[Node]:
        """The nodes of a list, or one that stands for a list of itself; None: no nodes."""
        if node is None:
            return []
        return list(node.value) if isinstance(node, SequenceNode) else [node]

    def word(self, node: Node, name: str, allowed: str) -> str:
        """The text of a scalar exactly as it is written."""
        if not isinstance(node, ScalarNode):
            self.fail(node, f"{name} cannot be a list or mapping; allowed: {allowed}.")
        return str(node.value)

    def choice(self, node: Node, name: str, allowed: Collection[str]) -> str:
        """One of some words."""
        listed = ", ".join(allowed)
        text = self.word(node, name, listed)
        if text not in allowed:
            self.fail(node, f"{name} cannot be {quote(text)}; allowed: {listed}.{nearest(text, allowed)}")
        return text

    def count(self, node: Node, name: str, least: int) -> int:
        """A whole number."""
        allowed = f"a whole number from {least}"
        text = self.word(node, name, allowed)
        if not _COUNT.fullmatch(text) or int(text) < least:
            self.fail(node, f"{name} cannot be {quote(text)}; allowed: {allowed}.")
        return int(text)

    def amount(self, node: Node, name: str) -> Amount:
        """How many tokens to remove; see `AMOUNTS`."""
        if isinstance(node, MappingNode):
            keys = self.mapping(node, name, ("share", "drop", "keep"))
            if len(keys) != 1:
                self.fail(node, f"{name} must say exactly one thing; allowed: {AMOUNTS}.")
            if "drop" in keys:
                return Amount(drop=self.count(keys["drop"], f"{name}.drop", 0))
            if "keep" in keys:
                return Amount(keep=self.count(keys["keep"], f"{name}.keep", 1))
            return self.share(keys["share"], f"{name}.share")
        tokens = re.fullmatch(r"(\S+)\s+tokens?", self.word(node, name, AMOUNTS))
        if tokens and _COUNT.fullmatch(tokens[1]):
            return Amount(drop=int(tokens[1]))
        return self.share(node, name)

    def share(self, node: Node, name: str) -> Amount:
        """A share, exact from its decimal text: 0.1 is one tenth, not the float nearest to it."""
        text = self.word(node, name, AMOUNTS)
        number, scale = (text[:-1].rstrip(), 100) if text.endswith("%") else (text, 1)
        try:
            share = Fraction(number) / scale if _NUMBER.fullmatch(number) else None
        except (ValueError, ZeroDivisionError):
            share = None
        if share is None or not 0 <= share < 1:
            self.fail(node, f"{name} cannot be {quote(text)}; allowed: {AMOUNTS}.")
        if share.denominator > _FINEST:
            self.fail(node, f"{name} cannot be as fine as {quote(text)}; allowed: six decimals, or 1/3.")
        return Amount.share(share)


def quote(text: str) -> str:
    """The text as it can stand in a one-line message."""
    return repr(text if len(text) <= 40 else text[:37] + "...")
