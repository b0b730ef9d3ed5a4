-- Learn how often some meters report: the median of the pauses between their last hundred readings,
-- rounded, null for a meter with fewer than ten. Returns how many were checked.
--
-- Parameters: learned_before timestamptz, before which a known cadence is too old; tried_before
-- timestamptz, the same for an unknown cadence; learned_at timestamptz, now; most bigint, how many.
--
-- Leans on the primary keys of live state, cadences and history, one descent for each meter.
WITH due AS (
    SELECT live.meter_id
    FROM fleet_meterlivestate AS live
    LEFT JOIN analytics_metercadence AS known ON known.meter_id = live.meter_id
    WHERE
        known.learned_at IS NULL
        OR known.learned_at < %(learned_before)s::timestamptz
        OR (known.cadence_seconds IS NULL AND known.learned_at < %(tried_before)s::timestamptz)
    LIMIT %(most)s
),
learned AS (
    INSERT INTO analytics_metercadence (meter_id, cadence_seconds, learned_at)
    SELECT
        due.meter_id,
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
                    FROM ingestion_meterreading
                    WHERE meter_id = due.meter_id
                    ORDER BY measured_at DESC
                    LIMIT 100
                ) AS reading
            ) AS recent
            WINDOW in_order AS (ORDER BY recent.measured_at)
        ) AS pause
    ) AS pauses
    ON CONFLICT (meter_id) DO UPDATE SET
        cadence_seconds = EXCLUDED.cadence_seconds,
        learned_at = EXCLUDED.learned_at
    RETURNING 1
)
SELECT count(*) AS looked_at FROM learned
