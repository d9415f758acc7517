-- Behind which offset a room's log begins: what lies up to there is told by the snapshot at that offset alone, and the events
-- are taken away. 0 where all of them are kept.
ALTER TABLE rooms ADD COLUMN begins INTEGER NOT NULL DEFAULT 0;
