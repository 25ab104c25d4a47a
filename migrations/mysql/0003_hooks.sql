-- Which hooks a recovery has and how far each is, as a document (JSON text). A row of before has none.
-- Again without effect where the column is there already; MySQL has no ADD COLUMN IF NOT EXISTS.
SET @step = IF(
    EXISTS (SELECT 1 FROM information_schema.COLUMNS
            WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = 'recoveries' AND COLUMN_NAME = 'hooks'),
    'DO 0',
    'ALTER TABLE recoveries ADD COLUMN hooks LONGTEXT NOT NULL DEFAULT (''{}'')');
PREPARE step FROM @step;
EXECUTE step;
DEALLOCATE PREPARE step;
