#!/usr/bin/env bash
# Set up, then style, types and tests.
set -euo pipefail
cd "$(dirname "$0")/.."
bash tools/setup.sh
.venv/bin/ruff check .
.venv/bin/ruff format --check .
.venv/bin/mypy & # one core for half a minute, in which the tests begin
types=$!
.venv/bin/python -m pytest -n 2
wait "$types"
