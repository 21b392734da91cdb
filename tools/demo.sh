#!/usr/bin/env bash
# Set up and run the whole path on the embedded demo.
set -euo pipefail
cd "$(dirname "$0")/.."
bash tools/setup.sh
.venv/bin/pumer-convert demo
