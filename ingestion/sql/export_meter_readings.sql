-- Return the deliveries of one meter or of all over a window, in the order in which an import has
-- to take them: of one timestamp, the delivery that counts comes last.
--
-- Parameters:
--   device_id      text, null for every meter
--   start, "end"   timestamptz, half-open on measured_at; null where the window is open
--   counted        boolean, whether only the delivery that counts of each timestamp is wanted
--
-- Leans on the primary keys of the partitions that the window meets, for one device; sorts, on disk
-- where it is long, for all.
SELECT meter_id, energy_ac_kwh, voltage_v, measured_at, received_at
FROM (
    SELECT
        *,
        lead(measured_at) OVER in_order IS DISTINCT FROM measured_at
        OR lead(meter_id) OVER in_order IS DISTINCT FROM meter_id AS counts
    FROM ingestion_meterreading
    WHERE
        (%(device_id)s::text IS NULL OR meter_id = %(device_id)s)
        AND (%(start)s::timestamptz IS NULL OR measured_at >= %(start)s)
        AND (%(end)s::timestamptz IS NULL OR measured_at < %(end)s)
    WINDOW in_order AS (ORDER BY meter_id, measured_at, received_at, id)
    -- In here: it shares the sort of the window, and the filter outside keeps it.
    ORDER BY meter_id, measured_at, received_at, id
) AS delivery
WHERE counts OR NOT %(counted)s::boolean
