-- Voltage of a meter over a window, averaged over equal pieces of time.
-- Each timestamp counts once, with the delivery received last. Rows in time order; a piece without
-- readings has none.
--
-- Parameters: device_id text; starts_at, ends_at timestamptz (half-open); piece interval, the length of
-- a piece; origin timestamptz, where a piece begins.
--
-- Leans on the primary key of history, on the partitions of the window.
SELECT
    date_bin(%(piece)s::interval, counted.measured_at, %(origin)s::timestamptz) AS starts_at,
    avg(counted.voltage_v) AS voltage_v
FROM (
    SELECT DISTINCT ON (reading.measured_at)
        reading.measured_at,
        reading.voltage_v
    FROM ingestion_meterreading AS reading
    WHERE
        reading.meter_id = %(device_id)b::text
        AND reading.measured_at >= %(starts_at)s::timestamptz
        AND reading.measured_at < %(ends_at)s::timestamptz
    ORDER BY reading.measured_at, reading.received_at DESC, reading.id DESC
) AS counted
GROUP BY 1
ORDER BY 1
