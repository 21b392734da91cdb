"""Work in a process of its own, which ends with whoever waits for it."""

import ctypes
import os
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any, TypeVar

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

    `work` and what it gives travel there and back, so it is a function of a module or a partial of one; as ever with
    multiprocessing, the main module must be importable. Whatever interrupts the wait kills the process. Raises
    LostError when it was killed by others.
    """
    context = get_context("spawn")
    here, there = context.Pipe(duplex=False)
    child = context.Process(target=_run, args=(there, work, os.getpid()))
    started = False
    try:
        with deferred():
            _start(child)
            started = True
            there.close()
        try:
            done, value = here.recv()
        except EOFError:
            raise LostError from None
        child.join(PATIENCE)  # or it leaves what only its end gives back, such as semaphores
        if not done:
            raise value
        return value  # type: ignore[no-any-return]
    finally:
        with deferred():
            if started:
                child.kill()  # it has said what it had to say, or is not to go on
                child.join()
            here.close()


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


def _start(child: BaseProcess) -> None:
    """A terminal's Ctrl-C reaches both processes; the new one leaves it to whoever waits for it, who kills it then."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        child.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _run(pipe: Connection, work: Callable[[], Any], parent: int) -> None:
    end_with_parent()
    if os.getppid() != parent:
        return  # it ended before this could be told
    try:
        told = True, work()
    except Exception as error:
        if not isinstance(error, PumerError):
            error.add_note(traceback.format_exc())
        told = False, error
    pipe.send(told)
