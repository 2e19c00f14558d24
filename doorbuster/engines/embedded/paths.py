"""The layout of a data directory, and where Unix sockets go when its path is too long for them."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path

from doorbuster.engines.embedded.errors import StartError

# The kernel's struct sockaddr_un holds 108 bytes with the closing zero.
_SOCKET_PATH_LIMIT = 107
_LONGEST_SOCKET_NAME = 32
_SOCKET_PREFIX = "dbsock-"
_MARKER = "doorbuster-data"
_LAYOUT = "1\n"


@dataclass(frozen=True)
class DataPaths:
    """Everything one shop keeps on disk, under one private (0700) directory."""

    root: Path

    @property
    def pg(self) -> Path:
        """The PostgreSQL cluster."""
        return self.root / "pg"

    @property
    def run(self) -> Path:
        """Sockets, when their paths are short enough; see `socket_dir`."""
        return self.root / "run"

    @property
    def keys(self) -> Path:
        """Passwords and private keys, each 0600."""
        return self.root / "keys"

    @property
    def edge(self) -> Path:
        """Envoy's files."""
        return self.root / "edge"

    @property
    def logs(self) -> Path:
        """One capped log per child, and the supervisor's."""
        return self.root / "logs"

    @property
    def state(self) -> Path:
        """What runs: written by the supervisor, read by `status`, `down` and the next `up`."""
        return self.root / "state.json"

    @property
    def lock(self) -> Path:
        """Held by the supervisor for as long as it lives."""
        return self.root / "lock"

    @property
    def superuser_password(self) -> Path:
        """The file with the PostgreSQL superuser's password."""
        return self.keys / "postgres-superuser"


_PUT_BEFORE = ("providers.toml", "secrets")
"""What somebody may have put there before the first start."""


def prepare(root: Path) -> DataPaths:
    """Make the directory (0700) with its folders, or accept one made earlier.

    StartError when it cannot be written, or holds files that are not ours: a mistyped --data must not turn somebody's
    home into a shop.
    """
    root = root.absolute()
    paths = DataPaths(root)
    try:
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not (root / _MARKER).exists():
            if any(found.name not in _PUT_BEFORE for found in root.iterdir()):
                raise StartError(
                    f"{root} is not empty and is not a Doorbuster data directory.",
                    "Choose an empty or new directory with --data.",
                )
            root.chmod(0o700)
            (root / _MARKER).write_text(_LAYOUT)
        for folder in (paths.run, paths.keys, paths.edge, paths.logs):
            folder.mkdir(mode=0o700, exist_ok=True)
            folder.chmod(0o700)
        root.chmod(0o700)
    except OSError as error:
        raise StartError(
            f"The data directory {root} cannot be used: {error.strerror or error}.",
            "Choose a directory that you may write with --data.",
        ) from error
    if not os.access(root, os.W_OK):
        raise StartError(f"The data directory {root} cannot be written.", "Choose another directory with --data.")
    return paths


def is_data_directory(root: Path) -> bool:
    """True when `root` was made by `prepare`."""
    return (root / _MARKER).is_file()


def socket_dir(preferred: Path) -> Path:
    """`preferred` when socket paths fit in it, else a new private directory in the temporary folder."""
    if len(os.fsencode(preferred.absolute())) + 1 + _LONGEST_SOCKET_NAME <= _SOCKET_PATH_LIMIT:
        preferred.mkdir(mode=0o700, exist_ok=True)
        return preferred.absolute()
    made = Path(tempfile.mkdtemp(prefix=_SOCKET_PREFIX))
    if len(os.fsencode(made)) + 1 + _LONGEST_SOCKET_NAME > _SOCKET_PATH_LIMIT:
        made.rmdir()
        made = Path(tempfile.mkdtemp(prefix=_SOCKET_PREFIX, dir="/tmp"))
    return made


def remove_socket_dir(path: Path, preferred: Path) -> None:
    """Remove the sockets of a stopped shop: those in `preferred` one by one, a directory of our own making whole."""
    if path == preferred.absolute():
        for each in path.iterdir() if path.is_dir() else ():
            if stat.S_ISSOCK(each.lstat().st_mode) or each.name.endswith(".lock"):
                each.unlink(missing_ok=True)
    elif path.name.startswith(_SOCKET_PREFIX) and path.is_dir() and path.lstat().st_uid in (os.geteuid(), 65534):
        shutil.rmtree(path, ignore_errors=True)
