-- The counted readings of vehicles over spans of time, each timestamp once, with the delivery received last;
-- in kWh, by the scale of the vehicle. In the order of the spans, then in time order.
--
-- Parameters: device_ids text[], starts_at timestamptz[], ends_at timestamptz[] (one span each,
-- half-open); first timestamptz and last timestamptz, a window around all spans.
--
-- Leans on the primary key of history, on the partitions between first and last.
SELECT
    span.number,
    counted.measured_at,
    counted.kwh
FROM
    unnest(%(device_ids)b::text[], %(starts_at)s::timestamptz[], %(ends_at)s::timestamptz[])
    WITH ORDINALITY AS span (vehicle_id, starts_at, ends_at, number)
INNER JOIN fleet_vehicle AS device ON device.vehicle_id = span.vehicle_id
CROSS JOIN LATERAL (
    SELECT DISTINCT ON (reading.measured_at)
        reading.measured_at,
        reading.energy_dc_kwh * device.scale AS kwh
    FROM ingestion_vehiclereading AS reading
    WHERE
        reading.vehicle_id = span.vehicle_id
        AND reading.measured_at >= span.starts_at
        AND reading.measured_at < span.ends_at
        AND reading.measured_at >= %(first)s::timestamptz
        AND reading.measured_at < %(last)s::timestamptz
    ORDER BY reading.measured_at, reading.received_at DESC, reading.id DESC
) AS counted
ORDER BY span.number, counted.measured_at
