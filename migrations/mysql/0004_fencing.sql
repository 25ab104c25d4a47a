-- Whether a controller of this host was told to keep it off when its supply comes back; restore_policies says what to put back.
SET @step = IF(
    EXISTS (SELECT 1 FROM information_schema.COLUMNS
            WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = 'hosts' AND COLUMN_NAME = 'set_restore_policy'),
    'DO 0',
    'ALTER TABLE hosts ADD COLUMN set_restore_policy BIGINT NOT NULL DEFAULT 0');
PREPARE step FROM @step;
EXECUTE step;
DEALLOCATE PREPARE step;

-- What a controller would have done when supply returns, before a fence changed it. Written before the change (I7), gone when it
-- was put back.
CREATE TABLE IF NOT EXISTS restore_policies (
    host VARCHAR(36) NOT NULL,
    device VARCHAR(512) NOT NULL,
    former LONGTEXT NOT NULL,
    at BIGINT NOT NULL,
    PRIMARY KEY (host, device)
) ENGINE = InnoDB;

-- What a drill has shown of a device: `version` is that of the host's fence_devices row whose devices were drilled; without
-- `at` the drill has begun and not passed.
CREATE TABLE IF NOT EXISTS fence_drills (
    host VARCHAR(36) NOT NULL,
    device VARCHAR(512) NOT NULL,
    version BIGINT NOT NULL,
    at BIGINT,
    recovery VARCHAR(36) NOT NULL,
    PRIMARY KEY (host, device)
) ENGINE = InnoDB;
