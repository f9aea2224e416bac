"""The `statecraft` command. The only room that imports click; every verb loads what it needs when it runs."""

from __future__ import annotations


def main() -> None:
    """Run the command line and leave the process with its exit code."""
    from statecraft.cli.app import app

    app.main()
