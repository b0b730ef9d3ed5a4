-- AC energy of meters over spans of time, as history has them at this moment. Whole
-- hours come from their sums, where these are true; all else from history. One row for each span of a
-- meter that is in the registry, in the order of the spans.
--
-- Parameters: device_ids text[], starts_at timestamptz[], ends_at timestamptz[] (one span each,
-- half-open); first timestamptz and last timestamptz, a window around all spans.
--
-- Leans on the primary keys of sums, marks and history, on the partitions between first and last.
WITH span AS MATERIALIZED (
    SELECT
        asked.number,
        asked.meter_id,
        asked.starts_at,
        asked.ends_at,
        device.energy_register,
        device.max_power_kw
    FROM
        unnest(%(device_ids)b::text[], %(starts_at)s::timestamptz[], %(ends_at)s::timestamptz[])
        WITH ORDINALITY AS asked (meter_id, starts_at, ends_at, number)
    INNER JOIN fleet_meter AS device ON device.meter_id = asked.meter_id
),
rolled_up AS MATERIALIZED (
    SELECT
        span.number,
        hour.hour AS starts_at,
        hour.hour + interval '1 hour' AS ends_at,
        hour.readings,
        hour.suspect_steps,
        hour.energy_ac_kwh AS energy_kwh,
        hour.first_measured_at,
        hour.first_kwh,
        hour.last_measured_at,
        hour.last_kwh
    FROM span
    CROSS JOIN LATERAL (
        SELECT *
        FROM analytics_meterhour AS hour
        WHERE
            hour.meter_id = span.meter_id
            AND hour.hour >= span.starts_at
            AND hour.hour <= span.ends_at - interval '1 hour'
            AND hour.hour >= %(first)s::timestamptz
            AND hour.hour < %(last)s::timestamptz
            -- Summed up under other rules: not true any more.
            AND hour.energy_register = span.energy_register
            AND hour.max_power_kw IS NOT DISTINCT FROM span.max_power_kw
    ) AS hour
    WHERE NOT EXISTS (
        SELECT FROM ingestion_changedmeterhour AS changed
        WHERE changed.meter_id = span.meter_id AND changed.hour = hour.hour
    )
),
-- What no sum covers: before, between and after the hours above.
rest AS (
    SELECT
        number,
        lag(ends_at) OVER (PARTITION BY number ORDER BY starts_at) AS starts_at,
        starts_at AS ends_at
    FROM rolled_up
    UNION ALL
    SELECT
        span.number,
        span.starts_at,
        coalesce(min(rolled_up.starts_at), span.ends_at) AS ends_at
    FROM span
    LEFT JOIN rolled_up ON rolled_up.number = span.number
    GROUP BY span.number, span.starts_at, span.ends_at
    UNION ALL
    SELECT
        span.number,
        max(rolled_up.ends_at) AS starts_at,
        span.ends_at
    FROM span
    INNER JOIN rolled_up ON rolled_up.number = span.number
    GROUP BY span.number, span.ends_at
),
segment AS (
    SELECT
        *,
        1 AS hours
    FROM rolled_up
    UNION ALL
    SELECT
        rest.number,
        rest.starts_at,
        rest.ends_at,
        counted.readings,
        counted.suspect_steps,
        counted.energy_kwh,
        counted.first_measured_at,
        counted.first_kwh,
        counted.last_measured_at,
        counted.last_kwh,
        0 AS hours
    FROM rest
    INNER JOIN span ON span.number = rest.number
    CROSS JOIN LATERAL analytics_meter_span(
        span.meter_id,
        rest.starts_at,
        rest.ends_at,
        span.energy_register,
        span.max_power_kw,
        %(first)s::timestamptz,
        %(last)s::timestamptz
    ) AS counted
    WHERE rest.starts_at < rest.ends_at AND counted.readings > 0
),
-- A counter's step into a segment, from the last reading before it.
step AS (
    SELECT
        segment.number,
        segment.readings,
        segment.suspect_steps,
        segment.energy_kwh,
        segment.hours,
        CASE
            WHEN span.energy_register = 'counter' THEN analytics_step_kwh(
                coalesce(lag(segment.last_kwh) OVER in_order, before.kwh),
                coalesce(lag(segment.last_measured_at) OVER in_order, before.measured_at),
                segment.first_kwh,
                segment.first_measured_at,
                span.max_power_kw
            )
            ELSE 0
        END AS step_kwh
    FROM segment
    INNER JOIN span ON span.number = segment.number
    LEFT JOIN LATERAL (
        SELECT
            reading.energy_ac_kwh AS kwh,
            reading.measured_at
        FROM ingestion_meterreading AS reading
        WHERE
            span.energy_register = 'counter'
            AND reading.meter_id = span.meter_id
            AND reading.measured_at < span.starts_at
        ORDER BY reading.measured_at DESC, reading.received_at DESC, reading.id DESC
        LIMIT 1
    ) AS before ON true
    WINDOW in_order AS (PARTITION BY segment.number ORDER BY segment.starts_at)
)
SELECT
    span.number,
    coalesce(sum(step.readings), 0)::bigint AS readings,
    (
        coalesce(sum(step.suspect_steps), 0)
        + count(step.number) FILTER (WHERE step.step_kwh IS NULL)
    )::bigint AS suspect_steps,
    coalesce(sum(step.energy_kwh) + coalesce(sum(step.step_kwh), 0), 0) AS energy_kwh,
    coalesce(sum(step.hours), 0)::bigint AS hours_rolled_up,
    cadence.cadence_seconds
FROM span
LEFT JOIN step ON step.number = span.number
LEFT JOIN analytics_metercadence AS cadence ON cadence.meter_id = span.meter_id
GROUP BY span.number, cadence.cadence_seconds
ORDER BY span.number
