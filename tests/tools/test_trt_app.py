"""tools/trt_app up to the GPU: sidecar, input file, profile and answers, as our own Python reads and tells them."""

import hashlib
import json
import random
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trt_input
from trt_program import APP, Run, arrays, build, compiled, refused, run

from pumer_convert.artifact.engine_sidecar import Sidecar
from pumer_convert.demo.world import samples
from pumer_convert.errors import InputError
from pumer_convert.runtime.scores import to_scores


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program without its TensorRT part."""
    return compiled(tmp_path_factory.mktemp("trt_app") / "trt_app", str(APP / "engine_none.cpp"))


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("engine"))


@pytest.fixture
def engine(built: Path, tmp_path: Path) -> Path:
    """A copy of it, to be spoiled."""
    return Path(shutil.copytree(built.parent, tmp_path / "engine")) / built.name


def checked(program: Path, engine: Path, folder: Path, given: dict[str, Any], *words: Any) -> Run:
    np.savez(folder / "input.npz", **given)
    return run(program, engine, folder / "input.npz", *(words or ("--check",)))


def change(path: Path, **values: Any) -> None:
    file = path.with_name(path.name + ".json")
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


def test_the_profile_is_chosen_as_in_python(program: Path, engine: Path, tmp_path: Path) -> None:
    rng, seen = random.Random(0), set()

    def same(rows: int, text: int) -> None:
        try:
            profile = Sidecar.of(engine).profile(batch=rows, text=text)
            expected = 0, f"profile {profile}, batch {rows}, text {text}\n", ""
        except InputError as error:
            expected = 2, "", f"Error: {error}\n"
        assert checked(program, engine, tmp_path, arrays(rows, text)) == expected
        seen.add(expected[2] == "" and expected[1][:9])

    for rows, text in [(1, 4), (3, 8), (4, 40), (4, 7), (5, 8), (8, 40), (9, 8), (5, 7), (1, 41)]:
        same(rows, text)
    for _ in range(25):  # few different numbers, so that some are as near as others
        sides = [([rng.choice((1, 2, 4)) for _ in range(3)], [rng.choice((4, 8, 16)) for _ in range(3)]) for _ in "123"]
        change(engine, profiles=[{"input_ids": [*zip(sorted(b), sorted(t), strict=True)]} for b, t in sides])
        same(rng.choice((1, 2, 3)), rng.choice((4, 6, 8, 12)))
    assert seen == {"profile 0", "profile 1", "profile 2", False}


@pytest.mark.parametrize("task", ["vqa", "ve", "nlvr2", "retrieval"])
def test_the_answers_are_those_of_python(program: Path, engine: Path, tmp_path: Path, task: str) -> None:
    names = ['"quoted" \\ back/slash', "Ærø, 東京", "\N{GRINNING FACE}", *map(str, range(3, 40))]
    names = ["match"] if task == "retrieval" else names
    outputs = [{"name": "logits", "dtype": "float32", "shape": ["batch", len(names)]}]
    change(engine, task=task, labels=dict(enumerate(names)), outputs=outputs)
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 4, (3, len(names))).astype(np.float32)
    logits[0] *= 200  # exp of it is infinite
    logits[1] = logits[1, 0]  # all alike: the order stays
    np.savez(tmp_path / "logits.npz", logits=logits)
    words = ("--top", 5, "--logits", tmp_path / "logits.npz")
    code, shown, told = checked(program, engine, tmp_path, arrays(3), *words)
    assert (code, told) == (0, "")
    expected = ""
    for row, scores in enumerate(to_scores(logits, task)):
        best = np.argsort(-logits[row], kind="stable")[:5]
        expected += f"example {row}:\n" + "".join(f"{scores[i]:7.2%}  {names[i]}\n" for i in best)
    assert shown == expected


def test_logits_that_do_not_fit_are_refused(program: Path, built: Path, tmp_path: Path) -> None:
    def told(says: str, code: int = 2, **given: Any) -> None:
        np.savez(tmp_path / "logits.npz", **given)
        refused(checked(program, built, tmp_path, arrays(), "--logits", tmp_path / "logits.npz"), says, code)

    labels = Sidecar.of(built).signature.labels
    told(rf"logits has to be \[1, {labels}\], not \[1, 2\]", logits=np.zeros((1, 2), np.float32))
    told("it has no array 'logits'", other=np.zeros(1, np.float32))
    told("logits is int64; it has to be float32", logits=np.zeros((1, labels), np.int64))
    told("no finite number", code=1, logits=np.full((1, labels), np.nan, np.float32))


def test_inputs_that_do_not_fit_are_refused(program: Path, built: Path, tmp_path: Path) -> None:
    def told(says: str, **changed: Any) -> None:
        given = {name: value for name, value in {**arrays(3), **changed}.items() if value is not None}
        refused(checked(program, built, tmp_path, given), says)

    ids, mask, pixels = arrays(3).values()
    told("it has no array 'attention_mask'", attention_mask=None)
    told("it has other arrays", more=ids)
    told("'input_ids': it is of type '<i4'; only int64", input_ids=ids.astype(np.int32))
    told("'input_ids': it is of type '>i8'", input_ids=ids.astype(">i8"))
    told("pixel_values is int64; it has to be float32", pixel_values=pixels.astype(np.int64))
    told("'input_ids': it is in Fortran order", input_ids=np.asfortranarray(ids))
    told(r"both \[batch, text\], not \[3, 7\] and \[3, 6\]", attention_mask=mask[:, :6])
    told(r"both \[batch, text\], not \[3\] and \[3, 7\]", input_ids=ids[:, 0])
    told(r"both \[batch, text\], not \[\] and \[3, 7\]", input_ids=np.int64(1))
    told(r"pixel_values has to be \[3, 3, 96, 96\] here, not \[3, 3, 96, 95\]", pixel_values=pixels[..., 1:])
    told("batch 0 with text 7 is outside of it", **arrays(0))
    np.savez_compressed(tmp_path / "packed.npz", **arrays())
    refused(run(program, built, tmp_path / "packed.npz"), "'input_ids.npy' is compressed; write it with numpy.savez")
    np.save(tmp_path / "one.npy", ids)
    refused(run(program, built, tmp_path / "one.npy"), "it is no .npz file")
    refused(run(program, built, tmp_path / "none.npz"), "none.npz: there is no such file")


def test_a_damaged_input_file_is_refused_or_read_the_same(program: Path, built: Path, tmp_path: Path) -> None:
    assert checked(program, built, tmp_path, arrays())[0] == 0
    whole, file = (tmp_path / "input.npz").read_bytes(), tmp_path / "damaged.npz"
    rng = random.Random(0)
    heads = [m.start() for m in re.finditer(b"PK|NUMPY", whole)]
    for at in [rng.randrange(len(whole)) for _ in range(12)] + [
        rng.choice(heads) + rng.randrange(60) for _ in range(40)
    ]:
        changed = bytearray(whole)
        changed[min(at, len(whole) - 1)] ^= 1 << rng.randrange(8)
        file.write_bytes(changed)
        done = run(program, built, file, "--check")
        if done != (0, "profile 0, batch 1, text 7\n", ""):  # a time or an attribute, say
            refused(done, r"damaged\.npz: ")
    for length in [0, 1, 21, 22, *(rng.randrange(len(whole)) for _ in range(6)), len(whole) - 1]:
        file.write_bytes(whole[:length])
        refused(run(program, built, file, "--check"), "it is no .npz file, or not whole")


def test_a_sidecar_that_does_not_fit_is_refused(program: Path, engine: Path, tmp_path: Path) -> None:
    good = (engine.parent / "model.engine.json").read_text()

    def told(says: str, **changed: Any) -> None:
        (engine.parent / "model.engine.json").write_text(good)
        change(engine, **changed)
        refused(checked(program, engine, tmp_path, arrays()), says)

    told(r"written by a newer pumer-convert \(format 2\)", format=2)
    told("not a sidecar that pumer-convert wrote .*no such flavour: tensorrt-xyz", flavour="tensorrt-xyz")
    told("a value is no string", flavour=3)
    told("a list is too short", outputs=[])
    told("a profile does not rise from 1", profiles=[{"input_ids": [[0, 4], [1, 4], [1, 4]]}])
    told("a value is no whole number", profiles=[{"input_ids": [[1, 4], [1, 4.5], [1, 8]]}])
    told("it has no profile", profiles=[])
    told("nothing names its labels", labels=None)
    told("it names another number of labels than logits", labels={"0": "a"})
    told("the label 'x' has no number", labels={"x": "a"})
    told("it has no input 'input_ids'", inputs=[])
    told("not the engine of its sidecar, or damaged", engine={"sha256": "0" * 64})
    told("built without its weights", stripped=True)
    change(engine, stripped=False, engine={})  # without a hash it cannot be compared
    assert checked(program, engine, tmp_path, arrays())[0] == 0
    (engine.parent / "model.engine.json").unlink()
    refused(checked(program, engine, tmp_path, arrays()), "its sidecar model.engine.json is missing; copy it along")
    refused(run(program, tmp_path / "none.engine", "x"), "there is no such engine")


@pytest.mark.parametrize("size", [0, 1, 55, 56, 63, 64, 65, 119, 120, 1000])
def test_the_hash_is_right_at_every_length(program: Path, engine: Path, tmp_path: Path, size: int) -> None:
    data = bytes(i * 7 % 256 for i in range(size))
    engine.write_bytes(data)
    change(engine, engine={"sha256": hashlib.sha256(data).hexdigest()})
    assert checked(program, engine, tmp_path, arrays())[0] == 0
    engine.write_bytes(data + b"x")
    refused(checked(program, engine, tmp_path, arrays()), "not the engine of its sidecar, or damaged")


GOOD = ["0", "-0.5e+3", "1E9", "[]", "{}", ' [ 1 , {"a" : null} ] ', r'"\"\\\/\b\f\n\r\t\u00e9\uD83D\ude00"', "true"]
BAD = [
    "01",
    "1.",
    ".5",
    "-",
    "+1",
    "1e",
    "tru",
    "[1,]",
    '{"a":1,}',
    "{1:2}",
    "'a'",
    "[1 2]",
    '"a',
    r'"\x"',
    r'"\u12g4"',
]
BAD += ['"a\tb"', r'"\ud83d"', r'"\ude00"', r'"\ud83d\u0041"', "NaN", "", "[" * 200000, '{"a":1,"a":2}']


@pytest.mark.parametrize("raw", GOOD + BAD, ids=lambda raw: raw[:20])
def test_json_is_read_strictly(program: Path, engine: Path, tmp_path: Path, raw: str) -> None:
    file = engine.parent / "model.engine.json"
    file.write_text('{"extra": ' + raw + "," + file.read_text().removeprefix("{"))
    done = checked(program, engine, tmp_path, arrays())
    if raw in GOOD:
        assert done == (0, "profile 0, batch 1, text 7\n", "")
    else:
        refused(done, r"not a sidecar that pumer-convert wrote \(at byte \d+: .*\); export the engine once more")


def test_wrong_words_are_told(program: Path, built: Path) -> None:
    assert run(program, "--help")[0] == 0
    refused(run(program), "give an engine and a file of inputs")
    refused(run(program, built, "x", "--tip"), "there is no option '--tip'")
    refused(run(program, built, "x", "--top"), "a value is missing after --top")
    for value in ("0", "-1", "2x", ""):
        refused(run(program, built, "x", "--top", value), f"--top takes a number from 1 on, not '{value}'")
    refused(run(program, built, "x", "--check", "--logits", "y"), "either --check or --logits")


def test_what_python_writes_is_read_up_to_the_gpu(program: Path, built: Path, tmp_path: Path) -> None:
    sample = next(iter(samples("vqa", "test", 1)))
    sample.image.open().save(tmp_path / "scene.png")
    words = [str(built), str(tmp_path / "input.bin"), "--image", str(tmp_path / "scene.png"), "--text", sample.text]
    assert trt_input.main(words) == 0
    with np.load(tmp_path / "input.bin") as given:
        text = given["input_ids"].shape[1]
        assert {name: value.dtype.name for name, value in given.items()} == {
            "input_ids": "int64",
            "attention_mask": "int64",
            "pixel_values": "float32",
        }
    assert run(program, built, tmp_path / "input.bin", "--check") == (0, f"profile 0, batch 1, text {text}\n", "")
    refused(run(program, built, tmp_path / "input.bin"), "built without TensorRT; build it with -DFLAVOUR=", 4)
    assert trt_input.main([*words, "--pad-to", "40"]) == 0
    assert run(program, built, tmp_path / "input.bin", "--check")[1] == "profile 0, batch 1, text 40\n"
