-- DC energy and battery temperature of vehicles over spans of time, from history as it is now. Full
-- hours come from their sums if these are current, the rest from history. One row for each span of a
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
    counted.battery_temp_celsius,
    -- From the same snapshot as the readings: until when history is only in the archive.
    (
        SELECT max(archived.ends_at)
        FROM ingestion_archivedpartition AS archived
        WHERE
            archived.is_out
            AND archived.starts_at < %(last)s::timestamptz
            AND archived.ends_at > %(first)s::timestamptz
    ) AS gone_until
FROM
    unnest(%(device_ids)b::text[], %(starts_at)s::timestamptz[], %(ends_at)s::timestamptz[])
    WITH ORDINALITY AS span (vehicle_id, starts_at, ends_at, number)
INNER JOIN fleet_vehicle AS device ON device.vehicle_id = span.vehicle_id
LEFT JOIN analytics_vehiclecadence AS cadence ON cadence.vehicle_id = span.vehicle_id
CROSS JOIN LATERAL (
    -- Not materialized: its first reader sums it up as it streams, the other two rarely read it.
    WITH rolled_up AS NOT MATERIALIZED (
        SELECT hour.*
        FROM analytics_vehiclehour AS hour
        WHERE
            hour.vehicle_id = span.vehicle_id
            AND hour.hour >= span.starts_at
            AND hour.hour <= span.ends_at - interval '1 hour'
            AND hour.hour >= %(first)s::timestamptz
            AND hour.hour < %(last)s::timestamptz
            -- A sum under another register or power limit is no longer valid.
            AND hour.energy_register = device.energy_register
            AND hour.max_power_kw IS NOT DISTINCT FROM device.max_power_kw
            AND hour.hour <> ALL (
                ARRAY(
                    SELECT changed.hour
                    FROM ingestion_changedvehiclehour AS changed
                    WHERE
                        changed.vehicle_id = span.vehicle_id
                        AND changed.hour >= span.starts_at
                        AND changed.hour < span.ends_at
                )
            )
    ),
    sums AS MATERIALIZED (
        SELECT
            count(*) AS hours,
            min(hour) AS first_at,
            max(hour) + interval '1 hour' AS last_at,
            sum(readings) AS readings,
            sum(suspect_steps) AS suspect_steps,
            sum(energy_dc_kwh) AS energy_kwh,
            sum(battery_temp_celsius_sum) AS battery_temp_celsius_sum,
            sum(battery_temp_readings) AS battery_temp_readings
        FROM rolled_up
    ),
    -- What no sum covers: before, between and after these hours.
    rest AS (
        SELECT
            span.starts_at,
            coalesce(sums.first_at, span.ends_at) AS ends_at
        FROM sums
        UNION ALL
        SELECT
            lag(hour) OVER (ORDER BY hour) + interval '1 hour' AS starts_at,
            hour AS ends_at
        FROM rolled_up
        -- Only if there are fewer hours than fit between the first and the last.
        WHERE (SELECT hours * interval '1 hour' < last_at - first_at FROM sums)
        UNION ALL
        SELECT
            sums.last_at AS starts_at,
            span.ends_at
        FROM sums
    ),
    history AS MATERIALIZED (
        SELECT counted.*
        FROM rest
        CROSS JOIN LATERAL analytics_vehicle_span(
            span.vehicle_id,
            rest.starts_at,
            rest.ends_at,
            device.energy_register,
            device.max_power_kw,
            %(first)s::timestamptz,
            %(last)s::timestamptz
        ) AS counted
        WHERE rest.starts_at < rest.ends_at AND counted.readings > 0
    ),
    segment AS (
        SELECT
            first_measured_at,
            first_kwh,
            last_measured_at,
            last_kwh
        FROM rolled_up
        UNION ALL
        SELECT
            first_measured_at,
            first_kwh,
            last_measured_at,
            last_kwh
        FROM history
    ),
    -- A counter's step into a segment starts at the last reading before it.
    step AS (
        SELECT
            analytics_step_kwh(
                coalesce(lag(segment.last_kwh) OVER in_order, before.kwh),
                coalesce(lag(segment.last_measured_at) OVER in_order, before.measured_at),
                segment.first_kwh,
                segment.first_measured_at,
                device.max_power_kw
            ) AS energy_kwh
        FROM segment
        LEFT JOIN analytics_vehicle_before(span.vehicle_id, span.starts_at) AS before ON true
        WHERE device.energy_register = 'counter'
        WINDOW in_order AS (ORDER BY segment.first_measured_at)
    )
    SELECT
        (coalesce(sums.readings, 0) + others.readings)::bigint AS readings,
        (coalesce(sums.suspect_steps, 0) + others.suspect_steps + steps.suspect_steps)::bigint
            AS suspect_steps,
        coalesce(sums.energy_kwh, 0) + others.energy_kwh + steps.energy_kwh AS energy_kwh,
        sums.hours AS hours_rolled_up,
        (coalesce(sums.battery_temp_celsius_sum, 0) + others.battery_temp_celsius_sum)
        / nullif(coalesce(sums.battery_temp_readings, 0) + others.battery_temp_readings, 0)
            AS battery_temp_celsius
    FROM sums
    CROSS JOIN (
        SELECT
            coalesce(sum(readings), 0) AS readings,
            coalesce(sum(suspect_steps), 0) AS suspect_steps,
            coalesce(sum(energy_kwh), 0) AS energy_kwh,
            coalesce(sum(battery_temp_celsius_sum), 0) AS battery_temp_celsius_sum,
            coalesce(sum(battery_temp_readings), 0) AS battery_temp_readings
        FROM history
    ) AS others
    CROSS JOIN (
        SELECT
            count(*) FILTER (WHERE energy_kwh IS NULL) AS suspect_steps,
            coalesce(sum(energy_kwh), 0) AS energy_kwh
        FROM step
    ) AS steps
) AS counted
