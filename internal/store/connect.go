package store

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"sync/atomic"
	"time"

	"github.com/jackc/pgerrcode"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"
)

const (
	// connectTimeout bounds one attempt to reach the server.
	connectTimeout = 10 * time.Second
	// pingTimeout bounds the check of a pooled connection that was idle: without
	// it, one whose network is gone would hang until the kernel gives it up.
	pingTimeout = 5 * time.Second

	applicationName = "syncd" // unless the URL or the environment names another

	// Either side notices within deadAfter that its peer is gone: by probes on an
	// idle connection, by unacknowledged data on a busy one. prepareConnection
	// sets the same on the server.
	deadAfter     = 25 * time.Second
	probeIdle     = 10 * time.Second
	probeInterval = 5 * time.Second
	probeCount    = 3
)

// configure sets how connections are made and when they are closed, whatever the
// URL says: with another exec mode pgx cannot send the arguments of our
// statements, and a pool whose connections expire at once is of no use.
func configure(cfg *pgxpool.Config, opts Options, pool *atomic.Pointer[pgxpool.Pool]) {
	cfg.MaxConns = int32(cmp.Or(min(opts.MaxConnections, 1000), 8))
	cfg.MinConns, cfg.MinIdleConns = 0, 0
	cfg.MaxConnLifetime, cfg.MaxConnLifetimeJitter = time.Hour, 0
	cfg.MaxConnIdleTime, cfg.HealthCheckPeriod = 30*time.Minute, time.Minute
	cfg.PingTimeout = pingTimeout
	conn := cfg.ConnConfig
	conn.DefaultQueryExecMode = pgx.QueryExecModeCacheStatement
	conn.StatementCacheCapacity, conn.DescriptionCacheCapacity = 512, 512 // as pgx has it
	if conn.ConnectTimeout == 0 {
		conn.ConnectTimeout = connectTimeout
	}
	if conn.RuntimeParams["application_name"] == "" {
		conn.RuntimeParams["application_name"] = applicationName
	}
	conn.DialFunc = watchedDial
	if opts.Dial != nil {
		conn.DialFunc = opts.Dial
	}
	conn.OnPgError = func(_ *pgconn.PgConn, err *pgconn.PgError) bool { return onServerError(pool.Load(), err) }
	cfg.AfterConnect = prepareConnection
}

// watchedDial connects so that this side notices within deadAfter that the
// server's host is gone.
func watchedDial(ctx context.Context, network, address string) (net.Conn, error) {
	dialer := net.Dialer{
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: probeIdle, Interval: probeInterval, Count: probeCount},
		Control:         limitUnacknowledged,
	}
	return dialer.DialContext(ctx, network, address)
}

// prepareConnection sets what a role, a database, the URL or the environment may
// have set otherwise, for each connection before its first use:
//
//   - how values are written and read: another encoding, or another format of
//     dates or numbers, stores other digits or makes pgx fail;
//   - what a statement does: blocks and webhooks rely on each statement seeing
//     what others committed before it; COPY and policies of row-level security, on
//     rows being filtered, not refused; retries, on an error ending the transaction
//     and not the session; names, on an empty search path;
//   - time limits: a run waits for Polar, and a block for another block. A
//     statement that needs a limit sets one for its own transaction;
//   - how soon the server notices that this host is gone (deadAfter) or that this
//     process is (two seconds, even while it runs one of its statements, which only
//     a server on Linux can), so that their locks are released. On a Unix socket
//     the settings of TCP have no effect.
//
// A setting that the server does not know (transaction_timeout before Postgres
// 17) is left out. It is one statement without arguments, which needs nothing of
// what it sets, and not a part of the startup message, where PgBouncer refuses
// most settings.
//
// The rest stays as it is. default_transaction_read_only marks a server that
// accepts no writes. role may be what gives the rights. synchronous_commit and
// session_replication_role are an administrator's decisions about durability and
// triggers; blocks, deliveries and ends of runs set the former where it matters.
// Settings of the planner and of memory change how long a statement takes and not
// its result; AcquireSlot sets those that large tables need. Others (xmlbinary,
// lc_numeric, backslash_quote, quote_all_identifiers, transform_null_equals,
// check_function_bodies) change nothing that our statements use.
func prepareConnection(ctx context.Context, conn *pgx.Conn) error {
	const sql = `
SELECT set_config(name, value, false)
  FROM (VALUES
    ('client_encoding', 'UTF8'),
    ('standard_conforming_strings', 'on'),
    ('DateStyle', 'ISO, MDY'),
    ('IntervalStyle', 'postgres'),
    ('TimeZone', 'UTC'),
    ('bytea_output', 'hex'),
    ('extra_float_digits', '1'),
    ('array_nulls', 'on'),
    ('default_transaction_isolation', 'read committed'),
    ('row_security', 'on'),
    ('exit_on_error', 'off'),
    ('search_path', ''),
    ('statement_timeout', '0'),
    ('lock_timeout', '0'),
    ('transaction_timeout', '0'),
    ('idle_in_transaction_session_timeout', '0'),
    ('idle_session_timeout', '0'),
    ('tcp_keepalives_idle', '10'),
    ('tcp_keepalives_interval', '5'),
    ('tcp_keepalives_count', '3'),
    ('tcp_user_timeout', '25000'),
    ('client_connection_check_interval', CASE WHEN version() LIKE '%linux%' THEN '2000' END)
  ) AS setting (name, value)
 WHERE value IS NOT NULL
   AND current_setting(name, true) IS NOT NULL`
	if _, err := conn.Exec(ctx, sql); err != nil {
		return fmt.Errorf("prepare connection: %w", err)
	}
	conn.TypeMap().RegisterType(&pgtype.Type{
		Name:  "timestamptz",
		OID:   pgtype.TimestamptzOID,
		Codec: timestampCodec{&pgtype.TimestamptzCodec{ScanLocation: time.UTC}},
	})
	return nil
}

// A timestampCodec reads null into a time.Time as the zero time, which stands for
// "never" in the domain, and any other time in UTC.
type timestampCodec struct{ *pgtype.TimestamptzCodec }

func (c timestampCodec) PlanScan(m *pgtype.Map, oid uint32, format int16, target any) pgtype.ScanPlan {
	if _, ok := target.(*time.Time); ok {
		return timestampPlan{c.TimestamptzCodec.PlanScan(m, oid, format, &pgtype.Timestamptz{})}
	}
	return c.TimestamptzCodec.PlanScan(m, oid, format, target)
}

type timestampPlan struct{ pgtype.ScanPlan }

func (p timestampPlan) Scan(src []byte, target any) error {
	var t pgtype.Timestamptz
	err := p.ScanPlan.Scan(src, &t)
	*target.(*time.Time) = t.Time
	return err
}

// onServerError is called by pgx with every error of the server, and reports whether
// the connection may be kept. When a server goes away or accepts no more writes, all
// of the pool's connections to it are closed, although those to a demoted server
// still answer, and the next ones go wherever the address now leads.
func onServerError(pool *pgxpool.Pool, err *pgconn.PgError) bool {
	if err.Code != pgerrcode.ReadOnlySQLTransaction && !pgerrcode.IsOperatorIntervention(err.Code) {
		return err.SeverityUnlocalized != "FATAL" // Severity is in the server's language
	}
	if err.Code == pgerrcode.QueryCanceled {
		return true // canceled by us, or by an administrator who meant one statement
	}
	if pool != nil {
		pool.Reset() // closes those in use when they are released
	}
	return false
}

const (
	// probeTime limits the whole probe.
	probeTime = 30 * time.Second
	// secondTime is how long to wait for the second connection: a proxy that pools
	// by session and has no server connection left makes it wait.
	secondTime = 10 * time.Second
	// probeStatements is how many statements the first connection sends while the
	// second one is in a transaction: two find a proxy that assigns processes in turn,
	// if nobody else uses it.
	probeStatements = 8
)

// probeSession finds out whether a connection keeps one server process for as long
// as it lasts, and whether a lock that one holds excludes another, as the locks of
// organizations need both. A proxy that pools by transaction passes the process on
// when a transaction ends: to a second connection, which then has it when the
// first one asks again. Some servers that speak Postgres's protocol grant every
// advisory lock.
//
// It leaves nothing behind but, at such a proxy, a lock on a random key, and uses no
// prepared statement, which such a proxy may not know.
func probeSession(ctx context.Context, cfg *pgx.ConnConfig) error {
	ctx, cancel := context.WithTimeout(ctx, probeTime)
	defer cancel()
	first, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return unreachable(cfg, err)
	}
	defer first.Close(ctx)
	if encoding := first.PgConn().ParameterStatus("server_encoding"); encoding != "UTF8" {
		return wrongEncoding(cfg, encoding)
	}
	second, err := connectSecond(ctx, cfg)
	if err != nil {
		return unreachable(cfg, err)
	}
	defer second.Close(ctx)
	problem, err := findProblem(ctx, first, second)
	switch {
	case err != nil:
		return unreachable(cfg, err)
	case problem != "":
		return unsuitable(cfg, problem)
	}
	return nil
}

// wrongEncoding refuses a database that cannot hold every character that Polar
// sends. The locale C works with any encoding, whatever the server's locale is.
func wrongEncoding(cfg *pgx.ConnConfig, encoding string) error {
	name, owner := pgx.Identifier{cfg.Database + "_utf8"}.Sanitize(), pgx.Identifier{cfg.User}.Sanitize()
	return unsuitable(cfg, fmt.Sprintf("the encoding of database %q is %s, and syncd needs UTF8; "+
		"create another one, and set database.url (DATABASE_URL) to it: CREATE DATABASE %s OWNER %s TEMPLATE template0 ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C'",
		cfg.Database, encoding, name, owner))
}

// connectSecond makes the second connection and gets an answer on it while the
// first one is idle.
func connectSecond(ctx context.Context, cfg *pgx.ConnConfig) (*pgx.Conn, error) {
	wait, cancel := context.WithTimeout(ctx, secondTime)
	defer cancel()
	conn, err := pgx.ConnectConfig(wait, cfg)
	if err == nil {
		if _, err = conn.Exec(wait, `SELECT`); err == nil {
			return conn, nil
		}
		conn.Close(ctx)
	}
	if wait.Err() != nil && ctx.Err() == nil {
		err = fmt.Errorf("a second connection got no answer within %v: "+
			"the server, or a proxy in between, grants too few; it needs database.max_connections of them", secondTime)
	}
	return nil, err
}

// findProblem says what shows that sessions are not kept, or that locks do not exclude;
// "" if nothing does. The lock's key is new at each call, so that the probes of two
// processes do not collide.
func findProblem(ctx context.Context, first, second *pgx.Conn) (problem string, err error) {
	const pooled = "it does not keep a connection's session (%s), so that syncd's locks would not hold: a proxy there pools by transaction; " +
		"set database.url (DATABASE_URL) to the server's direct address, or to the proxy's port that pools by session"
	const granted = "its advisory locks do not exclude, so that two syncds would write one organization at once; " +
		"set database.url (DATABASE_URL) to a server whose advisory locks exclude, such as Postgres itself"
	key := rand.Int64()
	// ask needs none of the settings that syncd makes later, and no prepared statement.
	ask := func(conn *pgx.Conn, lock string) (process int, held bool, err error) {
		err = conn.QueryRow(ctx, `SELECT pg_backend_pid(), `+lock, pgx.QueryExecModeExec, key).Scan(&process, &held)
		return process, held, err
	}
	const lock = `pg_try_advisory_lock($1)`
	mine, held, err := ask(first, lock)
	if err != nil {
		return "", err
	}
	// So that a proxy that assigns two processes in turn comes to the first one's.
	if _, err := second.Exec(ctx, `SELECT 1`); err != nil {
		return "", err
	}
	if _, err := second.Exec(ctx, `BEGIN`); err != nil {
		return "", err
	}
	defer func() { _, _ = second.Exec(ctx, `ROLLBACK`) }() // or a proxy might pass the transaction on
	other, both, err := ask(second, lock)
	switch {
	case err != nil:
		return "", err
	case mine == other:
		return fmt.Sprintf(pooled, "two connections share a server process"), nil
	case !held || both:
		return granted, nil
	}
	for range probeStatements {
		again, held, err := ask(first, `pg_advisory_unlock($1) AND pg_try_advisory_lock($1)`)
		switch {
		case err != nil:
			return "", err
		case mine != again:
			return fmt.Sprintf(pooled, "its server process changes"), nil
		case !held:
			return fmt.Sprintf(pooled, "its lock is lost between two statements"), nil
		}
	}
	return "", nil
}
