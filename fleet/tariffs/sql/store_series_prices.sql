-- Store prices of quarter hours of a site's series that have none yet.
--
-- Parameters: site_id bigint; starts_at timestamptz[]; prices_per_kwh numeric[], of the same length.
--
-- Leans on series_price_once_per_quarter_hour.
INSERT INTO fleet_seriesprice (site_id, starts_at, price_per_kwh)
SELECT
    %(site_id)s::bigint,
    starts_at,
    price_per_kwh
FROM unnest(%(starts_at)s::timestamptz[], %(prices_per_kwh)s::numeric[])
    AS price (starts_at, price_per_kwh)
RETURNING 1
