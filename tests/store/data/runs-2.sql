BEGIN TRANSACTION;
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
 STRICT

;
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
 STRICT

;
INSERT INTO "call_reviews" VALUES(X'019B76DAA8007C2BAD38172C2AC6A85F',0,X'E91293CED3F78942FC50137B64D08CCF6C11060373E471E6646AD7802B972C53',0,0,'gate','pay',X'E91293CED3F78942FC50137B64D08CCF6C11060373E471E6646AD7802B972C53',1767225600000000,NULL,1767398400000000,NULL,NULL,NULL,NULL,NULL,'["approve", "reject", "modify", "modify_and_approve"]','May pay be called?','{"amount":100}','{"budget_share":0.0,"key":"98314babf14bf940dc944d470170bdfb","reasons":["its risk is high, above medium"],"risk":"high","state":"working"}',NULL);
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
 STRICT

;
INSERT INTO "calls" VALUES(X'019B76DAA8007011964EB3D8A942BF8B',0,0,'tool','read',X'3028F709326B56B35AE6ABCA8950B42AA3C7429932874E80E1B4968847822DBF',0,1,1,1767225600000000,1767225600000000,1,0,0,NULL,NULL,NULL,X'1E47E10511978F15152F1683ECC6B9CDBB827388357ADBF6C82E02FFF7656A37',NULL,'{"arguments":{"letters":6000},"tool":"read"}',X'B7BBFB1B3EF60161693315F9DAEAF3D612018C8BACF28FA54F3F093819A5BAEB',NULL);
INSERT INTO "calls" VALUES(X'019B76DAA800714787C53FB33FE295A3',0,0,'llm','scripted',X'274B315AF69763CAEACE94D413F2B55F9D4F8C5663CA97449940964A04BC0D26',0,1,1,1767225600000000,1767225600000000,1,12,10,'scripted',NULL,NULL,X'BD73CA8F213B93F818684C0BA3A11F6750D82AFCFED3CCAC4A5B9564103E2E3C',NULL,'{"head":"5510876df656bb4b39d421cd6c7e794a6b00cc6b502a6288e9b756ae071c87bc","max_tokens":4096,"model":"scripted","options":{},"output":null,"tools":null}',NULL,'{"content":[{"text":"Go on, 0.","type":"text"}],"model":"scripted","request_id":null,"stop_reason":"end_turn","usage":{"input_tokens":12,"output_tokens":10}}');
INSERT INTO "calls" VALUES(X'019B76DAA8007C079EA46C532E237480',0,0,'child','part',X'DB063AF106A6B3ED75D259063F60516E084A9410E72706AAFB590587B1014E82',0,1,1,1767225600000000,1767225600000000,2,0,0,NULL,NULL,NULL,X'F931136341D91F3DA1224A9382B3C0B6DFEBD5F5ADCB5CCCE2FDD63E6979006D',NULL,'{"input":{"mood":"well","n":7,"said":""},"machine":"part"}',NULL,'{"data":{"mood":"well","n":7,"said":"part 7"},"machine":"part","reason":null,"run_id":"019b76daa80070bfab5b9ac125758812","state":"cut","status":"done"}');
INSERT INTO "calls" VALUES(X'019B76DAA80073CE98A2E9C9792D1219',0,0,'sleep','sleep',X'2FEBA49130199CF2AEFC2EA6AEB1FFC52C3770CCB21B63072929CD5CBED5DBDD',0,1,1,1767225600000000,1767225600000000,1,0,0,NULL,NULL,NULL,X'ED76F72FC3FE07370363052039E8478320E8947E7D1A54FCFDF32D4E696585DF',NULL,'{"seconds":3600.0}',NULL,'{"due":1767229200000000}');
CREATE TABLE deaths (
	run_id BLOB NOT NULL,
	seq INTEGER NOT NULL,
	epoch INTEGER NOT NULL,
	at INTEGER NOT NULL,
	diagnosis TEXT NOT NULL,
	PRIMARY KEY (run_id, seq, epoch),
	CONSTRAINT fk_death_visit FOREIGN KEY(run_id, seq) REFERENCES transitions (run_id, seq)
)
 STRICT

;
INSERT INTO "deaths" VALUES(X'019B76DAA800774A90D9052A582CEC8F',0,1,1767225600000000,'{"data":{"mood":"dies","n":0,"said":""},"event":"handler_failed","last_calls":[],"needs":"a row for handler_failed in working (or in anywhere), or the cause removed","payload":{"error":"RuntimeError","message":"RuntimeError: broken","state":"working"},"reason":"handler_failed in working has no row: RuntimeError: broken","seq":0,"state":"working","visit":1,"visits":{"working":1}}');
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
 STRICT

;
INSERT INTO "feed" VALUES(1,X'019B76DAA8007011964EB3D8A942BF8B','started',0,0,1767225600000000,NULL);
INSERT INTO "feed" VALUES(2,X'019B76DAA8007011964EB3D8A942BF8B','call',0,0,1767225600000000,NULL);
INSERT INTO "feed" VALUES(3,X'019B76DAA8007011964EB3D8A942BF8B','transition',1,0,1767225600000000,NULL);
INSERT INTO "feed" VALUES(4,X'019B76DAA800714787C53FB33FE295A3','started',0,0,1767225600000000,NULL);
INSERT INTO "feed" VALUES(5,X'019B76DAA800714787C53FB33FE295A3','call',0,0,1767225600000000,NULL);
INSERT INTO "feed" VALUES(6,X'019B76DAA800714787C53FB33FE295A3','transition',1,0,1767225600000000,NULL);
INSERT INTO "feed" VALUES(7,X'019B76DAA80078CAAF7B38AFA1E2237D','started',0,0,1767225600000000,NULL);
INSERT INTO "feed" VALUES(8,X'019B76DAA80078CAAF7B38AFA1E2237D','transition',1,0,1767225600000000,NULL);
INSERT INTO "feed" VALUES(9,X'019B76DAA8007C079EA46C532E237480','started',0,0,1767225600000000,NULL);
INSERT INTO "feed" VALUES(10,X'019B76DAA80070BFAB5B9AC125758812','started',0,0,1767225600000000,NULL);
INSERT INTO "feed" VALUES(11,X'019B76DAA8007C079EA46C532E237480','waiting',0,0,1767225600000000,'{"waiting_for":"child","due_at":null}');
INSERT INTO "feed" VALUES(12,X'019B76DAA80070BFAB5B9AC125758812','claimed',0,0,1767225600000000,'{"owner":"vm/4026531836/13480/2330299/ebe46908","epoch":1}');
INSERT INTO "feed" VALUES(13,X'019B76DAA80070BFAB5B9AC125758812','transition',1,0,1767225600000000,NULL);
INSERT INTO "feed" VALUES(14,X'019B76DAA8007C079EA46C532E237480','claimed',0,0,1767225600000000,'{"owner":"vm/4026531836/13480/2330299/ebe46908","epoch":2}');
INSERT INTO "feed" VALUES(15,X'019B76DAA8007C079EA46C532E237480','call',0,0,1767225600000000,NULL);
INSERT INTO "feed" VALUES(16,X'019B76DAA8007C079EA46C532E237480','transition',1,0,1767225600000000,NULL);
INSERT INTO "feed" VALUES(17,X'019B76DAA800782486DA7A0834FA7B26','started',0,0,1767225600000000,NULL);
INSERT INTO "feed" VALUES(18,X'019B76DAA800782486DA7A0834FA7B26','transition',1,0,1767225600000000,NULL);
INSERT INTO "feed" VALUES(19,X'019B76DAA800782486DA7A0834FA7B26','waiting',1,0,1767225600000000,'{"waiting_for":"review","due_at":1767398400000000}');
INSERT INTO "feed" VALUES(20,X'019B76DAA8007C2BAD38172C2AC6A85F','started',0,0,1767225600000000,NULL);
INSERT INTO "feed" VALUES(21,X'019B76DAA8007C2BAD38172C2AC6A85F','waiting',0,0,1767225600000000,'{"waiting_for":"review","due_at":1767398400000000}');
INSERT INTO "feed" VALUES(22,X'019B76DAA800774A90D9052A582CEC8F','started',0,0,1767225600000000,NULL);
INSERT INTO "feed" VALUES(23,X'019B76DAA800774A90D9052A582CEC8F','dead',0,0,1767225600000000,'{"reason":"handler_failed in working has no row: RuntimeError: broken"}');
INSERT INTO "feed" VALUES(24,X'019B76DAA8007C53B218A1520645DDA1','started',0,0,1767225600000000,NULL);
INSERT INTO "feed" VALUES(25,X'019B76DAA8007C53B218A1520645DDA1','transition',1,0,1767225600000000,NULL);
INSERT INTO "feed" VALUES(26,X'019B76DAA8007C53B218A1520645DDA1','waiting',1,0,1767225600000000,'{"waiting_for":"review","due_at":1767398400000000}');
INSERT INTO "feed" VALUES(27,X'019B76DAA8007C53B218A1520645DDA1','transition',2,0,1767225600000000,NULL);
INSERT INTO "feed" VALUES(28,X'019B76DAA80073CE98A2E9C9792D1219','started',0,0,1767225600000000,NULL);
INSERT INTO "feed" VALUES(29,X'019B76DAA8007EE790D725EBC578E5F3','started',0,0,1767225600000000,NULL);
INSERT INTO "feed" VALUES(30,X'019B76DAA80073CE98A2E9C9792D1219','call',0,0,1767225600000000,NULL);
INSERT INTO "feed" VALUES(31,X'019B76DAA80073CE98A2E9C9792D1219','waiting',0,0,1767225600000000,'{"waiting_for":"timer","due_at":1767229200000000}');
INSERT INTO "feed" VALUES(32,X'019B76DAA8007EE790D725EBC578E5F3','claimed',0,0,1767225600000000,'{"owner":"vm/4026531836/13480/2330299/ebe46908","epoch":1}');
CREATE TABLE machine_edges (
	machine INTEGER NOT NULL,
	source TEXT NOT NULL,
	event TEXT NOT NULL,
	target TEXT NOT NULL,
	PRIMARY KEY (machine, source, event, target),
	FOREIGN KEY(machine) REFERENCES machines (machine)
)
 WITHOUT ROWID,
 STRICT

;
INSERT INTO "machine_edges" VALUES(1,'','start','working');
INSERT INTO "machine_edges" VALUES(1,'asking','no','ill');
INSERT INTO "machine_edges" VALUES(1,'asking','review_expired','ill');
INSERT INTO "machine_edges" VALUES(1,'asking','yes','well');
INSERT INTO "machine_edges" VALUES(1,'working','asked','asking');
INSERT INTO "machine_edges" VALUES(1,'working','done','well');
INSERT INTO "machine_edges" VALUES(1,'working','failed','ill');
INSERT INTO "machine_edges" VALUES(2,'','start','cutting');
INSERT INTO "machine_edges" VALUES(2,'cutting','budget_exhausted','spoiled');
INSERT INTO "machine_edges" VALUES(2,'cutting','call_failed','spoiled');
INSERT INTO "machine_edges" VALUES(2,'cutting','deadline_passed','spoiled');
INSERT INTO "machine_edges" VALUES(2,'cutting','done','cut');
INSERT INTO "machine_edges" VALUES(2,'cutting','handler_failed','spoiled');
INSERT INTO "machine_edges" VALUES(2,'cutting','invalid_output','spoiled');
INSERT INTO "machine_edges" VALUES(2,'cutting','loop_detected','spoiled');
INSERT INTO "machine_edges" VALUES(2,'cutting','review_expired','spoiled');
INSERT INTO "machine_edges" VALUES(2,'cutting','state_timeout','spoiled');
INSERT INTO "machine_edges" VALUES(2,'cutting','steps_exhausted','spoiled');
INSERT INTO "machine_edges" VALUES(2,'cutting','visits_exhausted','spoiled');
CREATE TABLE machines (
	machine INTEGER NOT NULL,
	fingerprint TEXT NOT NULL,
	name TEXT NOT NULL,
	version TEXT NOT NULL,
	spec TEXT NOT NULL,
	PRIMARY KEY (machine),
	UNIQUE (fingerprint)
)
 STRICT

;
INSERT INTO "machines" VALUES(1,'5e62b784e0cc2ffcb763b209af17bff56dd6c5f8a99095c458994a885a43edcf','desk','1','{"budget":{"tokens":100000,"warn_at":0.8},"data":{"additionalProperties":false,"properties":{"mood":{"default":"well","title":"Mood","type":"string"},"n":{"default":0,"title":"N","type":"integer"},"said":{"default":"","title":"Said","type":"string"}},"title":"Errand","type":"object"},"deadline_s":null,"events":{"asked":{"additionalProperties":false,"properties":{},"title":"Asked","type":"object"},"done":{"additionalProperties":false,"properties":{"said":{"default":"","title":"Said","type":"string"}},"title":"Done","type":"object"},"failed":{"additionalProperties":false,"properties":{},"title":"Failed","type":"object"},"no":{"additionalProperties":false,"properties":{},"title":"No","type":"object"},"yes":{"additionalProperties":false,"properties":{"said":{"default":"yes","title":"Said","type":"string"}},"title":"Yes","type":"object"}},"max_steps":100,"name":"desk","rows":[{"event":"done","guard":"","source":"working","target":"well"},{"event":"asked","guard":"","source":"working","target":"asking"},{"event":"failed","guard":"","source":"working","target":"ill"},{"event":"yes","guard":"","source":"asking","target":"well"},{"event":"no","guard":"","source":"asking","target":"ill"},{"event":"review_expired","guard":"","source":"asking","target":"ill"}],"start":"working","states":[{"children":["part"],"doc":"","events":["done","asked","failed"],"kind":"work","max_visits":null,"name":"working","ok":false,"timeout_s":null,"tools":["pay","read"]},{"doc":"","events":["yes","no"],"kind":"review","max_visits":null,"name":"asking","ok":false,"timeout_s":172800.0,"tools":[]},{"doc":"","events":[],"kind":"final","max_visits":null,"name":"well","ok":true,"timeout_s":null,"tools":[]},{"doc":"","events":[],"kind":"final","max_visits":null,"name":"ill","ok":false,"timeout_s":null,"tools":[]}],"version":"1"}');
INSERT INTO "machines" VALUES(2,'df248bee4d8ad8087c287825d0a43cf3b6ef342b8c72a98f92735c3c0f44a650','part','1','{"budget":null,"data":{"additionalProperties":false,"properties":{"mood":{"default":"well","title":"Mood","type":"string"},"n":{"default":0,"title":"N","type":"integer"},"said":{"default":"","title":"Said","type":"string"}},"title":"Errand","type":"object"},"deadline_s":null,"events":{"done":{"additionalProperties":false,"properties":{"said":{"default":"","title":"Said","type":"string"}},"title":"Done","type":"object"}},"max_steps":100,"name":"part","rows":[{"event":"done","guard":"","source":"cutting","target":"cut"},{"event":"failure","guard":"","source":"","target":"spoiled"}],"start":"cutting","states":[{"doc":"","events":["done"],"kind":"work","max_visits":null,"name":"cutting","ok":false,"timeout_s":null,"tools":[]},{"doc":"","events":[],"kind":"final","max_visits":null,"name":"cut","ok":true,"timeout_s":null,"tools":[]},{"doc":"","events":[],"kind":"final","max_visits":null,"name":"spoiled","ok":false,"timeout_s":null,"tools":[]}],"version":"1"}');
CREATE TABLE messages (
	hash BLOB NOT NULL,
	parent BLOB,
	body TEXT NOT NULL,
	PRIMARY KEY (hash),
	CONSTRAINT message_hash CHECK (length(hash) = 32 AND (parent IS NULL OR parent <> hash)),
	CONSTRAINT fk_parent FOREIGN KEY(parent) REFERENCES messages (hash)
)
 STRICT

;
INSERT INTO "messages" VALUES(X'5510876DF656BB4B39D421CD6C7E794A6B00CC6B502A6288E9B756AE071C87BC',NULL,'{"content":"What now?","role":"user"}');
CREATE TABLE meters (
	meter TEXT NOT NULL,
	used INTEGER NOT NULL,
	state TEXT,
	PRIMARY KEY (meter),
	CONSTRAINT meter_used CHECK (used >= 0 AND meter <> '')
)
 WITHOUT ROWID,
 STRICT

;
INSERT INTO "meters" VALUES('run:019b76daa800714787c53fb33fe295a3:tokens',22,NULL);
CREATE TABLE payloads (
	hash BLOB NOT NULL,
	body TEXT NOT NULL,
	PRIMARY KEY (hash),
	CONSTRAINT payload_hash_length CHECK (length(hash) = 32)
)
 STRICT

;
INSERT INTO "payloads" VALUES(X'B7BBFB1B3EF60161693315F9DAEAF3D612018C8BACF28FA54F3F093819A5BAEB','"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"');
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
 STRICT

;
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
 STRICT

;
INSERT INTO "reviews" VALUES(X'019B76DAA800782486DA7A0834FA7B26',1,'asking',1767225600000000,1767398400000000,NULL,NULL,NULL,'["yes", "no"]','Well?','0');
INSERT INTO "reviews" VALUES(X'019B76DAA8007C53B218A1520645DDA1',1,'asking',1767225600000000,1767398400000000,'yes','ann',1767225600000000,'["yes", "no"]','Well?','0');
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
 STRICT

;
INSERT INTO "runs" VALUES(1,X'019B76DAA8007011964EB3D8A942BF8B',1,1,'well','done',1,0,NULL,NULL,NULL,NULL,NULL,1767225600000000,1767225600000000,1767225600000000,'well','dbc0e5a9ddba82d73f8ac59854452770',NULL,NULL,NULL,NULL);
INSERT INTO "runs" VALUES(2,X'019B76DAA800714787C53FB33FE295A3',1,1,'well','done',1,0,NULL,NULL,NULL,NULL,NULL,1767225600000000,1767225600000000,1767225600000000,'thinks','fc5d8c5d229a9a2715b7de7f9d28289f','acme',NULL,NULL,NULL);
INSERT INTO "runs" VALUES(3,X'019B76DAA80078CAAF7B38AFA1E2237D',1,1,'ill','failed',1,0,NULL,NULL,NULL,NULL,NULL,1767225600000000,1767225600000000,1767225600000000,'fails','31cad2688dd629a357c999be019a4cf6',NULL,NULL,NULL,NULL);
INSERT INTO "runs" VALUES(4,X'019B76DAA8007C079EA46C532E237480',1,1,'well','done',2,0,NULL,NULL,NULL,NULL,NULL,1767225600000000,1767225600000000,1767225600000000,'delegates','c222bfb1731e6a268e1757b54be556ab',NULL,NULL,NULL,NULL);
INSERT INTO "runs" VALUES(5,X'019B76DAA80070BFAB5B9AC125758812',2,1,'cut','done',1,0,NULL,NULL,NULL,NULL,NULL,1767225600000000,1767225600000000,1767225600000000,'child:0.6602e0d512047aa715f01eafb9dbcd34','c222bfb1731e6a268e1757b54be556ab',NULL,X'019B76DAA8007C079EA46C532E237480',NULL,'[["run:019b76daa8007c079ea46c532e237480",{"tokens":100000}]]');
INSERT INTO "runs" VALUES(6,X'019B76DAA800782486DA7A0834FA7B26',1,1,'asking','waiting',1,0,NULL,NULL,'review',1767398400000000,NULL,1767225600000000,1767225600000000,NULL,'asks','c4c1eb92d2f927b9ec0c93f14dab160f',NULL,NULL,NULL,NULL);
INSERT INTO "runs" VALUES(7,X'019B76DAA8007C2BAD38172C2AC6A85F',1,0,'working','waiting',1,0,NULL,NULL,'review',1767398400000000,NULL,1767225600000000,1767225600000000,NULL,'pays','2fc1313c4423c0568fc77966ea9a8d05',NULL,NULL,NULL,NULL);
INSERT INTO "runs" VALUES(8,X'019B76DAA800774A90D9052A582CEC8F',1,0,'working','dead',1,0,NULL,NULL,NULL,NULL,NULL,1767225600000000,1767225600000000,1767225600000000,'dies','390c4974028ea49ff1cdbec04b491811',NULL,NULL,'handler_failed in working has no row: RuntimeError: broken',NULL);
INSERT INTO "runs" VALUES(9,X'019B76DAA8007C53B218A1520645DDA1',1,2,'well','done',1,0,NULL,NULL,NULL,NULL,NULL,1767225600000000,1767225600000000,1767225600000000,NULL,'e9091c46d6202976271d0251becb4ff3',NULL,NULL,NULL,NULL);
INSERT INTO "runs" VALUES(10,X'019B76DAA80073CE98A2E9C9792D1219',1,0,'working','waiting',1,0,NULL,NULL,'timer',1767229200000000,NULL,1767225600000000,1767225600000000,NULL,'sleeps','c68a1808958e1ce593408835f4100589',NULL,NULL,NULL,NULL);
INSERT INTO "runs" VALUES(11,X'019B76DAA8007EE790D725EBC578E5F3',1,0,'working','ready',1,1,NULL,NULL,NULL,1767225600000000,NULL,1767225600000000,1767225600000000,NULL,'ready','90aa9ed0d463dfd9d36dfca6d12b4a34',NULL,NULL,NULL,NULL);
CREATE TABLE schema_version (
	id INTEGER NOT NULL,
	version INTEGER NOT NULL,
	PRIMARY KEY (id),
	CONSTRAINT one_row CHECK (id = 1)
)
 STRICT

;
INSERT INTO "schema_version" VALUES(1,2);
CREATE TABLE snapshots (
	run_id BLOB NOT NULL,
	seq INTEGER NOT NULL,
	data TEXT NOT NULL,
	PRIMARY KEY (run_id),
	CONSTRAINT fk_snapshot_visit FOREIGN KEY(run_id, seq) REFERENCES transitions (run_id, seq)
)
 STRICT

;
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
 STRICT

;
INSERT INTO "transitions" VALUES(X'019B76DAA8007011964EB3D8A942BF8B',0,1,'','start','working',1,1767225600000000,0,0,0,NULL,X'E4715DD99DE2E7888BEA27E62ADB437EACFF6D04C4307156007F260C200BD9BD','[]',NULL,'{"mood":"well","n":0,"said":""}');
INSERT INTO "transitions" VALUES(X'019B76DAA8007011964EB3D8A942BF8B',1,1,'working','done','well',1,1767225600000000,1,0,0,NULL,X'55B07632EF3BF5D8CB6424E436EFF9390E76D4C5053278410C37B6F460D79E14','[]',NULL,'{"said":"read 6000 letters"}');
INSERT INTO "transitions" VALUES(X'019B76DAA800714787C53FB33FE295A3',0,1,'','start','working',1,1767225600000000,0,0,0,NULL,X'74C229B5B36774EE35454A9FC3CD22A2C25C2120F9D03F6E1BA866FA2C3A7AF9','[]',NULL,'{"mood":"thinks","n":0,"said":""}');
INSERT INTO "transitions" VALUES(X'019B76DAA800714787C53FB33FE295A3',1,1,'working','done','well',1,1767225600000000,1,12,10,NULL,X'2017A0A85D5E8A7FD939C4BAC21EED38CD308C9AE4F4CC56D05168C7B98FF559','[]',NULL,'{"said":"Go on, 0."}');
INSERT INTO "transitions" VALUES(X'019B76DAA80078CAAF7B38AFA1E2237D',0,1,'','start','working',1,1767225600000000,0,0,0,NULL,X'5E5FDD7D16C3F696C083B2BC1EB41AA2E6EFA0B106C648639928F394E4F06BB7','[]',NULL,'{"mood":"fails","n":0,"said":""}');
INSERT INTO "transitions" VALUES(X'019B76DAA80078CAAF7B38AFA1E2237D',1,1,'working','failed','ill',1,1767225600000000,0,0,0,NULL,X'DBE6B8A41D3C4B4A85280169FC7D6DDB57575D311E9AB56C78766B6F61456C40','[]',NULL,'{}');
INSERT INTO "transitions" VALUES(X'019B76DAA8007C079EA46C532E237480',0,1,'','start','working',1,1767225600000000,0,0,0,NULL,X'AC1BF5FD5F905538BD3E21B2683E0E2FC9EC19049F8725A679166C779A564714','[]',NULL,'{"mood":"delegates","n":0,"said":""}');
INSERT INTO "transitions" VALUES(X'019B76DAA80070BFAB5B9AC125758812',0,2,'','start','cutting',0,1767225600000000,0,0,0,NULL,X'7734C92EC7190236DBDC2C2CC2CA84D62355E4FFEC53C25CC99C9261FDB30DAB','[]',NULL,'{"mood":"well","n":7,"said":""}');
INSERT INTO "transitions" VALUES(X'019B76DAA80070BFAB5B9AC125758812',1,2,'cutting','done','cut',1,1767225600000000,0,0,0,NULL,X'07E7BE4547AD4C0BD98555C4CED28BACB988941AC0BB4CCD0C3D0D692F3072CA','[]',NULL,'{"said":"part 7"}');
INSERT INTO "transitions" VALUES(X'019B76DAA8007C079EA46C532E237480',1,1,'working','done','well',2,1767225600000000,1,0,0,NULL,X'6C96A551A00D2C1B23917249D44E9EEC0140ABFBBAB642E71AE18788279B6D15','[]',NULL,'{"said":"part 7"}');
INSERT INTO "transitions" VALUES(X'019B76DAA800782486DA7A0834FA7B26',0,1,'','start','working',1,1767225600000000,0,0,0,NULL,X'8199B221163B67CDC48CE390BDFFBDD559042AC361D566EAF07DD7BDC69970DA','[]',NULL,'{"mood":"asks","n":0,"said":""}');
INSERT INTO "transitions" VALUES(X'019B76DAA800782486DA7A0834FA7B26',1,1,'working','asked','asking',1,1767225600000000,0,0,0,NULL,X'4687DD3DFEA973600F467F3B0C87B3AD1B6BA09D4A5C2DADE052DD1044951ED7','[]',NULL,'{}');
INSERT INTO "transitions" VALUES(X'019B76DAA8007C2BAD38172C2AC6A85F',0,1,'','start','working',1,1767225600000000,0,0,0,NULL,X'FE41466934C4F8A86F90937A1F9D48AEB604C347DC3209C359E9A567B8496042','[]',NULL,'{"mood":"pays","n":0,"said":""}');
INSERT INTO "transitions" VALUES(X'019B76DAA800774A90D9052A582CEC8F',0,1,'','start','working',1,1767225600000000,0,0,0,NULL,X'3D96C4BA360F97C6E50E7F738C63829CEF7B580FE7BC2AD98C569863221E6051','[]',NULL,'{"mood":"dies","n":0,"said":""}');
INSERT INTO "transitions" VALUES(X'019B76DAA8007C53B218A1520645DDA1',0,1,'','start','working',1,1767225600000000,0,0,0,NULL,X'ACAD00F1FDA95A2E068A004DEB656986C50A9E38F8C77CB6EDD4EEC6249D36E9','[]',NULL,'{"mood":"asks","n":0,"said":""}');
INSERT INTO "transitions" VALUES(X'019B76DAA8007C53B218A1520645DDA1',1,1,'working','asked','asking',1,1767225600000000,0,0,0,NULL,X'7BEC195A456EB9F9DCE39F091117449675B412E808C6E88E40884EE0B17D431B','[]',NULL,'{}');
INSERT INTO "transitions" VALUES(X'019B76DAA8007C53B218A1520645DDA1',2,1,'asking','yes','well',1,1767225600000000,0,0,0,'ann',X'A8650BE719ACC7E95C40C3E8EEE397A303A42213727E7E61CBD0D4F7EBC04BFC','[]',NULL,'{"said":"yes"}');
INSERT INTO "transitions" VALUES(X'019B76DAA80073CE98A2E9C9792D1219',0,1,'','start','working',1,1767225600000000,0,0,0,NULL,X'7A48FF1671D3CF0BDF7FB6BD74D85B2CD23A07F7F67943CAD4A79B40F662857E','[]',NULL,'{"mood":"sleeps","n":0,"said":""}');
INSERT INTO "transitions" VALUES(X'019B76DAA8007EE790D725EBC578E5F3',0,1,'','start','working',0,1767225600000000,0,0,0,NULL,X'F9CFFCDB7328DA3C5AF756739244D4C698BA51A7EF03C6F2F8D09B9F3C81D9A8','[]',NULL,'{"mood":"well","n":0,"said":""}');
CREATE INDEX ix_feed_run ON feed (run_id, pos);
CREATE INDEX ix_call_reviews_open ON call_reviews (run_id, seq) WHERE decision IS NULL;
CREATE INDEX ix_reservations_meter ON reservations (meter, amount);
CREATE INDEX ix_reviews_open ON reviews (run_id, seq) WHERE decision IS NULL;
CREATE INDEX ix_runs_due ON runs (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX ix_runs_lease ON runs (lease_until) WHERE lease_until IS NOT NULL;
CREATE INDEX ix_runs_parent ON runs (parent, finished_at) WHERE parent IS NOT NULL;
CREATE UNIQUE INDEX uq_run_key ON runs ("key") WHERE "key" IS NOT NULL;
CREATE TRIGGER machines_no_update BEFORE UPDATE ON machines BEGIN SELECT RAISE(ABORT, 'machines is append-only'); END;
CREATE TRIGGER machine_edges_no_update BEFORE UPDATE ON machine_edges BEGIN SELECT RAISE(ABORT, 'machine_edges is append-only'); END;
CREATE TRIGGER payloads_no_update BEFORE UPDATE ON payloads BEGIN SELECT RAISE(ABORT, 'payloads is append-only'); END;
CREATE TRIGGER messages_no_update BEFORE UPDATE ON messages BEGIN SELECT RAISE(ABORT, 'messages is append-only'); END;
CREATE TRIGGER transitions_no_update BEFORE UPDATE ON transitions BEGIN SELECT RAISE(ABORT, 'transitions is append-only'); END;
CREATE TRIGGER calls_no_update BEFORE UPDATE ON calls BEGIN SELECT RAISE(ABORT, 'calls is append-only'); END;
CREATE TRIGGER attempts_no_update BEFORE UPDATE ON attempts BEGIN SELECT RAISE(ABORT, 'attempts is append-only'); END;
CREATE TRIGGER deaths_no_update BEFORE UPDATE ON deaths BEGIN SELECT RAISE(ABORT, 'deaths is append-only'); END;
CREATE TRIGGER feed_no_update BEFORE UPDATE ON feed BEGIN SELECT RAISE(ABORT, 'feed is append-only'); END;
CREATE TRIGGER machines_no_delete BEFORE DELETE ON machines BEGIN SELECT RAISE(ABORT, 'machines rows stay'); END;
CREATE TRIGGER machine_edges_no_delete BEFORE DELETE ON machine_edges BEGIN SELECT RAISE(ABORT, 'machine_edges rows stay'); END;
CREATE TRIGGER payloads_no_delete BEFORE DELETE ON payloads BEGIN SELECT RAISE(ABORT, 'payloads rows stay'); END;
CREATE TRIGGER messages_no_delete BEFORE DELETE ON messages BEGIN SELECT RAISE(ABORT, 'messages rows stay'); END;
CREATE TRIGGER transitions_no_delete BEFORE DELETE ON transitions BEGIN SELECT RAISE(ABORT, 'transitions rows stay'); END;
CREATE TRIGGER calls_no_delete BEFORE DELETE ON calls BEGIN SELECT RAISE(ABORT, 'calls rows stay'); END;
CREATE TRIGGER attempts_no_delete BEFORE DELETE ON attempts BEGIN SELECT RAISE(ABORT, 'attempts rows stay'); END;
CREATE TRIGGER deaths_no_delete BEFORE DELETE ON deaths BEGIN SELECT RAISE(ABORT, 'deaths rows stay'); END;
CREATE TRIGGER feed_no_delete BEFORE DELETE ON feed BEGIN SELECT RAISE(ABORT, 'feed rows stay'); END;
CREATE TRIGGER runs_no_delete BEFORE DELETE ON runs BEGIN SELECT RAISE(ABORT, 'runs rows stay'); END;
CREATE TRIGGER reviews_no_delete BEFORE DELETE ON reviews BEGIN SELECT RAISE(ABORT, 'reviews rows stay'); END;
CREATE TRIGGER call_reviews_no_delete BEFORE DELETE ON call_reviews BEGIN SELECT RAISE(ABORT, 'call_reviews rows stay'); END;
CREATE TRIGGER machines_no_replace_0 BEFORE INSERT ON machines WHEN EXISTS (SELECT 1 FROM machines AS old WHERE old.fingerprint = NEW.fingerprint) BEGIN SELECT RAISE(ABORT, 'machines has that row already'); END;
CREATE TRIGGER payloads_no_replace_1 BEFORE INSERT ON payloads WHEN EXISTS (SELECT 1 FROM payloads AS old WHERE old.hash = NEW.hash AND old.body <> NEW.body) BEGIN SELECT RAISE(ABORT, 'payloads has that row already'); END;
CREATE TRIGGER messages_no_replace_2 BEFORE INSERT ON messages WHEN EXISTS (SELECT 1 FROM messages AS old WHERE old.hash = NEW.hash AND (old.body <> NEW.body OR old.parent IS NOT NEW.parent)) BEGIN SELECT RAISE(ABORT, 'messages has that row already'); END;
CREATE TRIGGER runs_no_replace_3 BEFORE INSERT ON runs WHEN EXISTS (SELECT 1 FROM runs AS old WHERE old.run_id = NEW.run_id) BEGIN SELECT RAISE(ABORT, 'runs has that row already'); END;
CREATE TRIGGER runs_no_replace_4 BEFORE INSERT ON runs WHEN EXISTS (SELECT 1 FROM runs AS old WHERE old.key = NEW.key) BEGIN SELECT RAISE(ABORT, 'runs has that row already'); END;
CREATE TRIGGER transitions_no_replace_5 BEFORE INSERT ON transitions WHEN EXISTS (SELECT 1 FROM transitions AS old WHERE old.run_id = NEW.run_id AND old.seq = NEW.seq) BEGIN SELECT RAISE(ABORT, 'transitions has that row already'); END;
CREATE TRIGGER calls_no_replace_6 BEFORE INSERT ON calls WHEN EXISTS (SELECT 1 FROM calls AS old WHERE old.run_id = NEW.run_id AND old.seq = NEW.seq AND old.idx = NEW.idx) BEGIN SELECT RAISE(ABORT, 'calls has that row already'); END;
CREATE TRIGGER calls_no_replace_7 BEFORE INSERT ON calls WHEN EXISTS (SELECT 1 FROM calls AS old WHERE old.run_id = NEW.run_id AND old.seq = NEW.seq AND old.digest = NEW.digest AND old.occurrence = NEW.occurrence) BEGIN SELECT RAISE(ABORT, 'calls has that row already'); END;
CREATE TRIGGER attempts_no_replace_8 BEFORE INSERT ON attempts WHEN EXISTS (SELECT 1 FROM attempts AS old WHERE old.run_id = NEW.run_id AND old.seq = NEW.seq AND old.digest = NEW.digest AND old.occurrence = NEW.occurrence AND old.attempt = NEW.attempt AND old.kind = NEW.kind) BEGIN SELECT RAISE(ABORT, 'attempts has that row already'); END;
CREATE TRIGGER reviews_no_replace_9 BEFORE INSERT ON reviews WHEN EXISTS (SELECT 1 FROM reviews AS old WHERE old.run_id = NEW.run_id AND old.seq = NEW.seq) BEGIN SELECT RAISE(ABORT, 'reviews has that row already'); END;
CREATE TRIGGER call_reviews_no_replace_10 BEFORE INSERT ON call_reviews WHEN EXISTS (SELECT 1 FROM call_reviews AS old WHERE old.run_id = NEW.run_id AND old.seq = NEW.seq AND old.digest = NEW.digest AND old.occurrence = NEW.occurrence AND old.round = NEW.round) BEGIN SELECT RAISE(ABORT, 'call_reviews has that row already'); END;
CREATE TRIGGER deaths_no_replace_11 BEFORE INSERT ON deaths WHEN EXISTS (SELECT 1 FROM deaths AS old WHERE old.run_id = NEW.run_id AND old.seq = NEW.seq AND old.epoch = NEW.epoch) BEGIN SELECT RAISE(ABORT, 'deaths has that row already'); END;
CREATE TRIGGER machines_no_replace_12 BEFORE INSERT ON machines WHEN EXISTS (SELECT 1 FROM machines AS old WHERE old.rowid = NEW.rowid) BEGIN SELECT RAISE(ABORT, 'machines has that row already'); END;
CREATE TRIGGER messages_no_replace_13 BEFORE INSERT ON messages WHEN EXISTS (SELECT 1 FROM messages AS old WHERE old.rowid = NEW.rowid) BEGIN SELECT RAISE(ABORT, 'messages has that row already'); END;
CREATE TRIGGER runs_no_replace_14 BEFORE INSERT ON runs WHEN EXISTS (SELECT 1 FROM runs AS old WHERE old.rowid = NEW.rowid) BEGIN SELECT RAISE(ABORT, 'runs has that row already'); END;
CREATE TRIGGER transitions_no_replace_15 BEFORE INSERT ON transitions WHEN EXISTS (SELECT 1 FROM transitions AS old WHERE old.rowid = NEW.rowid) BEGIN SELECT RAISE(ABORT, 'transitions has that row already'); END;
CREATE TRIGGER calls_no_replace_16 BEFORE INSERT ON calls WHEN EXISTS (SELECT 1 FROM calls AS old WHERE old.rowid = NEW.rowid) BEGIN SELECT RAISE(ABORT, 'calls has that row already'); END;
CREATE TRIGGER attempts_no_replace_17 BEFORE INSERT ON attempts WHEN EXISTS (SELECT 1 FROM attempts AS old WHERE old.rowid = NEW.rowid) BEGIN SELECT RAISE(ABORT, 'attempts has that row already'); END;
CREATE TRIGGER reviews_no_replace_18 BEFORE INSERT ON reviews WHEN EXISTS (SELECT 1 FROM reviews AS old WHERE old.rowid = NEW.rowid) BEGIN SELECT RAISE(ABORT, 'reviews has that row already'); END;
CREATE TRIGGER call_reviews_no_replace_19 BEFORE INSERT ON call_reviews WHEN EXISTS (SELECT 1 FROM call_reviews AS old WHERE old.rowid = NEW.rowid) BEGIN SELECT RAISE(ABORT, 'call_reviews has that row already'); END;
CREATE TRIGGER runs_go_forward BEFORE UPDATE ON runs WHEN NEW.epoch < OLD.epoch OR NEW.seq < OLD.seq OR NEW.run_id <> OLD.run_id OR NEW.no <> OLD.no BEGIN SELECT RAISE(ABORT, 'a run goes forward only'); END;
CREATE TRIGGER runs_stay_closed BEFORE UPDATE ON runs WHEN OLD.status IN ('done', 'failed', 'cancelled') BEGIN SELECT RAISE(ABORT, 'the run is closed'); END;
CREATE TRIGGER reviews_decided_once BEFORE UPDATE ON reviews WHEN OLD.decision IS NOT NULL BEGIN SELECT RAISE(ABORT, 'the review is decided already'); END;
CREATE TRIGGER reviews_keep_question BEFORE UPDATE OF run_id, seq, state, question, show, events, requested_at, expires_at ON reviews BEGIN SELECT RAISE(ABORT, 'a review keeps its question'); END;
CREATE TRIGGER call_reviews_decided_once BEFORE UPDATE ON call_reviews WHEN OLD.decision IS NOT NULL BEGIN SELECT RAISE(ABORT, 'the review is decided already'); END;
CREATE TRIGGER call_reviews_keep_question BEFORE UPDATE OF run_id, seq, digest, occurrence, round, kind, tool, action, requested_at, remind_at, expires_at, decisions, question, arguments, show ON call_reviews BEGIN SELECT RAISE(ABORT, 'a review keeps its question'); END;
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('feed',32);
COMMIT;
