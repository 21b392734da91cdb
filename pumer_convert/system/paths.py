"""Whether something is there, for names that files give, and whether its name can be handed on."""

from pathlib import Path

from pumer_convert.errors import InputError


def there(path: Path) -> bool:
    """Whether a path exists; a name that no file can have, for it is too long or holds a zero, is not there."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def check_utf8(path: Path) -> None:
    """Raises InputError for a path that is no UTF-8, as a disk of another system may have: ONNX Runtime opens none."""
    try:
        str(path.absolute()).encode("utf-8")
    except UnicodeEncodeError:
        raise InputError(
            f"{path}: a name that is no UTF-8, under which ONNX Runtime opens no file; rename it, or choose another."
        ) from None
