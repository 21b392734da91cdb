"""Work in a process of its own, which ends with whoever waits for it."""

import contextlib
import ctypes
import os
import pickle
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import TypeVar

from pumer_convert.errors import PumerError
from pumer_convert.system.signals import deferred

T = TypeVar("T")
PR_SET_PDEATHSIG = 1
PATIENCE = 10.0
"""Seconds that a process has to end after it has said what it had to say."""
_LIBC = ctypes.CDLL(None)


class LostError(Exception):
    """The process ended without a word: the system killed it, most likely for want of memory."""


def in_child(work: Callable[[], T]) -> T:
    """What `work` gives, or its exception, in a new process that has this one's memory neither in use nor in view.

    `work` and what it gives travel there and back, so it is a function of a module or a partial of one. Unlike with
    multiprocessing the main module is not run again, so that a script needs no guard; a function of it cannot go along.
    Whatever interrupts the wait kills the process. Raises LostError when it was killed by others.
    """
    here, there = os.pipe()
    command = [sys.executable, "-c", _BEGIN, str(there), str(os.getpid())]
    child: subprocess.Popen[bytes] | None = None
    try:
        with deferred():
            child = _start(command, there)
            os.close(there)
        assert child.stdin is not None
        with contextlib.suppress(BrokenPipeError), child.stdin:  # it was killed: nothing will come back
            pickle.dump(sys.path, child.stdin)
            pickle.dump(work, child.stdin)
        with os.fdopen(here, "rb", closefd=False) as pipe:
            answer = pipe.read()
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(PATIENCE)  # or it leaves what only its end gives back
        try:
            done, value = pickle.loads(answer)
        except (EOFError, pickle.UnpicklingError):
            raise LostError from None
        if not done:
            raise value
        return value  # type: ignore[no-any-return]
    finally:
        with deferred():
            if child is not None:
                child.kill()  # it has said what it had to say, or is not to go on
                child.wait()
            os.close(here)


def end_with_parent() -> None:
    """From now on this process is killed when the thread that started it ends, however that comes. Linux alone knows
    how; elsewhere a process whose parent was killed ends by itself."""
    if sys.platform == "linux":
        _LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def ending_with_parent(words: Sequence[str]) -> list[str]:
    """The command line of another program as one that is killed when the thread that started it ends."""
    if sys.platform != "linux":
        return list(words)
    begin = f"import ctypes, os, sys; ctypes.CDLL(None).prctl({PR_SET_PDEATHSIG}, {int(signal.SIGKILL)}); "
    begin += f"os.getppid() == {os.getpid()} and os.execvp(sys.argv[1], sys.argv[1:])"
    return [sys.executable, "-c", begin, *words]


def _start(command: Sequence[str], pipe: int) -> subprocess.Popen[bytes]:
    """A terminal's Ctrl-C reaches both processes; the new one leaves it to whoever waits for it, who kills it then."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        return subprocess.Popen(command, stdin=subprocess.PIPE, pass_fds=[pipe])
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


_BEGIN = """
import pickle, sys
sys.path[:] = pickle.load(sys.stdin.buffer)
from pumer_convert.system.child_process import serve
serve(*map(int, sys.argv[1:]))
"""


def serve(pipe: int, parent: int) -> None:
    """In the new process: does the work that standard input brings, and writes what comes of it to `pipe`."""
    end_with_parent()
    if os.getppid() != parent:
        return  # it ended before this could be told
    try:
        answer = True, pickle.load(sys.stdin.buffer)()
    except Exception as error:
        if not isinstance(error, PumerError):
            error.add_note(traceback.format_exc())
        answer = False, error
    with os.fdopen(pipe, "wb") as back:
        pickle.dump(answer, back)
