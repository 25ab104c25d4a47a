-- Which hooks a recovery has and how far each is, as a document (JSON text). A row of before has none.
ALTER TABLE recoveries ADD COLUMN hooks TEXT COLLATE "C" NOT NULL DEFAULT '{}';
