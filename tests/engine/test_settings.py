"""Settings that make no sense are refused at once, in one line that names the setting."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from math import inf, nan

import pytest

from statecraft import Budget, Settings
from statecraft.calls.retry import RetryPolicy
from statecraft.errors import ConfigError, ErrorKind


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("lease", lambda: Settings(lease=timedelta(0))),
        ("poll", lambda: Settings(poll=timedelta(seconds=-1))),
        ("call_timeout", lambda: Settings(call_timeout=timedelta(0))),
        ("take", lambda: Settings(take="some")),  # type: ignore[arg-type]
        ("concurrency", lambda: Settings(concurrency=0)),
        ("tenants", lambda: Settings(tenants=(Budget(tokens=1),))),  # type: ignore[arg-type]
        ("pace", lambda: Settings(pace=-1.0)),
        ("pace", lambda: Settings(pace=nan)),
        ("pace", lambda: Settings(pace=inf)),
        ("attempts", lambda: RetryPolicy(attempts={ErrorKind.TIMEOUT: 0})),
        ("first", lambda: RetryPolicy(first=-0.5)),
        ("cap", lambda: RetryPolicy(cap=nan)),
        ("hint_cap", lambda: RetryPolicy(hint_cap=-1.0)),
        ("park_after", lambda: RetryPolicy(park_after=-1.0)),
        ("quota_wait", lambda: RetryPolicy(quota_wait=nan)),
        ("meters", lambda: Settings(meters="redis")),  # type: ignore[arg-type]
        ("limits", lambda: Settings(limits=(5,))),  # type: ignore[arg-type]
        ("errors", lambda: Settings(errors={"ValueError": 1})),  # type: ignore[dict-item]
    ],
)
def test_a_setting_that_cannot_be_is_named(name: str, make: Callable[[], object]) -> None:
    with pytest.raises(ConfigError, match=name):
        make()


def test_retries_may_never_park() -> None:
    assert RetryPolicy(park_after=inf).park_after == inf
