-- Take some hours of meters that have changed off the list, and return them.
--
-- Parameters: changed_before timestamptz; most bigint, how many.
--
-- Leans on the primary key of the marks. A mark that a writer holds is left for the next time: its
-- reading is not committed yet. A writer that comes later waits, and marks the hour once more.
DELETE FROM ingestion_changedmeterhour AS changed
USING (
    SELECT meter_id, hour
    FROM ingestion_changedmeterhour
    WHERE changed_at <= %(changed_before)s::timestamptz
    ORDER BY meter_id, hour
    LIMIT %(most)s
    FOR UPDATE SKIP LOCKED
) AS taken
WHERE changed.meter_id = taken.meter_id AND changed.hour = taken.hour
RETURNING changed.meter_id AS device_id, changed.hour
