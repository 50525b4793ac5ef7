package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

const (
	// probeTime bounds the whole look at what keeps a session.
	probeTime = 30 * time.Second
	// secondTime bounds how long a second connection is waited for: a proxy that
	// pools by session and has no server connection left lets it wait.
	secondTime = 10 * time.Second
	// probeRounds is how often a proxy is asked. One round finds those that hand
	// out the server process used last; those that take turns are found when
	// their turns come round.
	probeRounds = 8
)

// probeSession finds out whether a connection is one server process as long as
// it lasts, as the locks of organizations need it. A proxy that pools by
// transaction hands the process on when a transaction ends: to a second
// connection, which then holds it while the first one asks again.
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
	if _, err := first.Exec(ctx, `SELECT`); err != nil {
		return unreachable(cfg, err)
	}
	second, err := connectSecond(ctx, cfg)
	if err != nil {
		return err
	}
	defer closeProbe(ctx, second)
	p := &sessionProbe{first: first, second: second, mark: uuid.NewString()}
	for round := range probeRounds {
		found, err := p.round(ctx)
		switch {
		case err != nil:
			return unreachable(cfg, err)
		case found != "":
			return &SessionError{Target: target(cfg), Cause: found}
		case p.direct():
			return nil
		}
		if round%2 == 1 {
			// One statement more, so that a proxy that takes turns does not come
			// back to where it was at each round.
			if _, err := second.Exec(ctx, `SELECT`); err != nil {
				return unreachable(cfg, err)
			}
		}
	}
	return nil
}

// connectSecond makes the second connection and has a server process answer on
// it, while the first one stands idle.
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

// closeProbe closes conn, also when the time of the probe is up.
func closeProbe(ctx context.Context, conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), releaseTimeout)
	defer cancel()
	_ = conn.Close(ctx) // it is given up either way
}

// A sessionProbe is two connections that stand by each other's side.
type sessionProbe struct {
	first, second *pgx.Conn
	mark          string // left in the first one's session

	pid, otherPID uint32 // the processes seen behind them; 0 before the first round
}

// round returns what shows that the sessions are not kept; "" if nothing does.
// It leaves no transaction open, which a proxy might lend on.
func (p *sessionProbe) round(ctx context.Context) (found string, err error) {
	const leave = `SELECT pg_backend_pid(), set_config('syncd.probe', $1, false)`
	var pid uint32
	if err := p.first.QueryRow(ctx, leave, pgx.QueryExecModeSimpleProtocol, p.mark).Scan(&pid, nil); err != nil {
		return "", err
	}
	if _, err := p.second.Exec(ctx, `BEGIN`); err != nil {
		if sqlState(err) == "08P01" { // protocol_violation, as PgBouncer has it
			return "transactions are refused", nil
		}
		return "", err
	}
	found, err = p.compare(ctx, pid)
	if _, rollbackErr := p.second.Exec(ctx, `ROLLBACK`); err == nil && found == "" {
		err = rollbackErr
	}
	return found, err
}

// compare looks at both sessions while the second one is in a transaction.
func (p *sessionProbe) compare(ctx context.Context, pid uint32) (found string, err error) {
	const find = `SELECT pg_backend_pid(), coalesce(current_setting('syncd.probe', true), '')`
	var otherPID, pidAgain uint32
	var mark string
	if err := p.second.QueryRow(ctx, `SELECT pg_backend_pid()`, pgx.QueryExecModeSimpleProtocol).Scan(&otherPID); err != nil {
		return "", err
	}
	if pid == otherPID {
		return "two connections share a server process", nil
	}
	if err := p.first.QueryRow(ctx, find, pgx.QueryExecModeSimpleProtocol).Scan(&pidAgain, &mark); err != nil {
		return "", err
	}
	switch {
	case pid != pidAgain, p.pid != 0 && (p.pid != pid || p.otherPID != otherPID):
		return "its server process changes", nil
	case mark != p.mark:
		return "its settings are lost between two statements", nil
	}
	p.pid, p.otherPID = pid, otherPID
	return "", nil
}

// direct reports whether both connections lead to the processes that greeted
// them. A proxy that lends processes out must give keys of its own, or a request
// to cancel would reach whoever has the process by then.
func (p *sessionProbe) direct() bool {
	return p.first.PgConn().PID() == p.pid && p.second.PgConn().PID() == p.otherPID
}
