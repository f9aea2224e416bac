DROP INDEX ix_runs_due;

DROP INDEX ix_runs_lease;

CREATE TABLE channels (
	channel TEXT COLLATE "C" NOT NULL,
	since BIGINT NOT NULL,
	disabled_at BIGINT,
	reason TEXT COLLATE "C",
	PRIMARY KEY (channel),
	CONSTRAINT channel_named CHECK (channel <> '' AND (disabled_at IS NULL) = (reason IS NULL))
);

ALTER TABLE feed DROP CONSTRAINT feed_kind_known;

ALTER TABLE feed ADD CONSTRAINT feed_kind_known CHECK (kind IN ('started', 'transition', 'call', 'attempt', 'waiting', 'claimed', 'decided', 'alert', 'cancelled', 'dead', 'redriven', 'forked'));

CREATE TABLE outbox (
	event BYTEA NOT NULL,
	kind TEXT COLLATE "C" NOT NULL,
	at BIGINT NOT NULL,
	run_id BYTEA,
	seq BIGINT,
	body TEXT COLLATE "C" NOT NULL,
	PRIMARY KEY (event),
	CONSTRAINT event_id CHECK (length(event) = 16 AND kind <> ''),
	CONSTRAINT event_of_visit CHECK ((run_id IS NULL) = (seq IS NULL))
);

CREATE TABLE schedules (
	name TEXT COLLATE "C" NOT NULL,
	machine TEXT COLLATE "C" NOT NULL,
	rule TEXT COLLATE "C" NOT NULL,
	next_at BIGINT,
	last_at BIGINT,
	paused_at BIGINT,
	created_at BIGINT NOT NULL,
	updated_at BIGINT NOT NULL,
	queue TEXT COLLATE "C" NOT NULL,
	priority BIGINT NOT NULL,
	tenant TEXT COLLATE "C",
	input TEXT COLLATE "C" NOT NULL,
	missed TEXT COLLATE "C" NOT NULL,
	overlap TEXT COLLATE "C" NOT NULL,
	PRIMARY KEY (name),
	CONSTRAINT schedule_policies CHECK (missed IN ('latest', 'all', 'skip') AND overlap IN ('allow', 'skip')),
	CONSTRAINT schedule_named CHECK (name <> '' AND machine <> '' AND queue <> ''),
	CONSTRAINT paused_never_fires CHECK ((paused_at IS NULL) = (next_at IS NOT NULL))
);

CREATE TABLE workers (
	owner TEXT COLLATE "C" NOT NULL,
	started_at BIGINT NOT NULL,
	beat_at BIGINT NOT NULL,
	stopped_at BIGINT,
	lease BIGINT NOT NULL,
	concurrency BIGINT NOT NULL,
	held BIGINT NOT NULL,
	moves BIGINT NOT NULL,
	fenced BIGINT NOT NULL,
	recovered BIGINT NOT NULL,
	queues TEXT COLLATE "C" NOT NULL,
	machines TEXT COLLATE "C" NOT NULL,
	PRIMARY KEY (owner),
	CONSTRAINT worker_numbers CHECK (lease > 0 AND held >= 0 AND moves >= 0 AND fenced >= 0 AND recovered >= 0)
);

CREATE TABLE deliveries (
	event BYTEA NOT NULL,
	channel TEXT COLLATE "C" NOT NULL,
	attempts BIGINT NOT NULL,
	due_at BIGINT,
	delivered_at BIGINT,
	error TEXT COLLATE "C",
	PRIMARY KEY (event, channel),
	CONSTRAINT delivery_ends CHECK (attempts >= 0 AND (delivered_at IS NULL OR due_at IS NULL)),
	CONSTRAINT fk_delivered_event FOREIGN KEY(event) REFERENCES outbox (event),
	CONSTRAINT fk_delivery_channel FOREIGN KEY(channel) REFERENCES channels (channel)
);

CREATE TABLE wants (
	kind TEXT COLLATE "C" NOT NULL,
	channel TEXT COLLATE "C" NOT NULL,
	PRIMARY KEY (kind, channel),
	CONSTRAINT fk_wanting_channel FOREIGN KEY(channel) REFERENCES channels (channel)
);

ALTER TABLE attempts ADD COLUMN hash BYTEA;

ALTER TABLE call_reviews ADD COLUMN hash BYTEA;

ALTER TABLE call_reviews ADD COLUMN answer_hash BYTEA;

ALTER TABLE deaths ADD COLUMN state TEXT COLLATE "C";

ALTER TABLE deaths ADD COLUMN error TEXT COLLATE "C";

ALTER TABLE deaths ADD COLUMN call TEXT COLLATE "C";

ALTER TABLE deaths ADD COLUMN hash BYTEA;

ALTER TABLE reviews ADD COLUMN hash BYTEA;

ALTER TABLE runs DROP CONSTRAINT waiting_known;

ALTER TABLE runs ADD COLUMN queue TEXT COLLATE "C" DEFAULT 'default' NOT NULL;

ALTER TABLE runs ADD COLUMN priority BIGINT DEFAULT '0' NOT NULL;

ALTER TABLE runs ADD COLUMN turn BIGINT DEFAULT '0' NOT NULL;

ALTER TABLE runs ADD COLUMN degraded BIGINT DEFAULT '0' NOT NULL;

ALTER TABLE runs ADD COLUMN extra_steps BIGINT DEFAULT '0' NOT NULL;

ALTER TABLE runs ADD COLUMN forked_from BYTEA;

ALTER TABLE runs ADD COLUMN forked_step BIGINT;

ALTER TABLE runs ADD COLUMN forked_by TEXT COLLATE "C";

ALTER TABLE runs ADD COLUMN forked_note TEXT COLLATE "C";

ALTER TABLE runs ADD CONSTRAINT run_queue CHECK (queue <> '' AND turn >= 0);

ALTER TABLE runs ADD CONSTRAINT run_degraded CHECK (degraded IN (0, 1) AND extra_steps >= 0);

ALTER TABLE runs ADD CONSTRAINT waiting_known CHECK (waiting_for IN ('review', 'timer', 'retry', 'quota', 'breaker', 'limit', 'child', 'start'));

ALTER TABLE runs ADD CONSTRAINT start_waits_at_start CHECK (waiting_for <> 'start' OR seq = 0);

ALTER TABLE runs ADD CONSTRAINT fork_shares CHECK (length(forked_from) = 16 AND forked_step BETWEEN 0 AND seq);

ALTER TABLE runs ADD CONSTRAINT fork_whole_forked_step CHECK ((forked_from IS NULL) = (forked_step IS NULL));

ALTER TABLE runs ADD CONSTRAINT fork_whole_forked_by CHECK ((forked_from IS NULL) = (forked_by IS NULL));

ALTER TABLE runs ADD CONSTRAINT fork_whole_forked_note CHECK ((forked_from IS NULL) = (forked_note IS NULL));

ALTER TABLE snapshots ADD COLUMN hash BYTEA;

CREATE INDEX ix_schedules_next ON schedules (next_at) WHERE next_at IS NOT NULL;

CREATE INDEX ix_deliveries_due ON deliveries (channel, due_at) WHERE due_at IS NOT NULL;

CREATE INDEX ix_runs_dead ON runs (machine, finished_at) WHERE status = 'dead';

CREATE INDEX ix_runs_due ON runs (machine, queue, due_at, waiting_for) WHERE status = 'waiting' AND due_at IS NOT NULL;

CREATE INDEX ix_runs_latest ON runs (queue, priority, turn);

CREATE INDEX ix_runs_lease ON runs (machine, lease_until) WHERE lease_until IS NOT NULL;

CREATE INDEX ix_runs_parked ON runs (machine, waiting_for) WHERE status = 'waiting' AND due_at IS NULL;

CREATE INDEX ix_runs_ready ON runs (machine, queue, priority DESC, turn, due_at) WHERE status = 'ready';

CREATE INDEX ix_runs_turn ON runs (queue, priority, tenant, turn);
