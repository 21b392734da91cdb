#!/usr/bin/env bash
# Make .venv with pumer-convert, its development tools and TensorRT-RTX.
set -euo pipefail
cd "$(dirname "$0")/.."
[ -x .venv/bin/python ] || "${PYTHON:-python3}" -m venv .venv
.venv/bin/python -m pip install --quiet -e '.[dev]'
# Triton's server for the tests, beside our packages: its Python backend is built for numpy 1.
if ! compgen -G '.venv/triton/lib/*/site-packages/ours.pth' > /dev/null; then
  .venv/bin/python -m venv --without-pip --clear .venv/triton
  packages=$(.venv/triton/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
  if .venv/bin/python -m pip install --quiet --no-deps --only-binary :all: --target "$packages" \
      'nvidia-pytriton>=0.7' 'numpy<2'; then
    .venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' > "$packages/ours.pth"
  else
    echo "Triton's server is not made for this system and Python; the tests that serve are skipped." >&2
  fi
fi
