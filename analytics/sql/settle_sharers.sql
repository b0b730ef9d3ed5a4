-- Settle a meter and the vehicles that share it up to an hour, as far as they have been silent: from now on,
-- a reading from before it marks its hour as changed. There is nothing to roll up. Returns how many of
-- all of them are settled up to then.
--
-- Parameters: meter_id text, vehicle_ids text[]; until timestamptz, a whole hour.
--
-- Leans on the primary keys of live state. Locks the live rows, in the order of ids, as the writer does.
WITH meter AS (
    UPDATE fleet_meterlivestate AS live
    SET settled_before = greatest(live.settled_before, %(until)s::timestamptz)
    FROM (
        SELECT meter_id
        FROM fleet_meterlivestate
        WHERE
            meter_id = %(meter_id)s::text
            AND (settled_before >= %(until)s::timestamptz OR measured_at < settled_before)
        FOR NO KEY UPDATE
    ) AS due
    WHERE live.meter_id = due.meter_id
    RETURNING 1
),
vehicle AS (
    UPDATE fleet_vehiclelivestate AS live
    SET settled_before = greatest(live.settled_before, %(until)s::timestamptz)
    FROM (
        SELECT vehicle_id
        FROM fleet_vehiclelivestate
        WHERE
            vehicle_id = ANY(%(vehicle_ids)b::text[])
            AND (settled_before >= %(until)s::timestamptz OR measured_at < settled_before)
        ORDER BY vehicle_id
        FOR NO KEY UPDATE
    ) AS due
    WHERE live.vehicle_id = due.vehicle_id
    RETURNING 1
)
SELECT (SELECT count(*) FROM meter) + (SELECT count(*) FROM vehicle) AS settled
