"""Counting rows over a test session, in this process or in the workers of pytest-xdist, and saying what was never taken.

What the settings file asks for holds for whole sessions only: a single file, or a selection by -k or -m, cannot take every row.
What the command line asks for always holds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import pytest

from statecraft.testing.cover import Cover, Tally
from statecraft.testing.plugin import listed

if TYPE_CHECKING:
    from statecraft.testing.targets import Named

_FLAG, _HEARD, _PARTIAL = "statecraft_count", "statecraft_heard", "statecraft_partial"
"""What a controller and its workers tell each other."""
_NARROWING = ("lf", "stepwise", "ignore", "ignore_glob", "collectonly", "keyword", "markexpr", "deselect")


class Counting:
    """The plugin that is registered when rows are to be counted."""

    def __init__(self, config: pytest.Config) -> None:
        said = config.getoption("statecraft_coverage")
        least = config.getoption("statecraft_cover_fail_under")
        self._insisted = bool(said) or least is not None
        self.names = listed(said or []) or listed(config.getini("statecraft_coverage")) or ["all"]
        self.least = _percent(config.getini("statecraft_cover_fail_under") if least is None else least)
        self._tally = Tally()
        self._collects = bool(config.getoption("collectonly", False))
        """Whether no test is run at all."""
        self.partial = _is_partial(config)
        """Whether some of the tests are left out."""
        self._stop: Callable[[], None] | None = None
        self._lines: list[str] = []
        self._failed = False

    # --- listening ---------------------------------------------------------------------------------------------------

    def pytest_sessionstart(self, session: pytest.Session) -> None:
        """Listen, in the process that runs the tests."""
        worker = getattr(session.config, "workerinput", None)
        if worker is None:
            runs_here = not session.config.pluginmanager.has_plugin("dsession")
            counted = self._insisted or not self.partial
        else:
            runs_here, counted = True, bool(worker.get(_FLAG))
        if runs_here and counted:
            from statecraft.testing.listening import listen

            self._stop = listen(self._tally.heard)

    def pytest_deselected(self, items: list[pytest.Item]) -> None:
        """Not every test is run."""
        self.partial = self.partial or bool(items)

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Tell a worker of pytest-xdist whether it counts."""
        node.workerinput[_FLAG] = self._insisted or not self.partial

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """Take over what a worker heard."""
        said = getattr(node, "workeroutput", None) or {}
        self.partial = self.partial or bool(said.get(_PARTIAL))
        self._tally.add(Cover.from_plain(each) for each in said.get(_HEARD, ()))

    # --- telling -----------------------------------------------------------------------------------------------------

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Send what was heard to the controller, or judge it."""
        if self._stop is not None:
            self._stop()
        output = getattr(session.config, "workeroutput", None)
        if output is not None:
            from statecraft.testing.targets import loaded

            wanted = None if "all" in self.names else loaded(self.names)
            covers = self._tally.covers.values()
            output[_HEARD] = [each.to_plain() for each in covers if wanted is None or each.fingerprint in wanted]
            output[_PARTIAL] = self.partial
        elif (self._insisted or not self.partial) and not self._collects:
            self._judge()
            if self._failed and session.exitstatus == pytest.ExitCode.OK:
                session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def _judge(self) -> None:
        from statecraft.testing.targets import named

        wanted = named([name for name in self.names if name != "all"])
        covers = _wanted(wanted, self._tally, everything="all" in self.names)
        self._lines = [*(cover.line() for cover in covers), *wanted.missing]
        low = [cover.name for cover in covers if cover.share < self.least]
        if low:
            self._lines.append(f"FAIL: less than {self.least:g}% of the rows were taken of {', '.join(low)}")
        idle = not self._lines and self.least > 0
        if idle:
            self._lines.append(f"FAIL: less than {self.least:g}% of the rows were taken, for no machine ran")
        self._failed = bool(low or wanted.missing or idle)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """One line for each machine."""
        if self._lines:
            terminalreporter.section("statecraft: rows taken")
            for line in self._lines:
                terminalreporter.write_line(line, red=self._failed and line is self._lines[-1])


def _wanted(wanted: Named, tally: Tally, *, everything: bool) -> list[Cover]:
    """The covers to show: of the machines asked for, also of those that never ran, and if asked of all that did."""
    covers = [tally.covers.get(each.fingerprint, each) for each in wanted.covers]
    if everything:
        shown = {cover.fingerprint for cover in covers}
        covers += [cover for cover in tally.covers.values() if cover.fingerprint not in shown]
    return sorted(covers, key=lambda cover: cover.name)


def _percent(said: str | float) -> float:
    try:
        percent = float(said)
    except ValueError:
        percent = math.nan
    if not 0 <= percent <= 100:  # also of what is no number
        raise pytest.UsageError(f"statecraft_cover_fail_under is a percentage from 0 to 100, not {said}")
    return percent


def _is_partial(config: pytest.Config) -> bool:
    """Whether the command line leaves tests out."""
    options: Iterable[Any] = (config.getoption(name, None) for name in _NARROWING)
    return config.args_source is pytest.Config.ArgsSource.ARGS or any(options)
