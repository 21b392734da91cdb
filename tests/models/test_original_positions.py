"""The positions of what is left of pictures in prompts."""

import torch

from pumer_convert.models.towers.vision_positions import original_positions


def positions(rows: list[str], places: list[list[int]], dense: int) -> list[list[int]]:
    """`rows` are prompts: "w" a word, "i" a picture's token, "." padding."""
    pictures = torch.tensor([[c == "i" for c in row] for row in rows])
    valid = torch.tensor([[c != "." for c in row] for row in rows])
    return original_positions(pictures, valid, torch.tensor(places), dense).tolist()


def test_words_stand_where_they_stood() -> None:
    assert positions(["wiiw"], [[2, 5]], 9) == [[0, 3, 6, 10]]
    assert positions(["iiwiiww"], [[0, 8], [3, 4]], 9) == [[0, 8, 9, 13, 14, 19, 20]]


def test_padding_on_either_side_changes_nothing() -> None:
    found = positions(["..wiiw", "wwiiw."], [[2, 5], [0, 7]], 9)
    assert found == [[0, 0, 0, 3, 6, 10], [0, 1, 2, 9, 11, 0]]


def test_pictures_behind_a_cache_have_no_places() -> None:
    pictures = torch.tensor([[False, True, True, False, True, True, False]])
    found = original_positions(pictures, torch.ones_like(pictures), torch.tensor([[1, 8]]), 9, cached=4)
    assert found[0, 3:].tolist() == [10, 12, 19, 20]


def test_all_of_a_picture_are_counted_on() -> None:
    assert positions(["wiiiw", "www.."], [[0, 1, 2]], 3) == [[0, 1, 2, 3, 4], [0, 1, 2, 0, 0]]


def test_a_prompt_without_pictures_is_numbered() -> None:
    none = original_positions(
        torch.zeros(1, 3, dtype=torch.bool), torch.ones(1, 3, dtype=torch.bool), torch.zeros(0, 4, dtype=torch.long), 9
    )
    assert none.tolist() == [[0, 1, 2]]
