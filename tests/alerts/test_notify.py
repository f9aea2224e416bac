"""Apprise carries alerts as plain text, and its URLs stay where they are."""

from __future__ import annotations

import asyncio
import json
import sys

import pytest

from statecraft.alerts import Apprise
from statecraft.alerts.courier import attempt
from statecraft.clock import SystemClock
from statecraft.errors import ConfigError
from tests.alerts.test_webhook import ALERT, Receiver, receiving

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.mark.slow
def test_an_alert_arrives_as_text_with_the_command_to_type(caplog: pytest.LogCaptureFixture) -> None:
    with receiving(Receiver(200)) as there, caplog.at_level("INFO"):
        chat = Apprise("chat", f"json://127.0.0.1:{there.port}/t0ken")
        assert asyncio.run(attempt(SystemClock(), chat, ALERT)) is None
        told = json.loads(there.got[0][2])
        assert told["title"] == "statecraft: run.failed"
        assert told["type"] == "failure"
        assert told["message"].startswith("it failed: Grüße\n\nstatecraft show r\n\nalert abab")
        there.status = 500
        failure = asyncio.run(attempt(SystemClock(), chat, ALERT))
        assert str(failure).startswith("Apprise says that it was not delivered")
        assert repr(chat) == "Apprise('chat')"
        assert "t0ken" not in caplog.text


@pytest.mark.slow
def test_a_url_that_apprise_does_not_know_is_refused_without_repeating_it(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(ConfigError, match="Apprise does not know URL number 1 of channel 'chat'"):
        Apprise("chat", "nonsense://t0ken")
    with pytest.raises(ConfigError, match="channel 'chat' has no Apprise URL"):
        Apprise("chat")
    assert "t0ken" not in caplog.text


def test_without_the_extra_it_names_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "apprise", None)
    with pytest.raises(ConfigError, match=r"pip install 'statecraft-agents\[notify\]'"):
        Apprise("chat", "json://localhost")
