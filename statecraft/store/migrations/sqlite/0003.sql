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
	CONSTRAINT feed_kind_known CHECK (kind IN ('started', 'transition', 'call', 'attempt', 'waiting', 'claimed', 'decided', 'alert', 'cancelled', 'dead', 'redriven', 'forked'))
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

CREATE TABLE new_attempts (
	no INTEGER NOT NULL,
	run_id BLOB NOT NULL,
	seq INTEGER NOT NULL,
	digest BLOB NOT NULL,
	occurrence INTEGER NOT NULL,
	attempt INTEGER NOT NULL,
	kind TEXT NOT NULL,
	name TEXT NOT NULL,
	epoch INTEGER NOT NULL,
	at INTEGER NOT NULL,
	due_at INTEGER,
	hash BLOB,
	message TEXT NOT NULL,
	PRIMARY KEY (no),
	CONSTRAINT attempt_numbers CHECK (attempt >= 1 AND occurrence >= 0 AND length(digest) = 32),
	CONSTRAINT uq_attempt UNIQUE (run_id, seq, digest, occurrence, attempt, kind),
	CONSTRAINT fk_attempt_visit FOREIGN KEY(run_id, seq) REFERENCES transitions (run_id, seq)
)
 STRICT;

INSERT INTO new_attempts ("no", "run_id", "seq", "digest", "occurrence", "attempt", "kind", "name", "epoch", "at", "due_at", "message")
SELECT "no", "run_id", "seq", "digest", "occurrence", "attempt", "kind", "name", "epoch", "at", "due_at", "message" FROM attempts ORDER BY rowid;

DROP TABLE attempts;

ALTER TABLE new_attempts RENAME TO attempts;

CREATE TABLE new_call_reviews (
	run_id BLOB NOT NULL,
	seq INTEGER NOT NULL,
	digest BLOB NOT NULL,
	occurrence INTEGER NOT NULL,
	round INTEGER NOT NULL,
	kind TEXT NOT NULL,
	tool TEXT NOT NULL,
	action BLOB NOT NULL,
	requested_at INTEGER NOT NULL,
	remind_at INTEGER,
	expires_at INTEGER,
	decision TEXT,
	decided_by TEXT,
	decided_at INTEGER,
	decided_epoch INTEGER,
	note TEXT,
	hash BLOB,
	answer_hash BLOB,
	decisions TEXT NOT NULL,
	question TEXT NOT NULL,
	arguments TEXT NOT NULL,
	show TEXT NOT NULL,
	answer TEXT,
	PRIMARY KEY (run_id, seq, digest, occurrence, round),
	CONSTRAINT call_review_kind CHECK (kind IN ('gate', 'doubt')),
	CONSTRAINT call_review_numbers CHECK (occurrence >= 0 AND round >= 0),
	CONSTRAINT call_review_hashes CHECK (length(digest) = 32 AND length(action) = 32),
	CONSTRAINT call_decided_whole_decided_by CHECK ((decision IS NULL) = (decided_by IS NULL)),
	CONSTRAINT call_decided_whole_decided_at CHECK ((decision IS NULL) = (decided_at IS NULL)),
	CONSTRAINT call_decided_whole_decided_epoch CHECK ((decision IS NULL) = (decided_epoch IS NULL)),
	CONSTRAINT call_decided_whole_note CHECK ((decision IS NULL) = (note IS NULL)),
	CONSTRAINT answer_of_decision CHECK (answer IS NULL OR decision IS NOT NULL),
	CONSTRAINT fk_call_review_visit FOREIGN KEY(run_id, seq) REFERENCES transitions (run_id, seq)
)
 STRICT;

INSERT INTO new_call_reviews ("run_id", "seq", "digest", "occurrence", "round", "kind", "tool", "action", "requested_at", "remind_at", "expires_at", "decision", "decided_by", "decided_at", "decided_epoch", "note", "decisions", "question", "arguments", "show", "answer")
SELECT "run_id", "seq", "digest", "occurrence", "round", "kind", "tool", "action", "requested_at", "remind_at", "expires_at", "decision", "decided_by", "decided_at", "decided_epoch", "note", "decisions", "question", "arguments", "show", "answer" FROM call_reviews ORDER BY rowid;

DROP TABLE call_reviews;

ALTER TABLE new_call_reviews RENAME TO call_reviews;

CREATE TABLE new_deaths (
	run_id BLOB NOT NULL,
	seq INTEGER NOT NULL,
	epoch INTEGER NOT NULL,
	at INTEGER NOT NULL,
	state TEXT,
	error TEXT,
	call TEXT,
	hash BLOB,
	diagnosis TEXT NOT NULL,
	PRIMARY KEY (run_id, seq, epoch),
	CONSTRAINT fk_death_visit FOREIGN KEY(run_id, seq) REFERENCES transitions (run_id, seq)
)
 STRICT;

INSERT INTO new_deaths ("run_id", "seq", "epoch", "at", "diagnosis")
SELECT "run_id", "seq", "epoch", "at", "diagnosis" FROM deaths ORDER BY rowid;

DROP TABLE deaths;

ALTER TABLE new_deaths RENAME TO deaths;

CREATE TABLE new_reviews (
	run_id BLOB NOT NULL,
	seq INTEGER NOT NULL,
	state TEXT NOT NULL,
	requested_at INTEGER NOT NULL,
	expires_at INTEGER,
	decision TEXT,
	decided_by TEXT,
	decided_at INTEGER,
	decided_seq INTEGER GENERATED ALWAYS AS (CASE WHEN decision IS NOT NULL THEN seq + 1 END) STORED,
	hash BLOB,
	events TEXT NOT NULL,
	question TEXT NOT NULL,
	show TEXT NOT NULL,
	PRIMARY KEY (run_id, seq),
	CONSTRAINT decided_whole CHECK ((decision IS NULL) = (decided_at IS NULL)),
	CONSTRAINT decided_by_somebody CHECK (decided_by IS NULL OR decision IS NOT NULL),
	CONSTRAINT fk_review_state FOREIGN KEY(run_id, seq, state) REFERENCES transitions (run_id, seq, target),
	CONSTRAINT fk_decision_moved FOREIGN KEY(run_id, decided_seq) REFERENCES transitions (run_id, seq)
)
 STRICT;

INSERT INTO new_reviews ("run_id", "seq", "state", "requested_at", "expires_at", "decision", "decided_by", "decided_at", "events", "question", "show")
SELECT "run_id", "seq", "state", "requested_at", "expires_at", "decision", "decided_by", "decided_at", "events", "question", "show" FROM reviews ORDER BY rowid;

DROP TABLE reviews;

ALTER TABLE new_reviews RENAME TO reviews;

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
	forked_from BLOB,
	forked_step INTEGER,
	forked_by TEXT,
	forked_note TEXT,
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
	CONSTRAINT fork_shares CHECK (length(forked_from) = 16 AND forked_step BETWEEN 0 AND seq),
	CONSTRAINT fork_whole_forked_step CHECK ((forked_from IS NULL) = (forked_step IS NULL)),
	CONSTRAINT fork_whole_forked_by CHECK ((forked_from IS NULL) = (forked_by IS NULL)),
	CONSTRAINT fork_whole_forked_note CHECK ((forked_from IS NULL) = (forked_note IS NULL)),
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

CREATE TABLE new_snapshots (
	run_id BLOB NOT NULL,
	seq INTEGER NOT NULL,
	hash BLOB,
	data TEXT NOT NULL,
	PRIMARY KEY (run_id),
	CONSTRAINT fk_snapshot_visit FOREIGN KEY(run_id, seq) REFERENCES transitions (run_id, seq)
)
 STRICT;

INSERT INTO new_snapshots ("run_id", "seq", "data")
SELECT "run_id", "seq", "data" FROM snapshots ORDER BY rowid;

DROP TABLE snapshots;

ALTER TABLE new_snapshots RENAME TO snapshots;

CREATE INDEX ix_feed_run ON feed (run_id, pos);

CREATE INDEX ix_schedules_next ON schedules (next_at) WHERE next_at IS NOT NULL;

CREATE INDEX ix_deliveries_due ON deliveries (channel, due_at) WHERE due_at IS NOT NULL;

CREATE INDEX ix_call_reviews_open ON call_reviews (run_id, seq) WHERE decision IS NULL;

CREATE INDEX ix_reviews_open ON reviews (run_id, seq) WHERE decision IS NULL;

CREATE INDEX ix_runs_dead ON runs (machine, finished_at) WHERE status = 'dead';

CREATE INDEX ix_runs_due ON runs (machine, queue, due_at, waiting_for) WHERE status = 'waiting' AND due_at IS NOT NULL;

CREATE INDEX ix_runs_latest ON runs (queue, priority, turn);

CREATE INDEX ix_runs_lease ON runs (machine, lease_until) WHERE lease_until IS NOT NULL;

CREATE INDEX ix_runs_parent ON runs (parent, finished_at) WHERE parent IS NOT NULL;

CREATE INDEX ix_runs_parked ON runs (machine, waiting_for) WHERE status = 'waiting' AND due_at IS NULL;

CREATE INDEX ix_runs_ready ON runs (machine, queue, priority DESC, turn, due_at) WHERE status = 'ready';

CREATE INDEX ix_runs_turn ON runs (queue, priority, tenant, turn);

CREATE UNIQUE INDEX uq_run_key ON runs ("key") WHERE "key" IS NOT NULL;
