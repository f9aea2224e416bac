"""The `statecraft` command. The only room that imports click; every verb loads what it needs when it runs."""

from __future__ import annotations


def main() -> None:
    """Run the command line and leave the process with its exit code."""
    import os
    import sys

    from statecraft.cli.app import app

    # Python has None for a stream that was closed before it began (`>&-`): what is written there is lost, and is no error.
    sys.stdin = sys.stdin or open(os.devnull, encoding="utf-8")  # noqa: PTH123, SIM115  # for as long as the process lives
    sys.stdout = sys.stdout or open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115
    sys.stderr = sys.stderr or open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115
    app.main()
