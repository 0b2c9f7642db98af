-- Lays the tables of Vitals out on Citus; docs/citus.md says when and how. Writers must be stopped.
-- psql -v ON_ERROR_STOP=1 -f docs/citus.sql, on the coordinator, as a superuser: row security binds the owner.

SET citus.multi_shard_modify_mode = 'sequential';

-- 1. Citus takes no policy with a subquery. What they look up is asked of functions instead, row by row.
CREATE FUNCTION reaches_scope(incident uuid) RETURNS boolean STABLE LANGUAGE plpgsql AS $$
BEGIN
  RETURN EXISTS (SELECT FROM incident_accounts a
                 WHERE a.incident_id = incident AND a.account_id = ANY (scope_accounts()));
END $$;
CREATE FUNCTION concerns_scope(incident uuid) RETURNS boolean STABLE LANGUAGE plpgsql AS $$
BEGIN
  RETURN EXISTS (SELECT FROM incident_partners p
                 WHERE p.incident_id = incident AND p.partner_id = scope_partner());
END $$;
CREATE FUNCTION carries_scope(partner uuid) RETURNS boolean STABLE LANGUAGE plpgsql AS $$
BEGIN
  RETURN EXISTS (SELECT FROM dependencies d
                 WHERE d.partner_id = partner AND d.account_id = ANY (scope_accounts()));
END $$;

ALTER POLICY app_select ON partners USING (
  scope_kind() IN ('operator', 'ingest') OR id = scope_partner() OR carries_scope(id));
ALTER POLICY app_select ON incidents USING (
  scope_kind() = 'operator' OR reaches_scope(id) OR concerns_scope(id)
  OR declared_by_id = scope_partner() OR (scope_kind() = 'public' AND is_public));
ALTER POLICY app_update ON incidents
  USING (scope_kind() = 'operator' OR concerns_scope(id))
  WITH CHECK (scope_kind() = 'operator' OR concerns_scope(id));
ALTER POLICY app_select ON incident_partners USING (
  scope_kind() = 'operator' OR partner_id = scope_partner() OR reaches_scope(incident_id));
ALTER POLICY app_select ON incident_services USING (sees_incident(incident_id));
ALTER POLICY app_select ON incident_updates USING (sees_incident(incident_id));
ALTER POLICY app_insert ON incident_updates WITH CHECK (
  scope_kind() IN ('operator', 'partner') AND sees_incident(incident_id));

-- What is left asks for the scope once a statement, as (SELECT scope_kind()): the same without SELECT.
SELECT format('ALTER POLICY %I ON %I', policyname, tablename)
       || coalesce(' USING (' || regexp_replace(qual, once, '\1', 'g') || ')', '')
       || coalesce(' WITH CHECK (' || regexp_replace(with_check, once, '\1', 'g') || ')', '')
FROM pg_policies, (VALUES ('\(\s*SELECT (scope_\w+\(\)) AS \w+\)')) AS asked (once)
WHERE schemaname = 'public' AND concat(qual, ' ', with_check) ~ once
\gexec

-- 2. Keys that refer to other tables are made anew once all tables lie where they belong.
CREATE TEMPORARY TABLE keys AS
SELECT conrelid::regclass::text AS of, conname::text AS name, pg_get_constraintdef(oid) AS definition
FROM pg_constraint WHERE contype = 'f' AND connamespace = 'public'::regnamespace;
SELECT format('ALTER TABLE %s DROP CONSTRAINT %I', of, name) FROM keys \gexec

-- 3. Whole on every node.
SELECT create_reference_table('accounts');
SELECT create_reference_table('account_tree');
SELECT create_reference_table('services');
SELECT create_reference_table('partners');
SELECT create_reference_table('dependencies');
SELECT create_reference_table('sources');
SELECT create_reference_table('incidents');
SELECT create_reference_table('incident_accounts');
SELECT create_reference_table('incident_partners');

-- 4. By account.
SELECT create_distributed_table('series', 'account_id', colocate_with => 'none');
SELECT create_distributed_table('account_series', 'account_id', colocate_with => 'series');
SELECT create_distributed_table('minutes', 'account_id', colocate_with => 'series');
SELECT create_distributed_table('last_readings', 'account_id', colocate_with => 'series');
SELECT create_distributed_table('rollups', 'account_id', colocate_with => 'series');
SELECT create_distributed_table('dirty_windows', 'account_id', colocate_with => 'series');
SELECT create_distributed_table('shard_days', 'account_id', colocate_with => 'series');
SELECT create_distributed_table('chunks', 'account_id', colocate_with => 'series');
SELECT create_distributed_table('watermarks', 'account_id', colocate_with => 'series');
SELECT create_distributed_table('jobs', 'account_id', colocate_with => 'series');
SELECT create_distributed_table('forecasts', 'account_id', colocate_with => 'series');
SELECT create_distributed_table('account_watches', 'account_id', colocate_with => 'series');
SELECT create_distributed_table('watches', 'account_id', colocate_with => 'series');
SELECT create_distributed_table('anomalies', 'account_id', colocate_with => 'series');
SELECT create_distributed_table('insights', 'account_id', colocate_with => 'series');

-- 5. The keys again; the tables of the coordinator that have one become known to the other nodes by it.
SELECT format('ALTER TABLE %s ADD CONSTRAINT %I %s', of, name, definition) FROM keys \gexec
