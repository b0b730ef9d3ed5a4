-- How many hot battery faults would have opened, by the average temperature of each hour. A battery that
-- was already hot when the week began opens none.
--
-- Parameters: first timestamptz, since timestamptz, until timestamptz: hours from first on are read,
-- openings from since on are counted, both before until; site_ids bigint[], 0 means no site; opens
-- float8, closes float8, °C.
--
-- Leans on the primary key of the hours, on the partitions between first and until.
SELECT count(*) AS openings
FROM fleet_vehicle AS vehicle
-- One vehicle at a time: sorting a few hundred hours is fast, sorting millions is not.
CROSS JOIN LATERAL (
    SELECT
        hour,
        is_hot,
        lag(is_hot) OVER (ORDER BY hour) AS was_hot
    FROM (
        SELECT
            summed.hour,
            CASE
                WHEN average.celsius > %(opens)s::float8 THEN true
                WHEN average.celsius < %(closes)s::float8 THEN false
            END AS is_hot
        FROM analytics_vehiclehour AS summed
        CROSS JOIN LATERAL (
            SELECT
                summed.battery_temp_celsius_sum / nullif(summed.battery_temp_readings, 0) AS celsius
        ) AS average
        WHERE
            summed.vehicle_id = vehicle.vehicle_id
            AND summed.hour >= %(first)s::timestamptz
            AND summed.hour < %(until)s::timestamptz
    ) AS judged
    -- Between the thresholds, it stays as it was.
    WHERE is_hot IS NOT NULL
) AS step
WHERE
    coalesce(vehicle.site_id, 0) = ANY(%(site_ids)s::bigint[])
    AND is_hot
    AND was_hot IS NOT TRUE
    AND hour >= %(since)s::timestamptz
