"""A webhook is signed as Standard Webhooks says, heeds what the receiver answers, and tells its secrets to nobody."""

from __future__ import annotations

import asyncio
import base64
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import standardwebhooks

from statecraft.alerts import BadSignature, NotDelivered, Webhook, verify
from statecraft.alerts.courier import attempt
from statecraft.channel import Alert
from statecraft.clock import SystemClock
from statecraft.errors import ConfigError
from statecraft.testing import ManualClock
from statecraft.testing.clock import START
from tests.alerts.rig import turns

SECRET, OTHER = (f"whsec_{base64.b64encode(bytes([each]) * 32).decode()}" for each in (1, 2))
ALERT = Alert("ab" * 16, "run.failed", START, {"run": "r", "text": "it failed: Grüße", "hint": "statecraft show r"})


@dataclass
class Receiver:
    """A place that takes webhooks, and what it got."""

    status: int = 204
    headers: dict[str, str] = field(default_factory=dict)
    got: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)
    hang: threading.Event | None = None
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hooks/t0ken?x=1"


@contextmanager
def receiving(receiver: Receiver) -> Iterator[Receiver]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            receiver.got.append((self.path, dict(self.headers.items()), body))
            if receiver.hang is not None:
                receiver.hang.wait(30)
            self.send_response(receiver.status)
            for name, value in receiver.headers.items():
                self.send_header(name, value)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        receiver.port = server.server_port
        thread = threading.Thread(target=lambda: server.serve_forever(0.01), daemon=True)
        thread.start()
        try:
            yield receiver
        finally:
            if receiver.hang is not None:
                receiver.hang.set()
            server.shutdown()
            thread.join()


def sent(receiver: Receiver, **how: Any) -> NotDelivered | None:
    """Send the alert once; why it was not delivered."""
    how = {"secret": SECRET, **how}
    return asyncio.run(attempt(SystemClock(), Webhook("ops", receiver.url, **how), ALERT))


def test_an_independent_receiver_accepts_the_signature() -> None:
    with receiving(Receiver()) as there:
        assert sent(there) is None
        ((path, headers, body),) = there.got
        assert path == "/hooks/t0ken?x=1"
        assert standardwebhooks.Webhook(SECRET).verify(body, headers) == {
            "type": "run.failed",
            "timestamp": "2026-01-01T00:00:00Z",
            "data": {"run": "r", "text": "it failed: Grüße", "hint": "statecraft show r"},
        }
        assert headers["webhook-id"] == ALERT.id
        with pytest.raises(standardwebhooks.webhooks.WebhookVerificationError):
            standardwebhooks.Webhook(OTHER).verify(body, headers)


def test_while_secrets_rotate_receivers_with_either_accept() -> None:
    with receiving(Receiver()) as there:
        assert sent(there, secret=[OTHER, SECRET]) is None
        _, headers, body = there.got[0]
        for secret in (SECRET, OTHER):
            assert standardwebhooks.Webhook(secret).verify(body, headers)
            assert verify(headers, body, secret) == ALERT.id


def test_our_receiver_accepts_an_independent_sender_and_nothing_else() -> None:
    now, body = START, '{"type":"x"}'
    signature = standardwebhooks.Webhook(SECRET).sign("msg_1", now, body)
    at = now.timestamp()
    headers = {"Webhook-Id": "msg_1", "Webhook-Timestamp": str(int(at)), "Webhook-Signature": f"v1a,xyz {signature}"}
    assert verify(headers, body, SECRET, now=at) == "msg_1"
    assert verify(headers, body.encode(), [OTHER, SECRET], now=at + 299) == "msg_1"
    wrongs: tuple[Callable[[], object], ...] = (
        lambda: verify(headers, body + " ", SECRET, now=at),
        lambda: verify(headers, body, OTHER, now=at),
        lambda: verify(headers, body, SECRET, now=at + 301),
        lambda: verify(headers, body, SECRET, now=at - 301),
        lambda: verify({**headers, "Webhook-Id": "msg_2"}, body, SECRET, now=at),
        lambda: verify({**headers, "Webhook-Timestamp": "soon"}, body, SECRET, now=at),
        lambda: verify({}, body, SECRET, now=at),
        lambda: verify({**headers, "Webhook-Signature": "v1,ü"}, body, SECRET, now=at),
    )
    for wrong in wrongs:
        with pytest.raises(BadSignature):
            wrong()


@pytest.mark.parametrize(
    ("status", "headers", "said", "gone", "retry_after"),
    [
        (410, {}, "127.0.0.1 answered 410: it wants nothing any more", True, None),
        (302, {"Location": "http://elsewhere/"}, "127.0.0.1 answered 302, a redirect, which is not followed", False, None),
        (429, {"Retry-After": "120"}, "127.0.0.1 answered 429", False, 120.0),
        (503, {"Retry-After": "Thu, 01 Jan 2026 00:01:00 GMT"}, "127.0.0.1 answered 503", False, 60.0),
        (500, {"Retry-After": "whenever"}, "127.0.0.1 answered 500", False, None),
        (400, {}, "127.0.0.1 answered 400", False, None),
    ],
)
def test_an_answer_that_is_no_success_is_none(
    status: int, headers: dict[str, str], said: str, gone: bool, retry_after: float | None
) -> None:
    with receiving(Receiver(status, headers)) as there:
        failure = sent(there, clock=ManualClock())
        assert failure is not None
        assert str(failure).startswith(said)
        assert (failure.gone, failure.retry_after) == (gone, retry_after)
        assert len(there.got) == 1
        assert "t0ken" not in str(failure)


def test_a_receiver_that_hangs_is_cut_off_and_its_thread_ends() -> None:
    async def story(there: Receiver) -> None:
        clock = ManualClock()
        webhook = Webhook("slow", there.url, secret=SECRET, clock=clock)
        task = asyncio.create_task(attempt(clock, webhook, ALERT))
        while not there.got:
            await asyncio.sleep(0)
        await clock.advance(timedelta(seconds=15))
        failure = await task
        assert str(failure) == "no answer in 15 s"
        while any(thread.name == "statecraft alerts slow" for thread in threading.enumerate()):
            await turns(1)

    with receiving(Receiver(hang=threading.Event())) as there:
        asyncio.run(story(there))


def test_a_place_that_is_not_there_is_said_without_its_url() -> None:
    with receiving(Receiver()) as there:
        pass
    failure = sent(there)
    assert str(failure) == "127.0.0.1 cannot be reached: ConnectionRefusedError"


@pytest.mark.parametrize(
    "url",
    [
        "http://hooks.example.com/t0ken",
        "ftp://hooks.example.com/t0ken",
        "https:///t0ken",
        "https://user:t0ken@hooks.example.com/",
        "https://hooks.example.com/t0ken\r\nx: y",
        "https://hooks.example.com:99999/t0ken",
        "hooks.example.com/t0ken",
    ],
)
def test_a_url_that_may_not_be_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(ConfigError, match="webhook 'ops'") as refused:
        Webhook("ops", url, secret=SECRET)
    assert "t0ken" not in str(refused.value)


def test_http_is_for_this_machine_or_on_request() -> None:
    Webhook("ops", "http://localhost:8000/x", secret=SECRET)
    Webhook("ops", "http://[::1]:8000/x", secret=SECRET)
    Webhook("ops", "http://10.0.0.7/x", secret=SECRET, insecure=True)


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_c2hvcnQ=", "c2VjcmV0", f"whsec_{'A' * 200}", "whsec_!", [SECRET, ""]])
def test_a_secret_that_is_none_is_refused_without_repeating_it(secret: str) -> None:
    with pytest.raises(ConfigError, match="'whsec_' and the Base64 form of 24 to 64 random bytes"):
        Webhook("ops", "https://hooks.example.com/", secret=secret)


def test_secrets_are_in_no_repr() -> None:
    webhook = Webhook("ops", "https://hooks.example.com/t0ken", secret=SECRET)
    assert repr(webhook) == "Webhook('ops')"
    assert json.dumps(repr(vars(webhook)["_aside"])).count("t0ken") == 0
