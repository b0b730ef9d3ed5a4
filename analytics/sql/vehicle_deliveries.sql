-- How many deliveries vehicles made over spans of time: all, those that count, and those that were
-- corrected by a later one with other values. One row for each span, in the order of the spans.
--
-- Parameters: device_ids text[], starts_at timestamptz[], ends_at timestamptz[] (one span each,
-- half-open).
--
-- Leans on the primary key of history.
SELECT
    span.number,
    count(told.measured_at) AS deliveries,
    count(DISTINCT told.measured_at) AS counted,
    count(*) FILTER (
        WHERE
        told.energy_dc_kwh IS DISTINCT FROM told.counted_energy_dc_kwh
        OR told.soc_percent IS DISTINCT FROM told.counted_soc_percent
        OR told.battery_temp_celsius IS DISTINCT FROM told.counted_battery_temp_celsius
    ) AS corrected
FROM
    unnest(%(device_ids)b::text[], %(starts_at)s::timestamptz[], %(ends_at)s::timestamptz[])
    WITH ORDINALITY AS span (vehicle_id, starts_at, ends_at, number)
LEFT JOIN LATERAL (
    SELECT
        reading.measured_at,
        reading.energy_dc_kwh,
        reading.soc_percent,
        reading.battery_temp_celsius,
        first_value(reading.energy_dc_kwh) OVER newest_first AS counted_energy_dc_kwh,
        first_value(reading.soc_percent) OVER newest_first AS counted_soc_percent,
        first_value(reading.battery_temp_celsius) OVER newest_first AS counted_battery_temp_celsius
    FROM ingestion_vehiclereading AS reading
    WHERE
        reading.vehicle_id = span.vehicle_id
        AND reading.measured_at >= span.starts_at
        AND reading.measured_at < span.ends_at
    WINDOW newest_first AS (
        PARTITION BY reading.measured_at ORDER BY reading.received_at DESC, reading.id DESC
    )
) AS told ON true
GROUP BY span.number
ORDER BY span.number
