-- Return for each of the given ids a meter whose id differs from it only by case or by a trailing
-- `.0`, if there is one.
--
-- Parameters:
--   ids   text[]
--
-- Uses the index meter_id_look_alikes.
SELECT
    new.device_id,
    min(known.meter_id) AS similar_id
FROM unnest(%(ids)s::text[]) AS new (device_id)
INNER JOIN fleet_meter AS known
    ON
        lower(regexp_replace(known.meter_id, '\.0$', ''))
        = lower(regexp_replace(new.device_id COLLATE "C", '\.0$', ''))
WHERE known.meter_id <> new.device_id
GROUP BY new.device_id
ORDER BY new.device_id
