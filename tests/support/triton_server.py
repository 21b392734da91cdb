"""Triton's own server, from the package nvidia-pytriton, run on loopback."""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import sysconfig
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

VERSION = f"python{sys.version_info.major}.{sys.version_info.minor}"
HOME = Path(sys.prefix) / "triton"
PACKAGES = HOME / "lib" / VERSION / "site-packages"
SERVER = PACKAGES / "pytriton" / "tritonserver"
STUB = SERVER / "python_backend_stubs" / VERSION.removeprefix("python") / "triton_python_backend_stub"
MISSING = f"Triton's server is not in {HOME}, where tools/setup.sh puts it on Linux"


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


@contextlib.contextmanager
def serving(repository: Path, scratch: Path) -> Iterator[str]:
    """Serve a model repository; gives the address for gRPC."""
    backend = scratch / "backends" / "python"
    shutil.copytree(SERVER / "backends" / "python", backend)
    shutil.copy(STUB, backend)
    libraries = [str(PACKAGES / "nvidia_pytriton.libs"), sysconfig.get_config_var("LIBDIR")]
    # The interpreter inside of Triton takes its packages from the python3 that PATH finds first.
    path = os.pathsep.join([str(HOME / "bin"), os.environ["PATH"]])
    environment = {**os.environ, "LD_LIBRARY_PATH": os.pathsep.join(libraries), "PATH": path, "OMP_NUM_THREADS": "1"}
    http, grpc = free_ports(2)
    command = [
        *(SERVER / "bin" / "tritonserver", "--model-repository", repository),
        *("--backend-directory", scratch / "backends", "--allow-metrics=false"),
        *("--http-address=127.0.0.1", f"--http-port={http}", "--grpc-address=127.0.0.1", f"--grpc-port={grpc}"),
        *("--exit-timeout-secs=10", "--disable-auto-complete-config"),
    ]
    log = scratch / "triton.log"
    with log.open("wb") as out:
        process = subprocess.Popen([str(word) for word in command], env=environment, stdout=out, stderr=out)
    try:
        for _ in range(600):
            assert process.poll() is None, log.read_text()[-5000:]
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"http://127.0.0.1:{http}/v2/health/ready", timeout=1).close()
                break
            time.sleep(0.2)
        else:
            raise AssertionError(log.read_text()[-5000:])
        yield f"127.0.0.1:{grpc}"
        assert process.poll() is None, log.read_text()[-5000:]
    finally:
        process.terminate()
        process.wait(60)
