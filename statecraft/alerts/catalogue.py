"""The kinds of alerts: what each tells, in which words, and the command it puts into people's hands.

`data` is thin: ids, names, instants (ISO 8601) and texts of at most 300 characters, never a payload or a prompt. With
every kind come `text` and `hint`; with kinds that concern a run also `run`, `machine`, `state`, `step` (of the visit) and,
where the run has them, `key`, `tenant` and `parent`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from statecraft.channel import Alert, Json, Kind
from statecraft.clock import instant
from statecraft.machine.budget import public, said
from statecraft.store.outbox import Errand


@dataclass(frozen=True, slots=True)
class Entry:
    """One kind in the catalogue."""

    text: str
    """What happened; names in braces are fields of `data`."""
    hint: str
    """What to type."""
    fields: tuple[str, ...]
    """What is in `data` besides what is in all of them."""


SHOW, REVIEW, DEAD = "statecraft show {run}", "statecraft review show {run} --review {review}", "statecraft dlq show {run}"
_WHERE = "{machine} {run} in {state}"

CATALOGUE: Mapping[Kind, Entry] = {
    # `about` is `state`, `gate` or `doubt`; with the last two comes the `tool`. `expires_at` is null for a question without end.
    Kind.REVIEW_REQUESTED: Entry(
        f"{_WHERE} asks: {{question}}",
        REVIEW,
        ("review", "about", "question", "expires_at", "tool"),
    ),
    # `reviews` has at most 20 of them, the oldest first, each with `run`, `review`, `question` and `since`; `count` is how many
    # there are. It concerns no single run.
    Kind.REVIEW_REMINDER: Entry(
        "{count} open for a decision, the first since {since}",
        "statecraft review",
        ("count", "reviews"),
    ),
    Kind.REVIEW_EXPIRING: Entry(
        f"{_WHERE} asks until {{expires_at}} only: {{question}}",
        REVIEW,
        ("review", "question", "expires_at"),
    ),
    # `decision` is the event of a review state (`ReviewExpired` if time decided; then `by` is null) or the word about a call.
    Kind.REVIEW_DECIDED: Entry(f"{_WHERE}: {{decision}} by {{by}}", SHOW, ("review", "decision", "by")),
    # `event` is the one that led to the final state, which is `state`.
    Kind.RUN_FAILED: Entry("{machine} {run} failed in {state} by {event}", SHOW, ("event",)),
    Kind.RUN_DEAD_LETTERED: Entry(f"{_WHERE} is dead: {{reason}}", DEAD, ("reason",)),
    Kind.RUN_COMPLETED: Entry("{machine} {run} ended in {state}", SHOW, ("event",)),
    # `budget` is `run:ID` or `tenant:NAME:WINDOW`; `limit` is in tokens, calls or dollars. `share` is the share that is used
    # up; 1.0 also says that a call found no room. The run is the one whose call came upon it.
    Kind.BUDGET_THRESHOLD: Entry(
        "{percent} of {allowed} of the budget {budget} are used",
        SHOW,
        ("budget", "unit", "limit", "share"),
    ),
    # Once an hour for each `dependency`, whatever the number of runs that wait for it. The run is the first of them.
    Kind.QUOTA_REACHED: Entry("{alert}", "statecraft runs --status waiting", ("dependency", "alert")),
    # Once in ten minutes for each `dependency`.
    Kind.BREAKER_OPENED: Entry(
        "{dependency} keeps failing and is left alone for {pause} s",
        "statecraft runs --status waiting",
        ("dependency", "failures", "pause"),
    ),
    # Once an hour for each `queue`.
    Kind.QUEUE_STALLED: Entry(
        "{count} overdue in queue {queue}, the first since {since}",
        "statecraft runs --status ready",
        ("queue", "count", "since"),
    ),
    # Once for each `worker`.
    Kind.WORKER_LOST: Entry(
        "worker {worker} was last heard of at {since}, holding {held}",
        "statecraft runs --status running",
        ("worker", "since", "held"),
    ),
    Kind.TEST: Entry("a test of the channel {channel}", "nothing to do", ("channel",)),
}
"""By kind."""

_INSTANTS = ("since", "expires_at")


def alert_of(errand: Errand) -> Alert:
    """What a channel is given. The same for every attempt; a kind of a newer version is passed on without words."""
    data = _readable(errand.data)
    entry = CATALOGUE[Kind(errand.kind)] if errand.kind in CATALOGUE else Entry(errand.kind, "statecraft alerts list", ())
    words = _Words(_words(data))
    told = {"text": entry.text.format_map(words), "hint": entry.hint.format_map(words)}
    return Alert(errand.event.hex(), errand.kind, instant(errand.at), {**data, **told})


class _Words(dict[str, object]):
    def __missing__(self, key: str) -> str:
        return "?"


def _readable(data: Mapping[str, Json]) -> dict[str, Json]:
    """The facts with instants and amounts as people write them."""
    found: dict[str, Json] = {}
    for name, value in data.items():
        if name in _INSTANTS and isinstance(value, int):
            found[name] = _iso(value)
        elif name == "reviews":
            found[name] = [_readable(each) for each in value]
        elif name == "limit":
            found[name] = public(str(data.get("unit")), value)
        else:
            found[name] = value
    return found


def _words(data: Mapping[str, Json]) -> dict[str, object]:
    """What the texts say beyond the facts."""
    words = {name: "nobody" if value is None else value for name, value in data.items()}
    if data.get("reviews"):
        words["since"] = data["reviews"][0]["since"]
    if "share" in data:
        unit = str(data["unit"])
        words["percent"] = f"{data['share']:.0%}"
        words["allowed"] = f"${data['limit']:g}" if unit == "money" else said(unit, int(data["limit"]))
    if "count" in data:
        what = "review" if "reviews" in data else "run"
        words["count"] = f"{data['count']} {what}{'' if data['count'] == 1 else 's'}"
    return words


def _iso(at: int) -> str:
    return instant(at).isoformat(timespec="seconds").replace("+00:00", "Z")
