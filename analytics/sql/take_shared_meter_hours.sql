-- Remove what was stored of how vehicles share meters, as far as it read some hours of meters, and return
-- the hours of meters to be calculated: these, and those that several vehicles were linked in.
--
-- Parameters: device_ids text[], hours timestamptz[], the hours that changed.
--
-- Leans on the primary key of what is stored, and on the indexes of links. A stored hour reads at most
-- two days on either side.
WITH taken AS (
    SELECT *
    FROM unnest(%(device_ids)b::text[], %(hours)s::timestamptz[]) AS taken (meter_id, hour)
),
at_meter AS (
    SELECT
        taken.meter_id,
        taken.hour
    FROM taken
),
removed AS (
    DELETE FROM analytics_sharedhour AS shared
    USING taken
    WHERE
        shared.meter_id = taken.meter_id
        AND shared.hour >= taken.hour - interval '2 days'
        AND shared.hour <= taken.hour + interval '2 days'
        AND shared.reads_from < taken.hour + interval '1 hour'
        AND shared.reads_until >= taken.hour
    RETURNING shared.meter_id, shared.hour
)
SELECT
    meter_id,
    hour
FROM removed
UNION
SELECT
    at_meter.meter_id,
    hour.hour
FROM at_meter
-- The hours before it may have waited for what is in it.
CROSS JOIN LATERAL generate_series(
    at_meter.hour - interval '2 hours', at_meter.hour, interval '1 hour'
) AS hour (hour)
WHERE
    1 < (
        SELECT count(DISTINCT link.vehicle_id)
        FROM fleet_vehiclemeterlink AS link
        WHERE
            link.meter_id = at_meter.meter_id
            AND link.valid_during @> tstzrange(hour.hour, hour.hour + interval '1 hour')
    )
