"""What is checked before anything starts, so that a fault of the surroundings is one clear line."""

from __future__ import annotations

import errno
import shutil
import socket
from pathlib import Path

import psutil

from doorbuster.engines.embedded.errors import StartError

_MB = 1024 * 1024
MIN_FREE_BYTES = 300 * _MB


def check_port_is_free(port: int, host: str = "0.0.0.0") -> None:  # noqa: S104 - tried, not served
    """StartError naming the port (and its owner, when that can be seen) unless it can be bound now.

    Tried without SO_REUSEPORT: with it, which is Envoy's way, two shops could share one port without a word.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind((host, port))
            trial.listen(1)
        except PermissionError as error:
            raise StartError(
                f"Port {port} needs more rights than this user has.", "Choose a port above 1023 with --port."
            ) from error
        except (OSError, OverflowError) as error:
            if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
                raise port_taken(port) from error
            raise StartError(
                f"Port {port} on {host} cannot be used: {error}.", "Choose another with --port."
            ) from error


def port_taken(port: int) -> StartError:
    """The line for a port that somebody else listens on."""
    return StartError(
        f"Port {port} is already taken{_owner(port)}.", "Stop that program, or choose another with --port."
    )


def _owner(port: int) -> str:
    try:
        for connection in psutil.net_connections(kind="tcp"):
            listens_here = connection.status == psutil.CONN_LISTEN and tuple(connection.laddr)[1:2] == (port,)
            if listens_here and connection.pid:
                return f" by process {connection.pid} ({psutil.Process(connection.pid).name()})"
    except psutil.Error:  # somebody else's process, or one that just ended: the port is enough
        return ""
    return ""


def check_room(path: Path, min_free_bytes: int = MIN_FREE_BYTES) -> None:
    """StartError when the disk that holds `path` has less than `min_free_bytes` free."""
    free, needed = shutil.disk_usage(path).free // _MB, min_free_bytes // _MB
    if free < needed:
        raise StartError(
            f"The disk that holds {path} has {free} MB free; at least {needed} MB are needed.",
            "Free some space there, or choose another place with --data.",
        )
