-- The twin of sqlite/0001: the same tables and columns. Names and words are VARCHAR, documents and messages LONGTEXT; the
-- collation, by bytes and without padding as on the other two, is the database's own, which `halberd db migrate` sets before this.
-- MariaDB commits at each statement of a schema: every step here can be run again from its beginning.
-- `deleted` is 0 or the row's `num`, so that UNIQUE (name, deleted) holds among the living rows only.

CREATE TABLE IF NOT EXISTS segments (
    num BIGINT AUTO_INCREMENT PRIMARY KEY,
    id VARCHAR(36) NOT NULL UNIQUE,
    name VARCHAR(255) NOT NULL,
    description LONGTEXT,
    service_type LONGTEXT NOT NULL,
    recovery_method VARCHAR(255) NOT NULL,
    enabled BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT,
    deleted_at BIGINT,
    deleted BIGINT NOT NULL DEFAULT 0,
    UNIQUE (name, deleted)
) ENGINE = InnoDB;

CREATE TABLE IF NOT EXISTS segment_policy (
    segment VARCHAR(36) PRIMARY KEY NOT NULL,
    policy LONGTEXT NOT NULL,
    version BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
) ENGINE = InnoDB;

CREATE TABLE IF NOT EXISTS hosts (
    num BIGINT AUTO_INCREMENT PRIMARY KEY,
    id VARCHAR(36) NOT NULL UNIQUE,
    segment VARCHAR(36) NOT NULL,
    name VARCHAR(255) NOT NULL,
    kind VARCHAR(255) NOT NULL,
    control_attributes LONGTEXT NOT NULL,
    reserved BIGINT NOT NULL,
    reserved_by VARCHAR(36),
    maintenance_operator BIGINT NOT NULL,
    maintenance_recovery BIGINT NOT NULL,
    maintenance_process BIGINT NOT NULL,
    admission VARCHAR(255) NOT NULL,
    boot_number BIGINT NOT NULL,
    boot VARCHAR(36),
    retired_boots LONGTEXT NOT NULL,
    ever_agent BIGINT NOT NULL,
    rack LONGTEXT,
    power LONGTEXT,
    switch LONGTEXT,
    serial LONGTEXT,
    machine VARCHAR(36),
    proof LONGTEXT,
    set_disabled BIGINT NOT NULL,
    set_forced_down BIGINT NOT NULL,
    version BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT,
    deleted_at BIGINT,
    deleted BIGINT NOT NULL DEFAULT 0,
    UNIQUE (name, deleted),
    INDEX hosts_by_segment (segment, deleted),
    FOREIGN KEY (segment) REFERENCES segments (id)
) ENGINE = InnoDB;

CREATE TABLE IF NOT EXISTS notifications (
    num BIGINT AUTO_INCREMENT PRIMARY KEY,
    id VARCHAR(36) NOT NULL UNIQUE,
    kind VARCHAR(255) NOT NULL,
    host VARCHAR(36) NOT NULL,
    segment VARCHAR(36) NOT NULL,
    generated_at BIGINT NOT NULL,
    payload LONGTEXT NOT NULL,
    payload_hash VARCHAR(64) NOT NULL,
    origin VARCHAR(255) NOT NULL,
    status VARCHAR(255) NOT NULL,
    message LONGTEXT,
    -- The recovery this report led to or joined: its end is this report's end.
    recovery VARCHAR(36),
    created_at BIGINT NOT NULL,
    updated_at BIGINT,
    INDEX notifications_by_status (status, num),
    INDEX notifications_by_host (host, status),
    INDEX notifications_by_recovery (recovery)
) ENGINE = InnoDB;

-- One row per (host, type, payload): the row that concurrent equal reports race for (DESIGN 10.12).
CREATE TABLE IF NOT EXISTS duplicates (
    host VARCHAR(36) NOT NULL,
    kind VARCHAR(255) NOT NULL,
    payload_hash VARCHAR(64) NOT NULL,
    notification VARCHAR(36) NOT NULL,
    last_at BIGINT NOT NULL,
    last_generated_at BIGINT NOT NULL,
    version BIGINT NOT NULL,
    PRIMARY KEY (host, kind, payload_hash)
) ENGINE = InnoDB;

CREATE TABLE IF NOT EXISTS evidence (
    num BIGINT AUTO_INCREMENT PRIMARY KEY,
    host VARCHAR(36) NOT NULL,
    notification VARCHAR(36),
    at BIGINT NOT NULL,
    source LONGTEXT NOT NULL,
    class VARCHAR(255),
    text LONGTEXT NOT NULL,
    detail LONGTEXT NOT NULL,
    INDEX evidence_by_host (host, num)
) ENGINE = InnoDB;

CREATE TABLE IF NOT EXISTS recoveries (
    num BIGINT AUTO_INCREMENT PRIMARY KEY,
    id VARCHAR(36) NOT NULL UNIQUE,
    notification VARCHAR(36) NOT NULL,
    segment VARCHAR(36) NOT NULL,
    kind VARCHAR(255) NOT NULL,
    subject LONGTEXT NOT NULL,
    host VARCHAR(36) NOT NULL,
    host_name LONGTEXT NOT NULL,
    method VARCHAR(255) NOT NULL,
    policy LONGTEXT NOT NULL,
    state VARCHAR(255) NOT NULL,
    body LONGTEXT NOT NULL,
    reason LONGTEXT NOT NULL,
    workflow_version BIGINT NOT NULL,
    owner VARCHAR(36),
    epoch BIGINT NOT NULL,
    version BIGINT NOT NULL,
    nonce VARCHAR(36) NOT NULL,
    -- Last sequence given to an event of this recovery: gap-free, so it stands in the row (I30).
    event_sequence BIGINT NOT NULL,
    open_key VARCHAR(512) UNIQUE,
    opened_at BIGINT NOT NULL,
    closed_at BIGINT,
    updated_at BIGINT NOT NULL,
    INDEX recoveries_by_host (host, num),
    INDEX recoveries_by_segment (segment, num),
    INDEX recoveries_by_notification (notification)
) ENGINE = InnoDB;

CREATE TABLE IF NOT EXISTS vmoves (
    num BIGINT AUTO_INCREMENT PRIMARY KEY,
    id VARCHAR(36) NOT NULL UNIQUE,
    recovery VARCHAR(36) NOT NULL,
    notification VARCHAR(36) NOT NULL,
    instance VARCHAR(36) NOT NULL,
    instance_name LONGTEXT NOT NULL,
    source_host LONGTEXT NOT NULL,
    dest_host LONGTEXT,
    kind VARCHAR(255) NOT NULL,
    status VARCHAR(255) NOT NULL,
    message LONGTEXT,
    start_time BIGINT,
    end_time BIGINT,
    stage VARCHAR(255) NOT NULL,
    body LONGTEXT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT,
    UNIQUE (recovery, instance),
    INDEX vmoves_by_notification (notification, num),
    INDEX vmoves_by_instance (instance),
    FOREIGN KEY (recovery) REFERENCES recoveries (id)
) ENGINE = InnoDB;

CREATE TABLE IF NOT EXISTS intents (
    id VARCHAR(36) PRIMARY KEY NOT NULL,
    recovery VARCHAR(36),
    host VARCHAR(36),
    vmove VARCHAR(36),
    effect VARCHAR(255) NOT NULL,
    open_key VARCHAR(512) UNIQUE,
    epoch BIGINT NOT NULL,
    attempt BIGINT NOT NULL,
    detail LONGTEXT NOT NULL,
    created_at BIGINT NOT NULL,
    resolved_at BIGINT,
    result LONGTEXT,
    result_detail LONGTEXT,
    INDEX intents_by_recovery (recovery, resolved_at),
    INDEX intents_by_host (host, resolved_at)
) ENGINE = InnoDB;

CREATE TABLE IF NOT EXISTS audit (
    chain VARCHAR(255) NOT NULL,
    sequence BIGINT NOT NULL,
    before_hash VARCHAR(64) NOT NULL,
    at BIGINT NOT NULL,
    epoch BIGINT NOT NULL,
    what VARCHAR(255) NOT NULL,
    text LONGTEXT NOT NULL,
    detail LONGTEXT NOT NULL,
    hash VARCHAR(64) NOT NULL,
    PRIMARY KEY (chain, sequence)
) ENGINE = InnoDB;
CREATE TABLE IF NOT EXISTS audit_heads (
    chain VARCHAR(255) PRIMARY KEY NOT NULL,
    sequence BIGINT NOT NULL,
    hash VARCHAR(64) NOT NULL
) ENGINE = InnoDB;

CREATE TABLE IF NOT EXISTS events (
    num BIGINT AUTO_INCREMENT PRIMARY KEY,
    id VARCHAR(36) NOT NULL UNIQUE,
    recovery VARCHAR(36),
    sequence BIGINT,
    epoch BIGINT NOT NULL,
    kind VARCHAR(255) NOT NULL,
    subject LONGTEXT NOT NULL,
    data LONGTEXT NOT NULL,
    at BIGINT NOT NULL,
    UNIQUE (recovery, sequence)
) ENGINE = InnoDB;
CREATE TABLE IF NOT EXISTS deliveries (
    num BIGINT AUTO_INCREMENT PRIMARY KEY,
    event VARCHAR(36) NOT NULL,
    webhook VARCHAR(255) NOT NULL,
    recovery VARCHAR(36),
    state VARCHAR(255) NOT NULL,
    attempts BIGINT NOT NULL,
    next_at BIGINT NOT NULL,
    version BIGINT NOT NULL,
    last_error LONGTEXT,
    updated_at BIGINT NOT NULL,
    UNIQUE (event, webhook),
    INDEX deliveries_due (state, next_at),
    INDEX deliveries_by_order (webhook, recovery, state, num),
    FOREIGN KEY (event) REFERENCES events (id)
) ENGINE = InnoDB;

CREATE TABLE IF NOT EXISTS engines (
    name VARCHAR(255) PRIMARY KEY NOT NULL,
    id VARCHAR(36) NOT NULL UNIQUE,
    counter BIGINT NOT NULL,
    started_at BIGINT NOT NULL,
    renewed_at BIGINT NOT NULL,
    stopped_at BIGINT,
    detail LONGTEXT NOT NULL
) ENGINE = InnoDB;

CREATE TABLE IF NOT EXISTS wishes (
    num BIGINT AUTO_INCREMENT PRIMARY KEY,
    id VARCHAR(36) NOT NULL UNIQUE,
    kind VARCHAR(255) NOT NULL,
    subject LONGTEXT NOT NULL,
    actor LONGTEXT NOT NULL,
    reason LONGTEXT NOT NULL,
    body LONGTEXT NOT NULL,
    created_at BIGINT NOT NULL,
    taken_by VARCHAR(36),
    done_at BIGINT,
    succeeded BIGINT,
    result LONGTEXT,
    INDEX wishes_unhandled (done_at, num)
) ENGINE = InnoDB;

CREATE TABLE IF NOT EXISTS fence_devices (
    host VARCHAR(36) PRIMARY KEY NOT NULL,
    masked LONGTEXT NOT NULL,
    sealed LONGTEXT NOT NULL,
    version BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
) ENGINE = InnoDB;
CREATE TABLE IF NOT EXISTS fence_checks (
    host VARCHAR(36) NOT NULL,
    level BIGINT NOT NULL,
    position BIGINT NOT NULL,
    device LONGTEXT NOT NULL,
    at BIGINT NOT NULL,
    ok BIGINT NOT NULL,
    power LONGTEXT,
    text LONGTEXT NOT NULL,
    detail LONGTEXT NOT NULL,
    PRIMARY KEY (host, level, position)
) ENGINE = InnoDB;

CREATE TABLE IF NOT EXISTS sessions (
    id VARCHAR(36) PRIMARY KEY NOT NULL,
    host VARCHAR(36) NOT NULL,
    device LONGTEXT NOT NULL,
    sealed LONGTEXT NOT NULL,
    recovery VARCHAR(36),
    at BIGINT NOT NULL,
    INDEX sessions_by_host (host)
) ENGINE = InnoDB;

CREATE TABLE IF NOT EXISTS agent_keys (
    host VARCHAR(36) PRIMARY KEY NOT NULL,
    sealed LONGTEXT NOT NULL,
    version BIGINT NOT NULL,
    at BIGINT NOT NULL
) ENGINE = InnoDB;
CREATE TABLE IF NOT EXISTS agent_reports (
    id VARCHAR(36) PRIMARY KEY NOT NULL,
    host VARCHAR(36) NOT NULL,
    notification VARCHAR(36),
    answer LONGTEXT NOT NULL,
    at BIGINT NOT NULL
) ENGINE = InnoDB;
CREATE TABLE IF NOT EXISTS orders (
    num BIGINT AUTO_INCREMENT PRIMARY KEY,
    id VARCHAR(36) NOT NULL UNIQUE,
    host VARCHAR(36) NOT NULL,
    kind VARCHAR(255) NOT NULL,
    body LONGTEXT NOT NULL,
    created_at BIGINT NOT NULL,
    done_at BIGINT,
    succeeded BIGINT,
    result LONGTEXT,
    INDEX orders_by_host (host, done_at, num)
) ENGINE = InnoDB;

CREATE TABLE IF NOT EXISTS services (
    num BIGINT AUTO_INCREMENT PRIMARY KEY,
    id VARCHAR(36) NOT NULL UNIQUE,
    name VARCHAR(255) NOT NULL UNIQUE,
    kind VARCHAR(255) NOT NULL,
    state VARCHAR(255) NOT NULL,
    since BIGINT NOT NULL,
    reason LONGTEXT NOT NULL,
    probe LONGTEXT NOT NULL,
    version BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
) ENGINE = InnoDB;
CREATE TABLE IF NOT EXISTS service_downs (
    num BIGINT AUTO_INCREMENT PRIMARY KEY,
    service VARCHAR(36) NOT NULL,
    began_at BIGINT NOT NULL,
    ended_at BIGINT,
    state VARCHAR(255) NOT NULL,
    reason LONGTEXT NOT NULL,
    INDEX service_downs_by_service (service, began_at),
    FOREIGN KEY (service) REFERENCES services (id)
) ENGINE = InnoDB;

CREATE TABLE IF NOT EXISTS sightings (
    host VARCHAR(36) NOT NULL,
    engine VARCHAR(36) NOT NULL,
    boot VARCHAR(36),
    state VARCHAR(255) NOT NULL,
    since BIGINT NOT NULL,
    PRIMARY KEY (host, engine)
) ENGINE = InnoDB;

CREATE TABLE IF NOT EXISTS settings (
    name VARCHAR(255) PRIMARY KEY NOT NULL,
    value LONGTEXT NOT NULL,
    version BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
) ENGINE = InnoDB;
