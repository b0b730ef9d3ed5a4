-- How many deliveries meters made over spans of time: all, those that count, and those that were
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
        told.energy_ac_kwh IS DISTINCT FROM told.counted_energy_ac_kwh
        OR told.voltage_v IS DISTINCT FROM told.counted_voltage_v
    ) AS corrected
FROM
    unnest(%(device_ids)b::text[], %(starts_at)s::timestamptz[], %(ends_at)s::timestamptz[])
    WITH ORDINALITY AS span (meter_id, starts_at, ends_at, number)
LEFT JOIN LATERAL (
    SELECT
        reading.measured_at,
        reading.energy_ac_kwh,
        reading.voltage_v,
        first_value(reading.energy_ac_kwh) OVER newest_first AS counted_energy_ac_kwh,
        first_value(reading.voltage_v) OVER newest_first AS counted_voltage_v
    FROM ingestion_meterreading AS reading
    WHERE
        reading.meter_id = span.meter_id
        AND reading.measured_at >= span.starts_at
        AND reading.measured_at < span.ends_at
    WINDOW newest_first AS (
        PARTITION BY reading.measured_at ORDER BY reading.received_at DESC, reading.id DESC
    )
) AS told ON true
GROUP BY span.number
ORDER BY span.number
