package store

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/database"
	"github.com/pressly/goose/v3/lock"

	"polarmirror/migrations"
)

// A Migration is one step of the schema and whether it was applied to this database.
type Migration struct {
	Version   int64
	Name      string // file name
	Applied   bool
	AppliedAt time.Time // zero unless applied
}

// Migrate brings the schema up to this binary's newest migration and makes the
// history's partitions. Replicas may call it at once: goose's session lock lets
// one of them work. An error is a [*SchemaError] unless the connection broke.
func (s *Store) Migrate(ctx context.Context) (applied int, err error) {
	if err := s.createSchema(ctx); err != nil {
		return 0, err
	}
	if err := s.checkCompatible(ctx); err != nil {
		return 0, err
	}
	err = s.withGoose(func(p *goose.Provider) error {
		results, err := p.Up(ctx)
		applied = len(results)
		return err
	})
	if err != nil {
		return applied, &SchemaError{Problem: "migration stopped; what it did not finish was rolled back, so mend the cause and start again", Err: cured(err)}
	}
	return applied, s.Maintain(ctx)
}

// Migrations lists every migration this binary knows, oldest first.
func (s *Store) Migrations(ctx context.Context) ([]Migration, error) {
	var list []Migration
	exists, err := s.schemaExists(ctx)
	if err != nil {
		return nil, err
	}
	err = s.withGoose(func(p *goose.Provider) error {
		if !exists {
			for _, src := range p.ListSources() {
				list = append(list, Migration{Version: src.Version, Name: src.Path})
			}
			return nil
		}
		states, err := p.Status(ctx)
		for _, st := range states {
			list = append(list, Migration{
				Version:   st.Source.Version,
				Name:      st.Source.Path,
				Applied:   st.State == goose.StateApplied,
				AppliedAt: st.AppliedAt,
			})
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list migrations: %w", err)
	}
	return list, nil
}

func (s *Store) withGoose(use func(*goose.Provider) error) error {
	versions, err := database.NewStore(database.DialectPostgres, Schema+".goose_db_version")
	if err != nil {
		return err
	}
	locker, err := lock.NewPostgresSessionLocker()
	if err != nil {
		return err
	}
	db := stdlib.OpenDBFromPool(s.pool.Pool)
	defer db.Close()
	provider, err := goose.NewProvider("", db, migrations.FS, goose.WithStore(versions), goose.WithSessionLocker(locker))
	if err != nil {
		return err
	}
	return use(provider)
}

// embeddedMigrations are the numbers of this binary's migrations, which may have
// gaps.
func embeddedMigrations() ([]int64, error) {
	entries, err := migrations.FS.ReadDir(".")
	if err != nil {
		return nil, err
	}
	var versions []int64
	for _, e := range entries {
		v, err := goose.NumericComponent(e.Name())
		if err != nil {
			return nil, err
		}
		versions = append(versions, v)
	}
	return versions, nil
}

func (s *Store) schemaExists(ctx context.Context) (bool, error) {
	const sql = `SELECT EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname = 'polar')`
	var exists bool
	if err := s.pool.QueryRow(ctx, sql).Scan(&exists); err != nil {
		return false, fmt.Errorf("find schema: %w", err)
	}
	return exists, nil
}

// createSchema creates the schema only where it is missing, so that an
// administrator can create it for a role that may not. Two replicas may both find
// it missing; the error of the slower one proves that it exists.
func (s *Store) createSchema(ctx context.Context) error {
	exists, err := s.schemaExists(ctx)
	if err != nil || exists {
		return err
	}
	const sql = `CREATE SCHEMA polar`
	_, err = s.pool.Exec(ctx, sql)
	switch sqlState(err) {
	case duplicateSchema, uniqueViolation: // another replica was first
		err = nil
	case insufficientPrivilege:
		return &SchemaError{Problem: "this role may not create schema polar; let an administrator run: CREATE SCHEMA polar AUTHORIZATION <this role>", Err: err}
	}
	if err != nil {
		return fmt.Errorf("create schema: %w", cured(err))
	}
	const comment = `COMMENT ON SCHEMA polar IS 'Customer meters of Polar organizations, mirrored by syncd.'`
	if _, err := s.pool.Exec(ctx, comment); err != nil && sqlState(err) != insufficientPrivilege {
		return fmt.Errorf("describe schema: %w", err)
	}
	return nil
}

// checkCompatible refuses a schema that is too new for this binary, or from
// before the first release: its polar.sync_runs lacks method.
func (s *Store) checkCompatible(ctx context.Context) error {
	versions, err := embeddedMigrations()
	if err != nil {
		return fmt.Errorf("read embedded migrations: %w", err)
	}
	const shape = `
SELECT EXISTS (
    SELECT
      FROM pg_catalog.pg_class c
      JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
     WHERE n.nspname = 'polar'
       AND c.relname = 'usage_daily'
       AND NOT EXISTS (
           SELECT
             FROM pg_catalog.pg_attribute a
            WHERE a.attrelid = c.oid
              AND a.attname = 'meter_id'
       )
)`
	var obsolete bool
	if err := s.pool.QueryRow(ctx, shape).Scan(&obsolete); err != nil {
		return fmt.Errorf("inspect schema: %w", err)
	}
	if obsolete {
		return &SchemaError{
			Problem:  "it was made by a syncd from before the first release; run DROP SCHEMA polar CASCADE and start again: the history is lost, the rest is read from Polar again",
			Obsolete: true,
		}
	}
	const sql = `SELECT oldest_migration FROM polar.schema_compatibility`
	var oldest int64
	err = s.pool.QueryRow(ctx, sql).Scan(&oldest)
	switch sqlState(err) {
	case undefinedTable: // an empty schema, or one that is being migrated
		return nil
	case insufficientPrivilege:
		return &SchemaError{Problem: "schema polar exists and this role does not own it: let an administrator give it and what is in it to this role, or use the role that made it"}
	}
	if err != nil {
		return fmt.Errorf("read schema compatibility: %w", err)
	}
	if newest := slices.Max(versions); newest < oldest {
		return &SchemaError{Problem: fmt.Sprintf("it needs a syncd that knows migration %d and this one ends at %d; install a newer syncd", oldest, newest)}
	}
	return nil
}

// Rebuild drops the schema with all its contents and creates it again.
func (s *Store) Rebuild(ctx context.Context) error {
	if _, err := s.pool.Exec(ctx, `DROP SCHEMA polar CASCADE`); err != nil {
		return fmt.Errorf("drop schema: %w", err)
	}
	_, err := s.Migrate(ctx)
	return err
}
