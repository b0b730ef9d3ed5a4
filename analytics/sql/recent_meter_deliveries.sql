-- The deliveries of a meter that arrived last, among those measured in a window; newest arrival first.
-- A repeat has the values of an earlier delivery with its timestamp. A delivery is replaced if another
-- one with its timestamp counts and has other values. A correction counts, and the delivery before it
-- had other values.
--
-- Parameters: device_id text; starts_at, ends_at timestamptz (half-open); deliveries bigint, how many
-- at most.
--
-- Leans on the primary key of history, on the partitions of the window.
WITH newest AS MATERIALIZED (
    SELECT
        reading.id,
        reading.measured_at
    FROM ingestion_meterreading AS reading
    WHERE
        reading.meter_id = %(device_id)b::text
        AND reading.measured_at >= %(starts_at)s::timestamptz
        AND reading.measured_at < %(ends_at)s::timestamptz
    ORDER BY reading.received_at DESC, reading.id DESC
    LIMIT %(deliveries)s::bigint
),
-- With all others of the same timestamps, to compare them.
told AS MATERIALIZED (
    SELECT
        reading.id,
        reading.measured_at,
        reading.received_at,
        reading.energy_ac_kwh,
        reading.voltage_v,
        row_number() OVER alike > 1 AS is_repeat,
        reading.carried IS DISTINCT FROM first_value(reading.carried) OVER newest_first
            AS is_replaced,
        lag(reading.id) OVER in_order IS NOT NULL
        AND reading.carried IS DISTINCT FROM lag(reading.carried) OVER in_order
            AS differs_from_previous
    FROM (SELECT DISTINCT newest.measured_at FROM newest) AS shown
    CROSS JOIN LATERAL (
        SELECT
            delivery.*,
            ROW(delivery.energy_ac_kwh, delivery.voltage_v) AS carried
        FROM ingestion_meterreading AS delivery
        WHERE
            delivery.meter_id = %(device_id)b::text
            AND delivery.measured_at = shown.measured_at
            AND delivery.measured_at >= %(starts_at)s::timestamptz
            AND delivery.measured_at < %(ends_at)s::timestamptz
    ) AS reading
    WINDOW
        in_order AS (PARTITION BY reading.measured_at ORDER BY reading.received_at, reading.id),
        newest_first AS (
            PARTITION BY reading.measured_at ORDER BY reading.received_at DESC, reading.id DESC
        ),
        alike AS (
            PARTITION BY reading.measured_at, reading.carried
            ORDER BY reading.received_at, reading.id
        )
)
SELECT
    told.measured_at,
    told.received_at,
    told.energy_ac_kwh,
    told.voltage_v,
    told.is_repeat,
    told.is_replaced,
    told.differs_from_previous AND NOT told.is_replaced AS is_correction
FROM newest
INNER JOIN told ON told.measured_at = newest.measured_at AND told.id = newest.id
ORDER BY told.received_at DESC, told.id DESC
