-- The role that Grafana reads the mirror with: docs/security.md's analyst under
-- another name, with the same rights. compose.yaml runs this at every start; it
-- can be repeated.
DO $$
BEGIN
    CREATE ROLE grafana LOGIN;
EXCEPTION
    WHEN duplicate_object THEN NULL;
END
$$;
GRANT USAGE ON SCHEMA polar TO grafana;
GRANT SELECT ON
    polar.organizations,
    polar.customers,
    polar.meters,
    polar.customer_meters,
    polar.customer_meter_history,
    polar.customer_meter_overview,
    polar.usage_daily,
    polar.burn_rate,
    polar.sync_status,
    polar.sync_runs
TO grafana;
ALTER ROLE grafana SET default_transaction_read_only = on;
ALTER ROLE grafana SET statement_timeout = '5min';

\getenv password GRAFANA_DATABASE_PASSWORD
ALTER ROLE grafana PASSWORD :'password';
