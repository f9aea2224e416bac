"""The schema: one set of tables for every database, and the constraints that make a wrong history impossible to write.

What the constraints say, from the journal outwards:

- `transitions` is a path in a machine. Each row takes a declared edge (`fk_edge`) and starts where the row before it
  ended (`fk_chain`, through `prev_seq`); only row 0 starts from nowhere (`starts_once`). Rows never change.
- `runs` is the head. It stands where the journal's row says (`fk_head`, checked at commit), and its status, owner,
  lease and due time agree with each other.
- `calls` and `attempts` belong to a visit that happened; one question of a visit has one answer.
- `reviews` are questions of the state the run stood in; a decision exists only together with the move it led to.
- `call_reviews` are questions about calls of a visit; each is decided once, and keeps under which epoch it was.
- `meters` hold what budgets have been charged, and the small states of limiters and breakers. What is reserved of a
  meter is the sum over its `reservations`; there is no total that could go stale.
- A fork names the run it was forked from, which may be gone. Hashes are those of `chain`; rows without are older than schema 3.
- A text longer than `INLINE_BYTES` is kept once in `payloads` under its SHA-256; the row keeps the hash.

Instants are integer microseconds, ids 16 bytes, hashes 32 bytes, JSON is text (its exact bytes are hashed).
Columns a reader scans come first in a row, long texts last.
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.schema import SchemaItem

from statecraft.records import CLOSED, Status, Waiting
from statecraft.store.columns import Bytes, Int, Text, index_where, metadata, table, words

VERSION = 3
"""Number of the schema that this code writes and reads."""

INLINE_BYTES = 4096
"""The longest text kept in its row."""


def _visit(name: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(["run_id", "seq"], ["transitions.run_id", "transitions.seq"], name=name)


def _text_or_hash(column: str) -> tuple[SchemaItem, ...]:
    """A long text: in the row, or in `payloads` under the hash the row keeps."""
    return (
        sa.Column(f"{column}_hash", Bytes, sa.ForeignKey("payloads.hash")),
        sa.Column(column, Text),
        sa.CheckConstraint(f"({column} IS NULL) <> ({column}_hash IS NULL)", name=f"{column}_kept_once"),
    )


def _with_fork(column: str) -> sa.CheckConstraint:
    return sa.CheckConstraint(f"(forked_from IS NULL) = ({column} IS NULL)", name=f"fork_whole_{column}")


schema_version = table(
    "schema_version",
    sa.Column("id", Int, primary_key=True, autoincrement=False),
    sa.Column("version", Int, nullable=False),
    sa.CheckConstraint("id = 1", name="one_row"),
)

machines = table(
    "machines",
    sa.Column("machine", Int, primary_key=True),
    sa.Column("fingerprint", Text, nullable=False, unique=True),
    sa.Column("name", Text, nullable=False),
    sa.Column("version", Text, nullable=False),
    sa.Column("spec", Text, nullable=False),
)

machine_edges = table(
    "machine_edges",
    sa.Column("machine", Int, sa.ForeignKey("machines.machine"), primary_key=True, autoincrement=False),
    sa.Column("source", Text, primary_key=True),
    sa.Column("event", Text, primary_key=True),
    sa.Column("target", Text, primary_key=True),
    narrow=True,
)

payloads = table(
    "payloads",
    sa.Column("hash", Bytes, primary_key=True),
    sa.Column("body", Text, nullable=False),
    sa.CheckConstraint("length(hash) = 32", name="payload_hash_length"),
)

messages = table(
    "messages",
    sa.Column("hash", Bytes, primary_key=True),
    sa.Column("parent", Bytes, sa.ForeignKey("messages.hash", name="fk_parent")),
    sa.Column("body", Text, nullable=False),
    sa.CheckConstraint("length(hash) = 32 AND (parent IS NULL OR parent <> hash)", name="message_hash"),
)

transitions = table(
    "transitions",
    sa.Column("run_id", Bytes, primary_key=True),
    sa.Column("seq", Int, primary_key=True, autoincrement=False),
    sa.Column("machine", Int, nullable=False),
    sa.Column("source", Text, nullable=False),
    sa.Column("event", Text, nullable=False),
    sa.Column("target", Text, nullable=False),
    sa.Column("prev_seq", Int, sa.Computed("CASE WHEN seq > 0 THEN seq - 1 END", persisted=True)),
    sa.Column("epoch", Int, nullable=False),
    sa.Column("at", Int, nullable=False),
    sa.Column("calls", Int, nullable=False),
    sa.Column("input_tokens", Int, nullable=False),
    sa.Column("output_tokens", Int, nullable=False),
    sa.Column("actor", Text),
    sa.Column("hash", Bytes, nullable=False),
    sa.Column("guards", Text, nullable=False),
    *_text_or_hash("payload"),
    sa.CheckConstraint("seq >= 0 AND (seq = 0) = (source = '')", name="starts_once"),
    sa.CheckConstraint("length(run_id) = 16 AND length(hash) = 32", name="transition_ids"),
    sa.CheckConstraint("calls >= 0 AND input_tokens >= 0 AND output_tokens >= 0", name="transition_counts"),
    sa.UniqueConstraint("run_id", "seq", "target", name="uq_link"),
    sa.ForeignKeyConstraint(
        ["machine", "source", "event", "target"],
        ["machine_edges.machine", "machine_edges.source", "machine_edges.event", "machine_edges.target"],
        name="fk_edge",
    ),
    sa.ForeignKeyConstraint(
        ["run_id", "prev_seq", "source"], ["transitions.run_id", "transitions.seq", "transitions.target"], name="fk_chain"
    ),
)

_closed = words(*sorted(CLOSED))

runs = table(
    "runs",
    sa.Column("no", Int, primary_key=True),
    sa.Column("run_id", Bytes, nullable=False, unique=True),
    sa.Column("machine", Int, sa.ForeignKey("machines.machine"), nullable=False),
    sa.Column("seq", Int, nullable=False),
    sa.Column("state", Text, nullable=False),
    sa.Column("status", Text, nullable=False),
    sa.Column("epoch", Int, nullable=False),
    sa.Column("attempts", Int, nullable=False),
    sa.Column("owner", Text),
    sa.Column("lease_until", Int),
    sa.Column("waiting_for", Text),
    sa.Column("due_at", Int),
    sa.Column("deadline_at", Int),
    sa.Column("created_at", Int, nullable=False),
    sa.Column("updated_at", Int, nullable=False),
    sa.Column("finished_at", Int),
    sa.Column("key", Text),
    sa.Column("trace_id", Text, nullable=False),
    sa.Column("tenant", Text),
    sa.Column("parent", Bytes, sa.ForeignKey("runs.run_id", name="fk_parent_run")),
    sa.Column("reason", Text),
    sa.Column("draws", Text),
    sa.Column("queue", Text, nullable=False, server_default="default"),
    sa.Column("priority", Int, nullable=False, server_default="0"),
    sa.Column("turn", Int, nullable=False, server_default="0"),
    sa.Column("degraded", Int, nullable=False, server_default="0"),
    sa.Column("extra_steps", Int, nullable=False, server_default="0"),
    sa.Column("forked_from", Bytes),
    sa.Column("forked_step", Int),
    sa.Column("forked_by", Text),
    sa.Column("forked_note", Text),
    sa.CheckConstraint("length(run_id) = 16 AND seq >= 0 AND epoch >= 0 AND attempts >= 0", name="run_numbers"),
    sa.CheckConstraint("queue <> '' AND turn >= 0", name="run_queue"),
    sa.CheckConstraint("degraded IN (0, 1) AND extra_steps >= 0", name="run_degraded"),
    sa.CheckConstraint(f"status IN ({words(*Status)})", name="status_known"),
    sa.CheckConstraint(f"waiting_for IN ({words(*Waiting)})", name="waiting_known"),
    sa.CheckConstraint("(owner IS NULL) = (lease_until IS NULL)", name="lease_whole"),
    sa.CheckConstraint("(status = 'running') = (owner IS NOT NULL)", name="held_iff_running"),
    sa.CheckConstraint("(status = 'waiting') = (waiting_for IS NOT NULL)", name="waiting_iff_reason"),
    sa.CheckConstraint(f"(status IN ({_closed})) = (finished_at IS NOT NULL)", name="closed_iff_finished"),
    sa.CheckConstraint("due_at IS NULL OR status IN ('ready', 'waiting')", name="due_only_parked"),
    sa.CheckConstraint("due_at IS NOT NULL OR status <> 'ready'", name="ready_is_due"),
    sa.CheckConstraint("due_at IS NOT NULL OR waiting_for IS NULL OR waiting_for IN ('review', 'child')", name="time_wakes"),
    sa.CheckConstraint("waiting_for <> 'start' OR seq = 0", name="start_waits_at_start"),
    sa.CheckConstraint("parent <> run_id", name="own_parent"),
    sa.CheckConstraint("length(forked_from) = 16 AND forked_step BETWEEN 0 AND seq", name="fork_shares"),
    *(_with_fork(column) for column in ("forked_step", "forked_by", "forked_note")),
    # The head is the last link of a journal that exists; deferred, because both are written in one transaction.
    sa.ForeignKeyConstraint(
        ["run_id", "seq", "state"],
        ["transitions.run_id", "transitions.seq", "transitions.target"],
        name="fk_head",
        deferrable=True,
        initially="DEFERRED",
    ),
)


def _partial(name: str, column: str, *more: str, unique: bool = False) -> None:
    index_where(name, runs.c[column].is_not(None), *(runs.c[each] for each in (column, *more)), unique=unique)


def _ripe(name: str, status: Status, *columns: str) -> None:
    """An index of the runs that may be claimed for one reason. Equality first, then the order in which they are taken, then
    what `figures` would else have to fetch from the rows."""
    where = runs.c.status == sa.literal_column(f"'{status}'")
    if status is Status.WAITING:
        where = sa.and_(where, runs.c.due_at.is_not(None))
    parts = [runs.c[column].desc() if column == "priority" else runs.c[column] for column in columns]
    index_where(name, where, *parts)


_partial("uq_run_key", "key", unique=True)
index_where("ix_runs_lease", runs.c.lease_until.is_not(None), runs.c.machine, runs.c.lease_until)
_partial("ix_runs_parent", "parent", "finished_at")
_ripe("ix_runs_due", Status.WAITING, "machine", "queue", "due_at", "waiting_for")
_ripe("ix_runs_ready", Status.READY, "machine", "queue", "priority", "turn", "due_at")
_parked = sa.and_(runs.c.status == sa.literal_column("'waiting'"), runs.c.due_at.is_(None))
index_where("ix_runs_parked", _parked, runs.c.machine, runs.c.waiting_for)
index_where("ix_runs_dead", runs.c.status == sa.literal_column("'dead'"), runs.c.machine, runs.c.finished_at)
sa.Index("ix_runs_turn", runs.c.queue, runs.c.priority, runs.c.tenant, runs.c.turn)
sa.Index("ix_runs_latest", runs.c.queue, runs.c.priority, runs.c.turn)

calls = table(
    "calls",
    sa.Column("run_id", Bytes, primary_key=True),
    sa.Column("seq", Int, primary_key=True, autoincrement=False),
    sa.Column("idx", Int, primary_key=True, autoincrement=False),
    sa.Column("kind", Text, nullable=False),
    sa.Column("name", Text, nullable=False),
    sa.Column("digest", Bytes, nullable=False),
    sa.Column("occurrence", Int, nullable=False),
    sa.Column("ok", Int, nullable=False),
    sa.Column("attempts", Int, nullable=False),
    sa.Column("started_at", Int, nullable=False),
    sa.Column("finished_at", Int, nullable=False),
    sa.Column("epoch", Int, nullable=False),
    sa.Column("input_tokens", Int, nullable=False),
    sa.Column("output_tokens", Int, nullable=False),
    sa.Column("model", Text),
    sa.Column("cost", Int),
    sa.Column("price_source", Text),
    sa.Column("hash", Bytes, nullable=False),
    *_text_or_hash("request"),
    *_text_or_hash("result"),
    sa.CheckConstraint("idx >= 0 AND occurrence >= 0 AND attempts >= 0 AND ok IN (0, 1)", name="call_numbers"),
    sa.CheckConstraint("length(digest) = 32 AND length(hash) = 32", name="call_hashes"),
    sa.CheckConstraint("cost >= 0", name="call_cost"),
    sa.UniqueConstraint("run_id", "seq", "digest", "occurrence", name="uq_answer"),
    _visit("fk_call_visit"),
)

attempts = table(
    "attempts",
    sa.Column("no", Int, primary_key=True),
    sa.Column("run_id", Bytes, nullable=False),
    sa.Column("seq", Int, nullable=False),
    sa.Column("digest", Bytes, nullable=False),
    sa.Column("occurrence", Int, nullable=False),
    sa.Column("attempt", Int, nullable=False),
    sa.Column("kind", Text, nullable=False),
    sa.Column("name", Text, nullable=False),
    sa.Column("epoch", Int, nullable=False),
    sa.Column("at", Int, nullable=False),
    sa.Column("due_at", Int),
    sa.Column("hash", Bytes),
    sa.Column("message", Text, nullable=False),
    sa.CheckConstraint("attempt >= 1 AND occurrence >= 0 AND length(digest) = 32", name="attempt_numbers"),
    sa.UniqueConstraint("run_id", "seq", "digest", "occurrence", "attempt", "kind", name="uq_attempt"),
    _visit("fk_attempt_visit"),
)

reviews = table(
    "reviews",
    sa.Column("run_id", Bytes, primary_key=True),
    sa.Column("seq", Int, primary_key=True, autoincrement=False),
    sa.Column("state", Text, nullable=False),
    sa.Column("requested_at", Int, nullable=False),
    sa.Column("expires_at", Int),
    sa.Column("decision", Text),
    sa.Column("decided_by", Text),
    sa.Column("decided_at", Int),
    sa.Column("decided_seq", Int, sa.Computed("CASE WHEN decision IS NOT NULL THEN seq + 1 END", persisted=True)),
    sa.Column("hash", Bytes),
    sa.Column("events", Text, nullable=False),
    sa.Column("question", Text, nullable=False),
    sa.Column("show", Text, nullable=False),
    sa.CheckConstraint("(decision IS NULL) = (decided_at IS NULL)", name="decided_whole"),
    sa.CheckConstraint("decided_by IS NULL OR decision IS NOT NULL", name="decided_by_somebody"),
    sa.ForeignKeyConstraint(
        ["run_id", "seq", "state"], ["transitions.run_id", "transitions.seq", "transitions.target"], name="fk_review_state"
    ),
    sa.ForeignKeyConstraint(["run_id", "decided_seq"], ["transitions.run_id", "transitions.seq"], name="fk_decision_moved"),
)
index_where("ix_reviews_open", reviews.c.decision.is_(None), reviews.c.run_id, reviews.c.seq)

call_reviews = table(
    "call_reviews",
    sa.Column("run_id", Bytes, primary_key=True),
    sa.Column("seq", Int, primary_key=True, autoincrement=False),
    sa.Column("digest", Bytes, primary_key=True),
    sa.Column("occurrence", Int, primary_key=True, autoincrement=False),
    sa.Column("round", Int, primary_key=True, autoincrement=False),
    sa.Column("kind", Text, nullable=False),
    sa.Column("tool", Text, nullable=False),
    sa.Column("action", Bytes, nullable=False),
    sa.Column("requested_at", Int, nullable=False),
    sa.Column("remind_at", Int),
    sa.Column("expires_at", Int),
    sa.Column("decision", Text),
    sa.Column("decided_by", Text),
    sa.Column("decided_at", Int),
    sa.Column("decided_epoch", Int),
    sa.Column("note", Text),
    sa.Column("hash", Bytes),
    sa.Column("answer_hash", Bytes),
    sa.Column("decisions", Text, nullable=False),
    sa.Column("question", Text, nullable=False),
    sa.Column("arguments", Text, nullable=False),
    sa.Column("show", Text, nullable=False),
    sa.Column("answer", Text),
    sa.CheckConstraint("kind IN ('gate', 'doubt')", name="call_review_kind"),
    sa.CheckConstraint("occurrence >= 0 AND round >= 0", name="call_review_numbers"),
    sa.CheckConstraint("length(digest) = 32 AND length(action) = 32", name="call_review_hashes"),
    *(
        sa.CheckConstraint(f"(decision IS NULL) = ({column} IS NULL)", name=f"call_decided_whole_{column}")
        for column in ("decided_by", "decided_at", "decided_epoch", "note")
    ),
    sa.CheckConstraint("answer IS NULL OR decision IS NOT NULL", name="answer_of_decision"),
    _visit("fk_call_review_visit"),
)
ANSWER = ("decision", "decided_by", "decided_at", "decided_epoch", "note", "answer_hash", "answer")
"""The columns of `call_reviews` that the decision fills; the others never change."""
index_where("ix_call_reviews_open", call_reviews.c.decision.is_(None), call_reviews.c.run_id, call_reviews.c.seq)

meters = table(
    "meters",
    sa.Column("meter", Text, primary_key=True),
    sa.Column("used", Int, nullable=False),
    sa.Column("state", Text),
    sa.CheckConstraint("used >= 0 AND meter <> ''", name="meter_used"),
    narrow=True,
)

reservations = table(
    "reservations",
    sa.Column("run_id", Bytes, primary_key=True),
    sa.Column("seq", Int, primary_key=True, autoincrement=False),
    sa.Column("digest", Bytes, primary_key=True),
    sa.Column("occurrence", Int, primary_key=True, autoincrement=False),
    sa.Column("meter", Text, primary_key=True),
    sa.Column("epoch", Int, nullable=False),
    sa.Column("amount", Int, nullable=False),
    sa.CheckConstraint("amount >= 0 AND occurrence >= 0 AND length(digest) = 32", name="reservation_numbers"),
    sa.Index("ix_reservations_meter", "meter", "amount"),
    _visit("fk_reservation_visit"),
    narrow=True,
)

snapshots = table(
    "snapshots",
    sa.Column("run_id", Bytes, primary_key=True),
    sa.Column("seq", Int, nullable=False),
    sa.Column("hash", Bytes),
    sa.Column("data", Text, nullable=False),
    _visit("fk_snapshot_visit"),
)

deaths = table(
    "deaths",
    sa.Column("run_id", Bytes, primary_key=True),
    sa.Column("seq", Int, primary_key=True, autoincrement=False),
    sa.Column("epoch", Int, primary_key=True, autoincrement=False),
    sa.Column("at", Int, nullable=False),
    sa.Column("state", Text),
    sa.Column("error", Text),
    sa.Column("call", Text),
    sa.Column("hash", Bytes),
    sa.Column("diagnosis", Text, nullable=False),
    _visit("fk_death_visit"),
)

FEED_KINDS = (
    "started", "transition", "call", "attempt", "waiting", "claimed", "decided", "alert", "cancelled",
    "dead", "redriven", "forked",
)  # fmt: skip

feed = sa.Table(
    "feed",
    metadata,
    sa.Column("pos", Int, primary_key=True),
    sa.Column("run_id", Bytes, nullable=False),
    sa.Column("kind", Text, nullable=False),
    sa.Column("seq", Int, nullable=False),
    sa.Column("idx", Int, nullable=False),
    sa.Column("at", Int, nullable=False),
    sa.Column("note", Text),
    sa.CheckConstraint(f"kind IN ({words(*FEED_KINDS)})", name="feed_kind_known"),
    sa.Index("ix_feed_run", "run_id", "pos"),
    sqlite_strict=True,
    sqlite_autoincrement=True,
)

APPEND_ONLY = (machines, machine_edges, payloads, messages, transitions, calls, attempts, deaths, feed)
"""Rows of these are written once; UPDATE and DELETE are refused."""
