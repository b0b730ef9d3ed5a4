-- The tariffs of some sites and their rules: one row for each rule, or for a tariff without rules,
-- or for a site without tariffs; by site, then in the order in which the tariffs begin.
--
-- Parameters: site_ids bigint[].
--
-- Leans on the primary key of fleet_site, tariff_once_per_site_and_day, and the index of
-- fleet_tariffrule by tariff.
SELECT
    site.id AS site_id,
    site.time_zone,
    site.currency,
    tariff.id AS tariff_id,
    tariff.valid_from,
    tariff.kind,
    tariff.price_per_kwh AS otherwise_per_kwh,
    rule.weekdays,
    rule."start",
    rule."end",
    rule.price_per_kwh
FROM fleet_site AS site
LEFT JOIN fleet_tariff AS tariff ON tariff.site_id = site.id
LEFT JOIN fleet_tariffrule AS rule ON rule.tariff_id = tariff.id
WHERE site.id = ANY(%(site_ids)s::bigint[])
ORDER BY site.id, tariff.valid_from NULLS FIRST, rule.id
