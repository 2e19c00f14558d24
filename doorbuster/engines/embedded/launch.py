"""Starts a child so that it can not outlive its parent, and, for PostgreSQL as root, inside a user namespace.

This file is also a program: `python -I -S launch.py PARENT_PID DEATH_SIGNAL USER_NAMESPACE ARGV...` prepares itself and
then becomes ARGV, under the same process id. It is an exec wrapper and not a `preexec_fn`, because running Python
between fork and exec of a process with threads can deadlock, and not `unshare`(1), because the kernel clears the
parent-death signal when a process changes its credentials: it has to be set after the namespace, just before exec.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_CLONE_NEWUSER = 0x10000000
_INSIDE_ID = 1000
_MISUSED, _NO_NAMESPACE, _NO_PROGRAM = 2, 125, 127


def launch_argv(argv: Sequence[str], death_signal: signal.Signals, user_namespace: bool = False) -> list[str]:
    """The argument list to start instead of `argv`.

    The process gets `death_signal` when the *thread* that started it ends, so start it from a thread that lives as long
    as the program (the event loop's). With `user_namespace` it runs as id 1000 of a namespace of its own, mapped to
    the caller: files keep their owner, no account is made, and PostgreSQL does not see root.
    """
    program = [sys.executable, "-I", "-S", str(Path(__file__).resolve())]
    return [*program, str(os.getpid()), str(int(death_signal)), str(int(user_namespace)), *argv]


def _enter_user_namespace(libc: ctypes.CDLL) -> None:
    uid, gid = os.getuid(), os.getgid()
    if libc.unshare(_CLONE_NEWUSER) != 0:
        print(f"launch: no user namespace: {os.strerror(ctypes.get_errno())}", file=sys.stderr)
        raise SystemExit(_NO_NAMESPACE)
    try:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{_INSIDE_ID} {uid} 1")
        Path("/proc/self/gid_map").write_text(f"{_INSIDE_ID} {gid} 1")
    except OSError as error:
        print(f"launch: no user namespace: {error}", file=sys.stderr)
        raise SystemExit(_NO_NAMESPACE) from error


def _become(arguments: list[str]) -> None:
    if len(arguments) < 4:
        print("launch: PARENT_PID DEATH_SIGNAL USER_NAMESPACE ARGV...", file=sys.stderr)
        raise SystemExit(_MISUSED)
    parent, death_signal, user_namespace, argv = int(arguments[0]), int(arguments[1]), arguments[2], arguments[3:]
    libc = ctypes.CDLL(None, use_errno=True)
    if user_namespace == "1":
        _enter_user_namespace(libc)
    # A shell's background job ignores SIGINT and Python ignores SIGPIPE; both would be inherited through exec, and a
    # PostgreSQL that ignores SIGINT can not be stopped.
    for each in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(each, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    libc.prctl(_PR_SET_PDEATHSIG, death_signal, 0, 0, 0)
    if os.getppid() != parent:  # the parent ended before the signal was armed: nobody would ever stop us
        raise SystemExit(0)
    try:
        os.execv(argv[0], argv)  # noqa: S606 - the caller's own argument list, no shell
    except OSError as error:
        print(f"launch: {argv[0]}: {error.strerror}", file=sys.stderr)
        raise SystemExit(_NO_PROGRAM) from error


if __name__ == "__main__":
    _become(sys.argv[1:])
