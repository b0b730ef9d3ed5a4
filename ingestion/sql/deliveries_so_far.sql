-- How many deliveries history has taken so far, told by the ids that it has given out.
--
-- Reads the two sequences alone: no row of history, and nothing that a writer waits for.
-- A delivery whose transaction failed has used up an id as well.
SELECT
    coalesce(
        pg_sequence_last_value(pg_get_serial_sequence('ingestion_meterreading', 'id')::regclass), 0
    )
    + coalesce(
        pg_sequence_last_value(pg_get_serial_sequence('ingestion_vehiclereading', 'id')::regclass), 0
    ) AS deliveries
