CREATE TABLE channels (
	channel TEXT NOT NULL,
	since INTEGER NOT NULL,
	disabled_at INTEGER,
	reason TEXT,
	PRIMARY KEY (channel),
	CONSTRAINT channel_named CHECK (channel <> '' AND (disabled_at IS NULL) = (reason IS NULL))
)
 STRICT;

CREATE TABLE new_feed (
	pos INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
	run_id BLOB NOT NULL,
	kind TEXT NOT NULL,
	seq INTEGER NOT NULL,
	idx INTEGER NOT NULL,
	at INTEGER NOT NULL,
	note TEXT,
	CONSTRAINT feed_kind_known CHECK (kind IN ('started', 'transition', 'call', 'attempt', 'waiting', 'claimed', 'decided', 'alert', 'cancelled', 'dead', 'redriven'))
)
 STRICT;

INSERT INTO new_feed ("pos", "run_id", "kind", "seq", "idx", "at", "note")
SELECT "pos", "run_id", "kind", "seq", "idx", "at", "note" FROM feed ORDER BY rowid;

DROP TABLE feed;

ALTER TABLE new_feed RENAME TO feed;

CREATE TABLE outbox (
	event BLOB NOT NULL,
	kind TEXT NOT NULL,
	at INTEGER NOT NULL,
	run_id BLOB,
	seq INTEGER,
	body TEXT NOT NULL,
	PRIMARY KEY (event),
	CONSTRAINT event_id CHECK (length(event) = 16 AND kind <> ''),
	CONSTRAINT event_of_visit CHECK ((run_id IS NULL) = (seq IS NULL))
)
 STRICT;

CREATE TABLE schedules (
	name TEXT NOT NULL,
	machine TEXT NOT NULL,
	rule TEXT NOT NULL,
	next_at INTEGER,
	last_at INTEGER,
	paused_at INTEGER,
	created_at INTEGER NOT NULL,
	updated_at INTEGER NOT NULL,
	queue TEXT NOT NULL,
	priority INTEGER NOT NULL,
	tenant TEXT,
	input TEXT NOT NULL,
	missed TEXT NOT NULL,
	overlap TEXT NOT NULL,
	PRIMARY KEY (name),
	CONSTRAINT schedule_policies CHECK (missed IN ('latest', 'all', 'skip') AND overlap IN ('allow', 'skip')),
	CONSTRAINT schedule_named CHECK (name <> '' AND machine <> '' AND queue <> ''),
	CONSTRAINT paused_never_fires CHECK ((paused_at IS NULL) = (next_at IS NOT NULL))
)
 STRICT;

CREATE TABLE workers (
	owner TEXT NOT NULL,
	started_at INTEGER NOT NULL,
	beat_at INTEGER NOT NULL,
	stopped_at INTEGER,
	lease INTEGER NOT NULL,
	concurrency INTEGER NOT NULL,
	held INTEGER NOT NULL,
	moves INTEGER NOT NULL,
	fenced INTEGER NOT NULL,
	recovered INTEGER NOT NULL,
	queues TEXT NOT NULL,
	machines TEXT NOT NULL,
	PRIMARY KEY (owner),
	CONSTRAINT worker_numbers CHECK (lease > 0 AND held >= 0 AND moves >= 0 AND fenced >= 0 AND recovered >= 0)
)
 STRICT;

CREATE TABLE deliveries (
	event BLOB NOT NULL,
	channel TEXT NOT NULL,
	attempts INTEGER NOT NULL,
	due_at INTEGER,
	delivered_at INTEGER,
	error TEXT,
	PRIMARY KEY (event, channel),
	CONSTRAINT delivery_ends CHECK (attempts >= 0 AND (delivered_at IS NULL OR due_at IS NULL)),
	CONSTRAINT fk_delivered_event FOREIGN KEY(event) REFERENCES outbox (event),
	CONSTRAINT fk_delivery_channel FOREIGN KEY(channel) REFERENCES channels (channel)
)
 STRICT;

CREATE TABLE wants (
	kind TEXT NOT NULL,
	channel TEXT NOT NULL,
	PRIMARY KEY (kind, channel),
	CONSTRAINT fk_wanting_channel FOREIGN KEY(channel) REFERENCES channels (channel)
)
 WITHOUT ROWID,
 STRICT;

CREATE TABLE new_deaths (
	run_id BLOB NOT NULL,
	seq INTEGER NOT NULL,
	epoch INTEGER NOT NULL,
	at INTEGER NOT NULL,
	state TEXT,
	error TEXT,
	call TEXT,
	diagnosis TEXT NOT NULL,
	PRIMARY KEY (run_id, seq, epoch),
	CONSTRAINT fk_death_visit FOREIGN KEY(run_id, seq) REFERENCES transitions (run_id, seq)
)
 STRICT;

INSERT INTO new_deaths ("run_id", "seq", "epoch", "at", "diagnosis")
SELECT "run_id", "seq", "epoch", "at", "diagnosis" FROM deaths ORDER BY rowid;

DROP TABLE deaths;

ALTER TABLE new_deaths RENAME TO deaths;

CREATE TABLE new_runs (
	no INTEGER NOT NULL,
	run_id BLOB NOT NULL,
	machine INTEGER NOT NULL,
	seq INTEGER NOT NULL,
	state TEXT NOT NULL,
	status TEXT NOT NULL,
	epoch INTEGER NOT NULL,
	attempts INTEGER NOT NULL,
	owner TEXT,
	lease_until INTEGER,
	waiting_for TEXT,
	due_at INTEGER,
	deadline_at INTEGER,
	created_at INTEGER NOT NULL,
	updated_at INTEGER NOT NULL,
	finished_at INTEGER,
	"key" TEXT,
	trace_id TEXT NOT NULL,
	tenant TEXT,
	parent BLOB,
	reason TEXT,
	draws TEXT,
	queue TEXT DEFAULT 'default' NOT NULL,
	priority INTEGER DEFAULT '0' NOT NULL,
	turn INTEGER DEFAULT '0' NOT NULL,
	degraded INTEGER DEFAULT '0' NOT NULL,
	extra_steps INTEGER DEFAULT '0' NOT NULL,
	PRIMARY KEY (no),
	CONSTRAINT run_numbers CHECK (length(run_id) = 16 AND seq >= 0 AND epoch >= 0 AND attempts >= 0),
	CONSTRAINT run_queue CHECK (queue <> '' AND turn >= 0),
	CONSTRAINT run_degraded CHECK (degraded IN (0, 1) AND extra_steps >= 0),
	CONSTRAINT status_known CHECK (status IN ('ready', 'running', 'waiting', 'done', 'failed', 'cancelled', 'dead')),
	CONSTRAINT waiting_known CHECK (waiting_for IN ('review', 'timer', 'retry', 'quota', 'breaker', 'limit', 'child', 'start')),
	CONSTRAINT lease_whole CHECK ((owner IS NULL) = (lease_until IS NULL)),
	CONSTRAINT held_iff_running CHECK ((status = 'running') = (owner IS NOT NULL)),
	CONSTRAINT waiting_iff_reason CHECK ((status = 'waiting') = (waiting_for IS NOT NULL)),
	CONSTRAINT closed_iff_finished CHECK ((status IN ('cancelled', 'dead', 'done', 'failed')) = (finished_at IS NOT NULL)),
	CONSTRAINT due_only_parked CHECK (due_at IS NULL OR status IN ('ready', 'waiting')),
	CONSTRAINT ready_is_due CHECK (due_at IS NOT NULL OR status <> 'ready'),
	CONSTRAINT time_wakes CHECK (due_at IS NOT NULL OR waiting_for IS NULL OR waiting_for IN ('review', 'child')),
	CONSTRAINT start_waits_at_start CHECK (waiting_for <> 'start' OR seq = 0),
	CONSTRAINT own_parent CHECK (parent <> run_id),
	CONSTRAINT fk_head FOREIGN KEY(run_id, seq, state) REFERENCES transitions (run_id, seq, target) DEFERRABLE INITIALLY DEFERRED,
	UNIQUE (run_id),
	FOREIGN KEY(machine) REFERENCES machines (machine),
	CONSTRAINT fk_parent_run FOREIGN KEY(parent) REFERENCES runs (run_id)
)
 STRICT;

INSERT INTO new_runs ("no", "run_id", "machine", "seq", "state", "status", "epoch", "attempts", "owner", "lease_until", "waiting_for", "due_at", "deadline_at", "created_at", "updated_at", "finished_at", "key", "trace_id", "tenant", "parent", "reason", "draws")
SELECT "no", "run_id", "machine", "seq", "state", "status", "epoch", "attempts", "owner", "lease_until", "waiting_for", "due_at", "deadline_at", "created_at", "updated_at", "finished_at", "key", "trace_id", "tenant", "parent", "reason", "draws" FROM runs ORDER BY rowid;

DROP TABLE runs;

ALTER TABLE new_runs RENAME TO runs;

CREATE INDEX ix_feed_run ON feed (run_id, pos);

CREATE INDEX ix_schedules_next ON schedules (next_at) WHERE next_at IS NOT NULL;

CREATE INDEX ix_deliveries_due ON deliveries (channel, due_at) WHERE due_at IS NOT NULL;

CREATE INDEX ix_runs_dead ON runs (machine, finished_at) WHERE status = 'dead';

CREATE INDEX ix_runs_due ON runs (machine, queue, due_at, waiting_for) WHERE status = 'waiting' AND due_at IS NOT NULL;

CREATE INDEX ix_runs_latest ON runs (queue, priority, turn);

CREATE INDEX ix_runs_lease ON runs (machine, lease_until) WHERE lease_until IS NOT NULL;

CREATE INDEX ix_runs_parent ON runs (parent, finished_at) WHERE parent IS NOT NULL;

CREATE INDEX ix_runs_parked ON runs (machine, waiting_for) WHERE status = 'waiting' AND due_at IS NULL;

CREATE INDEX ix_runs_ready ON runs (machine, queue, priority DESC, turn, due_at) WHERE status = 'ready';

CREATE INDEX ix_runs_turn ON runs (queue, priority, tenant, turn);

CREATE UNIQUE INDEX uq_run_key ON runs ("key") WHERE "key" IS NOT NULL;
