-- Guests whose rebuild was sent to this host and had not arrived when it died: a JSON list of their ids, NULL for none.
SET @step = IF(
    EXISTS (SELECT 1 FROM information_schema.COLUMNS
            WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = 'hosts' AND COLUMN_NAME = 'stranded'),
    'DO 0',
    'ALTER TABLE hosts ADD COLUMN stranded LONGTEXT');
PREPARE step FROM @step;
EXECUTE step;
DEALLOCATE PREPARE step;

-- Programs of step 4 serve on this schema: they neither read nor write the column.
INSERT INTO settings (name, value, version, updated_at)
SELECT 'schema_serves_from', '4', 1, 0 FROM DUAL
WHERE NOT EXISTS (SELECT 1 FROM settings WHERE name = 'schema_serves_from');
