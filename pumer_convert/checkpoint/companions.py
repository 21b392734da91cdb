"""The small files beside weights that belong to a checkpoint: those of its tokenizer and its processor."""

from collections.abc import Iterable
from pathlib import Path

from pumer_convert.errors import InputError
from pumer_convert.system.json_file import LFS

TOKENIZERS = ("tokenizer.json", "vocab.json", "vocab.txt", "tokenizer.model", "spiece.model")
"""Files of which a tokenizer has one at least."""
COMPANIONS = (
    *TOKENIZERS,
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "merges.txt",
    "sentencepiece.bpe.model",
    "preprocessor_config.json",
    "processor_config.json",
    "video_preprocessor_config.json",
    "chat_template.jinja",
    "chat_template.json",
    "generation_config.json",
)
"""The names under which transformers saves tokenizers and processors. Nothing else is taken along: what lies beside the
weights may tell of something else, as the sidecar of an earlier export does."""


def companions(folder: Path) -> tuple[Path, ...]:
    """The files of tokenizer and processor in `folder`, by name. Raises InputError for one that was not fetched."""
    check_links(folder, COMPANIONS)
    found = tuple(folder / name for name in sorted(COMPANIONS) if (folder / name).is_file())
    for file in found:
        with file.open("rb") as stream:
            if stream.read(len(LFS)) == LFS:
                raise InputError(f"{file} is a Git LFS pointer, not the file; fetch it with `git lfs pull`.")
    return found


def check_links(folder: Path, names: Iterable[str]) -> None:
    """Raises InputError when one of these files in `folder` is a link to nothing, as a download that broke off or a
    cache that was tidied leaves them: without it the others would mean something else."""
    for name in names:
        if (folder / name).is_symlink() and not (folder / name).exists():
            raise InputError(f"{folder / name}: a link to a file that is not there; copy or download it again.")


def has_tokenizer(files: tuple[Path, ...]) -> bool:
    """Whether there is a tokenizer among them."""
    return any(file.name in TOKENIZERS for file in files)
