"""When to try again: for a delivery, and for a channel as a whole. Pure.

Exponential backoff with jitter around the mean (after Marc Brooker, "Exponential Backoff And Jitter", AWS Architecture
Blog, 2015): retries over three days, as Standard Webhooks 1.0.0 asks of senders.
"""

from __future__ import annotations

FIRST = 5.0
"""Seconds to the second attempt, on average."""
LONGEST = 4 * 3600.0
"""Seconds between attempts at most, on average."""
ATTEMPTS = 30
"""Then a delivery is given up, about three days after its first attempt. `redeliver` grants as many again."""
LONGEST_HINT = 86_400.0
"""Seconds; a receiver's Retry-After beyond this is cut to it."""
LONGEST_REST = 60.0
"""Seconds a channel that fails is left alone at most, unless it asks for more. One delivery tries it then, not all."""
_DOUBLINGS = 32


def delay(attempt: int, draw: float, retry_after: float | None = None) -> float | None:
    """Seconds after attempt number `attempt` (from 1) failed; None if it was the last. `draw` is a number in [0, 1)."""
    if attempt % ATTEMPTS == 0:
        return None
    steps = min((attempt - 1) % ATTEMPTS, _DOUBLINGS)
    drawn = min(LONGEST, FIRST * 2.0**steps) * (0.75 + 0.5 * draw)
    return max(drawn, min(retry_after or 0.0, LONGEST_HINT))


def rest(failures: int, retry_after: float | None = None) -> float:
    """Seconds to leave a channel alone after so many failures in a row."""
    grown = min(LONGEST_REST, 2.0 ** min(failures - 1, _DOUBLINGS)) if failures else 0.0
    return max(grown, min(retry_after or 0.0, LONGEST_HINT))
