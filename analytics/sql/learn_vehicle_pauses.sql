-- Learn the longest pause of some vehicles in the last days: exact from hour to hour; within an hour as
-- long as what is missing. Devices are due every day, and once whenever they fall quiet, so that the
-- pause from which one has just come back is known. Returns how many were checked.
--
-- Paravehicles: learned_before timestamptz, before which a known pause is too old; since timestamptz,
-- where the days begin; learned_at timestamptz, now; most bigint, how many.
--
-- Leans on the primary keys of cadences, live state, hours and history: a few hundred hours for each
-- vehicle, on the partitions from since on.
WITH due AS (
    SELECT
        known.vehicle_id,
        known.cadence_seconds * interval '1 second' AS cadence
    FROM analytics_vehiclecadence AS known
    INNER JOIN fleet_vehiclelivestate AS live ON live.vehicle_id = known.vehicle_id
    WHERE
        known.cadence_seconds IS NOT NULL
        AND (
            known.pauses_learned_at IS NULL
            OR known.pauses_learned_at < %(learned_before)s::timestamptz
            OR (
                known.pauses_learned_at <= live.received_at
                AND live.received_at < %(learned_at)s::timestamptz - greatest(
                    5 * known.cadence_seconds * interval '1 second', interval '5 minutes'
                )
            )
        )
    LIMIT %(most)s
),
learned AS (
    UPDATE analytics_vehiclecadence AS known
    SET
        longest_pause_seconds = extract(EPOCH FROM pauses.longest)::float8,
        pauses_learned_at = %(learned_at)s::timestamptz
    FROM due
    CROSS JOIN LATERAL (
        SELECT max(greatest(pause.after_it, pause.inside)) AS longest
        FROM (
            SELECT
                coalesce(
                    lead(first_measured_at) OVER (ORDER BY hour),
                    -- The newest hours have no sums yet.
                    (
                        SELECT reading.measured_at
                        FROM ingestion_vehiclereading AS reading
                        WHERE
                            reading.vehicle_id = due.vehicle_id
                            AND reading.measured_at > summed.last_measured_at
                        ORDER BY reading.measured_at
                        LIMIT 1
                    )
                ) - last_measured_at AS after_it,
                last_measured_at - first_measured_at - (readings - 2) * due.cadence AS inside
            FROM analytics_vehiclehour AS summed
            WHERE vehicle_id = due.vehicle_id AND hour >= %(since)s::timestamptz
        ) AS pause
    ) AS pauses
    WHERE known.vehicle_id = due.vehicle_id
    RETURNING 1
)
SELECT count(*) AS looked_at FROM learned
