"""Drawings with names: the emoji that three packages of npm draw in a style of their own.

Fetched by `npm pack` into a folder of the user's; nothing of them is kept here. Two styles are there to learn from, the
third is never seen in training: its drawings and the same names are the test. They are drawings, not photographs.
"""

import io
import json
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

from PIL import Image

SIDE = 64
"""Pixels of a picture's side, on white."""
PACKAGES = {
    "google": ("emoji-datasource-google@16.0.0", "img/google/64/", ".png"),
    "twitter": ("emoji-datasource-twitter@16.0.0", "img/twitter/64/", ".png"),
    "fluent": ("@lobehub/fluent-emoji-3d@1.1.0", "assets/", ".webp"),
}
"""Style -> package, folder and ending of its pictures."""
SEEN, UNSEEN = ("google", "twitter"), "fluent"


def _packed(package: str, folder: Path) -> Path:
    """The package's archive, fetched unless it is there."""
    name = package.removeprefix("@").replace("/", "-").replace("@", "-") + ".tgz"
    if not (folder / name).exists():
        npm = shutil.which("npm")
        if npm is None:
            sys.exit("npm is not there, which fetches the pictures; install Node.js.")
        subprocess.run([npm, "pack", "--silent", package], cwd=folder, check=True, stdout=subprocess.DEVNULL)
    return folder / name


def _pictures(archive: Path, inside: str, ending: str) -> tuple[dict[str, Image.Image], list[dict[str, str]]]:
    """(pictures by code points, what emoji.json tells, [] where there is none)."""
    found: dict[str, Image.Image] = {}
    told: list[dict[str, str]] = []
    with tarfile.open(archive) as file:
        for member in file:
            name = member.name.removeprefix("package/")
            content = file.extractfile(member)
            if content is None:
                continue
            if name == "emoji.json":
                told = json.load(content)
            elif name.startswith(inside) and name.endswith(ending):
                code = name.removeprefix(inside).removesuffix(ending).replace("-fe0f", "")
                found[code] = Image.open(io.BytesIO(content.read())).convert("RGBA").resize((SIDE, SIDE))
    return found, told


def fetch(folder: Path) -> Path:
    """`folder` with train.jsonl (two styles) and test.jsonl (the third), rows of a picture and its name, and test/ by
    class; made unless it is there."""
    if (folder / "test.jsonl").exists():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    styles, told = {}, []
    for style, (package, inside, ending) in PACKAGES.items():
        styles[style], said = _pictures(_packed(package, folder), inside, ending)
        told = told or said
    names: dict[str, str] = {}
    for emoji in told:
        code, name = emoji["unified"].lower().replace("-fe0f", ""), emoji["name"].lower()
        drawn = all(code in pictures for pictures in styles.values())
        if drawn and name.isascii() and name not in names.values():
            names[code] = name
    rows: dict[str, list[str]] = {"train": [], "test": []}
    for style, pictures in styles.items():
        for code, name in names.items():
            where = Path(style) / f"{code}.png" if style in SEEN else Path("test") / code / "a.png"
            (folder / where).parent.mkdir(parents=True, exist_ok=True)
            white = Image.new("RGBA", (SIDE, SIDE), "white")
            Image.alpha_composite(white, pictures[code]).convert("RGB").save(folder / where)
            rows["train" if style in SEEN else "test"].append(json.dumps({"image": str(where), "text": name}))
    (folder / "classes.txt").write_text("".join(f"{code}\t{name}\n" for code, name in names.items()), "utf-8")
    for part, lines in rows.items():
        (folder / f"{part}.jsonl").write_text("\n".join(lines) + "\n", "utf-8")
    return folder
