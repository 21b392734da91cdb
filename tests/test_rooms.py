"""The shape of the house: folders import one way, and no file grows beyond what a reader holds."""

import ast
import graphlib
import re
from collections.abc import Iterator
from pathlib import Path

import pumer_convert
from pumer_convert.models.family import FAMILIES

PACKAGE = Path(pumer_convert.__file__).parent
GROUND = {"__init__", "__main__", "amount", "device", "errors", "rules", "tokens", "weights"}
LONGEST = 350
LONGEST_FAMILY = 450
LONGER = {"bridgetower": 504}
"""Families that are longer still: they may become shorter, and no longer."""


def imports(tree: ast.AST) -> Iterator[str]:
    """The modules of this package that a file imports, inside functions too, but not for type checkers alone."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == PACKAGE.name:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] == PACKAGE.name)
        yield from imports(node)


def room(name: str) -> str:
    """The folder, or the file on the ground floor, of a dotted name or of a file's parts."""
    return name.split(".")[1] if name.count(".") else "__init__"


def test_no_folder_imports_what_imports_it() -> None:
    graph: dict[str, set[str]] = {}
    for file in PACKAGE.rglob("*.py"):
        own = file.relative_to(PACKAGE).with_suffix("").parts[0]
        found = {room(name) for name in imports(ast.parse(file.read_text("utf-8")))}
        # `from pumer_convert import __version__` is of no room.
        graph.setdefault(own, set()).update(name for name in found if (PACKAGE / name).exists() or name in GROUND)
        graph[own].discard(own)
    order = list(graphlib.TopologicalSorter(graph).static_order())  # raises CycleError, which names the circle
    assert order.index("reducers") < order.index("models") < order.index("convert") < order.index("export")


def test_the_top_level_is_folders_and_the_ground_floor() -> None:
    assert {file.stem for file in PACKAGE.glob("*.py")} == GROUND


def test_no_module_is_longer_than_a_reader_holds() -> None:
    lines = {file: len(file.read_text("utf-8").splitlines()) for file in PACKAGE.rglob("*.py")}
    assert {str(file): count for file, count in lines.items() if count > LONGEST} == {}


def test_no_family_is_longer_than_its_share() -> None:
    """What two families need stands in towers, or among the modules beside the families."""
    folders = {name: (PACKAGE / "models" / folder(name)).glob("*.py") for name in FAMILIES}
    lines = {name: sum(len(file.read_text("utf-8").splitlines()) for file in files) for name, files in folders.items()}
    assert {name: count for name, count in lines.items() if count > LONGER.get(name, LONGEST_FAMILY)} == {}


def folder(family: str) -> str:
    """That of a family, whose name may have what no name of Python has."""
    return family.replace("-", "_")


def test_no_family_is_named_outside_of_its_folder() -> None:
    # What METER calls one of its transforms, and whose tokenizer CLIP+FDT has.
    transforms = ("models/transforms.py: clip", "models/meter/formats.py: clip", "models/clip_fdt/__init__.py: clip")
    named = [
        f"{file.relative_to(PACKAGE)}: {name}"
        for file in PACKAGE.rglob("*.py")
        for name in FAMILIES
        if re.search(rf"['\"]{name}['\"]", file.read_text("utf-8"))
        and file.relative_to(PACKAGE).parts[:2] not in (("models", folder(name)), ("models", "family.py"))
    ]
    assert [name for name in named if name not in transforms] == []


def test_beside_the_families_only_towers_that_they_share_are_folders_of_models() -> None:
    folders = {file.parent.name for file in (PACKAGE / "models").glob("*/__init__.py")}
    assert folders == {*map(folder, FAMILIES), "towers"}
    for file in (PACKAGE / "models" / "towers").glob("*.py"):
        seen = {name.split(".")[2] for name in imports(ast.parse(file.read_text("utf-8"))) if room(name) == "models"}
        assert not seen & set(map(folder, FAMILIES)), f"{file.name} knows a family"
