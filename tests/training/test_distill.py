"""Distillation as a whole: every task and family, kill -9 and resume, two processes, the verb."""

import json
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import lessons
import pytest
import torch
from distilling import QUICK, distill, losses, same_weights

import pumer_convert
from pumer_convert import cli
from pumer_convert.data.preprocess import Preprocessor
from pumer_convert.errors import InputError
from pumer_convert.evaluation.predict import predict
from pumer_convert.export.onnx import export_onnx
from pumer_convert.recipe.settings import Augment, DistillSettings
from pumer_convert.tasks import TASKS, open_task
from pumer_convert.training import teacher as teacher_module
from pumer_convert.training.distill import PLAIN
from pumer_convert.training.metrics import Status
from pumer_convert.training.work import WorkFolder
from pumer_convert.verification.verify import Case


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("family", lessons.DEPTH)
def test_every_task_of_every_family_is_trained_saved_loaded_measured_and_exported(
    tmp_path: Path, family: str, task: str
) -> None:
    student = lessons.reduced(lessons.dense(tmp_path / "dense", family, task), family)
    out = tmp_path / "out"
    report = distill(student, out, task=task, validation=lessons.samples(tmp_path / "pictures", task)[:4])
    training = report["distill"]
    assert training["steps"] == 2
    assert training["last"]["kd_loss"] > 1e-6
    assert training["student"]["reduced"]
    assert training["notes"] == []
    assert json.loads((out / "config.json").read_text()) == json.loads((student / "config.json").read_text())
    assert (out / "recipe.yaml").read_bytes() == (student / "recipe.yaml").read_bytes()
    assert {"curve.png", "README.md", "tokenizer.json", "preprocessor_config.json"} <= {p.name for p in out.iterdir()}
    assert json.loads((out / "report.json").read_text()) == json.loads(json.dumps(report))
    assert sorted(p.name for p in tmp_path.iterdir() if p.name.startswith(".")) == []
    model = pumer_convert.load(out)
    before = pumer_convert.load(student).state_dict()
    changed = [not torch.equal(value, before[name]) for name, value in model.state_dict().items()]
    assert sum(changed) > len(changed) / 2
    assert [name for name, _ in model.named_modules() if name.startswith("reducers.")]
    measured = predict(
        model, lessons.samples(tmp_path / "pictures", task), open_task(task, model.config), Preprocessor.of(out)
    )
    assert 0 <= measured.metrics[measured.metric] <= 1
    if task == "retrieval":  # the recipes, all of which are exported, have the other tasks
        verification = export_onnx(out, cases=(Case(2, 5), Case(3, 12)))["verification"]
        assert verification["logits_error"] < 1e-4


@pytest.mark.parametrize("family", lessons.DEPTH)
def test_the_loss_goes_down(tmp_path: Path, family: str) -> None:
    student = lessons.reduced(lessons.dense(tmp_path / "dense", family), family)
    settings = DistillSettings(epochs=8, batch_size=4, learning_rate=1e-3, head_multiplier=1.0, kd=0.1)
    report = distill(student, tmp_path / "out", settings)
    found = losses(tmp_path / "out")
    assert sum(found[-4:]) < 0.75 * sum(found[:4])
    assert report["distill"]["last"]["accuracy"] > 0.5


def test_what_a_training_may_be_told(tmp_path: Path, student: Path) -> None:
    """Average, ramp, hidden states, clipping, augmentation, bf16 and a cadence of validations, all at once."""
    settings = QUICK.replaced(
        {
            "epochs": 2,
            "ema": 0.9,
            "ramp": 0.5,
            "hidden": 0.5,
            "clip": 1.0,
            "augment": Augment(),
            "amp": "bf16",
            "validate_every": 3,
            "keep": "last",
        }
    )
    seen: list[Status] = []
    told: list[str] = []
    report = distill(
        student,
        tmp_path / "out",
        settings,
        validation=lessons.samples(tmp_path / "pictures")[:4],
        workers=1,
        watch=seen.append,
        progress=told.append,
    )
    assert report["distill"]["last"]["hidden_loss"] > 0
    assert [record["step"] for record in report["distill"]["validations"]] == [3, 4]
    assert report["distill"]["weights_of_step"] == 4
    assert [status.step for status in seen] == [1, 2, 3, 4]
    assert seen[-1].seconds_left == 0
    assert sum("validation vqa_accuracy" in line for line in told) == 2
    pumer_convert.load(tmp_path / "out")


def test_parts_of_a_batch_add_up_to_it(tmp_path: Path, student: Path) -> None:
    distill(student, tmp_path / "whole")
    distill(student, tmp_path / "parts", QUICK.replaced({"accumulation": 2}))
    assert losses(tmp_path / "parts") == pytest.approx(losses(tmp_path / "whole"), abs=1e-4)


def test_logits_are_shared_by_several_trainings(tmp_path: Path, student: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    distill(student, tmp_path / "first", cache=tmp_path / "cache")
    assert {path.suffix for path in (tmp_path / "cache").iterdir()} == {".npy", ".json"}

    def build(*_: Any) -> None:
        raise AssertionError("the teacher is loaded though every answer of its is known")

    monkeypatch.setattr(teacher_module, "build", build)
    distill(student, tmp_path / "second", cache=tmp_path / "cache")
    assert same_weights(tmp_path / "first", tmp_path / "second")


def test_a_student_without_reducers_is_finetuned(tmp_path: Path) -> None:
    dense = lessons.dense(tmp_path / "dense")
    report = distill(dense, tmp_path / "out", QUICK.replaced({"kd": 0.0}))
    assert report["distill"]["notes"] == [PLAIN]
    assert report["distill"]["teacher"] is None
    assert not report["distill"]["student"]["reduced"]


# Going on after a stop


def drop_out(student: Path) -> None:
    """The student's config asks for dropout, so that the random numbers matter."""
    config = json.loads((student / "config.json").read_text())
    (student / "config.json").write_text(json.dumps(config | {"hidden_dropout_prob": 0.1}))


def test_kill_and_resume_at_random_moments_ends_in_the_same_weights(tmp_path: Path, student: Path) -> None:
    drop_out(student)
    samples = lessons.samples(tmp_path / "pictures")
    data = lessons.jsonl(tmp_path / "data.jsonl", samples)
    (student / "recipe.yaml").write_text(
        "recipe: 1\nmodel: vilt\ndistill: {epochs: 20, batch_size: 4, learning_rate: 0.001, head_multiplier: 1, "
        "ema: 0.9, validate_every: 7, save_every: 2}\n"
    )
    command = [sys.executable, "-m", "pumer_convert", "distill", str(student), "--data", str(data)]
    command += ["--validation", str(data), "--resume", "-o", str(tmp_path / "out"), "--device", "cpu"]
    work = WorkFolder(tmp_path / "out")
    moment = random.Random()
    targets = [moment.randrange(1, 8), moment.randrange(9, 16), moment.randrange(17, 24)]
    for target in targets:
        running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        while running.poll() is None and (work.state() is None or int(work.state().name[-8:]) < target):
            time.sleep(0.003)
        time.sleep(moment.uniform(0, 0.05))
        running.send_signal(signal.SIGKILL)
        _, said = running.communicate()
        assert running.returncode == -signal.SIGKILL, (targets, said)
    done = subprocess.run([*command, "--json"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, (targets, done.stderr)
    assert "resuming after step" in done.stderr
    whole = subprocess.run(
        [*command[:-4], "-o", str(tmp_path / "whole"), "--device", "cpu"], capture_output=True, text=True, check=False
    )
    assert whole.returncode == 0, whole.stderr
    assert same_weights(tmp_path / "out", tmp_path / "whole"), targets
    assert losses(tmp_path / "out") == losses(tmp_path / "whole")
    assert not work.path.exists()
    # Told to resume what is finished, it has nothing to do.
    report = json.loads(done.stdout)
    assert report["distill"]["steps"] == 40


class StopError(Exception):
    """Something that stops a training."""


def stop_at(step: int) -> Any:
    def watch(status: Status) -> None:
        if status.step == step:
            raise StopError

    return watch


def test_a_stopped_training_is_not_lost_by_starting_another(tmp_path: Path, student: Path) -> None:
    settings = QUICK.replaced({"epochs": 3, "save_every": 2})
    with pytest.raises(StopError):
        distill(student, tmp_path / "out", settings, watch=stop_at(3))
    with pytest.raises(InputError, match="holds a training that was not finished; go on with --resume, or"):
        distill(student, tmp_path / "out", settings)
    with pytest.raises(
        InputError, match=r"differs in learning_rate \(0\.001 then, 0\.01 now\), seed \(0 then, 1 now\)"
    ):
        distill(student, tmp_path / "out", settings.replaced({"learning_rate": 0.01, "seed": 1}), resume=True)
    with pytest.raises(InputError, match=r"differs in the training data \("):
        distill(student, tmp_path / "out", settings, resume=True, train=lessons.samples(tmp_path / "pictures")[::-1])
    told: list[str] = []
    distill(student, tmp_path / "out", settings, resume=True, progress=told.append)
    assert told[0] == "resuming after step 2 of 6"
    distill(student, tmp_path / "whole", settings)
    assert same_weights(tmp_path / "out", tmp_path / "whole")
    # Finished: to resume it once more is no mistake, to begin it is.
    again = distill(student, tmp_path / "out", settings, resume=True, progress=told.append)
    assert again["distill"]["steps"] == 6
    with pytest.raises(InputError, match="exists already; use --overwrite"):
        distill(student, tmp_path / "out", settings)
    distill(student, tmp_path / "out", QUICK, overwrite=True)


def test_a_stop_before_the_first_state_leaves_nothing(tmp_path: Path, student: Path) -> None:
    with pytest.raises(StopError):
        distill(student, tmp_path / "out", watch=stop_at(1))
    assert not WorkFolder(tmp_path / "out").path.exists()
    assert not (tmp_path / "out").exists()


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def test_two_processes_equal_one(tmp_path: Path, student: Path) -> None:
    samples = lessons.samples(tmp_path / "pictures")
    data = lessons.jsonl(tmp_path / "data.jsonl", samples)
    settings = QUICK.replaced({"epochs": 4})
    distill(student, tmp_path / "one", settings, train=samples, validation=samples[:5])
    some = lessons.jsonl(tmp_path / "some.jsonl", samples[:5])
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port"]
    command += [str(free_port()), "-m", "pumer_convert", "distill", str(student), "--data", str(data)]
    command += ["--validation", str(some), "-o", str(tmp_path / "two"), "--device", "cpu", "--json"]
    (student / "recipe.yaml").write_text(
        "recipe: 1\nmodel: vilt\ndistill: {epochs: 4, batch_size: 4, learning_rate: 0.001, head_multiplier: 1}\n"
    )
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)  # one process alone speaks
    assert report["distill"]["processes"] == 2
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), abs=1e-4)
    one = json.loads((tmp_path / "one" / "report.json").read_text())
    scores = [[r["validation"]["vqa_accuracy"] for r in found["distill"]["validations"]] for found in (one, report)]
    assert scores[0] == pytest.approx(scores[1])
    assert len(scores[0]) == 4


GROUP = """
import os, torch, pumer_convert.training.device
def threads(): return {open(f"/proc/self/task/{task}/comm").read().strip() for task in os.listdir("/proc/self/task")}
os.environ |= {"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "%d"}
torch.distributed.init_process_group("gloo")
torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(2, 2))(torch.ones(1, 2)).sum().backward()
assert "pt_gloo_runloop" in threads(), threads()
torch.distributed.destroy_process_group()
assert "pt_gloo_runloop" not in threads(), threads()
"""


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="the system does not list the threads of a process")
def test_the_process_group_ends_with_the_training() -> None:
    """Its threads would else abort the process when Python closes down, now and then."""
    command = [sys.executable, "-c", GROUP % free_port()]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr


# What is wrong


def run(monkeypatch: pytest.MonkeyPatch, *args: Any) -> int:
    """The exit code."""
    monkeypatch.setattr(sys, "argv", ["pumer-convert", *map(str, args)])
    try:
        cli.main()
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def test_the_verb(
    tmp_path: Path, student: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data = lessons.jsonl(tmp_path / "data.jsonl", lessons.samples(tmp_path / "pictures"))
    recipe = student / "recipe.yaml"
    recipe.write_text(recipe.read_text() + "distill: {epochs: 3, batch_size: 4}\n")
    assert run(monkeypatch, "distill", student, "--data", data, "--validation", data, "--epochs", 1) == 0
    said = capsys.readouterr()
    assert "trained 2 steps" in said.out
    assert "whose weights are kept" in said.out
    assert "step 2/2, loss" in said.err
    report = json.loads((tmp_path / "dense-pumer-distilled" / "report.json").read_text())
    assert report["distill"]["settings"]["batch_size"] == 4
    assert run(monkeypatch, "distill", student, "--data", data, "--epochs", 0) == 2
    assert "epochs cannot be 0; allowed: a whole number from 1." in capsys.readouterr().err
    args = ("distill", student, "--data", data, "-o", tmp_path / "nan", "--learning-rate", 1e30, "--save-every", 1)
    assert run(monkeypatch, *args) == 3
    said = capsys.readouterr()
    assert sum(line.startswith("error: ") for line in said.err.splitlines()) == 1
    assert "Traceback" not in said.err


def test_surgery_and_training_in_one_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    dense = lessons.dense(tmp_path / "dense")
    data = lessons.jsonl(tmp_path / "data.jsonl", lessons.samples(tmp_path / "pictures"))
    recipe = tmp_path / "r.yaml"
    recipe.write_text("recipe: 1\nmodel: vilt\nreduce:\n  - {at: encoder.1, prune: {image: 0.2}}\n")
    go = ("apply", "--distill", "--recipe", recipe, dense, "-o", tmp_path / "out")
    assert run(monkeypatch, *go, "--data", data) == 2
    assert "has no section `distill:`" in capsys.readouterr().err
    recipe.write_text(recipe.read_text() + "distill: {epochs: 1, batch_size: 9}\n")
    assert run(monkeypatch, *go) == 2
    assert "--distill needs something to train on" in capsys.readouterr().err
    assert run(monkeypatch, *go, "--data", data) == 2
    assert "do not fill one batch of 9" in capsys.readouterr().err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["data.jsonl", "dense", "pictures", "r.yaml"]
    recipe.write_text(recipe.read_text().replace("9", "4"))
    assert run(monkeypatch, *go, "--data", data) == 0
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["source"]["path"] == str(dense)
    assert report["recipe"]["distill"]["batch_size"] == 4
    assert report["distill"]["steps"] == 2
    assert (tmp_path / "out" / "recipe.yaml").read_text() == recipe.read_text()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["data.jsonl", "dense", "out", "pictures", "r.yaml"]
