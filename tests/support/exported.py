"""What an export writes beside a model."""

import json
import shutil
from pathlib import Path
from typing import Any

from pumer_convert.artifact.describe import describe
from pumer_convert.checkpoint.read import open_checkpoint


def exported(checkpoint: Path, folder: Path) -> Path:
    """What lies beside an exported model, without the model."""
    for file in checkpoint.glob("tokenizer*"):
        shutil.copy(file, folder)
    (folder / "model.onnx.json").write_text(json.dumps(describe(open_checkpoint(checkpoint), [96, 96])))
    return folder / "model.onnx"


def change(path: Path, **values: Any) -> None:
    """Changes the sidecar of an exported file."""
    file = path.with_name(path.name + ".json")
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))
