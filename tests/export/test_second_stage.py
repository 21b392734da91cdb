"""A later stage builds on an earlier one where that fits, and says in one sentence what does not."""

import json
import shutil
from pathlib import Path
from typing import Any

import lessons
import onnx
import pytest

from pumer_convert.artifact.describe import promise
from pumer_convert.artifact.sidecar import read_sidecar
from pumer_convert.checkpoint.read import open_checkpoint
from pumer_convert.convert.load import export_settings_of
from pumer_convert.data.served_tokenizer import served_form
from pumer_convert.errors import InputError, VerificationError
from pumer_convert.export import folder as module
from pumer_convert.export.folder import export_folder, verify_export
from pumer_convert.export.reuse import stale
from pumer_convert.runtime import Pipeline, open_runtime
from pumer_convert.system.owned import LIST
from pumer_convert.verification.verify import Case


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a reduced checkpoint in red/, exported there and to served/."""
    home = tmp_path_factory.mktemp("stages")
    lessons.reduced(lessons.dense(home / "red")).rename(home / "reduced")
    shutil.rmtree(home / "red")
    (home / "reduced").rename(home / "red")
    export_folder(home / "red", dtype="float32")
    export_folder(home / "red", home / "served", dtype="float32")
    return home


@pytest.fixture
def home(exported: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(exported, tmp_path / "home"))


def files(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {p.name: (p.stat().st_mtime_ns, p.read_bytes()) for p in sorted(folder.iterdir()) if p.is_file()}


def export(path: Path, out: Path | None = None, **how: Any) -> tuple[dict[str, Any], list[str]]:
    said: list[str] = []
    return export_folder(path, out, **{"dtype": "float32", **how}, progress=said.append), said


@pytest.mark.parametrize("where", [None, "served"])
def test_the_same_export_again_is_there_already(home: Path, where: str | None) -> None:
    out = None if where is None else home / where
    before = files(out or home / "red")
    report, said = export(home / "red", out)
    assert said == ["going on from the verified model.onnx"]
    assert report["there_already"]
    assert report["verification"]["cases"] == 5
    assert files(out or home / "red") == before


def test_what_does_not_fit_is_named(home: Path, tmp_path: Path) -> None:
    red = home / "red"
    before = files(red)

    def refused(says: str, **how: Any) -> None:
        with pytest.raises(InputError, match=says) as error:
            export(red, **how)
        assert "use --overwrite, or another folder with -o" in str(error.value)

    refused("its dtype is float32, not float16", dtype="float16")
    refused("its opset is 20, not 21", opset=21)
    refused(r"its image_size is \[\d+, \d+\], not \[32, 64\]", image_size=[32, 64])
    assert files(red) == before
    config = json.loads((red / "config.json").read_text())
    config["id2label"] = {key: f"new-{value}" for key, value in config["id2label"].items()}
    (red / "config.json").write_text(json.dumps(config))
    refused("labels .*; it was made from another checkpoint, or from this one before it was changed")
    (red / "config.json").write_bytes(before["config.json"][1])
    processor = json.loads((red / "preprocessor_config.json").read_text())
    (red / "preprocessor_config.json").write_text(json.dumps({**processor, "image_mean": [0.1] * 3}))
    refused("preprocessing")
    (red / "preprocessor_config.json").write_bytes(before["preprocessor_config.json"][1])
    weights = (red / "model.safetensors").read_bytes()
    (red / "model.safetensors").write_bytes(weights[:-4] + b"\0\0\0\0")
    refused("another checkpoint")


def test_a_tokenizer_that_is_another(home: Path) -> None:
    file = home / "served" / "tokenizer_config.json"
    file.write_text("{}")
    with pytest.raises(InputError, match=r"tokenizer_config\.json is another"):
        export(home / "red", home / "served")
    with pytest.raises(InputError, match=r"not all is as pumer-convert wrote it: tokenizer_config\.json"):
        export(home / "red", home / "served", overwrite=True)
    assert file.read_text() == "{}"


def test_a_file_of_somebody_in_the_output_folder_stays(home: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "tokenizer.json").write_text("{}")
    for overwrite in (False, True):
        with pytest.raises(InputError, match=r"tokenizer\.json: exists already"):
            export(home / "red", out, overwrite=overwrite)
        assert [file.name for file in out.iterdir()] == ["tokenizer.json"]


def test_the_output_folder_is_made_and_goes_when_nothing_comes(home: Path, tmp_path: Path) -> None:
    export(home / "red", tmp_path / "new")
    assert read_sidecar(tmp_path / "new" / "model.onnx")["dtype"] == "float32"
    with pytest.raises(InputError, match="opset 3 is too old"):
        export(home / "red", tmp_path / "no", opset=3)
    assert not (tmp_path / "no").exists()
    with pytest.raises(InputError, match="parent folder does not exist"):
        export(home / "red", tmp_path / "no" / "no")
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="not a folder"):
        export(home / "red", tmp_path / "file")


def test_a_sidecar_of_another_graph_is_refused_by_every_reader(home: Path, tmp_path: Path) -> None:
    from pumer_convert.export.folder import verify_export
    from pumer_convert.export.triton import export_triton

    file = home / "served" / "model.onnx"
    graph = file.read_bytes()
    file.write_bytes(graph + b"\0")
    says = r"model\.onnx is not the file that its sidecar tells of"
    readers = (
        lambda: Pipeline(file, device="cpu"),
        lambda: open_runtime(file, device="cpu"),
        lambda: verify_export(home / "red", file, (Case(1, 4),)),
        lambda: export_triton(file, tmp_path / "triton"),
        lambda: export(home / "red", home / "served"),
    )
    for read in readers:
        with pytest.raises(InputError, match=says):
            read()
    file.write_bytes(graph)
    for read in readers[:3]:
        read()


def test_weights_of_another_export_are_refused(home: Path) -> None:
    file = home / "served" / "model.onnx"
    sidecar = file.with_name("model.onnx.json")
    values = json.loads(sidecar.read_text())
    values[LIST]["model.onnx.data"] = "0" * 64
    sidecar.write_text(json.dumps(values))
    with pytest.raises(InputError, match=r"model\.onnx\.data is missing"):
        open_runtime(file, device="cpu")
    file.with_name("model.onnx.data").write_text("another")
    with pytest.raises(InputError, match=r"model\.onnx\.data is not the file"):
        open_runtime(file, device="cpu")


def test_an_export_that_takes_its_place_while_it_is_opened(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import onnxruntime

    file, real = home / "served" / "model.onnx", onnxruntime.InferenceSession

    def slow(*args: Any, **how: Any) -> Any:
        shutil.copy(file, file.with_name("copy"))
        file.with_name("copy").replace(file)
        return real(*args, **how)

    monkeypatch.setattr(onnxruntime, "InferenceSession", slow)
    with pytest.raises(InputError, match="was replaced while it was opened"):
        open_runtime(file, device="cpu")


def test_an_overwritten_export_tells_of_what_was_made_from_the_earlier(home: Path) -> None:
    pytest.importorskip("tensorrt_rtx")
    from pumer_convert.export.tensorrt import EngineSettings
    from pumer_convert.recipe.schema import Profile

    red, few = home / "red", EngineSettings("tensorrt-rtx", (Profile((1, 1, 2), (4, 8, 16)),))
    report, said = export(red, trt=few)
    assert said == ["going on from the verified model.onnx", "building the engine"]
    assert read_sidecar(red / "model.engine")["dtype"] == "float32"
    assert not report["engine"]["there_already"]
    before = files(red)
    report, _ = export(red, trt=few)
    assert report["engine"]["there_already"]
    assert files(red) == before
    with pytest.raises(InputError, match="its layer_information is false, not true"):
        export(red, trt=EngineSettings("tensorrt-rtx", few.profiles, layer_information=True))
    report, _ = export(red, dtype="float16", overwrite=True)
    assert report["notes"] == ["model.engine was made from the model.onnx of before; make it anew"]
    assert stale(red / "model.onnx") == ["model.engine"]
    with pytest.raises(InputError, match=r"it was built from another model\.onnx"):
        export(red, dtype="float16", trt=few)


def test_the_size_that_is_promised_is_the_one_that_is_made(exported: Path) -> None:
    sidecar = read_sidecar(exported / "red" / "model.onnx")
    checkpoint = open_checkpoint(exported / "red")
    told = promise(checkpoint, "float32", None, 20, served_form(checkpoint, "model.onnx"))
    assert {name: sidecar[name] for name in told} == json.loads(json.dumps(told))
    ports = open_runtime(exported / "red" / "model.onnx", device="cpu").pictures.ports
    assert [port.name for port in ports] == ["patches", "patch_grid"]
    assert told["pictures"] | {"size": None, "asked": None} == told["pictures"]


def test_the_builder_s_process_goes_on_from_it_too(home: Path) -> None:
    checkpoint = open_checkpoint(home / "red")
    made = module._in_subprocess(
        checkpoint,
        home / "red" / "model.onnx",
        "model",
        export_settings_of(checkpoint),
        (),
        dtype="float32",
        keep_float32=(),
        image_size=None,
        opset=20,
        inline_functions=False,
        overwrite=False,
        progress=print,
    )
    assert made.report["there_already"]


@pytest.mark.parametrize(
    ("file", "change", "says"),
    [
        ("preprocessor_config.json", {"image_mean": [0.0, 0.0, 0.0]}, "preprocessing"),
        ("config.json", {"id2label": {}, "label2id": {}}, "labels"),
    ],
)
def test_a_sidecar_that_tells_otherwise_than_the_files_do_now_is_not_verified(
    home: Path, file: str, change: dict[str, Any], says: str
) -> None:
    verify_export(home / "red")
    path = home / "red" / file
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(VerificationError, match=rf"model\.onnx\.json: its {says} are not those of the checkpoint's"):
        verify_export(home / "red")


def test_functions_can_stand_in_the_graph_itself(exported: Path, tmp_path: Path) -> None:
    """For OpenVINO and others that know no functions; every decision is verified as ever, and the sidecar says so."""
    folder = Path(shutil.copytree(exported / "red", tmp_path / "red"))
    with pytest.raises(InputError, match=r"its inlined_functions is false, not true"):
        export_folder(folder, dtype="float32", inline_functions=True)
    report = export_folder(folder, tmp_path / "flat", dtype="float32", inline_functions=True)
    model = onnx.load(tmp_path / "flat" / "model.onnx")
    assert not model.functions
    assert {node.domain for node in model.graph.node} == {""}
    assert report["verification"]["decisions"] > 0
    assert read_sidecar(tmp_path / "flat" / "model.onnx")["inlined_functions"]
    assert export_folder(folder, tmp_path / "flat", dtype="float32", inline_functions=True)["there_already"]
