"""Which kind of file holds weights, by its first bytes and not by its name."""

from pathlib import Path

from pumer_convert.errors import InputError
from pumer_convert.system.json_file import LFS

_OTHERS = (
    (LFS, "a Git LFS pointer, not the weights; fetch them with `git lfs pull`"),
    (b"\x1f\x8b", "compressed by gzip; unpack it first"),
    (b"BZh", "compressed by bzip2; unpack it first"),
    (b"\xfd7zXZ\x00", "compressed by xz; unpack it first"),
    (b"\x28\xb5\x2f\xfd", "compressed by zstd; unpack it first"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive; unpack it first"),
    (b"Rar!", "a rar archive; unpack it first"),
    (b"\x89HDF", "HDF5, weights of TensorFlow; save them by transformers in PyTorch"),
    (b"GGUF", "a GGUF file, whose weights are quantized; give the checkpoint that it was made from"),
    (b"\x93NUMPY", "one array of numpy, not a checkpoint"),
    (b"<", "a web page, not weights; download the file itself"),
)
_TAR = (b"ustar", 257)


def is_safetensors(file: Path) -> bool:
    """Whether a file of weights is safetensors; else it is to be read as a torch file.

    Raises InputError for a file that is known to be something else, an empty one, and none at all.
    """
    try:
        with file.open("rb") as stream:
            first = stream.read(512)
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror}).") from None
    if not first:
        raise InputError(f"{file}: an empty file; copy or download it again.")
    if first[8:9] == b"{" and not first.startswith(b"PK"):
        return True
    for start, what in _OTHERS:
        if first.lstrip().startswith(start) if start == b"<" else first.startswith(start):
            raise InputError(f"{file}: {what}.")
    if first[_TAR[1] :].startswith(_TAR[0]):
        raise InputError(f"{file}: a tar archive; unpack it, or save the checkpoint once more by a newer torch.")
    return file.suffix == ".safetensors" and not first.startswith((b"PK", b"\x80"))
