"""`export --trt` exports in a process of its own: what is said when that process is stopped or killed."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pumer_convert.demo import CHECKPOINT

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")


def hear_interrupts() -> None:
    """Tests that a shell runs in its background inherit from it that Ctrl-C is ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def start(folder: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "pumer_convert", "export", "--trt", "--flavour", "tensorrt-rtx", str(folder)]
    running = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, preexec_fn=hear_interrupts)
    assert running.stderr is not None
    while not running.stderr.readline().startswith("exporting"):
        assert running.poll() is None
    return running


def exporter(parent: int) -> int:
    for _ in range(100):
        for child in map(int, Path(f"/proc/{parent}/task/{parent}/children").read_text().split()):
            if b"child_process import serve" in Path(f"/proc/{child}/cmdline").read_bytes():
                return child
        time.sleep(0.05)
    raise AssertionError("no exporting process")


@LINUX
@pytest.mark.parametrize(
    ("of_parent", "number", "code", "said"),
    [(True, signal.SIGINT, 130, "nothing was left half-written"), (False, signal.SIGKILL, 2, "killed by the system")],
)
def test_a_stopped_or_killed_export_leaves_nothing(
    tmp_path: Path, of_parent: bool, number: int, code: int, said: str
) -> None:
    folder = shutil.copytree(CHECKPOINT, tmp_path / "ckpt")
    before = sorted(folder.iterdir())
    running = start(folder)
    os.kill(running.pid if of_parent else exporter(running.pid), number)
    _, words = running.communicate(timeout=60)
    assert said in words.lower()
    assert "Traceback" not in words
    assert running.returncode == code
    if of_parent:  # a process killed outright cannot tidy up
        assert sorted(folder.iterdir()) == before


SCRIPT = """
import sys
from pumer_convert.cli import main

sys.argv = ["pumer-convert", "export", sys.argv[1]]
print("begun")
main()
"""


def test_a_script_that_calls_the_command_line_needs_no_guard(tmp_path: Path) -> None:
    folder = shutil.copytree(CHECKPOINT, tmp_path / "ckpt")
    (tmp_path / "script.py").write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, tmp_path / "script.py", folder], capture_output=True, text=True, stdin=subprocess.DEVNULL
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("begun") == 1
    assert (folder / "model.onnx").exists()
