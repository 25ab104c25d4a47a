-- What waits for the message bus. A row is written with the change it tells of and goes when the broker has confirmed it.
CREATE TABLE bus_outbox (
    num INTEGER PRIMARY KEY AUTOINCREMENT,
    -- The message's id, the same in every repeat.
    id CHAR(36) NOT NULL UNIQUE,
    -- Messages about one object go out in the order of their numbers.
    object TEXT NOT NULL,
    publisher TEXT NOT NULL,
    event_type TEXT NOT NULL,
    priority TEXT NOT NULL,
    payload TEXT NOT NULL,
    at BIGINT NOT NULL,
    -- 0: due. A claim moves it ahead by the time an attempt may take.
    next_at BIGINT NOT NULL,
    attempts BIGINT NOT NULL,
    version BIGINT NOT NULL,
    last_error TEXT
);
CREATE INDEX bus_outbox_by_object ON bus_outbox (object, num);
