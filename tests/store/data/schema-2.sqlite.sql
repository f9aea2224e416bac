CREATE TABLE feed (
	pos INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
	run_id BLOB NOT NULL,
	kind TEXT NOT NULL,
	seq INTEGER NOT NULL,
	idx INTEGER NOT NULL,
	at INTEGER NOT NULL,
	note TEXT,
	CONSTRAINT feed_kind_known CHECK (kind IN ('started', 'transition', 'call', 'attempt', 'waiting', 'claimed', 'decided', 'alert', 'cancelled', 'dead'))
)
 STRICT;

CREATE INDEX ix_feed_run ON feed (run_id, pos);

CREATE TABLE machines (
	machine INTEGER NOT NULL,
	fingerprint TEXT NOT NULL,
	name TEXT NOT NULL,
	version TEXT NOT NULL,
	spec TEXT NOT NULL,
	PRIMARY KEY (machine),
	UNIQUE (fingerprint)
)
 STRICT;

CREATE TABLE messages (
	hash BLOB NOT NULL,
	parent BLOB,
	body TEXT NOT NULL,
	PRIMARY KEY (hash),
	CONSTRAINT message_hash CHECK (length(hash) = 32 AND (parent IS NULL OR parent <> hash)),
	CONSTRAINT fk_parent FOREIGN KEY(parent) REFERENCES messages (hash)
)
 STRICT;

CREATE TABLE meters (
	meter TEXT NOT NULL,
	used INTEGER NOT NULL,
	state TEXT,
	PRIMARY KEY (meter),
	CONSTRAINT meter_used CHECK (used >= 0 AND meter <> '')
)
 WITHOUT ROWID,
 STRICT;

CREATE TABLE payloads (
	hash BLOB NOT NULL,
	body TEXT NOT NULL,
	PRIMARY KEY (hash),
	CONSTRAINT payload_hash_length CHECK (length(hash) = 32)
)
 STRICT;

CREATE TABLE schema_version (
	id INTEGER NOT NULL,
	version INTEGER NOT NULL,
	PRIMARY KEY (id),
	CONSTRAINT one_row CHECK (id = 1)
)
 STRICT;

CREATE TABLE machine_edges (
	machine INTEGER NOT NULL,
	source TEXT NOT NULL,
	event TEXT NOT NULL,
	target TEXT NOT NULL,
	PRIMARY KEY (machine, source, event, target),
	FOREIGN KEY(machine) REFERENCES machines (machine)
)
 WITHOUT ROWID,
 STRICT;

CREATE TABLE transitions (
	run_id BLOB NOT NULL,
	seq INTEGER NOT NULL,
	machine INTEGER NOT NULL,
	source TEXT NOT NULL,
	event TEXT NOT NULL,
	target TEXT NOT NULL,
	prev_seq INTEGER GENERATED ALWAYS AS (CASE WHEN seq > 0 THEN seq - 1 END) STORED,
	epoch INTEGER NOT NULL,
	at INTEGER NOT NULL,
	calls INTEGER NOT NULL,
	input_tokens INTEGER NOT NULL,
	output_tokens INTEGER NOT NULL,
	actor TEXT,
	hash BLOB NOT NULL,
	guards TEXT NOT NULL,
	payload_hash BLOB,
	payload TEXT,
	PRIMARY KEY (run_id, seq),
	CONSTRAINT payload_kept_once CHECK ((payload IS NULL) <> (payload_hash IS NULL)),
	CONSTRAINT starts_once CHECK (seq >= 0 AND (seq = 0) = (source = '')),
	CONSTRAINT transition_ids CHECK (length(run_id) = 16 AND length(hash) = 32),
	CONSTRAINT transition_counts CHECK (calls >= 0 AND input_tokens >= 0 AND output_tokens >= 0),
	CONSTRAINT uq_link UNIQUE (run_id, seq, target),
	CONSTRAINT fk_edge FOREIGN KEY(machine, source, event, target) REFERENCES machine_edges (machine, source, event, target),
	CONSTRAINT fk_chain FOREIGN KEY(run_id, prev_seq, source) REFERENCES transitions (run_id, seq, target),
	FOREIGN KEY(payload_hash) REFERENCES payloads (hash)
)
 STRICT;

CREATE TABLE attempts (
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
	message TEXT NOT NULL,
	PRIMARY KEY (no),
	CONSTRAINT attempt_numbers CHECK (attempt >= 1 AND occurrence >= 0 AND length(digest) = 32),
	CONSTRAINT uq_attempt UNIQUE (run_id, seq, digest, occurrence, attempt, kind),
	CONSTRAINT fk_attempt_visit FOREIGN KEY(run_id, seq) REFERENCES transitions (run_id, seq)
)
 STRICT;

CREATE TABLE call_reviews (
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

CREATE INDEX ix_call_reviews_open ON call_reviews (run_id, seq) WHERE decision IS NULL;

CREATE TABLE calls (
	run_id BLOB NOT NULL,
	seq INTEGER NOT NULL,
	idx INTEGER NOT NULL,
	kind TEXT NOT NULL,
	name TEXT NOT NULL,
	digest BLOB NOT NULL,
	occurrence INTEGER NOT NULL,
	ok INTEGER NOT NULL,
	attempts INTEGER NOT NULL,
	started_at INTEGER NOT NULL,
	finished_at INTEGER NOT NULL,
	epoch INTEGER NOT NULL,
	input_tokens INTEGER NOT NULL,
	output_tokens INTEGER NOT NULL,
	model TEXT,
	cost INTEGER,
	price_source TEXT,
	hash BLOB NOT NULL,
	request_hash BLOB,
	request TEXT,
	result_hash BLOB,
	result TEXT,
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
)
 STRICT;

CREATE TABLE deaths (
	run_id BLOB NOT NULL,
	seq INTEGER NOT NULL,
	epoch INTEGER NOT NULL,
	at INTEGER NOT NULL,
	diagnosis TEXT NOT NULL,
	PRIMARY KEY (run_id, seq, epoch),
	CONSTRAINT fk_death_visit FOREIGN KEY(run_id, seq) REFERENCES transitions (run_id, seq)
)
 STRICT;

CREATE TABLE reservations (
	run_id BLOB NOT NULL,
	seq INTEGER NOT NULL,
	digest BLOB NOT NULL,
	occurrence INTEGER NOT NULL,
	meter TEXT NOT NULL,
	epoch INTEGER NOT NULL,
	amount INTEGER NOT NULL,
	PRIMARY KEY (run_id, seq, digest, occurrence, meter),
	CONSTRAINT reservation_numbers CHECK (amount >= 0 AND occurrence >= 0 AND length(digest) = 32),
	CONSTRAINT fk_reservation_visit FOREIGN KEY(run_id, seq) REFERENCES transitions (run_id, seq)
)
 WITHOUT ROWID,
 STRICT;

CREATE INDEX ix_reservations_meter ON reservations (meter, amount);

CREATE TABLE reviews (
	run_id BLOB NOT NULL,
	seq INTEGER NOT NULL,
	state TEXT NOT NULL,
	requested_at INTEGER NOT NULL,
	expires_at INTEGER,
	decision TEXT,
	decided_by TEXT,
	decided_at INTEGER,
	decided_seq INTEGER GENERATED ALWAYS AS (CASE WHEN decision IS NOT NULL THEN seq + 1 END) STORED,
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

CREATE INDEX ix_reviews_open ON reviews (run_id, seq) WHERE decision IS NULL;

CREATE TABLE runs (
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
)
 STRICT;

CREATE INDEX ix_runs_due ON runs (due_at) WHERE due_at IS NOT NULL;

CREATE INDEX ix_runs_lease ON runs (lease_until) WHERE lease_until IS NOT NULL;

CREATE INDEX ix_runs_parent ON runs (parent, finished_at) WHERE parent IS NOT NULL;

CREATE UNIQUE INDEX uq_run_key ON runs ("key") WHERE "key" IS NOT NULL;

CREATE TABLE snapshots (
	run_id BLOB NOT NULL,
	seq INTEGER NOT NULL,
	data TEXT NOT NULL,
	PRIMARY KEY (run_id),
	CONSTRAINT fk_snapshot_visit FOREIGN KEY(run_id, seq) REFERENCES transitions (run_id, seq)
)
 STRICT;

