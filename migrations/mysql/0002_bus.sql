-- What waits for the message bus. A row is written with the change it tells of and goes when the broker has confirmed it.
CREATE TABLE IF NOT EXISTS bus_outbox (
    num BIGINT AUTO_INCREMENT PRIMARY KEY,
    -- The message's id, the same in every repeat.
    id VARCHAR(36) NOT NULL UNIQUE,
    -- Messages about one object go out in the order of their numbers.
    object VARCHAR(255) NOT NULL,
    publisher LONGTEXT NOT NULL,
    event_type LONGTEXT NOT NULL,
    priority VARCHAR(255) NOT NULL,
    payload LONGTEXT NOT NULL,
    at BIGINT NOT NULL,
    -- 0: due. A claim moves it ahead by the time an attempt may take.
    next_at BIGINT NOT NULL,
    attempts BIGINT NOT NULL,
    version BIGINT NOT NULL,
    last_error LONGTEXT,
    INDEX bus_outbox_by_object (object, num)
) ENGINE = InnoDB;
