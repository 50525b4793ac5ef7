package main

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"time"

	"github.com/jackc/pgx/v5"
)

// A mark is where a database and its server were at one moment.
type mark struct {
	lsn string
	xid string // a transaction's, begun and ended at that moment
	cpu cpuTimes
}

// cpuTimes are what was used so far.
type cpuTimes struct {
	at      time.Time
	server  time.Duration // by Postgres
	ours    time.Duration // by this benchmark, Postgres included
	machine time.Duration // by everything
	ok      bool          // all of it is known
}

// A growth is what came after a mark.
type growth struct {
	wal    int64         // bytes of write-ahead log
	server time.Duration // CPU of Postgres
	others float64       // share of the machine's CPUs that strangers took
	ok     bool          // the CPU is known
}

// cpu looks at the clocks of all processes.
func (p *postgres) cpu() cpuTimes {
	c := cpuTimes{at: time.Now()}
	server, serverOK := familyCPU(p.pid)
	self, selfOK := readStat(os.Getpid())
	machine, machineOK := machineCPU()
	c.server, c.machine, c.ours = server, machine, server+self.own+self.waited
	c.ok = p.pid != 0 && serverOK && selfOK && machineOK
	if polar, ok := readStat(p.polar); ok {
		c.ours += polar.own
	}
	return c
}

// othersSince is the share of the machine that neither this benchmark nor
// idleness took since b.
func (c cpuTimes) othersSince(b cpuTimes) float64 {
	whole := c.at.Sub(b.at) * time.Duration(runtime.NumCPU())
	return min(1, max(0, float64(c.machine-b.machine-(c.ours-b.ours))/float64(whole)))
}

func (d *database) mark(ctx context.Context) (mark, error) {
	conn, err := d.connect(ctx)
	if err != nil {
		return mark{}, err
	}
	var m mark
	// Of two statements, so that the log holds this transaction before it is measured.
	if err := conn.QueryRow(ctx, `SELECT pg_current_xact_id()::xid::text`).Scan(&m.xid); err != nil {
		return m, fmt.Errorf("begin measuring: %w", err)
	}
	if err := conn.QueryRow(ctx, `SELECT pg_current_wal_insert_lsn()::text`).Scan(&m.lsn); err != nil {
		return m, fmt.Errorf("begin measuring: %w", err)
	}
	m.cpu = d.postgres.cpu()
	return m, nil
}

// since measures what came after m.
func (d *database) since(ctx context.Context, m mark) (growth, error) {
	cpu := d.postgres.cpu()
	conn, err := d.connect(ctx)
	if err != nil {
		return growth{}, err
	}
	g := growth{server: cpu.server - m.cpu.server, others: cpu.othersSince(m.cpu), ok: cpu.ok && m.cpu.ok}
	const sql = `SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), $1::text::pg_lsn)::bigint`
	if err := conn.QueryRow(ctx, sql, m.lsn).Scan(&g.wal); err != nil {
		return g, fmt.Errorf("measure the write-ahead log: %w", err)
	}
	return g, nil
}

// A tableCount is how many rows of a table satisfy something.
type tableCount struct {
	Table string `json:"table"`
	Rows  int64  `json:"rows"`
}

// newVersions counts the row versions in syncd's data tables that transactions
// after m have written and that are still there. It reads each row's xmin: the
// statistics views lag, and know nothing of what a crash or a reset took.
func (d *database) newVersions(ctx context.Context, m mark) ([]tableCount, error) {
	const sql = `
SELECT 'customers' AS table, count(*)
  FROM polar.customers
 WHERE age(xmin) < age($1::text::xid)
UNION ALL
SELECT 'meters', count(*)
  FROM polar.meters
 WHERE age(xmin) < age($1::text::xid)
UNION ALL
SELECT 'customer_meters', count(*)
  FROM polar.customer_meters
 WHERE age(xmin) < age($1::text::xid)
UNION ALL
SELECT 'customer_meter_history', count(*)
  FROM polar.customer_meter_history
 WHERE age(xmin) < age($1::text::xid)`
	conn, err := d.connect(ctx)
	if err != nil {
		return nil, err
	}
	rows, err := conn.Query(ctx, sql, m.xid)
	if err != nil {
		return nil, fmt.Errorf("count new row versions: %w", err)
	}
	counts, err := pgx.CollectRows(rows, pgx.RowToStructByPos[tableCount])
	if err != nil {
		return nil, fmt.Errorf("count new row versions: %w", err)
	}
	return counts, nil
}

func total(counts []tableCount) int64 {
	var n int64
	for _, c := range counts {
		n += c.Rows
	}
	return n
}

// A syncRun is a row of polar.sync_runs.
type syncRun struct {
	ID           int64
	Kind         string
	Status       string
	Exact        *bool
	Method       string // how a full run proved that it saw everything
	Requests     int64
	RowsSeen     int64
	RowsInserted int64
	RowsUpdated  int64
	RateLimited  int64
	Seconds      float64
	Error        *string
}

// ended returns the runs after number id that have ended, oldest first.
func (d *database) ended(ctx context.Context, id int64) ([]syncRun, error) {
	const sql = `
SELECT
    id,
    kind,
    status,
    exact,
    coalesce(method, ''),
    requests,
    rows_seen,
    rows_inserted,
    rows_updated,
    rate_limited,
    extract(epoch FROM finished_at - started_at)::float8,
    error
  FROM polar.sync_runs
 WHERE id > $1
   AND status <> 'running'
 ORDER BY id`
	conn, err := d.connect(ctx)
	if err != nil {
		return nil, err
	}
	rows, err := conn.Query(ctx, sql, id)
	if err != nil {
		return nil, fmt.Errorf("read runs: %w", err)
	}
	runs, err := pgx.CollectRows(rows, pgx.RowToStructByPos[syncRun])
	if err != nil {
		return nil, fmt.Errorf("read runs: %w", err)
	}
	return runs, nil
}

// lastRun is the number of the newest run; 0 if there was none.
func (d *database) lastRun(ctx context.Context) (int64, error) {
	conn, err := d.connect(ctx)
	if err != nil {
		return 0, err
	}
	var id int64
	if err := conn.QueryRow(ctx, `SELECT coalesce(max(id), 0) FROM polar.sync_runs`).Scan(&id); err != nil {
		return 0, fmt.Errorf("read runs: %w", err)
	}
	return id, nil
}

// mirrored counts the customer meters in syncd's mirror.
func (d *database) mirrored(ctx context.Context) (int64, error) {
	conn, err := d.connect(ctx)
	if err != nil {
		return 0, err
	}
	var n int64
	if err := conn.QueryRow(ctx, `SELECT count(*) FROM polar.customer_meters WHERE deleted_at IS NULL`).Scan(&n); err != nil {
		return 0, fmt.Errorf("count mirrored rows: %w", err)
	}
	return n, nil
}
