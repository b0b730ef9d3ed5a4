-- The vehicles that were linked to meters throughout some hours, several in each; hours in which a link
-- began or ended are left out. One row for each hour that is left.
--
-- Parameters: meter_ids text[], hours timestamptz[] (one hour each); default_max_power_kw float8, for
-- counters without one of their own.
--
-- Leans on the index on meter of the links.
SELECT
    sharers.meter_id,
    sharers.hour,
    sharers.vehicle_ids,
    analytics_rules_of_shares(
        sharers.meter_id, sharers.vehicle_ids, %(default_max_power_kw)s::float8
    ) AS rules
FROM (
    SELECT
        asked.meter_id,
        asked.hour,
        string_agg(link.vehicle_id, E'\n' ORDER BY link.vehicle_id) AS vehicle_ids
    FROM unnest(%(meter_ids)b::text[], %(hours)s::timestamptz[]) AS asked (meter_id, hour)
    INNER JOIN fleet_vehiclemeterlink AS link
        ON
            link.meter_id = asked.meter_id
            AND link.valid_during && tstzrange(asked.hour, asked.hour + interval '1 hour')
    GROUP BY asked.meter_id, asked.hour
    HAVING
        count(*) > 1
        AND bool_and(
            lower(link.valid_during) <= asked.hour
            AND coalesce(upper(link.valid_during) >= asked.hour + interval '1 hour', true)
        )
) AS sharers
ORDER BY sharers.meter_id, sharers.hour
