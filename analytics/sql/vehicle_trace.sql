-- State of charge and battery temperature of a vehicle over a window, averaged over equal pieces of
-- time.
-- Each timestamp counts once, with the delivery received last. Rows in time order; a piece without
-- readings has none.
--
-- Parameters: device_id text; starts_at, ends_at timestamptz (half-open); piece interval, the length of
-- a piece; origin timestamptz, where a piece begins.
--
-- Leans on the primary key of history, on the partitions of the window.
SELECT
    date_bin(%(piece)s::interval, counted.measured_at, %(origin)s::timestamptz) AS starts_at,
    avg(counted.soc_percent) AS soc_percent,
    avg(counted.battery_temp_celsius) AS battery_temp_celsius
FROM (
    SELECT DISTINCT ON (reading.measured_at)
        reading.measured_at,
        reading.soc_percent,
        reading.battery_temp_celsius
    FROM ingestion_vehiclereading AS reading
    WHERE
        reading.vehicle_id = %(device_id)b::text
        AND reading.measured_at >= %(starts_at)s::timestamptz
        AND reading.measured_at < %(ends_at)s::timestamptz
    ORDER BY reading.measured_at, reading.received_at DESC, reading.id DESC
) AS counted
GROUP BY 1
ORDER BY 1
