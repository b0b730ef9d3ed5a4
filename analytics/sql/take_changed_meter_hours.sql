-- Remove the marks of some changed hours of meters, and return these hours.
--
-- Parameters: changed_before timestamptz; most bigint, how many.
--
-- Leans on the primary key of the marks. A mark that a writer has locked is left for the next time: its
-- reading is not committed yet. A later writer waits, and marks the hour again.
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
