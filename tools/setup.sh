#!/usr/bin/env bash
# Make .venv with pumer-convert, its development tools and TensorRT-RTX.
set -euo pipefail
cd "$(dirname "$0")/.."
[ -x .venv/bin/python ] || "${PYTHON:-python3}" -m venv .venv
.venv/bin/python -m pip install --quiet -e '.[dev]'
