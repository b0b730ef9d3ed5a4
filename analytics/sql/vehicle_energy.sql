-- DC energy and battery temperature of vehicles over spans of time, each delivery counted once: of
-- those with one timestamp, the one received last. One row for each span that has readings.
--
-- Parameters: device_ids text[], starts_at timestamptz[], ends_at timestamptz[] (one span each,
-- half-open); first timestamptz and last timestamptz, a window around all spans.
--
-- Leans on the primary key (vehicle_id, measured_at, id) of the partitions between first and last.
SELECT
    span.number,
    count(*) AS readings,
    sum(counted.energy_dc_kwh) AS energy_kwh,
    avg(counted.battery_temp_celsius) AS battery_temp_celsius
FROM
    unnest(%(device_ids)b::text[], %(starts_at)s::timestamptz[], %(ends_at)s::timestamptz[])
    WITH ORDINALITY AS span (vehicle_id, starts_at, ends_at, number)
CROSS JOIN LATERAL (
    SELECT DISTINCT ON (measured_at)
        energy_dc_kwh,
        battery_temp_celsius
    FROM ingestion_vehiclereading
    WHERE
        vehicle_id = span.vehicle_id
        AND measured_at >= span.starts_at
        AND measured_at < span.ends_at
        -- Known before the statement starts: partitions outside are not even opened.
        AND measured_at >= %(first)s::timestamptz
        AND measured_at < %(last)s::timestamptz
    ORDER BY measured_at, received_at DESC, id DESC
) AS counted
GROUP BY span.number
