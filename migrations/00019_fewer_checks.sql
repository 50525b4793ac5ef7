-- Each row of these tables was checked against polar.organizations, which costs
-- as much as an index. syncd registers an organization before it writes any of
-- its rows and removes none, and customer_meters still refers to customers and
-- meters.

-- +goose Up
ALTER TABLE polar.customer_meters DROP CONSTRAINT customer_meters_organization_id_fkey;
ALTER TABLE polar.customers DROP CONSTRAINT customers_organization_id_fkey;
ALTER TABLE polar.meters DROP CONSTRAINT meters_organization_id_fkey;

-- +goose Down
ALTER TABLE polar.customers ADD CONSTRAINT customers_organization_id_fkey FOREIGN KEY (organization_id) REFERENCES polar.organizations (id);
ALTER TABLE polar.meters ADD CONSTRAINT meters_organization_id_fkey FOREIGN KEY (organization_id) REFERENCES polar.organizations (id);
ALTER TABLE polar.customer_meters ADD CONSTRAINT customer_meters_organization_id_fkey FOREIGN KEY (organization_id) REFERENCES polar.organizations (id);
