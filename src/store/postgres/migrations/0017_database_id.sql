-- Tells this database from others: a transaction of the application may create runs here only if it
-- leads here. Not `md5` or `gen_random_uuid`, which not every server has.
CREATE TABLE @database (id text COLLATE "C" NOT NULL);
INSERT INTO @database
    SELECT string_agg(lpad(to_hex(floor(random() * 65536)::int), 4, '0'), '') FROM generate_series(1, 8);
