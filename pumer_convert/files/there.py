"""Whether something is there, for names that files give."""

from pathlib import Path


def there(path: Path) -> bool:
    """Whether a path exists; a name that no file can have, for it is too long or holds a zero, is not there."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False
