-- Masakari's schema at revision 13adff5efb9a as SQLite holds it, by the columns of the contract (section 3.10).
CREATE TABLE masakari_alembic_version (version_num VARCHAR(32) NOT NULL PRIMARY KEY);
INSERT INTO masakari_alembic_version VALUES ('13adff5efb9a');
CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL PRIMARY KEY);
CREATE TABLE failover_segments (
    created_at DATETIME, updated_at DATETIME, deleted_at DATETIME, deleted INTEGER,
    id INTEGER NOT NULL PRIMARY KEY, uuid VARCHAR(36) NOT NULL UNIQUE, name VARCHAR(255) NOT NULL,
    service_type VARCHAR(255) NOT NULL, enabled BOOLEAN, description TEXT, recovery_method VARCHAR(15) NOT NULL,
    UNIQUE (name, deleted)
);
CREATE TABLE hosts (
    created_at DATETIME, updated_at DATETIME, deleted_at DATETIME, deleted INTEGER,
    id INTEGER NOT NULL PRIMARY KEY, uuid VARCHAR(36) NOT NULL UNIQUE, name VARCHAR(255) NOT NULL, reserved BOOLEAN,
    type VARCHAR(255) NOT NULL, control_attributes TEXT NOT NULL, failover_segment_id VARCHAR(36) NOT NULL,
    on_maintenance BOOLEAN, UNIQUE (name, deleted)
);
CREATE TABLE notifications (
    created_at DATETIME, updated_at DATETIME, deleted_at DATETIME, deleted INTEGER,
    id INTEGER NOT NULL PRIMARY KEY, notification_uuid VARCHAR(36) NOT NULL UNIQUE, generated_time DATETIME NOT NULL,
    source_host_uuid VARCHAR(36) NOT NULL, type VARCHAR(36) NOT NULL, payload TEXT, status VARCHAR(8) NOT NULL,
    failover_segment_uuid VARCHAR(36), message TEXT
);
CREATE TABLE vmoves (
    created_at DATETIME, updated_at DATETIME, deleted_at DATETIME, deleted INTEGER,
    id INTEGER NOT NULL PRIMARY KEY, uuid VARCHAR(36) NOT NULL UNIQUE, notification_uuid VARCHAR(36) NOT NULL,
    instance_uuid VARCHAR(36) NOT NULL, instance_name VARCHAR(255) NOT NULL, source_host VARCHAR(255),
    dest_host VARCHAR(255), start_time DATETIME, end_time DATETIME, type VARCHAR(36), status VARCHAR(255), message TEXT
);

INSERT INTO failover_segments (id, uuid, name, service_type, enabled, description, recovery_method, created_at, updated_at, deleted_at, deleted) VALUES
    (3, '00000000-0000-4000-8000-000000000103', 'racks', 'COMPUTE', 1, 'the racks', 'auto', '2026-01-02 03:04:05.000006', NULL, NULL, 0),
    (4, '00000000-0000-4000-8000-000000000104', 'old', 'COMPUTE', 0, NULL, 'rh_priority', '2025-01-01 00:00:00', NULL, '2025-06-01 00:00:00', 4);
INSERT INTO hosts (id, uuid, name, reserved, type, control_attributes, failover_segment_id, on_maintenance, created_at, updated_at, deleted_at, deleted) VALUES
    (7, '00000000-0000-4000-8000-000000000207', 'cmp-07', 0, 'COMPUTE', 'SSH', '00000000-0000-4000-8000-000000000103', 1, '2026-01-02 03:04:05', '2026-02-02 00:00:00', NULL, 0),
    (8, '00000000-0000-4000-8000-000000000208', 'cmp-08', 1, 'COMPUTE', 'SSH', '00000000-0000-4000-8000-000000000103', 0, '2026-01-02 03:04:05', NULL, NULL, 0),
    (9, '00000000-0000-4000-8000-000000000209', 'cmp-07', 0, 'COMPUTE', 'SSH', '00000000-0000-4000-8000-000000000104', 0, '2025-01-01 00:00:00', NULL, '2025-06-01 00:00:00', 9);
INSERT INTO notifications (id, notification_uuid, generated_time, source_host_uuid, type, payload, status, failover_segment_uuid, message, created_at, updated_at, deleted) VALUES
    (11, '00000000-0000-4000-8000-000000000311', '2026-02-01 10:00:00.123456', '00000000-0000-4000-8000-000000000207', 'COMPUTE_HOST', '{"event": "STOPPED", "cluster_status": "OFFLINE", "host_status": "NORMAL"}', 'finished', '00000000-0000-4000-8000-000000000103', NULL, '2026-02-01 10:00:01', '2026-02-01 10:05:00', 0),
    (12, '00000000-0000-4000-8000-000000000312', '2026-02-02 10:00:00', '00000000-0000-4000-8000-000000000207', 'COMPUTE_HOST', '{"event": "STOPPED", "cluster_status": "OFFLINE", "host_status": "NORMAL"}', 'running', NULL, NULL, '2026-02-02 10:00:01', NULL, 0),
    (13, '00000000-0000-4000-8000-000000000313', '2025-02-02 10:00:00', '00000000-0000-4000-8000-000000000209', 'VM', '{"event": "LIFECYCLE", "instance_uuid": "00000000-0000-4000-8000-000000000901", "vir_domain_event": "STOPPED_FAILED"}', 'new', NULL, 'queued', '2025-02-02 10:00:01', NULL, 0),
    (14, '00000000-0000-4000-8000-000000000314', '2026-02-03 10:00:00', '00000000-0000-4000-8000-000000000208', 'PROCESS', '{"event": "STOPPED", "process_name": "nova-compute"}', 'error', NULL, NULL, '2026-02-03 10:00:01', NULL, 0);
INSERT INTO vmoves (id, uuid, notification_uuid, instance_uuid, instance_name, source_host, dest_host, start_time, end_time, type, status, message, created_at, deleted) VALUES
    (21, '00000000-0000-4000-8000-000000000421', '00000000-0000-4000-8000-000000000311', '00000000-0000-4000-8000-000000000901', 'web', 'cmp-07', 'cmp-08', '2026-02-01 10:00:02', '2026-02-01 10:00:09', 'evacuation', 'succeeded', NULL, '2026-02-01 10:00:01', 0),
    (22, '00000000-0000-4000-8000-000000000422', '00000000-0000-4000-8000-000000000311', '00000000-0000-4000-8000-000000000902', 'db', 'cmp-07', NULL, '2026-02-01 10:00:02', NULL, 'evacuation', 'ongoing', NULL, '2026-02-01 10:00:01', 0),
    (23, '00000000-0000-4000-8000-000000000423', '00000000-0000-4000-8000-000000000312', '00000000-0000-4000-8000-000000000902', 'db', 'cmp-07', NULL, NULL, NULL, 'evacuation', 'pending', NULL, '2026-02-02 10:00:01', 0);
