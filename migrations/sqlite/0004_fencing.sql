-- Whether a controller of this host was told to keep it off when its supply comes back; restore_policies says what to put back.
ALTER TABLE hosts ADD COLUMN set_restore_policy BIGINT NOT NULL DEFAULT 0;

-- What a controller would have done when supply returns, before a fence changed it. Written before the change (I7), gone when it
-- was put back.
CREATE TABLE restore_policies (
    host CHAR(36) NOT NULL,
    device TEXT NOT NULL,
    former TEXT NOT NULL,
    at BIGINT NOT NULL,
    PRIMARY KEY (host, device)
);

-- What a drill has shown of a device: `version` is that of the host's fence_devices row whose devices were drilled; without
-- `at` the drill has begun and not passed.
CREATE TABLE fence_drills (
    host CHAR(36) NOT NULL,
    device TEXT NOT NULL,
    version BIGINT NOT NULL,
    at BIGINT,
    recovery CHAR(36) NOT NULL,
    PRIMARY KEY (host, device)
);
