"""Files of a checkpoint that are links to nothing, tokenizers named as on the Hub, and places that are none."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import tiny

from pumer_convert.benchmark.bench import Bench, Cell
from pumer_convert.benchmark.plot import draw_bench
from pumer_convert.checkpoint.read import open_checkpoint
from pumer_convert.convert.apply import apply, prepare_apply
from pumer_convert.data.tokenizer import load_tokenizer
from pumer_convert.demo import CHECKPOINT
from pumer_convert.errors import InputError
from pumer_convert.export.folder import export_folder
from pumer_convert.runtime import Pipeline, open_runtime


@pytest.fixture
def good(tmp_path: Path) -> Path:
    return Path(shutil.copytree(CHECKPOINT, tmp_path / "good"))


@pytest.mark.parametrize(
    "name", ["config.json", "preprocessor_config.json", "tokenizer_config.json", "special_tokens_map.json"]
)
def test_a_file_whose_blob_is_gone_is_not_ignored(good: Path, name: str) -> None:
    (good / name).unlink(missing_ok=True)
    (good / name).symlink_to("../../blobs/0")
    with pytest.raises(InputError, match=f"{name}: a link to a file that is not there; copy or download it again"):
        open_checkpoint(good)


def test_weights_whose_blob_is_gone_do_not_give_way_to_others(good: Path) -> None:
    shutil.copy(good / "model.safetensors", good / "pytorch_model.bin")
    (good / "model.safetensors").unlink()
    (good / "model.safetensors").symlink_to("../../blobs/0")
    with pytest.raises(InputError, match=r"model\.safetensors: a link to a file that is not there"):
        open_checkpoint(good)


def test_a_tokenizer_beside_an_export_whose_blob_is_gone(good: Path) -> None:
    (good / "tokenizer_config.json").unlink()
    (good / "tokenizer_config.json").symlink_to("nothing")
    with pytest.raises(InputError, match="a link to a file that is not there"):
        load_tokenizer(good)


def test_a_tokenizer_of_the_hubs_cache(good: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = good.parent
    snapshot = home / "hub" / "models--x--words" / "snapshots" / "aaa"
    snapshot.mkdir(parents=True)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(good / name, snapshot)
        (good / name).unlink()
    monkeypatch.chdir(home)
    folder = Path("hub/models--x--words")
    recipe = tiny.recipe(home / "r.yaml", tiny.PUMER)
    apply(good, recipe, home / "out", tokenizer=folder)
    assert (home / "out" / "tokenizer.json").is_file()


def test_the_checkpoint_under_another_name_is_not_written_into(good: Path) -> None:
    (good.parent / "link").symlink_to(good)
    recipe = tiny.recipe(good.parent / "r.yaml", tiny.PUMER)
    with pytest.raises(InputError, match="lies inside the checkpoint itself"):
        prepare_apply(good, recipe, good.parent / "link" / "out")


def test_an_export_goes_to_a_folder(good: Path) -> None:
    out = good.parent / "served.onnx"
    with pytest.raises(InputError, match=r"-o takes the folder that model\.onnx goes to, not the name of the file"):
        export_folder(good, out)
    assert not out.exists()


@pytest.mark.parametrize("pictures", [None, 5, b"x", [None]])
def test_what_is_no_picture_is_refused(pictures: object) -> None:
    with pytest.raises(InputError, match="a picture is a file or a PIL image here, not a"):
        Pipeline(CHECKPOINT)(pictures, "what")  # type: ignore[arg-type]


def test_a_name_that_is_no_utf8(good: Path) -> None:
    odd = good.parent / "caf\udce9"
    with pytest.raises(InputError, match="a name that is no UTF-8, under which ONNX Runtime opens no file"):
        export_folder(good, odd)
    assert not odd.exists()
    odd.mkdir()
    (odd / "model.onnx").write_bytes(b"")
    with pytest.raises(InputError, match="a name that is no UTF-8"):
        open_runtime(odd / "model.onnx")


@pytest.mark.parametrize("name", ["caf\udce9", "$\\bad$"])
def test_a_plot_of_oddly_named_folders(tmp_path: Path, name: str) -> None:
    times: Any = None  # which are not drawn
    cell = Cell("eager", 1, 8, times, times, 1.0, 1.0, 1.0, 1.0, 1.0)
    draw_bench(Bench(name, name, "cpu", "float32", 3, (cell,)), tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 1000
