package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"time"

	"github.com/jackc/pgx/v5"

	"polarmirror/internal/localpg"
)

// postgres is the private server of a benchmark.
type postgres struct {
	server  *localpg.Server
	admin   *pgx.Conn // on the maintenance database
	pid     int       // of the postmaster; 0 if unknown
	polar   int       // process that plays Polar meanwhile; 0 if none
	version string
	made    int // databases so far
}

// settlePause is the time between two looks at what autovacuum does.
const settlePause = 20 * time.Millisecond

// cleanupTime bounds what is done after Ctrl-C.
const cleanupTime = 20 * time.Second

// startPostgres starts a server in a folder of its own below dir, as durable as
// Postgres is by default.
func startPostgres(ctx context.Context, dir string, settings map[string]string) (_ *postgres, err error) {
	p := &postgres{}
	p.server, err = localpg.Start(ctx, localpg.Options{
		DataDir:  filepath.Join(dir, "postgres"),
		Database: "maintenance",
		Settings: settings,
	})
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.close(ctx))
		}
	}()
	if p.admin, err = pgx.Connect(ctx, p.server.URL()); err != nil {
		return nil, fmt.Errorf("connect to Postgres: %w", err)
	}
	var backend int
	const sql = `SELECT pg_backend_pid(), current_setting('server_version')`
	if err = p.admin.QueryRow(ctx, sql).Scan(&backend, &p.version); err != nil {
		return nil, fmt.Errorf("ask Postgres who it is: %w", err)
	}
	if st, ok := readStat(backend); ok {
		p.pid = st.parent
	}
	return p, nil
}

func (p *postgres) close(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTime)
	defer cancel()
	if p.admin != nil {
		_ = p.admin.Close(ctx)
	}
	return p.server.Close(ctx)
}

// create makes an empty database. Its URL holds the password.
func (p *postgres) create(ctx context.Context, purpose string) (*database, error) {
	p.made++
	d := &database{postgres: p, name: fmt.Sprintf("%s_%d", purpose, p.made)}
	if _, err := p.admin.Exec(ctx, "CREATE DATABASE "+pgx.Identifier{d.name}.Sanitize()); err != nil {
		return nil, fmt.Errorf("make database %s: %w", d.name, err)
	}
	u, err := url.Parse(p.server.URL())
	if err != nil {
		return nil, errors.New("the address of Postgres can't be parsed")
	}
	u.Path = "/" + d.name
	d.url = u.String()
	return d, nil
}

// settle lets autovacuum finish what earlier phases left it and writes everything
// to disk, so that a phase begins with nothing left to do.
func (p *postgres) settle(ctx context.Context) error {
	const vacuuming = `SELECT EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = 'autovacuum worker')`
	for busy := true; busy; {
		if err := p.admin.QueryRow(ctx, vacuuming).Scan(&busy); err != nil {
			return fmt.Errorf("wait for autovacuum: %w", err)
		}
		if !busy {
			break
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(settlePause):
		}
	}
	if _, err := p.admin.Exec(ctx, `CHECKPOINT`); err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	return nil
}

// A database is one of the server's.
type database struct {
	postgres *postgres
	name     string
	url      string
	conn     *pgx.Conn // opened when first asked for
}

func (d *database) connect(ctx context.Context) (*pgx.Conn, error) {
	if d.conn != nil {
		return d.conn, nil
	}
	conn, err := pgx.Connect(ctx, d.url)
	if err != nil {
		return nil, fmt.Errorf("connect to database %s: %w", d.name, err)
	}
	d.conn = conn
	return conn, nil
}

func (d *database) disconnect(ctx context.Context) {
	if d.conn != nil {
		_ = d.conn.Close(ctx)
		d.conn = nil
	}
}

// drop removes the database.
func (d *database) drop(ctx context.Context) error {
	d.disconnect(ctx)
	if _, err := d.postgres.admin.Exec(ctx, "DROP DATABASE "+pgx.Identifier{d.name}.Sanitize()+" WITH (FORCE)"); err != nil {
		return fmt.Errorf("drop database %s: %w", d.name, err)
	}
	return nil
}

// vacuum does to all tables what the next reader or autovacuum would else do in
// the middle of a measurement (hint bits, statistics), and settles.
func (d *database) vacuum(ctx context.Context) error {
	return d.vacuumSchemas(ctx, "pg_catalog", "polar", "public")
}

// vacuumCatalog leaves the tables of users as they are: that nothing is known of
// them belongs to a first load.
func (d *database) vacuumCatalog(ctx context.Context) error {
	return d.vacuumSchemas(ctx, "pg_catalog")
}

func (d *database) vacuumSchemas(ctx context.Context, schemas ...string) error {
	conn, err := d.connect(ctx)
	if err != nil {
		return err
	}
	const tables = `
SELECT format('%I.%I', n.nspname, c.relname)
  FROM pg_class c
  JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE n.nspname = ANY ($1)
   AND c.relkind = 'r'
 ORDER BY n.nspname = 'pg_catalog', 1`
	rows, err := conn.Query(ctx, tables, schemas)
	if err != nil {
		return fmt.Errorf("list tables: %w", err)
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return fmt.Errorf("list tables: %w", err)
	}
	for _, name := range names {
		if _, err := conn.Exec(ctx, "VACUUM (ANALYZE) "+name); err != nil {
			return fmt.Errorf("vacuum %s: %w", name, err)
		}
	}
	// The statistics just replaced would be pruned by whoever plans a query next.
	if _, err := conn.Exec(ctx, `VACUUM pg_catalog.pg_statistic`); err != nil {
		return fmt.Errorf("vacuum statistics: %w", err)
	}
	return d.postgres.settle(ctx)
}
