-- Learn how often some vehicles report: the median of the pauses between their last hundred readings,
-- rounded, null for a vehicle with fewer than ten. Returns how many were checked.
--
-- Parameters: learned_before timestamptz, before which a known cadence is too old; tried_before
-- timestamptz, the same for an unknown cadence; learned_at timestamptz, now; most bigint, how many.
--
-- Leans on the primary keys of live state, cadences and history, one descent for each vehicle.
WITH due AS (
    SELECT live.vehicle_id
    FROM fleet_vehiclelivestate AS live
    LEFT JOIN analytics_vehiclecadence AS known ON known.vehicle_id = live.vehicle_id
    WHERE
        known.learned_at IS NULL
        OR known.learned_at < %(learned_before)s::timestamptz
        OR (known.cadence_seconds IS NULL AND known.learned_at < %(tried_before)s::timestamptz)
    LIMIT %(most)s
),
learned AS (
    INSERT INTO analytics_vehiclecadence (vehicle_id, cadence_seconds, learned_at)
    SELECT
        due.vehicle_id,
        pauses.cadence_seconds,
        %(learned_at)s::timestamptz
    FROM due
    CROSS JOIN LATERAL (
        SELECT
            CASE
                WHEN count(*) >= 10
                    THEN analytics_rounded_cadence(
                        percentile_cont(0.5) WITHIN GROUP (ORDER BY pause.seconds)
                    )
            END AS cadence_seconds
        FROM (
            SELECT
                extract(
                    EPOCH FROM recent.measured_at - lag(recent.measured_at) OVER in_order
                )::float8 AS seconds
            FROM (
                SELECT DISTINCT reading.measured_at
                FROM (
                    SELECT measured_at
                    FROM ingestion_vehiclereading
                    WHERE vehicle_id = due.vehicle_id
                    ORDER BY measured_at DESC
                    LIMIT 100
                ) AS reading
            ) AS recent
            WINDOW in_order AS (ORDER BY recent.measured_at)
        ) AS pause
    ) AS pauses
    ON CONFLICT (vehicle_id) DO UPDATE SET
        cadence_seconds = EXCLUDED.cadence_seconds,
        learned_at = EXCLUDED.learned_at
    RETURNING 1
)
SELECT count(*) AS looked_at FROM learned
