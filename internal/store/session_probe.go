package store

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
)

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
	encoding, err := ask(ctx, first, `SELECT current_setting('server_encoding')`)
	if err != nil {
		return unreachable(cfg, err)
	}
	if encoding[0] != "UTF8" {
		return wrongEncoding(cfg, encoding[0])
	}
	second, err := connectSecond(ctx, cfg)
	if err != nil {
		return err
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

// ask runs a statement by the simple protocol and returns its first row as text.
// It needs none of the settings that pgx requires, so it works before they are
// made.
func ask(ctx context.Context, conn *pgx.Conn, sql string) ([]string, error) {
	results, err := conn.PgConn().Exec(ctx, sql).ReadAll()
	if err != nil {
		return nil, err
	}
	if len(results) != 1 || len(results[0].Rows) != 1 {
		return nil, fmt.Errorf("no row in answer to %s", sql)
	}
	return column(results[0].Rows[0], func(b []byte) string { return string(b) }), nil
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
	if errors.Is(wait.Err(), context.DeadlineExceeded) && ctx.Err() == nil {
		err = fmt.Errorf("a second connection got no answer within %v: "+
			"the server, or a proxy in between, grants too few; it needs database.max_connections of them", secondTime)
	}
	return nil, unreachable(cfg, err)
}

// findProblem says what shows that sessions are not kept, or that locks do not exclude;
// "" if nothing does. The lock's key is new at each call, so that the probes of two
// processes do not collide.
func findProblem(ctx context.Context, first, second *pgx.Conn) (problem string, err error) {
	const pooled = "it does not keep a connection's session (%s), so that syncd's locks would not hold: a proxy there pools by transaction; " +
		"set database.url (DATABASE_URL) to the server's direct address, or to the proxy's port that pools by session"
	const granted = "its advisory locks do not exclude, so that two syncds would write one organization at once; " +
		"set database.url (DATABASE_URL) to a server whose advisory locks exclude, such as Postgres itself"
	key := strconv.FormatInt(rand.Int64(), 10)
	lock := `SELECT pg_backend_pid(), pg_try_advisory_lock(` + key + `)`
	mine, err := ask(ctx, first, lock)
	if err != nil {
		return "", err
	}
	// So that a proxy that assigns two processes in turn comes to the first one's.
	if _, err := ask(ctx, second, `SELECT 1`); err != nil {
		return "", err
	}
	if _, err := second.Exec(ctx, `BEGIN`); err != nil {
		return "", err
	}
	defer func() { _, _ = second.Exec(ctx, `ROLLBACK`) }() // or a proxy might pass the transaction on
	other, err := ask(ctx, second, lock)
	switch {
	case err != nil:
		return "", err
	case mine[0] == other[0]:
		return fmt.Sprintf(pooled, "two connections share a server process"), nil
	case mine[1] != "t" || other[1] != "f":
		return granted, nil
	}
	for range probeStatements {
		again, err := ask(ctx, first, `SELECT pg_backend_pid(), pg_advisory_unlock(`+key+`) AND pg_try_advisory_lock(`+key+`)`)
		switch {
		case err != nil:
			return "", err
		case mine[0] != again[0]:
			return fmt.Sprintf(pooled, "its server process changes"), nil
		case again[1] != "t":
			return fmt.Sprintf(pooled, "its lock is lost between two statements"), nil
		}
	}
	return "", nil
}
