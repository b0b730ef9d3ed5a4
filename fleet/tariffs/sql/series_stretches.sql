-- The prices of some sites' series in a span of time: one row for each run of successive quarter
-- hours with the same price, by site and time. Quarter hours without a price are absent.
--
-- Parameters: site_ids bigint[]; starts_at, ends_at timestamptz, half-open.
--
-- Leans on series_price_once_per_quarter_hour.
WITH quarters AS (
    SELECT
        site_id,
        starts_at,
        price_per_kwh,
        starts_at - interval '15 minutes' * row_number() OVER (
            PARTITION BY site_id, price_per_kwh
            ORDER BY starts_at
        ) AS run
    FROM fleet_seriesprice
    WHERE
        site_id = ANY(%(site_ids)s::bigint[])
        AND starts_at > %(starts_at)s::timestamptz - interval '15 minutes'
        AND starts_at < %(ends_at)s::timestamptz
)

SELECT
    site_id,
    min(starts_at) AS starts_at,
    max(starts_at) + interval '15 minutes' AS ends_at,
    price_per_kwh
FROM quarters
GROUP BY site_id, price_per_kwh, run
ORDER BY site_id, min(starts_at)
