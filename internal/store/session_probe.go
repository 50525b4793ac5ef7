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
	// probeRounds is how often a proxy is tried. One round finds those that assign
	// the server process used last; those that assign them in turn take more.
	probeRounds = 8
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
	defer closeProbe(ctx, first)
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
	defer closeProbe(ctx, second)
	p := &sessionProbe{first: first, second: second, mark: uuid.NewString()}
	found, err := p.sessions(ctx)
	if err != nil {
		return unreachable(cfg, err)
	}
	if found != "" {
		return &SessionError{Target: target(cfg), Cause: found}
	}
	found, err = p.locks(ctx)
	if err != nil {
		return unreachable(cfg, err)
	}
	if found != "" {
		return &UnsuitableError{Target: target(cfg), Problem: found + ", so that two syncds would write one organization at once; " +
			"set database.url (DATABASE_URL) to a server whose advisory locks exclude, such as Postgres itself"}
	}
	return nil
}

// wrongEncoding refuses a database that cannot hold every character that Polar
// sends. The locale C works with any encoding, whatever the server's locale is.
func wrongEncoding(cfg *pgx.ConnConfig, encoding string) error {
	name, owner := pgx.Identifier{cfg.Database + "_utf8"}.Sanitize(), pgx.Identifier{cfg.User}.Sanitize()
	return &UnsuitableError{Target: target(cfg), Problem: fmt.Sprintf("the encoding of database %q is %s, and syncd needs UTF8; "+
		"create another one, and set database.url (DATABASE_URL) to it: CREATE DATABASE %s OWNER %s TEMPLATE template0 ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C'",
		cfg.Database, encoding, name, owner)}
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
		closeProbe(ctx, conn)
	}
	if errors.Is(wait.Err(), context.DeadlineExceeded) && ctx.Err() == nil {
		return nil, &UnreachableError{Target: target(cfg), Cause: fmt.Sprintf("a second connection got no answer within %v: "+
			"the server, or a proxy in between, grants too few; it needs database.max_connections of them", secondTime)}
	}
	return nil, unreachable(cfg, err)
}

// closeProbe closes conn even if the time of the probe is up.
func closeProbe(ctx context.Context, conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), releaseTimeout)
	defer cancel()
	_ = conn.Close(ctx) // either way it is no longer used
}

// A sessionProbe is two connections to one server.
type sessionProbe struct {
	first, second *pgx.Conn
	mark          string // set in the first one's session

	pid, otherPID string // the processes seen behind them; "" before the first round
}

// sessions returns what shows that sessions are not kept; "" if nothing does.
func (p *sessionProbe) sessions(ctx context.Context) (found string, err error) {
	for round := range probeRounds {
		found, err := p.round(ctx)
		if err != nil || found != "" || p.direct() {
			return found, err
		}
		if round%2 == 1 {
			// One statement more, so that a proxy that assigns processes in turn does
			// not assign the same ones in each round.
			if _, err := p.second.Exec(ctx, `SELECT`); err != nil {
				return "", err
			}
		}
	}
	return "", nil
}

// round compares the processes of both sessions while the second one is in a
// transaction. It leaves no transaction open, which a proxy might pass on.
func (p *sessionProbe) round(ctx context.Context) (found string, err error) {
	before, err := ask(ctx, p.first, `SELECT pg_backend_pid(), set_config('syncd.probe', '`+p.mark+`', false)`)
	if err != nil {
		return "", err
	}
	if _, err := p.second.Exec(ctx, `BEGIN`); err != nil {
		if sqlState(err) == "08P01" { // protocol_violation, which PgBouncer answers
			return "transactions are refused", nil
		}
		return "", err
	}
	defer func() {
		if _, rollbackErr := p.second.Exec(ctx, `ROLLBACK`); err == nil && found == "" {
			err = rollbackErr
		}
	}()
	other, err := ask(ctx, p.second, `SELECT pg_backend_pid()`)
	if err != nil {
		return "", err
	}
	if before[0] == other[0] {
		return "two connections share a server process", nil
	}
	after, err := ask(ctx, p.first, `SELECT pg_backend_pid(), coalesce(current_setting('syncd.probe', true), '')`)
	switch {
	case err != nil:
		return "", err
	case before[0] != after[0], p.pid != "" && (p.pid != before[0] || p.otherPID != other[0]):
		return "its server process changes", nil
	case after[1] != p.mark:
		return "its settings are lost between two statements", nil
	}
	p.pid, p.otherPID = before[0], other[0]
	return "", nil
}

// locks returns what shows that an advisory lock does not exclude, or cannot be
// released; "" if nothing does. The key is new at each call, so that the probes of
// two processes do not collide.
func (p *sessionProbe) locks(ctx context.Context) (found string, err error) {
	key := strconv.FormatInt(rand.Int64(), 10)
	lock, unlock := `SELECT pg_try_advisory_lock(`+key+`)`, `SELECT pg_advisory_unlock(`+key+`)`
	for _, step := range []struct {
		conn    *pgx.Conn
		sql     string
		want    string
		problem string
	}{
		{p.first, lock, "t", "it refuses an advisory lock that nobody holds"},
		{p.second, lock, "f", "it grants one advisory lock to two connections"},
		{p.first, unlock, "t", "it does not give an advisory lock back"},
		{p.second, lock, "t", "it does not give an advisory lock back"},
		{p.second, unlock, "t", "it does not give an advisory lock back"},
	} {
		row, err := ask(ctx, step.conn, step.sql)
		if err != nil {
			return "", err
		}
		if row[0] != step.want {
			return step.problem, nil
		}
	}
	return "", nil
}

// direct reports whether both connections still have the processes that answered
// first. A proxy that shares processes must give keys of its own, or a request to
// cancel would reach whoever has the process by then.
func (p *sessionProbe) direct() bool {
	return fmt.Sprint(p.first.PgConn().PID()) == p.pid && fmt.Sprint(p.second.PgConn().PID()) == p.otherPID
}
