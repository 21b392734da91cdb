#!/usr/bin/env bash
# Make .venv with pumer-convert, its development tools and TensorRT-RTX.
set -euo pipefail
cd "$(dirname "$0")/.."
[ -x .venv/bin/python ] || "${PYTHON:-python3}" -m venv .venv
.venv/bin/python -m pip install --quiet -e '.[dev]'
# beside NAME REASON PACKAGE...: .venv/NAME with packages that do not go with ours, which stand behind them.
beside() {
  local home=.venv/$1 reason=$2
  shift 2
  if ! compgen -G "$home/lib/*/site-packages/ours.pth" > /dev/null; then
    .venv/bin/python -m venv --without-pip --clear "$home"
    packages=$("$home/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
    if .venv/bin/python -m pip install --quiet --no-deps --only-binary :all: --target "$packages" "$@"; then
      .venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' > "$packages/ours.pth"
    else
      echo "$reason" >&2
    fi
  fi
}
# Triton's server for the tests: its Python backend is built for numpy 1.
beside triton "Triton's server is not made for this system and Python; the tests that serve are skipped." \
  'nvidia-pytriton>=0.7' 'numpy<2'
# onnxruntime-genai for the tests: it wants the onnxruntime for CPUs, which has the folder of the one for GPUs.
beside ort-genai "onnxruntime-genai is not made for this system and Python; its tests are skipped." \
  'onnxruntime-genai>=0.18' 'onnxruntime>=1.31'
