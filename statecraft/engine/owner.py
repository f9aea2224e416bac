"""Who holds a lease, in a form that lets others on the same machine see that the holder is gone.

An owner reads `host/namespace/pid/started/nonce`. A run held by a process that no longer exists may be taken over
before its lease ends; the epoch fences the old holder all the same, so a wrong guess costs a repeated effort at most.
"""

from __future__ import annotations

import os
import socket
from pathlib import Path


def this_process(nonce: str) -> str:
    """The owner name of this process; `nonce` tells two runtimes in it apart."""
    pid = os.getpid()
    return "/".join([socket.gethostname().replace("/", "_"), _namespace(), str(pid), _started(pid), nonce])


def gone(owner: str) -> bool:
    """Whether the owner was a process of this machine that provably no longer runs. When in doubt: False."""
    parts = owner.split("/")
    if len(parts) != 5 or parts[0] != socket.gethostname().replace("/", "_") or parts[1] != _namespace():
        return False
    pid = int(parts[2]) if parts[2].isdecimal() else 0
    if not 0 < pid < 2**31:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    # A live process: ours unless the number was given to another one since, or only its corpse is left.
    now = _started(pid)
    return parts[3] != "0" and now not in ("0", parts[3])


def _namespace() -> str:
    """Tells process-number spaces (containers) apart where the system has them."""
    try:
        return str(Path("/proc/self/ns/pid").readlink()).strip("pid:[]") or "0"
    except OSError:
        return "0"


def _started(pid: int) -> str:
    """Start time of a live process in clock ticks since boot (proc(5), field 22 of stat); `0` where unknown.

    A zombie answers `dead`: it holds its number but will never write again.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return "0"
    fields = stat[stat.rindex(")") + 2 :].split()
    return "dead" if fields[0] in "ZX" else fields[19]
