"""The public names: each is there, and type checkers see what programs get."""

import ast
from pathlib import Path

import pumer_convert


def test_type_checkers_see_every_public_name() -> None:
    tree = ast.parse(Path(pumer_convert.__file__).read_text("utf-8"))
    seen = {
        alias.name: node.module
        for block in tree.body
        if isinstance(block, ast.If)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert set(pumer_convert.__all__) == {"__version__", *seen}
    assert set(pumer_convert.__all__) <= set(dir(pumer_convert))
    for name, module in seen.items():
        found = getattr(pumer_convert, name)
        assert (found.__name__, found.__module__.startswith("pumer_convert.")) == (name, True)
        assert module is not None


def test_a_name_that_is_not_there() -> None:
    assert not hasattr(pumer_convert, "convert_everything")
