"""Tables of the fleet around the runs: what is told to people, who works, what starts by the calendar.

- `outbox` are events for people; a row of `deliveries` is the errand of carrying one to one of the `channels`, which is
  made only for what the channel `wants`.
- `workers` are the processes that take runs, as of their last beat.
- `schedules` start runs by the calendar.
"""

from __future__ import annotations

import sqlalchemy as sa

from statecraft.store.columns import Bytes, Int, Text, index_where, table

outbox = table(
    "outbox",
    sa.Column("event", Bytes, primary_key=True),
    sa.Column("kind", Text, nullable=False),
    sa.Column("at", Int, nullable=False),
    sa.Column("run_id", Bytes),
    sa.Column("seq", Int),
    sa.Column("body", Text, nullable=False),
    sa.CheckConstraint("length(event) = 16 AND kind <> ''", name="event_id"),
    sa.CheckConstraint("(run_id IS NULL) = (seq IS NULL)", name="event_of_visit"),
)

channels = table(
    "channels",
    sa.Column("channel", Text, primary_key=True),
    sa.Column("since", Int, nullable=False),
    sa.Column("disabled_at", Int),
    sa.Column("reason", Text),
    sa.CheckConstraint("channel <> '' AND (disabled_at IS NULL) = (reason IS NULL)", name="channel_named"),
)

wants = table(
    "wants",
    sa.Column("kind", Text, primary_key=True),
    sa.Column("channel", Text, sa.ForeignKey("channels.channel", name="fk_wanting_channel"), primary_key=True),
    narrow=True,
)

deliveries = table(
    "deliveries",
    sa.Column("event", Bytes, sa.ForeignKey("outbox.event", name="fk_delivered_event"), primary_key=True),
    sa.Column("channel", Text, sa.ForeignKey("channels.channel", name="fk_delivery_channel"), primary_key=True),
    sa.Column("attempts", Int, nullable=False),
    sa.Column("due_at", Int),
    sa.Column("delivered_at", Int),
    sa.Column("error", Text),
    sa.CheckConstraint("attempts >= 0 AND (delivered_at IS NULL OR due_at IS NULL)", name="delivery_ends"),
)
index_where("ix_deliveries_due", deliveries.c.due_at.is_not(None), deliveries.c.channel, deliveries.c.due_at)

workers = table(
    "workers",
    sa.Column("owner", Text, primary_key=True),
    sa.Column("started_at", Int, nullable=False),
    sa.Column("beat_at", Int, nullable=False),
    sa.Column("stopped_at", Int),
    sa.Column("lease", Int, nullable=False),
    sa.Column("concurrency", Int, nullable=False),
    sa.Column("held", Int, nullable=False),
    sa.Column("moves", Int, nullable=False),
    sa.Column("fenced", Int, nullable=False),
    sa.Column("recovered", Int, nullable=False),
    sa.Column("queues", Text, nullable=False),
    sa.Column("machines", Text, nullable=False),
    sa.CheckConstraint("lease > 0 AND held >= 0 AND moves >= 0 AND fenced >= 0 AND recovered >= 0", name="worker_numbers"),
)

schedules = table(
    "schedules",
    sa.Column("name", Text, primary_key=True),
    sa.Column("machine", Text, nullable=False),
    sa.Column("rule", Text, nullable=False),
    sa.Column("next_at", Int),
    sa.Column("last_at", Int),
    sa.Column("paused_at", Int),
    sa.Column("created_at", Int, nullable=False),
    sa.Column("updated_at", Int, nullable=False),
    sa.Column("queue", Text, nullable=False),
    sa.Column("priority", Int, nullable=False),
    sa.Column("tenant", Text),
    sa.Column("input", Text, nullable=False),
    sa.Column("missed", Text, nullable=False),
    sa.Column("overlap", Text, nullable=False),
    sa.CheckConstraint("missed IN ('latest', 'all', 'skip') AND overlap IN ('allow', 'skip')", name="schedule_policies"),
    sa.CheckConstraint("name <> '' AND machine <> '' AND queue <> ''", name="schedule_named"),
    sa.CheckConstraint("(paused_at IS NULL) = (next_at IS NOT NULL)", name="paused_never_fires"),
)
index_where("ix_schedules_next", schedules.c.next_at.is_not(None), schedules.c.next_at)

APPEND_ONLY = (outbox,)
"""Rows of these are written once; UPDATE and DELETE are refused."""
