"""Being told to end, and the moments in which that has to wait."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

TOLD = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))
AGAIN = 0.05
"""Seconds after which a signal whose exception was lost is sent once more."""


class Terminated(KeyboardInterrupt):
    """The process was told to end, by `docker stop`, a scheduler, or a terminal that is gone; `args` has the signal."""

    @property
    def exit_code(self) -> int:
        """As a shell counts it: 143 for SIGTERM."""
        return 128 + int(self.args[0])


@contextlib.contextmanager
def stoppable() -> Iterator[None]:
    """Inside, SIGTERM and SIGHUP raise `Terminated` in the main thread, as Ctrl-C raises KeyboardInterrupt.

    Where Python loses such an exception (in a destructor or a callback of C code) the signal is sent again; where a
    library turns it into an error of its own, that is turned back.
    """
    came: list[int] = []

    def stop(number: int, frame: FrameType | None) -> None:
        came.append(number)
        raise _exception(number)

    def lost(args: "sys.UnraisableHookArgs") -> None:
        if isinstance(args.exc_value, KeyboardInterrupt):
            number = args.exc_value.args[0] if isinstance(args.exc_value, Terminated) else signal.SIGINT
            # Not at once: it would be raised in here and be lost as well.
            threading.Timer(AGAIN, os.kill, (os.getpid(), number)).start()
        else:
            hook(args)

    handlers, hook = _handlers((signal.SIGINT, *TOLD)), sys.unraisablehook
    try:
        for number in handlers:
            signal.signal(number, stop)
        sys.unraisablehook = lost
        yield
    except Exception as error:
        if came:
            raise _exception(came[0]) from error
        raise
    finally:
        sys.unraisablehook = hook
        for number, handler in handlers.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def deferred() -> Iterator[None]:
    """Inside, neither Ctrl-C nor `TOLD` interrupts; what came takes effect at the end."""
    came: list[int] = []
    handlers = _handlers((signal.SIGINT, *TOLD))
    try:
        for number in handlers:
            signal.signal(number, lambda number, frame: came.append(number))
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        for number in dict.fromkeys(came):
            signal.raise_signal(number)


def _exception(number: int) -> KeyboardInterrupt:
    return KeyboardInterrupt() if number == signal.SIGINT else Terminated(number)


def _handlers(numbers: tuple[int, ...]) -> dict[int, Any]:
    """The handlers of signals that are not ignored (`nohup`); none outside of the main thread, which alone hears."""
    if threading.current_thread() is not threading.main_thread():
        return {}
    found = {number: signal.getsignal(number) for number in numbers}
    return {number: handler for number, handler in found.items() if handler not in (None, signal.SIG_IGN)}
