package store

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/google/uuid"
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
// It leaves nothing behind but a setting that no program reads, and uses no
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
	found, err := sessionsKept(ctx, first, second)
	if err == nil && found == "" {
		found, err = locksExclude(ctx, first, second)
	}
	switch {
	case err != nil:
		return unreachable(cfg, err)
	case found != "":
		return unsuitable(cfg, found)
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

// sessionsKept says what shows that sessions are not kept; "" if nothing does.
func sessionsKept(ctx context.Context, first, second *pgx.Conn) (found string, err error) {
	const problem = "it does not keep a connection's session (%s), so that syncd's locks would not hold: a proxy there pools by transaction; " +
		"set database.url (DATABASE_URL) to the server's direct address, or to the proxy's port that pools by session"
	defer func() {
		if found != "" {
			found = fmt.Sprintf(problem, found)
		}
	}()
	mark := uuid.NewString()
	before, err := ask(ctx, first, `SELECT pg_backend_pid(), set_config('syncd.probe', '`+mark+`', false)`)
	if err != nil {
		return "", err
	}
	// So that a proxy that assigns two processes in turn comes to the first one's.
	if _, err := ask(ctx, second, `SELECT 1`); err != nil {
		return "", err
	}
	if _, err := second.Exec(ctx, `BEGIN`); err != nil {
		if sqlState(err) == "08P01" { // protocol_violation, which PgBouncer answers
			return "transactions are refused", nil
		}
		return "", err
	}
	defer func() { // or a proxy might pass the transaction on
		if _, rollbackErr := second.Exec(ctx, `ROLLBACK`); err == nil && found == "" {
			err = rollbackErr
		}
	}()
	other, err := ask(ctx, second, `SELECT pg_backend_pid()`)
	if err != nil {
		return "", err
	}
	if before[0] == other[0] {
		return "two connections share a server process", nil
	}
	for range probeStatements {
		after, err := ask(ctx, first, `SELECT pg_backend_pid(), coalesce(current_setting('syncd.probe', true), '')`)
		switch {
		case err != nil:
			return "", err
		case before[0] != after[0]:
			return "its server process changes", nil
		case after[1] != mark:
			return "its settings are lost between two statements", nil
		}
	}
	return "", nil
}

// locksExclude says what shows that not just the first of two connections gets an
// advisory lock; "" if nothing does. The key is new at each call, so that the probes
// of two processes do not collide.
func locksExclude(ctx context.Context, first, second *pgx.Conn) (found string, err error) {
	lock := `SELECT pg_try_advisory_lock(` + strconv.FormatInt(rand.Int64(), 10) + `)`
	mine, err := ask(ctx, first, lock)
	if err != nil {
		return "", err
	}
	other, err := ask(ctx, second, lock)
	if err != nil {
		return "", err
	}
	if mine[0] != "t" || other[0] != "f" {
		found = "its advisory locks do not exclude, so that two syncds would write one organization at once; " +
			"set database.url (DATABASE_URL) to a server whose advisory locks exclude, such as Postgres itself"
	}
	_, err = ask(ctx, first, `SELECT pg_advisory_unlock_all()`)
	return found, err
}
