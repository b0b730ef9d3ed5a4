-- Remove the marks of some changed hours of vehicles, and return these hours.
--
-- Parameters: changed_before timestamptz; most bigint, how many.
--
-- Leans on the primary key of the marks. A mark that a writer has locked is left for the next time: its
-- reading is not committed yet. A later writer waits, and marks the hour again.
DELETE FROM ingestion_changedvehiclehour AS changed
USING (
    SELECT vehicle_id, hour
    FROM ingestion_changedvehiclehour
    WHERE changed_at <= %(changed_before)s::timestamptz
    ORDER BY vehicle_id, hour
    LIMIT %(most)s
    FOR UPDATE SKIP LOCKED
) AS taken
WHERE changed.vehicle_id = taken.vehicle_id AND changed.hour = taken.hour
RETURNING changed.vehicle_id AS device_id, changed.hour
