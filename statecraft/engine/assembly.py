"""The call stack of a runtime, put together from its settings."""

from __future__ import annotations

import os

from statecraft.calls import stack
from statecraft.calls.ask import Patience
from statecraft.calls.call import Next
from statecraft.calls.doubt import Doubt
from statecraft.calls.gate import Gate, choose, used_share
from statecraft.clock import Clock
from statecraft.engine.settings import Settings
from statecraft.ids import Ids
from statecraft.store import port


def call_stack(settings: Settings, clock: Clock, ids: Ids, store: port.Store) -> Next:  # noqa: ARG001
    """Every member that the settings ask for, in the order of `calls.stack`."""
    policy = choose(settings.gate, os.environ.get("STATECRAFT_ENV"))
    return stack.build(
        settings.retry,
        ids.uniform,
        gate=Gate(policy, used_share),
        doubt=Doubt(Patience(policy.expires, policy.remind_after)),
    )
