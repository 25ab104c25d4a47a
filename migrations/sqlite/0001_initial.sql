-- The first schema. Ids are CHAR(36) text, times BIGINT microseconds UTC, enums text, documents JSON text (DESIGN 10.12),
-- so that the twins for PostgreSQL and MariaDB have the same columns. `num` is v1's numeric id and list marker.
-- `deleted` is 0 or the row's `num`, so that UNIQUE (name, deleted) holds among the living rows only.

CREATE TABLE segments (
    num INTEGER PRIMARY KEY AUTOINCREMENT,
    id CHAR(36) NOT NULL UNIQUE,
    name TEXT NOT NULL,
    description TEXT,
    service_type TEXT NOT NULL,
    recovery_method TEXT NOT NULL,
    enabled INTEGER NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT,
    deleted_at BIGINT,
    deleted BIGINT NOT NULL DEFAULT 0,
    UNIQUE (name, deleted)
);

CREATE TABLE segment_policy (
    segment CHAR(36) PRIMARY KEY NOT NULL,
    policy TEXT NOT NULL,
    version BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);

CREATE TABLE hosts (
    num INTEGER PRIMARY KEY AUTOINCREMENT,
    id CHAR(36) NOT NULL UNIQUE,
    segment CHAR(36) NOT NULL REFERENCES segments (id),
    name TEXT NOT NULL,
    kind TEXT NOT NULL,
    control_attributes TEXT NOT NULL,
    reserved INTEGER NOT NULL,
    reserved_by CHAR(36),
    maintenance_operator INTEGER NOT NULL,
    maintenance_recovery INTEGER NOT NULL,
    maintenance_process INTEGER NOT NULL,
    admission TEXT NOT NULL,
    boot_number BIGINT NOT NULL,
    boot CHAR(36),
    retired_boots TEXT NOT NULL,
    ever_agent INTEGER NOT NULL,
    rack TEXT,
    power TEXT,
    switch TEXT,
    serial TEXT,
    machine CHAR(36),
    proof TEXT,
    set_disabled INTEGER NOT NULL,
    set_forced_down INTEGER NOT NULL,
    version BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT,
    deleted_at BIGINT,
    deleted BIGINT NOT NULL DEFAULT 0,
    UNIQUE (name, deleted)
);
CREATE INDEX hosts_by_segment ON hosts (segment, deleted);

CREATE TABLE notifications (
    num INTEGER PRIMARY KEY AUTOINCREMENT,
    id CHAR(36) NOT NULL UNIQUE,
    kind TEXT NOT NULL,
    host CHAR(36) NOT NULL,
    segment CHAR(36) NOT NULL,
    generated_at BIGINT NOT NULL,
    payload TEXT NOT NULL,
    payload_hash CHAR(64) NOT NULL,
    origin TEXT NOT NULL,
    status TEXT NOT NULL,
    message TEXT,
    -- The recovery this report led to or joined: its end is this report's end.
    recovery CHAR(36),
    created_at BIGINT NOT NULL,
    updated_at BIGINT
);
CREATE INDEX notifications_by_status ON notifications (status, num);
CREATE INDEX notifications_by_host ON notifications (host, status);
CREATE INDEX notifications_by_recovery ON notifications (recovery);

-- One row per (host, type, payload): the row that concurrent equal reports race for (DESIGN 10.12).
CREATE TABLE duplicates (
    host CHAR(36) NOT NULL,
    kind TEXT NOT NULL,
    payload_hash CHAR(64) NOT NULL,
    notification CHAR(36) NOT NULL,
    last_at BIGINT NOT NULL,
    last_generated_at BIGINT NOT NULL,
    version BIGINT NOT NULL,
    PRIMARY KEY (host, kind, payload_hash)
);

CREATE TABLE evidence (
    num INTEGER PRIMARY KEY AUTOINCREMENT,
    host CHAR(36) NOT NULL,
    notification CHAR(36),
    at BIGINT NOT NULL,
    source TEXT NOT NULL,
    class TEXT,
    text TEXT NOT NULL,
    detail TEXT NOT NULL
);
CREATE INDEX evidence_by_host ON evidence (host, num);

CREATE TABLE recoveries (
    num INTEGER PRIMARY KEY AUTOINCREMENT,
    id CHAR(36) NOT NULL UNIQUE,
    notification CHAR(36) NOT NULL,
    segment CHAR(36) NOT NULL,
    kind TEXT NOT NULL,
    subject TEXT NOT NULL,
    host CHAR(36) NOT NULL,
    host_name TEXT NOT NULL,
    method TEXT NOT NULL,
    policy TEXT NOT NULL,
    state TEXT NOT NULL,
    body TEXT NOT NULL,
    reason TEXT NOT NULL,
    workflow_version BIGINT NOT NULL,
    owner CHAR(36),
    epoch BIGINT NOT NULL,
    version BIGINT NOT NULL,
    nonce CHAR(36) NOT NULL,
    -- Last sequence given to an event of this recovery: gap-free, so it stands in the row (I30).
    event_sequence BIGINT NOT NULL,
    open_key TEXT UNIQUE,
    opened_at BIGINT NOT NULL,
    closed_at BIGINT,
    updated_at BIGINT NOT NULL
);
CREATE INDEX recoveries_by_host ON recoveries (host, num);
CREATE INDEX recoveries_by_segment ON recoveries (segment, num);
CREATE INDEX recoveries_by_notification ON recoveries (notification);

CREATE TABLE vmoves (
    num INTEGER PRIMARY KEY AUTOINCREMENT,
    id CHAR(36) NOT NULL UNIQUE,
    recovery CHAR(36) NOT NULL REFERENCES recoveries (id),
    notification CHAR(36) NOT NULL,
    instance CHAR(36) NOT NULL,
    instance_name TEXT NOT NULL,
    source_host TEXT NOT NULL,
    dest_host TEXT,
    kind TEXT NOT NULL,
    status TEXT NOT NULL,
    message TEXT,
    start_time BIGINT,
    end_time BIGINT,
    stage TEXT NOT NULL,
    body TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT,
    UNIQUE (recovery, instance)
);
CREATE INDEX vmoves_by_notification ON vmoves (notification, num);
CREATE INDEX vmoves_by_instance ON vmoves (instance);

CREATE TABLE intents (
    id CHAR(36) PRIMARY KEY NOT NULL,
    recovery CHAR(36),
    host CHAR(36),
    vmove CHAR(36),
    effect TEXT NOT NULL,
    open_key TEXT UNIQUE,
    epoch BIGINT NOT NULL,
    attempt BIGINT NOT NULL,
    detail TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    resolved_at BIGINT,
    result TEXT,
    result_detail TEXT
);
CREATE INDEX intents_by_recovery ON intents (recovery, resolved_at);
CREATE INDEX intents_by_host ON intents (host, resolved_at);

CREATE TABLE audit (
    chain TEXT NOT NULL,
    sequence BIGINT NOT NULL,
    before_hash CHAR(64) NOT NULL,
    at BIGINT NOT NULL,
    epoch BIGINT NOT NULL,
    what TEXT NOT NULL,
    text TEXT NOT NULL,
    detail TEXT NOT NULL,
    hash CHAR(64) NOT NULL,
    PRIMARY KEY (chain, sequence)
);
CREATE TABLE audit_heads (
    chain TEXT PRIMARY KEY NOT NULL,
    sequence BIGINT NOT NULL,
    hash CHAR(64) NOT NULL
);

CREATE TABLE events (
    num INTEGER PRIMARY KEY AUTOINCREMENT,
    id CHAR(36) NOT NULL UNIQUE,
    recovery CHAR(36),
    sequence BIGINT,
    epoch BIGINT NOT NULL,
    kind TEXT NOT NULL,
    subject TEXT NOT NULL,
    data TEXT NOT NULL,
    at BIGINT NOT NULL,
    UNIQUE (recovery, sequence)
);
CREATE TABLE deliveries (
    num INTEGER PRIMARY KEY AUTOINCREMENT,
    event CHAR(36) NOT NULL REFERENCES events (id),
    webhook TEXT NOT NULL,
    recovery CHAR(36),
    state TEXT NOT NULL,
    attempts BIGINT NOT NULL,
    next_at BIGINT NOT NULL,
    version BIGINT NOT NULL,
    last_error TEXT,
    updated_at BIGINT NOT NULL,
    UNIQUE (event, webhook)
);
CREATE INDEX deliveries_due ON deliveries (state, next_at);
CREATE INDEX deliveries_by_order ON deliveries (webhook, recovery, state, num);

CREATE TABLE engines (
    name TEXT PRIMARY KEY NOT NULL,
    id CHAR(36) NOT NULL UNIQUE,
    counter BIGINT NOT NULL,
    started_at BIGINT NOT NULL,
    renewed_at BIGINT NOT NULL,
    stopped_at BIGINT,
    detail TEXT NOT NULL
);

CREATE TABLE wishes (
    num INTEGER PRIMARY KEY AUTOINCREMENT,
    id CHAR(36) NOT NULL UNIQUE,
    kind TEXT NOT NULL,
    subject TEXT NOT NULL,
    actor TEXT NOT NULL,
    reason TEXT NOT NULL,
    body TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    taken_by CHAR(36),
    done_at BIGINT,
    succeeded INTEGER,
    result TEXT
);
CREATE INDEX wishes_unhandled ON wishes (done_at, num);

CREATE TABLE fence_devices (
    host CHAR(36) PRIMARY KEY NOT NULL,
    masked TEXT NOT NULL,
    sealed TEXT NOT NULL,
    version BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE TABLE fence_checks (
    host CHAR(36) NOT NULL,
    level BIGINT NOT NULL,
    position BIGINT NOT NULL,
    device TEXT NOT NULL,
    at BIGINT NOT NULL,
    ok INTEGER NOT NULL,
    power TEXT,
    text TEXT NOT NULL,
    detail TEXT NOT NULL,
    PRIMARY KEY (host, level, position)
);

CREATE TABLE sessions (
    id CHAR(36) PRIMARY KEY NOT NULL,
    host CHAR(36) NOT NULL,
    device TEXT NOT NULL,
    sealed TEXT NOT NULL,
    recovery CHAR(36),
    at BIGINT NOT NULL
);
CREATE INDEX sessions_by_host ON sessions (host);

CREATE TABLE agent_keys (
    host CHAR(36) PRIMARY KEY NOT NULL,
    sealed TEXT NOT NULL,
    version BIGINT NOT NULL,
    at BIGINT NOT NULL
);
CREATE TABLE agent_reports (
    id CHAR(36) PRIMARY KEY NOT NULL,
    host CHAR(36) NOT NULL,
    notification CHAR(36),
    answer TEXT NOT NULL,
    at BIGINT NOT NULL
);
CREATE TABLE orders (
    num INTEGER PRIMARY KEY AUTOINCREMENT,
    id CHAR(36) NOT NULL UNIQUE,
    host CHAR(36) NOT NULL,
    kind TEXT NOT NULL,
    body TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    done_at BIGINT,
    succeeded INTEGER,
    result TEXT
);
CREATE INDEX orders_by_host ON orders (host, done_at, num);

CREATE TABLE services (
    num INTEGER PRIMARY KEY AUTOINCREMENT,
    id CHAR(36) NOT NULL UNIQUE,
    name TEXT NOT NULL UNIQUE,
    kind TEXT NOT NULL,
    state TEXT NOT NULL,
    since BIGINT NOT NULL,
    reason TEXT NOT NULL,
    probe TEXT NOT NULL,
    version BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE TABLE service_downs (
    num INTEGER PRIMARY KEY AUTOINCREMENT,
    service CHAR(36) NOT NULL REFERENCES services (id),
    began_at BIGINT NOT NULL,
    ended_at BIGINT,
    state TEXT NOT NULL,
    reason TEXT NOT NULL
);
CREATE INDEX service_downs_by_service ON service_downs (service, began_at);

CREATE TABLE sightings (
    host CHAR(36) NOT NULL,
    engine CHAR(36) NOT NULL,
    boot CHAR(36),
    state TEXT NOT NULL,
    since BIGINT NOT NULL,
    PRIMARY KEY (host, engine)
);

CREATE TABLE settings (
    name TEXT PRIMARY KEY NOT NULL,
    value TEXT NOT NULL,
    version BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
