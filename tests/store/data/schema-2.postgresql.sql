CREATE TABLE feed (
	pos BIGSERIAL NOT NULL,
	run_id BYTEA NOT NULL,
	kind TEXT COLLATE "C" NOT NULL,
	seq BIGINT NOT NULL,
	idx BIGINT NOT NULL,
	at BIGINT NOT NULL,
	note TEXT COLLATE "C",
	PRIMARY KEY (pos),
	CONSTRAINT feed_kind_known CHECK (kind IN ('started', 'transition', 'call', 'attempt', 'waiting', 'claimed', 'decided', 'alert', 'cancelled', 'dead'))
);

CREATE INDEX ix_feed_run ON feed (run_id, pos);

CREATE TABLE machines (
	machine BIGSERIAL NOT NULL,
	fingerprint TEXT COLLATE "C" NOT NULL,
	name TEXT COLLATE "C" NOT NULL,
	version TEXT COLLATE "C" NOT NULL,
	spec TEXT COLLATE "C" NOT NULL,
	PRIMARY KEY (machine),
	UNIQUE (fingerprint)
);

CREATE TABLE messages (
	hash BYTEA NOT NULL,
	parent BYTEA,
	body TEXT COLLATE "C" NOT NULL,
	PRIMARY KEY (hash),
	CONSTRAINT message_hash CHECK (length(hash) = 32 AND (parent IS NULL OR parent <> hash)),
	CONSTRAINT fk_parent FOREIGN KEY(parent) REFERENCES messages (hash)
);

CREATE TABLE meters (
	meter TEXT COLLATE "C" NOT NULL,
	used BIGINT NOT NULL,
	state TEXT COLLATE "C",
	PRIMARY KEY (meter),
	CONSTRAINT meter_used CHECK (used >= 0 AND meter <> '')
);

CREATE TABLE payloads (
	hash BYTEA NOT NULL,
	body TEXT COLLATE "C" NOT NULL,
	PRIMARY KEY (hash),
	CONSTRAINT payload_hash_length CHECK (length(hash) = 32)
);

CREATE TABLE schema_version (
	id BIGINT NOT NULL,
	version BIGINT NOT NULL,
	PRIMARY KEY (id),
	CONSTRAINT one_row CHECK (id = 1)
);

CREATE TABLE machine_edges (
	machine BIGINT NOT NULL,
	source TEXT COLLATE "C" NOT NULL,
	event TEXT COLLATE "C" NOT NULL,
	target TEXT COLLATE "C" NOT NULL,
	PRIMARY KEY (machine, source, event, target),
	FOREIGN KEY(machine) REFERENCES machines (machine)
);

CREATE TABLE transitions (
	run_id BYTEA NOT NULL,
	seq BIGINT NOT NULL,
	machine BIGINT NOT NULL,
	source TEXT COLLATE "C" NOT NULL,
	event TEXT COLLATE "C" NOT NULL,
	target TEXT COLLATE "C" NOT NULL,
	prev_seq BIGINT GENERATED ALWAYS AS (CASE WHEN seq > 0 THEN seq - 1 END) STORED,
	epoch BIGINT NOT NULL,
	at BIGINT NOT NULL,
	calls BIGINT NOT NULL,
	input_tokens BIGINT NOT NULL,
	output_tokens BIGINT NOT NULL,
	actor TEXT COLLATE "C",
	hash BYTEA NOT NULL,
	guards TEXT COLLATE "C" NOT NULL,
	payload_hash BYTEA,
	payload TEXT COLLATE "C",
	PRIMARY KEY (run_id, seq),
	CONSTRAINT payload_kept_once CHECK ((payload IS NULL) <> (payload_hash IS NULL)),
	CONSTRAINT starts_once CHECK (seq >= 0 AND (seq = 0) = (source = '')),
	CONSTRAINT transition_ids CHECK (length(run_id) = 16 AND length(hash) = 32),
	CONSTRAINT transition_counts CHECK (calls >= 0 AND input_tokens >= 0 AND output_tokens >= 0),
	CONSTRAINT uq_link UNIQUE (run_id, seq, target),
	CONSTRAINT fk_edge FOREIGN KEY(machine, source, event, target) REFERENCES machine_edges (machine, source, event, target),
	CONSTRAINT fk_chain FOREIGN KEY(run_id, prev_seq, source) REFERENCES transitions (run_id, seq, target),
	FOREIGN KEY(payload_hash) REFERENCES payloads (hash)
);

CREATE TABLE attempts (
	no BIGSERIAL NOT NULL,
	run_id BYTEA NOT NULL,
	seq BIGINT NOT NULL,
	digest BYTEA NOT NULL,
	occurrence BIGINT NOT NULL,
	attempt BIGINT NOT NULL,
	kind TEXT COLLATE "C" NOT NULL,
	name TEXT COLLATE "C" NOT NULL,
	epoch BIGINT NOT NULL,
	at BIGINT NOT NULL,
	due_at BIGINT,
	message TEXT COLLATE "C" NOT NULL,
	PRIMARY KEY (no),
	CONSTRAINT attempt_numbers CHECK (attempt >= 1 AND occurrence >= 0 AND length(digest) = 32),
	CONSTRAINT uq_attempt UNIQUE (run_id, seq, digest, occurrence, attempt, kind),
	CONSTRAINT fk_attempt_visit FOREIGN KEY(run_id, seq) REFERENCES transitions (run_id, seq)
);

CREATE TABLE call_reviews (
	run_id BYTEA NOT NULL,
	seq BIGINT NOT NULL,
	digest BYTEA NOT NULL,
	occurrence BIGINT NOT NULL,
	round BIGINT NOT NULL,
	kind TEXT COLLATE "C" NOT NULL,
	tool TEXT COLLATE "C" NOT NULL,
	action BYTEA NOT NULL,
	requested_at BIGINT NOT NULL,
	remind_at BIGINT,
	expires_at BIGINT,
	decision TEXT COLLATE "C",
	decided_by TEXT COLLATE "C",
	decided_at BIGINT,
	decided_epoch BIGINT,
	note TEXT COLLATE "C",
	decisions TEXT COLLATE "C" NOT NULL,
	question TEXT COLLATE "C" NOT NULL,
	arguments TEXT COLLATE "C" NOT NULL,
	show TEXT COLLATE "C" NOT NULL,
	answer TEXT COLLATE "C",
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
);

CREATE INDEX ix_call_reviews_open ON call_reviews (run_id, seq) WHERE decision IS NULL;

CREATE TABLE calls (
	run_id BYTEA NOT NULL,
	seq BIGINT NOT NULL,
	idx BIGINT NOT NULL,
	kind TEXT COLLATE "C" NOT NULL,
	name TEXT COLLATE "C" NOT NULL,
	digest BYTEA NOT NULL,
	occurrence BIGINT NOT NULL,
	ok BIGINT NOT NULL,
	attempts BIGINT NOT NULL,
	started_at BIGINT NOT NULL,
	finished_at BIGINT NOT NULL,
	epoch BIGINT NOT NULL,
	input_tokens BIGINT NOT NULL,
	output_tokens BIGINT NOT NULL,
	model TEXT COLLATE "C",
	cost BIGINT,
	price_source TEXT COLLATE "C",
	hash BYTEA NOT NULL,
	request_hash BYTEA,
	request TEXT COLLATE "C",
	result_hash BYTEA,
	result TEXT COLLATE "C",
	PRIMARY KEY (run_id, seq, idx),
	CONSTRAINT request_kept_once CHECK ((request IS NULL) <> (request_hash IS NULL)),
	CONSTRAINT result_kept_once CHECK ((result IS NULL) <> (result_hash IS NULL)),
	CONSTRAINT call_numbers CHECK (idx >= 0 AND occurrence >= 0 AND attempts >= 0 AND ok IN (0, 1)),
	CONSTRAINT call_hashes CHECK (length(digest) = 32 AND length(hash) = 32),
	CONSTRAINT call_cost CHECK (cost >= 0),
	CONSTRAINT uq_answer UNIQUE (run_id, seq, digest, occurrence),
	CONSTRAINT fk_call_visit FOREIGN KEY(run_id, seq) REFERENCES transitions (run_id, seq),
	FOREIGN KEY(request_hash) REFERENCES payloads (hash),
	FOREIGN KEY(result_hash) REFERENCES payloads (hash)
);

CREATE TABLE deaths (
	run_id BYTEA NOT NULL,
	seq BIGINT NOT NULL,
	epoch BIGINT NOT NULL,
	at BIGINT NOT NULL,
	diagnosis TEXT COLLATE "C" NOT NULL,
	PRIMARY KEY (run_id, seq, epoch),
	CONSTRAINT fk_death_visit FOREIGN KEY(run_id, seq) REFERENCES transitions (run_id, seq)
);

CREATE TABLE reservations (
	run_id BYTEA NOT NULL,
	seq BIGINT NOT NULL,
	digest BYTEA NOT NULL,
	occurrence BIGINT NOT NULL,
	meter TEXT COLLATE "C" NOT NULL,
	epoch BIGINT NOT NULL,
	amount BIGINT NOT NULL,
	PRIMARY KEY (run_id, seq, digest, occurrence, meter),
	CONSTRAINT reservation_numbers CHECK (amount >= 0 AND occurrence >= 0 AND length(digest) = 32),
	CONSTRAINT fk_reservation_visit FOREIGN KEY(run_id, seq) REFERENCES transitions (run_id, seq)
);

CREATE INDEX ix_reservations_meter ON reservations (meter, amount);

CREATE TABLE reviews (
	run_id BYTEA NOT NULL,
	seq BIGINT NOT NULL,
	state TEXT COLLATE "C" NOT NULL,
	requested_at BIGINT NOT NULL,
	expires_at BIGINT,
	decision TEXT COLLATE "C",
	decided_by TEXT COLLATE "C",
	decided_at BIGINT,
	decided_seq BIGINT GENERATED ALWAYS AS (CASE WHEN decision IS NOT NULL THEN seq + 1 END) STORED,
	events TEXT COLLATE "C" NOT NULL,
	question TEXT COLLATE "C" NOT NULL,
	show TEXT COLLATE "C" NOT NULL,
	PRIMARY KEY (run_id, seq),
	CONSTRAINT decided_whole CHECK ((decision IS NULL) = (decided_at IS NULL)),
	CONSTRAINT decided_by_somebody CHECK (decided_by IS NULL OR decision IS NOT NULL),
	CONSTRAINT fk_review_state FOREIGN KEY(run_id, seq, state) REFERENCES transitions (run_id, seq, target),
	CONSTRAINT fk_decision_moved FOREIGN KEY(run_id, decided_seq) REFERENCES transitions (run_id, seq)
);

CREATE INDEX ix_reviews_open ON reviews (run_id, seq) WHERE decision IS NULL;

CREATE TABLE runs (
	no BIGSERIAL NOT NULL,
	run_id BYTEA NOT NULL,
	machine BIGINT NOT NULL,
	seq BIGINT NOT NULL,
	state TEXT COLLATE "C" NOT NULL,
	status TEXT COLLATE "C" NOT NULL,
	epoch BIGINT NOT NULL,
	attempts BIGINT NOT NULL,
	owner TEXT COLLATE "C",
	lease_until BIGINT,
	waiting_for TEXT COLLATE "C",
	due_at BIGINT,
	deadline_at BIGINT,
	created_at BIGINT NOT NULL,
	updated_at BIGINT NOT NULL,
	finished_at BIGINT,
	key TEXT COLLATE "C",
	trace_id TEXT COLLATE "C" NOT NULL,
	tenant TEXT COLLATE "C",
	parent BYTEA,
	reason TEXT COLLATE "C",
	draws TEXT COLLATE "C",
	PRIMARY KEY (no),
	CONSTRAINT run_numbers CHECK (length(run_id) = 16 AND seq >= 0 AND epoch >= 0 AND attempts >= 0),
	CONSTRAINT status_known CHECK (status IN ('ready', 'running', 'waiting', 'done', 'failed', 'cancelled', 'dead')),
	CONSTRAINT waiting_known CHECK (waiting_for IN ('review', 'timer', 'retry', 'quota', 'breaker', 'limit', 'child')),
	CONSTRAINT lease_whole CHECK ((owner IS NULL) = (lease_until IS NULL)),
	CONSTRAINT held_iff_running CHECK ((status = 'running') = (owner IS NOT NULL)),
	CONSTRAINT waiting_iff_reason CHECK ((status = 'waiting') = (waiting_for IS NOT NULL)),
	CONSTRAINT closed_iff_finished CHECK ((status IN ('cancelled', 'dead', 'done', 'failed')) = (finished_at IS NOT NULL)),
	CONSTRAINT due_only_parked CHECK (due_at IS NULL OR status IN ('ready', 'waiting')),
	CONSTRAINT ready_is_due CHECK (due_at IS NOT NULL OR status <> 'ready'),
	CONSTRAINT time_wakes CHECK (due_at IS NOT NULL OR waiting_for IS NULL OR waiting_for IN ('review', 'child')),
	CONSTRAINT own_parent CHECK (parent <> run_id),
	CONSTRAINT fk_head FOREIGN KEY(run_id, seq, state) REFERENCES transitions (run_id, seq, target) DEFERRABLE INITIALLY DEFERRED,
	UNIQUE (run_id),
	FOREIGN KEY(machine) REFERENCES machines (machine),
	CONSTRAINT fk_parent_run FOREIGN KEY(parent) REFERENCES runs (run_id)
);

CREATE INDEX ix_runs_due ON runs (due_at) WHERE due_at IS NOT NULL;

CREATE INDEX ix_runs_lease ON runs (lease_until) WHERE lease_until IS NOT NULL;

CREATE INDEX ix_runs_parent ON runs (parent, finished_at) WHERE parent IS NOT NULL;

CREATE UNIQUE INDEX uq_run_key ON runs (key) WHERE key IS NOT NULL;

CREATE TABLE snapshots (
	run_id BYTEA NOT NULL,
	seq BIGINT NOT NULL,
	data TEXT COLLATE "C" NOT NULL,
	PRIMARY KEY (run_id),
	CONSTRAINT fk_snapshot_visit FOREIGN KEY(run_id, seq) REFERENCES transitions (run_id, seq)
);

