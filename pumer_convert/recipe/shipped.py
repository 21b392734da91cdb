"""The recipes that come with the package, found by name."""

from pathlib import Path

LIBRARY = Path(__file__).parent / "library"


def shipped() -> dict[str, Path]:
    """Name -> file of every recipe that comes with the package, in the order of their names."""
    return {file.stem: file for file in sorted(LIBRARY.glob("*.yaml"))}


def locate(recipe: Path | str) -> Path:
    """The file that is meant: the one of this path, or if there is none the shipped recipe of this name. A folder is no
    recipe: a checkpoint's is often named as its family is."""
    path = Path(recipe)
    return path if path.suffix or path.is_file() else shipped().get(str(recipe), path)


def about(file: Path) -> list[str]:
    """What a recipe's file says of itself: the comment at its head, line by line."""
    lines = file.read_text("utf-8").splitlines()
    head = next((i for i, line in enumerate(lines) if not line.startswith("#")), len(lines))
    return [line.removeprefix("#").strip() for line in lines[:head]]
