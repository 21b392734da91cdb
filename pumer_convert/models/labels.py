"""The names of a head's logits, as config.json gives them: number -> name, exactly, or refused."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from pumer_convert.errors import InputError

_NUMBER = re.compile(r"\d{1,9}", re.ASCII)


def read_labels(config: Mapping[str, Any], where: object) -> list[str] | None:
    """The names of the logits in their order, None when `config` has none.

    They stand in id2label, an object of numbers and names or a list; where that is missing or says LABEL_0, LABEL_1,
    ..., which is no name, in label2id turned round. A name may be a number or true or false; names may repeat, for
    logits are told apart by their number. Raises InputError, beginning with `where`, when a number is missing, doubled
    or none, a name is null or no valid Unicode, or label2id gives a name of id2label another number.
    """
    names = _names(config.get("id2label"), where)
    numbers = _numbers(config.get("label2id"), where)
    if numbers and (names is None or placeholders(names)):
        return _ordered([(number, name) for name, number in numbers.items()], "label2id", where)
    for name, number in numbers.items():
        if names is not None and name in names and not (number < len(names) and names[number] == name):
            raise InputError(
                f"{where}: label2id gives '{name}' the number {number}, id2label {names.index(name)}; correct one."
            )
    return names


def names(config: Mapping[str, Any]) -> list[str]:
    """The names of the logits in their order. Raises InputError when there are none; see `read_labels`."""
    found = read_labels(config, "the checkpoint")
    if found is None:
        raise InputError("the checkpoint's config.json has no id2label, which names the answers of its head.")
    return found


def label_map(config: Mapping[str, Any], count: int, where: object) -> dict[str, str]:
    """id2label for a head of `count` logits: the names in `config`, else LABEL_0, LABEL_1, ...

    Raises InputError as `read_labels` does, and when there are more names or fewer.
    """
    names = read_labels(config, where)
    if names is not None and placeholders(names):
        names = None
    told = config.get("num_labels") if names is None else len(names)
    if told not in (None, count):
        key = "num_labels" if names is None else "id2label"
        raise InputError(f"{where}: {key} tells of {told} labels, but the head in the weights has {count}.")
    return {str(i): name for i, name in enumerate(names or [f"LABEL_{i}" for i in range(count)])}


def placeholders(labels: Sequence[str]) -> bool:
    """Are these the names LABEL_0, LABEL_1, ... of a checkpoint that came without names?"""
    return all(label == f"LABEL_{i}" for i, label in enumerate(labels))


def _names(given: Any, where: object) -> list[str] | None:
    if given is None or given == {} or given == []:
        return None
    if not isinstance(given, Mapping | list):
        raise InputError(f"{where}: id2label is {given!r}, not an object of numbers and names.")
    found = []
    for key, name in enumerate(given) if isinstance(given, list) else given.items():
        number = _number(key)
        if number is None:
            raise InputError(f"{where}: id2label has the key {key!r}, which is no number of a label.")
        if not isinstance(name, str | int | float):
            raise InputError(f"{where}: id2label gives label {number} the name {name!r}; a name is a text.")
        found.append((number, _unicode(str(name), "id2label", where)))
    return _ordered(found, "id2label", where)


def _numbers(given: Any, where: object) -> dict[str, int]:
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise InputError(f"{where}: label2id is {given!r}, not an object of names and numbers.")
    found = {}
    for name, key in given.items():
        number = _number(key)
        if number is None:
            raise InputError(f"{where}: label2id gives '{name}' {key!r}, which is no number of a label.")
        found[_unicode(str(name), "label2id", where)] = number
    return found


def _unicode(name: str, key: str, where: object) -> str:
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        raise InputError(
            f"{where}: {key} has the name {name!r}, which is no valid Unicode; it holds half of a surrogate pair."
        ) from None
    return name


def _number(key: Any) -> int | None:
    if isinstance(key, str) and _NUMBER.fullmatch(key.strip()):
        return int(key)
    return key if isinstance(key, int) and not isinstance(key, bool) and key >= 0 else None


def _ordered(found: Sequence[tuple[int, str]], key: str, where: object) -> list[str]:
    names = dict(found)
    for i in range(len(found)):
        if i not in names:
            raise InputError(f"{where}: {key} has {len(found)} labels, but none with the number {i}.")
    return [names[i] for i in range(len(found))]
