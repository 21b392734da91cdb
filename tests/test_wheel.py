"""The wheel alone, away from the checkout: data files are in it, and it goes the whole way from files to an answer."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest
import random_checkpoint

ROOT = Path(__file__).parents[1]
DEMO = ROOT / "pumer_convert" / "demo"
SOURCES = ("pumer_convert", "recipes", "pyproject.toml", "README.md", "LICENSE")
ASKED = ("demo/pictures/test-2.png", "what color is the small circle ?")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy: what an earlier build left in build/ would come along."""
    folder = tmp_path_factory.mktemp("wheel")
    (folder / "source").mkdir()
    for name in SOURCES:
        if (ROOT / name).is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / name, folder / "source" / name, symlinks=True, ignore=ignored)
        else:
            shutil.copy(ROOT / name, folder / "source")
    pip("wheel", "--no-build-isolation", "--wheel-dir", folder, folder / "source")
    (made,) = folder.glob("*.whl")
    return made


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin/ of an environment with the wheel, which finds our dependencies and not our checkout: a .pth file that
    lies in a folder which a .pth file names, as that of an editable installation does, is not read."""
    folder = tmp_path_factory.mktemp("installed") / "environment"
    venv.create(folder)
    own = Path(sysconfig.get_path("purelib", vars={"base": str(folder), "platbase": str(folder)}))
    (own / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    pip("--python", folder / "bin" / "python", "install", "--force-reinstall", wheel)
    return folder / "bin"


def pip(*words: str | Path) -> None:
    """Local files by their paths alone: nothing is looked up by its name."""
    subprocess.run([sys.executable, "-m", "pip", *map(str, words), "--no-index", "--no-deps"], check=True)


def run(folder: Path, *words: str | Path) -> str:
    """What a command says, where nothing leads to the checkout."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    found = subprocess.run(list(map(str, words)), cwd=folder, env=clean, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    return found.stdout


def test_every_recipe_and_file_of_the_demo_is_inside(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    wanted = {f"pumer_convert/recipe/library/{file.name}" for file in (ROOT / "recipes").glob("*.yaml")}
    wanted |= {f"pumer_convert/demo/checkpoint/{file.name}" for file in (DEMO / "checkpoint").iterdir()}
    wanted |= {"pumer_convert/demo/demo.yaml", "pumer_convert/export/triton/guide.md", "pumer_convert/py.typed"}
    wanted |= {
        str(file.relative_to(ROOT))
        for file in (ROOT / "pumer_convert").rglob("*.py")
        if "__pycache__" not in file.parts
    }
    assert len(wanted) > 200
    assert wanted - names == set()


@pytest.mark.slow
def test_from_files_to_an_answer(installed: Path, tmp_path: Path) -> None:
    ours = installed / "pumer-convert"
    place = run(tmp_path, installed / "python", "-c", "import pumer_convert; print(pumer_convert.__file__)").strip()
    assert Path(place).is_relative_to(installed.parent)
    run(tmp_path, ours, "demo", "--files", "demo")
    assert set(json.loads(run(tmp_path, ours, "recipes", "--json"))) == {f.stem for f in ROOT.glob("recipes/*.yaml")}
    random_checkpoint.write(tmp_path / "vilt", "vilt", "transformers")
    run(tmp_path, ours, "apply", "--recipe", "vilt-fast", "vilt")
    assert (tmp_path / "vilt-pumer" / "recipe.yaml").read_bytes() == (ROOT / "recipes/vilt-fast.yaml").read_bytes()
    run(tmp_path, ours, "apply", "--recipe", "demo/recipe.yaml", "demo/checkpoint", "-o", "reduced")
    run(tmp_path, ours, "export", "reduced")
    told = run(tmp_path, ours, "run", "reduced/model.onnx", "--image", ASKED[0], "--text", ASKED[1])
    assert told.splitlines()[0].endswith("%  red")
    code = (
        "import pumer_convert as p\n"
        "print(sum(w.numel() for w in p.load('reduced').parameters()) > 300_000)\n"
        f"print(p.Pipeline('reduced/model.onnx')(*{ASKED}).text)"
    )
    assert run(tmp_path, installed / "python", "-c", code).split() == ["True", "red"]
