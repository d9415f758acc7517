-- For psql, afterwards: takes away what prepare.sql and the runs left.
BEGIN;
DELETE FROM events WHERE room LIKE 'pgbench-%';
DELETE FROM snapshots WHERE room LIKE 'pgbench-%';
DELETE FROM seats WHERE room LIKE 'pgbench-%';
DELETE FROM rooms WHERE id LIKE 'pgbench-%';
DELETE FROM room_heads WHERE room LIKE 'pgbench-%';
DELETE FROM sessions WHERE "user" LIKE 'pgbench-%';
DELETE FROM users WHERE id LIKE 'pgbench-%';
COMMIT;
