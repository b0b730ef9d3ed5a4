-- DC energy and battery temperature of vehicles over spans of time, as history has them at this moment. Whole
-- hours come from their sums, where these are true; all else from history. One row for each span of a
-- vehicle that is in the registry.
--
-- Parameters: device_ids text[], starts_at timestamptz[], ends_at timestamptz[] (one span each,
-- half-open); first timestamptz and last timestamptz, a window around all spans.
--
-- Leans on the primary keys of sums, marks and history, on the partitions between first and last.
SELECT
    span.number,
    counted.readings,
    counted.suspect_steps,
    counted.energy_kwh,
    counted.hours_rolled_up,
    cadence.cadence_seconds,
    counted.battery_temp_celsius
FROM
    unnest(%(device_ids)b::text[], %(starts_at)s::timestamptz[], %(ends_at)s::timestamptz[])
    WITH ORDINALITY AS span (vehicle_id, starts_at, ends_at, number)
INNER JOIN fleet_vehicle AS device ON device.vehicle_id = span.vehicle_id
LEFT JOIN analytics_vehiclecadence AS cadence ON cadence.vehicle_id = span.vehicle_id
CROSS JOIN LATERAL (
    WITH rolled_up AS MATERIALIZED (
        SELECT
            hour.hour AS starts_at,
            hour.readings,
            hour.suspect_steps,
            hour.energy_dc_kwh AS energy_kwh,
            hour.first_measured_at,
            hour.first_kwh,
            hour.last_measured_at,
            hour.last_kwh,
            hour.battery_temp_celsius_sum,
            hour.battery_temp_readings
        FROM analytics_vehiclehour AS hour
        WHERE
            hour.vehicle_id = span.vehicle_id
            AND hour.hour >= span.starts_at
            AND hour.hour <= span.ends_at - interval '1 hour'
            AND hour.hour >= %(first)s::timestamptz
            AND hour.hour < %(last)s::timestamptz
            -- Summed up under other rules: not true any more.
            AND hour.energy_register = device.energy_register
            AND hour.max_power_kw IS NOT DISTINCT FROM device.max_power_kw
            AND NOT EXISTS (
                SELECT FROM ingestion_changedvehiclehour AS changed
                WHERE changed.vehicle_id = span.vehicle_id AND changed.hour = hour.hour
            )
    ),
    known AS MATERIALIZED (
        SELECT
            count(*) AS hours,
            min(starts_at) AS first_at,
            max(starts_at) + interval '1 hour' AS last_at
        FROM rolled_up
    ),
    -- What no sum covers: before, between and after these hours.
    rest AS (
        SELECT
            span.starts_at,
            coalesce(known.first_at, span.ends_at) AS ends_at
        FROM known
        UNION ALL
        SELECT
            lag(starts_at) OVER (ORDER BY starts_at) + interval '1 hour' AS starts_at,
            starts_at AS ends_at
        FROM rolled_up
        -- Looked for only where there are fewer than there is room for.
        WHERE (SELECT hours * interval '1 hour' < last_at - first_at FROM known)
        UNION ALL
        SELECT
            known.last_at AS starts_at,
            span.ends_at
        FROM known
    ),
    -- Read by one of two branches below: kept nowhere.
    segment AS NOT MATERIALIZED (
        SELECT
            *,
            1 AS hours
        FROM rolled_up
        UNION ALL
        SELECT
            rest.starts_at,
            history.readings,
            history.suspect_steps,
            history.energy_kwh,
            history.first_measured_at,
            history.first_kwh,
            history.last_measured_at,
            history.last_kwh,
            history.battery_temp_celsius_sum,
            history.battery_temp_readings,
            0 AS hours
        FROM rest
        CROSS JOIN LATERAL analytics_vehicle_span(
            span.vehicle_id,
            rest.starts_at,
            rest.ends_at,
            device.energy_register,
            device.max_power_kw,
            %(first)s::timestamptz,
            %(last)s::timestamptz
        ) AS history
        WHERE rest.starts_at < rest.ends_at AND history.readings > 0
    ),
    step AS (
        SELECT
            segment.*,
            0 AS step_kwh
        FROM segment
        WHERE device.energy_register = 'interval'
        UNION ALL
        -- A counter's step into a segment comes from the last reading before it.
        SELECT
            segment.*,
            analytics_step_kwh(
                coalesce(lag(segment.last_kwh) OVER in_order, before.kwh),
                coalesce(lag(segment.last_measured_at) OVER in_order, before.measured_at),
                segment.first_kwh,
                segment.first_measured_at,
                device.max_power_kw
            ) AS step_kwh
        FROM segment
        LEFT JOIN (
            SELECT
                reading.energy_dc_kwh AS kwh,
                reading.measured_at
            FROM ingestion_vehiclereading AS reading
            WHERE reading.vehicle_id = span.vehicle_id AND reading.measured_at < span.starts_at
            ORDER BY reading.measured_at DESC, reading.received_at DESC, reading.id DESC
            LIMIT 1
        ) AS before ON true
        WHERE device.energy_register = 'counter'
        WINDOW in_order AS (ORDER BY segment.starts_at)
    )
    SELECT
        coalesce(sum(step.readings), 0)::bigint AS readings,
        (
            coalesce(sum(step.suspect_steps), 0) + count(*) FILTER (WHERE step.step_kwh IS NULL)
        )::bigint AS suspect_steps,
        coalesce(sum(step.energy_kwh), 0) + coalesce(sum(step.step_kwh), 0) AS energy_kwh,
        coalesce(sum(step.hours), 0)::bigint AS hours_rolled_up,
        sum(step.battery_temp_celsius_sum) / nullif(sum(step.battery_temp_readings), 0)
            AS battery_temp_celsius
    FROM step
) AS counted
