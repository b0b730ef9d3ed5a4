-- Return for each of the given ids a vehicle whose id differs from it only by case or by a trailing
-- `.0`, if there is one.
--
-- Paravehicles:
--   ids   text[]
--
-- Uses the index vehicle_id_look_alikes.
SELECT
    new.device_id,
    min(known.vehicle_id) AS similar_id
FROM unnest(%(ids)s::text[]) AS new (device_id)
INNER JOIN fleet_vehicle AS known
    ON
        lower(regexp_replace(known.vehicle_id, '\.0$', ''))
        = lower(regexp_replace(new.device_id COLLATE "C", '\.0$', ''))
WHERE known.vehicle_id <> new.device_id
GROUP BY new.device_id
ORDER BY new.device_id
