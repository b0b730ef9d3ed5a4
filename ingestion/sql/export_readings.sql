-- Return the deliveries of one device or of all devices of a kind in a window, in the order that an
-- import needs: the delivery that counts is the last one with its timestamp.
--
-- Parameters:
--   device_id      text, null for every device
--   start, "end"   timestamptz, half-open on measured_at; null where the window is open
--   counted        boolean, whether to return only the delivery that counts for each timestamp
--
-- `ingestion.history.deliveries` fills in the identifiers in braces.
--
-- For one device, uses the primary keys of the partitions in the window. For all devices, sorts the
-- deliveries, on disk if there are many.
SELECT {columns}
FROM (
    SELECT
        *,
        lead(measured_at) OVER in_order IS DISTINCT FROM measured_at
        OR lead({device_id}) OVER in_order IS DISTINCT FROM {device_id} AS counts
    FROM {table}
    WHERE
        (%(device_id)s::text IS NULL OR {device_id} = %(device_id)s)
        AND (%(start)s::timestamptz IS NULL OR measured_at >= %(start)s)
        AND (%(end)s::timestamptz IS NULL OR measured_at < %(end)s)
    WINDOW in_order AS (ORDER BY {device_id}, measured_at, received_at, id)
    -- Here, because it shares the window's sort; the outer filter keeps the order.
    ORDER BY {device_id}, measured_at, received_at, id
) AS delivery
WHERE counts OR NOT %(counted)s::boolean
