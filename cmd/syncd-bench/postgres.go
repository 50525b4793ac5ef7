package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// cleanupTime bounds what is done after Ctrl-C.
const cleanupTime = 20 * time.Second

// postgres is the server of a benchmark.
type postgres struct {
	admin   *database // for maintenance; empty
	pid     int       // of the postmaster; 0 if unknown
	version string
}

// openPostgres uses the server of the database at address, which is empty.
func openPostgres(ctx context.Context, address string) (*postgres, error) {
	p := &postgres{}
	var err error
	if p.admin, err = p.connect(ctx, address); err != nil {
		return nil, err
	}
	var backend int
	const sql = `SELECT pg_backend_pid(), current_setting('server_version')`
	if err := p.admin.conn.QueryRow(ctx, sql).Scan(&backend, &p.version); err != nil {
		return nil, fmt.Errorf("ask Postgres who it is: %w", err)
	}
	if st, err := readStat(backend); err == nil {
		p.pid = st.PPID
	}
	return p, nil
}

// A database is one of the server's. Its URL holds the password.
type database struct {
	postgres *postgres
	url      string
	conn     *pgx.Conn
}

// create makes an empty database, named after the one for maintenance.
func (p *postgres) create(ctx context.Context, name string) (*database, error) {
	u, err := url.Parse(p.admin.url)
	if err != nil {
		return nil, errors.New("the address of Postgres can't be parsed")
	}
	u.Path += "_" + name
	if _, err := p.admin.conn.Exec(ctx, "CREATE DATABASE "+strings.TrimPrefix(u.Path, "/")); err != nil {
		return nil, fmt.Errorf("make database %s: %w", name, err)
	}
	return p.connect(ctx, u.String())
}

func (p *postgres) connect(ctx context.Context, address string) (*database, error) {
	conn, err := pgx.Connect(ctx, address)
	if err != nil {
		return nil, fmt.Errorf("connect to Postgres: %w", err)
	}
	return &database{postgres: p, url: address, conn: conn}, nil
}

// drop removes the database. If it cannot, it goes with the server.
func (d *database) drop(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTime)
	defer cancel()
	_ = d.conn.Close(ctx)
	_, _ = d.postgres.admin.conn.Exec(ctx, "DROP DATABASE "+d.conn.Config().Database+" WITH (FORCE)")
}

// vacuum does what the next process that is measured, or autovacuum, would else do in
// the middle of it: hint bits, statistics, writing everything to disk.
func (d *database) vacuum(ctx context.Context) error {
	for _, sql := range []string{
		`VACUUM (ANALYZE)`,
		// The statistics just replaced would be pruned by whoever plans a query next.
		`VACUUM pg_catalog.pg_statistic`,
		`CHECKPOINT`,
	} {
		if _, err := d.conn.Exec(ctx, sql); err != nil {
			return fmt.Errorf("vacuum: %w", err)
		}
	}
	return nil
}

// A mark is where a database and its server were at one moment.
type mark struct {
	at  time.Time // by the server's clock
	xid string    // of a transaction begun and ended at that moment
	lsn string
	cpu time.Duration // of the server so far; 0 if unknown
}

func (d *database) mark(ctx context.Context) (mark, error) {
	var m mark
	// Two statements, so that the log holds this transaction before it is measured.
	err := d.conn.QueryRow(ctx, `SELECT clock_timestamp(), pg_current_xact_id()::xid::text`).Scan(&m.at, &m.xid)
	if err == nil {
		err = d.conn.QueryRow(ctx, `SELECT pg_current_wal_insert_lsn()::text`).Scan(&m.lsn)
	}
	if err != nil {
		return m, fmt.Errorf("begin measuring: %w", err)
	}
	m.cpu = familyCPU(d.postgres.pid)
	return m, nil
}

// measure runs a process that works on the database.
func (d *database) measure(ctx context.Context, cmd *exec.Cmd) (r result, err error) {
	if r.began, err = d.mark(ctx); err != nil {
		return r, err
	}
	if r.usage, err = measure(cmd); err != nil {
		return r, err
	}
	if cpu := familyCPU(d.postgres.pid); cpu > 0 && r.began.cpu > 0 {
		r.postgres = cpu - r.began.cpu
	}
	const log = `SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), $1::text::pg_lsn)::bigint`
	if err := d.conn.QueryRow(ctx, log, r.began.lsn).Scan(&r.log); err != nil {
		return r, fmt.Errorf("measure the write-ahead log: %w", err)
	}
	return r, d.vacuum(ctx)
}

// newVersions counts the row versions in syncd's data tables that transactions
// after m have written and that are still there. It reads each row's xmin: the
// statistics views lag, and know nothing of what a crash or a reset took.
func (d *database) newVersions(ctx context.Context, m mark) (versions int64, err error) {
	const sql = `
WITH versions AS (
    SELECT xmin
      FROM polar.customers
    UNION ALL
    SELECT xmin
      FROM polar.meters
    UNION ALL
    SELECT xmin
      FROM polar.customer_meters
    UNION ALL
    SELECT xmin
      FROM polar.customer_meter_history
)
SELECT count(*)
  FROM versions
 WHERE age(xmin) < age($1::text::xid)`
	if err := d.conn.QueryRow(ctx, sql, m.xid).Scan(&versions); err != nil {
		return 0, fmt.Errorf("count new row versions: %w", err)
	}
	return versions, nil
}

// copiedTables are syncd's data tables, in the order in which their foreign keys
// allow loading them.
func copiedTables() []string {
	return []string{"organizations", "customers", "meters", "customer_meters", "customer_meter_history"}
}

// dump writes the data tables to files in dir, in the binary format of COPY.
func (d *database) dump(ctx context.Context, dir string) error {
	for _, table := range copiedTables() {
		file, err := os.Create(filepath.Join(dir, table))
		if err != nil {
			return err
		}
		_, err = d.conn.PgConn().CopyTo(ctx, file, "COPY (SELECT * FROM polar."+table+") TO STDOUT (FORMAT binary)")
		if err = errors.Join(err, file.Close()); err != nil {
			return fmt.Errorf("dump %s: %w", table, err)
		}
	}
	return nil
}
