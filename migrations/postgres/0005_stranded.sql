-- Guests whose rebuild was sent to this host and had not arrived when it died: a JSON list of their ids, NULL for none.
ALTER TABLE hosts ADD COLUMN stranded TEXT;

-- Programs of step 4 serve on this schema: they neither read nor write the column.
INSERT INTO settings (name, value, version, updated_at)
SELECT 'schema_serves_from', '4', 1, 0
WHERE NOT EXISTS (SELECT 1 FROM settings WHERE name = 'schema_serves_from');
