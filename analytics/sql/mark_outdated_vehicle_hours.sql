-- Mark the hours of some vehicles whose energy is counted by other rules than when their hours were marked last:
-- another register, scale, maximum power, cadence, or value that a counter rolls over at. Returns how many
-- vehicles these were.
--
-- Parameters: most bigint, how many vehicles; default_max_power_kw float8, for counters without one of their
-- own.
--
-- Leans on the primary keys of the registry, cadences, sums and marks.
WITH outdated AS (
    SELECT
        cadence.vehicle_id,
        register.rules,
        marked.rules AS marked_rules,
        -- Shares of meters depend on the value that a counter rolls over at, sums do not.
        starts_with(cadence.marked_rules, register.rules || '|') AS is_summed_up
    FROM analytics_vehiclecadence AS cadence
    INNER JOIN fleet_vehicle AS device ON device.vehicle_id = cadence.vehicle_id
    CROSS JOIN LATERAL analytics_register(
        device.energy_register,
        device.scale,
        device.max_power_kw,
        device.interval_seconds,
        cadence.cadence_seconds,
        %(default_max_power_kw)s::float8
    ) AS register
    CROSS JOIN LATERAL (
        SELECT concat(register.rules, '|', device.rolls_over_at_kwh) AS rules
    ) AS marked
    WHERE cadence.marked_rules <> marked.rules
    ORDER BY cadence.vehicle_id
    LIMIT %(most)s
),
marked AS (
    INSERT INTO ingestion_changedvehiclehour (vehicle_id, hour, changed_at)
    SELECT
        hour.vehicle_id,
        hour.hour,
        hour.hour
    FROM outdated
    INNER JOIN analytics_vehiclehour AS hour ON hour.vehicle_id = outdated.vehicle_id
    WHERE hour.rules <> outdated.rules OR outdated.is_summed_up
    ORDER BY hour.vehicle_id, hour.hour
    ON CONFLICT (vehicle_id, hour) DO NOTHING
),
kept AS (
    UPDATE analytics_vehiclecadence AS cadence
    SET marked_rules = outdated.marked_rules
    FROM outdated
    WHERE cadence.vehicle_id = outdated.vehicle_id
    RETURNING 1
)
SELECT count(*) AS devices FROM kept
