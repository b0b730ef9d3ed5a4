-- Settle some meters up to an hour: from now on, a reading from before it marks its hour as changed. The
-- hours that this adds are marked at once, so that they are rolled up. Returns how many were settled.
--
-- Parameters: until timestamptz, a whole hour; most bigint, how many meters.
--
-- Leans on the primary keys of live state and history. Locks the live rows, in the order of ids: every
-- writer that read the old value has committed by then, and every later one reads the new value.
WITH due AS (
    SELECT
        meter_id,
        settled_before,
        measured_at
    FROM fleet_meterlivestate
    WHERE
        settled_before IS NULL
        -- A device that has been silent since has nothing to roll up.
        OR (settled_before < %(until)s::timestamptz AND measured_at >= settled_before)
    ORDER BY meter_id
    LIMIT %(most)s
    FOR NO KEY UPDATE
),
marked AS (
    INSERT INTO ingestion_changedmeterhour (meter_id, hour, changed_at)
    SELECT
        due.meter_id,
        hour.hour,
        %(until)s::timestamptz
    FROM due
    CROSS JOIN LATERAL (
        SELECT coalesce(
            due.settled_before,
            (
                SELECT date_bin('1 hour', min(reading.measured_at), '2000-01-01 00:00Z')
                FROM ingestion_meterreading AS reading
                WHERE reading.meter_id = due.meter_id
            )
        ) AS first_hour
    ) AS unsettled
    CROSS JOIN LATERAL generate_series(
        unsettled.first_hour,
        -- There is no reading after the newest; one that arrives later marks its own hour.
        least(%(until)s::timestamptz - interval '1 hour', due.measured_at),
        interval '1 hour'
    ) AS hour (hour)
    ORDER BY due.meter_id, hour.hour
    ON CONFLICT (meter_id, hour) DO NOTHING
),
settled AS (
    UPDATE fleet_meterlivestate AS live
    SET settled_before = %(until)s::timestamptz
    FROM due
    WHERE live.meter_id = due.meter_id
    RETURNING 1
)
SELECT count(*) AS settled FROM settled
