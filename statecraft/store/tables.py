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
- A text longer than `INLINE_BYTES` is kept once in `payloads` under its SHA-256; the row keeps the hash.

Instants are integer microseconds, ids 16 bytes, hashes 32 bytes, JSON is text (its exact bytes are hashed).
Columns a reader scans come first in a row, long texts last.
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.schema import SchemaItem

from statecraft.records import CLOSED, Status, Waiting

VERSION = 2
"""Number of the schema that this code writes and reads."""

INLINE_BYTES = 4096
"""The longest text kept in its row."""

metadata = sa.MetaData()

_Int = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_Bytes = sa.LargeBinary
_Text = sa.Text


def _words(*words: str) -> str:
    return ", ".join(f"'{word}'" for word in words)


def _table(name: str, *parts: SchemaItem, narrow: bool = False) -> sa.Table:
    return sa.Table(name, metadata, *parts, sqlite_strict=True, sqlite_with_rowid=not narrow)


def _visit(name: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(["run_id", "seq"], ["transitions.run_id", "transitions.seq"], name=name)


def _text_or_hash(column: str) -> tuple[SchemaItem, ...]:
    """A long text: in the row, or in `payloads` under the hash the row keeps."""
    return (
        sa.Column(f"{column}_hash", _Bytes, sa.ForeignKey("payloads.hash")),
        sa.Column(column, _Text),
        sa.CheckConstraint(f"({column} IS NULL) <> ({column}_hash IS NULL)", name=f"{column}_kept_once"),
    )


schema_version = _table(
    "schema_version",
    sa.Column("id", _Int, primary_key=True, autoincrement=False),
    sa.Column("version", _Int, nullable=False),
    sa.CheckConstraint("id = 1", name="one_row"),
)

machines = _table(
    "machines",
    sa.Column("machine", _Int, primary_key=True),
    sa.Column("fingerprint", _Text, nullable=False, unique=True),
    sa.Column("name", _Text, nullable=False),
    sa.Column("version", _Text, nullable=False),
    sa.Column("spec", _Text, nullable=False),
)

machine_edges = _table(
    "machine_edges",
    sa.Column("machine", _Int, sa.ForeignKey("machines.machine"), primary_key=True, autoincrement=False),
    sa.Column("source", _Text, primary_key=True),
    sa.Column("event", _Text, primary_key=True),
    sa.Column("target", _Text, primary_key=True),
    narrow=True,
)

payloads = _table(
    "payloads",
    sa.Column("hash", _Bytes, primary_key=True),
    sa.Column("body", _Text, nullable=False),
    sa.CheckConstraint("length(hash) = 32", name="payload_hash_length"),
)

messages = _table(
    "messages",
    sa.Column("hash", _Bytes, primary_key=True),
    sa.Column("parent", _Bytes, sa.ForeignKey("messages.hash", name="fk_parent")),
    sa.Column("body", _Text, nullable=False),
    sa.CheckConstraint("length(hash) = 32 AND (parent IS NULL OR parent <> hash)", name="message_hash"),
)

transitions = _table(
    "transitions",
    sa.Column("run_id", _Bytes, primary_key=True),
    sa.Column("seq", _Int, primary_key=True, autoincrement=False),
    sa.Column("machine", _Int, nullable=False),
    sa.Column("source", _Text, nullable=False),
    sa.Column("event", _Text, nullable=False),
    sa.Column("target", _Text, nullable=False),
    sa.Column("prev_seq", _Int, sa.Computed("CASE WHEN seq > 0 THEN seq - 1 END", persisted=True)),
    sa.Column("epoch", _Int, nullable=False),
    sa.Column("at", _Int, nullable=False),
    sa.Column("calls", _Int, nullable=False),
    sa.Column("input_tokens", _Int, nullable=False),
    sa.Column("output_tokens", _Int, nullable=False),
    sa.Column("actor", _Text),
    sa.Column("hash", _Bytes, nullable=False),
    sa.Column("guards", _Text, nullable=False),
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

_closed = _words(*sorted(CLOSED))

runs = _table(
    "runs",
    sa.Column("no", _Int, primary_key=True),
    sa.Column("run_id", _Bytes, nullable=False, unique=True),
    sa.Column("machine", _Int, sa.ForeignKey("machines.machine"), nullable=False),
    sa.Column("seq", _Int, nullable=False),
    sa.Column("state", _Text, nullable=False),
    sa.Column("status", _Text, nullable=False),
    sa.Column("epoch", _Int, nullable=False),
    sa.Column("attempts", _Int, nullable=False),
    sa.Column("owner", _Text),
    sa.Column("lease_until", _Int),
    sa.Column("waiting_for", _Text),
    sa.Column("due_at", _Int),
    sa.Column("deadline_at", _Int),
    sa.Column("created_at", _Int, nullable=False),
    sa.Column("updated_at", _Int, nullable=False),
    sa.Column("finished_at", _Int),
    sa.Column("key", _Text),
    sa.Column("trace_id", _Text, nullable=False),
    sa.Column("tenant", _Text),
    sa.Column("parent", _Bytes, sa.ForeignKey("runs.run_id", name="fk_parent_run")),
    sa.Column("reason", _Text),
    sa.Column("draws", _Text),
    sa.CheckConstraint("length(run_id) = 16 AND seq >= 0 AND epoch >= 0 AND attempts >= 0", name="run_numbers"),
    sa.CheckConstraint(f"status IN ({_words(*Status)})", name="status_known"),
    sa.CheckConstraint(f"waiting_for IN ({_words(*Waiting)})", name="waiting_known"),
    sa.CheckConstraint("(owner IS NULL) = (lease_until IS NULL)", name="lease_whole"),
    sa.CheckConstraint("(status = 'running') = (owner IS NOT NULL)", name="held_iff_running"),
    sa.CheckConstraint("(status = 'waiting') = (waiting_for IS NOT NULL)", name="waiting_iff_reason"),
    sa.CheckConstraint(f"(status IN ({_closed})) = (finished_at IS NOT NULL)", name="closed_iff_finished"),
    sa.CheckConstraint("due_at IS NULL OR status IN ('ready', 'waiting')", name="due_only_parked"),
    sa.CheckConstraint("due_at IS NOT NULL OR status <> 'ready'", name="ready_is_due"),
    sa.CheckConstraint("due_at IS NOT NULL OR waiting_for IS NULL OR waiting_for IN ('review', 'child')", name="time_wakes"),
    sa.CheckConstraint("parent <> run_id", name="own_parent"),
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
    where = runs.c[column].is_not(None)
    columns = (runs.c[name] for name in (column, *more))
    sa.Index(name, *columns, unique=unique, sqlite_where=where, postgresql_where=where)


_partial("uq_run_key", "key", unique=True)
_partial("ix_runs_due", "due_at")
_partial("ix_runs_lease", "lease_until")
_partial("ix_runs_parent", "parent", "finished_at")

calls = _table(
    "calls",
    sa.Column("run_id", _Bytes, primary_key=True),
    sa.Column("seq", _Int, primary_key=True, autoincrement=False),
    sa.Column("idx", _Int, primary_key=True, autoincrement=False),
    sa.Column("kind", _Text, nullable=False),
    sa.Column("name", _Text, nullable=False),
    sa.Column("digest", _Bytes, nullable=False),
    sa.Column("occurrence", _Int, nullable=False),
    sa.Column("ok", _Int, nullable=False),
    sa.Column("attempts", _Int, nullable=False),
    sa.Column("started_at", _Int, nullable=False),
    sa.Column("finished_at", _Int, nullable=False),
    sa.Column("epoch", _Int, nullable=False),
    sa.Column("input_tokens", _Int, nullable=False),
    sa.Column("output_tokens", _Int, nullable=False),
    sa.Column("model", _Text),
    sa.Column("cost", _Int),
    sa.Column("price_source", _Text),
    sa.Column("hash", _Bytes, nullable=False),
    *_text_or_hash("request"),
    *_text_or_hash("result"),
    sa.CheckConstraint("idx >= 0 AND occurrence >= 0 AND attempts >= 0 AND ok IN (0, 1)", name="call_numbers"),
    sa.CheckConstraint("length(digest) = 32 AND length(hash) = 32", name="call_hashes"),
    sa.CheckConstraint("cost >= 0", name="call_cost"),
    sa.UniqueConstraint("run_id", "seq", "digest", "occurrence", name="uq_answer"),
    _visit("fk_call_visit"),
)

attempts = _table(
    "attempts",
    sa.Column("no", _Int, primary_key=True),
    sa.Column("run_id", _Bytes, nullable=False),
    sa.Column("seq", _Int, nullable=False),
    sa.Column("digest", _Bytes, nullable=False),
    sa.Column("occurrence", _Int, nullable=False),
    sa.Column("attempt", _Int, nullable=False),
    sa.Column("kind", _Text, nullable=False),
    sa.Column("name", _Text, nullable=False),
    sa.Column("epoch", _Int, nullable=False),
    sa.Column("at", _Int, nullable=False),
    sa.Column("due_at", _Int),
    sa.Column("message", _Text, nullable=False),
    sa.CheckConstraint("attempt >= 1 AND occurrence >= 0 AND length(digest) = 32", name="attempt_numbers"),
    sa.UniqueConstraint("run_id", "seq", "digest", "occurrence", "attempt", "kind", name="uq_attempt"),
    _visit("fk_attempt_visit"),
)

reviews = _table(
    "reviews",
    sa.Column("run_id", _Bytes, primary_key=True),
    sa.Column("seq", _Int, primary_key=True, autoincrement=False),
    sa.Column("state", _Text, nullable=False),
    sa.Column("requested_at", _Int, nullable=False),
    sa.Column("expires_at", _Int),
    sa.Column("decision", _Text),
    sa.Column("decided_by", _Text),
    sa.Column("decided_at", _Int),
    sa.Column("decided_seq", _Int, sa.Computed("CASE WHEN decision IS NOT NULL THEN seq + 1 END", persisted=True)),
    sa.Column("events", _Text, nullable=False),
    sa.Column("question", _Text, nullable=False),
    sa.Column("show", _Text, nullable=False),
    sa.CheckConstraint("(decision IS NULL) = (decided_at IS NULL)", name="decided_whole"),
    sa.CheckConstraint("decided_by IS NULL OR decision IS NOT NULL", name="decided_by_somebody"),
    sa.ForeignKeyConstraint(
        ["run_id", "seq", "state"], ["transitions.run_id", "transitions.seq", "transitions.target"], name="fk_review_state"
    ),
    sa.ForeignKeyConstraint(["run_id", "decided_seq"], ["transitions.run_id", "transitions.seq"], name="fk_decision_moved"),
)
_open = reviews.c.decision.is_(None)
sa.Index("ix_reviews_open", reviews.c.run_id, reviews.c.seq, sqlite_where=_open, postgresql_where=_open)

call_reviews = _table(
    "call_reviews",
    sa.Column("run_id", _Bytes, primary_key=True),
    sa.Column("seq", _Int, primary_key=True, autoincrement=False),
    sa.Column("digest", _Bytes, primary_key=True),
    sa.Column("occurrence", _Int, primary_key=True, autoincrement=False),
    sa.Column("round", _Int, primary_key=True, autoincrement=False),
    sa.Column("kind", _Text, nullable=False),
    sa.Column("tool", _Text, nullable=False),
    sa.Column("action", _Bytes, nullable=False),
    sa.Column("requested_at", _Int, nullable=False),
    sa.Column("remind_at", _Int),
    sa.Column("expires_at", _Int),
    sa.Column("decision", _Text),
    sa.Column("decided_by", _Text),
    sa.Column("decided_at", _Int),
    sa.Column("decided_epoch", _Int),
    sa.Column("note", _Text),
    sa.Column("decisions", _Text, nullable=False),
    sa.Column("question", _Text, nullable=False),
    sa.Column("arguments", _Text, nullable=False),
    sa.Column("show", _Text, nullable=False),
    sa.Column("answer", _Text),
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
ANSWER = ("decision", "decided_by", "decided_at", "decided_epoch", "note", "answer")
"""The columns of `call_reviews` that the decision fills; the others never change."""
_unanswered = call_reviews.c.decision.is_(None)
sa.Index(
    "ix_call_reviews_open",
    call_reviews.c.run_id,
    call_reviews.c.seq,
    sqlite_where=_unanswered,
    postgresql_where=_unanswered,
)

meters = _table(
    "meters",
    sa.Column("meter", _Text, primary_key=True),
    sa.Column("used", _Int, nullable=False),
    sa.Column("state", _Text),
    sa.CheckConstraint("used >= 0 AND meter <> ''", name="meter_used"),
    narrow=True,
)

reservations = _table(
    "reservations",
    sa.Column("run_id", _Bytes, primary_key=True),
    sa.Column("seq", _Int, primary_key=True, autoincrement=False),
    sa.Column("digest", _Bytes, primary_key=True),
    sa.Column("occurrence", _Int, primary_key=True, autoincrement=False),
    sa.Column("meter", _Text, primary_key=True),
    sa.Column("epoch", _Int, nullable=False),
    sa.Column("amount", _Int, nullable=False),
    sa.CheckConstraint("amount >= 0 AND occurrence >= 0 AND length(digest) = 32", name="reservation_numbers"),
    sa.Index("ix_reservations_meter", "meter", "amount"),
    _visit("fk_reservation_visit"),
    narrow=True,
)

snapshots = _table(
    "snapshots",
    sa.Column("run_id", _Bytes, primary_key=True),
    sa.Column("seq", _Int, nullable=False),
    sa.Column("data", _Text, nullable=False),
    _visit("fk_snapshot_visit"),
)

deaths = _table(
    "deaths",
    sa.Column("run_id", _Bytes, primary_key=True),
    sa.Column("seq", _Int, primary_key=True, autoincrement=False),
    sa.Column("epoch", _Int, primary_key=True, autoincrement=False),
    sa.Column("at", _Int, nullable=False),
    sa.Column("diagnosis", _Text, nullable=False),
    _visit("fk_death_visit"),
)

FEED_KINDS = ("started", "transition", "call", "attempt", "waiting", "claimed", "decided", "alert", "cancelled", "dead")

feed = sa.Table(
    "feed",
    metadata,
    sa.Column("pos", _Int, primary_key=True),
    sa.Column("run_id", _Bytes, nullable=False),
    sa.Column("kind", _Text, nullable=False),
    sa.Column("seq", _Int, nullable=False),
    sa.Column("idx", _Int, nullable=False),
    sa.Column("at", _Int, nullable=False),
    sa.Column("note", _Text),
    sa.CheckConstraint(f"kind IN ({_words(*FEED_KINDS)})", name="feed_kind_known"),
    sa.Index("ix_feed_run", "run_id", "pos"),
    sqlite_strict=True,
    sqlite_autoincrement=True,
)

APPEND_ONLY = (machines, machine_edges, payloads, messages, transitions, calls, attempts, deaths, feed)
"""Rows of these are written once; UPDATE and DELETE are refused."""
