package store

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

const (
	// connectTimeout bounds one attempt to reach the server.
	connectTimeout = 10 * time.Second
	// pingTimeout bounds the look at a pooled connection that has lain idle: one
	// whose network is gone would be waited for until the kernel gives it up.
	pingTimeout = 5 * time.Second

	// A lost peer is noticed within deadAfter, on either side: by probes on a
	// quiet connection, by what is not acknowledged on a busy one. The server is
	// told the same in prepareConnection.
	deadAfter     = 25 * time.Second
	probeIdle     = 10 * time.Second
	probeInterval = 5 * time.Second
	probeCount    = 3
)

// configure sets how connections are made and when they are given up. Dial is
// how to reach the network, nil for the usual way.
func configure(cfg *pgxpool.Config, opts Options, f *failover) {
	cfg.MaxConns = 8
	if opts.MaxConnections > 0 {
		cfg.MaxConns = int32(min(opts.MaxConnections, 1000))
	}
	if cfg.PingTimeout == 0 {
		cfg.PingTimeout = pingTimeout
	}
	if cfg.ConnConfig.ConnectTimeout == 0 {
		cfg.ConnConfig.ConnectTimeout = connectTimeout
	}
	if cfg.ConnConfig.RuntimeParams["application_name"] == "" {
		cfg.ConnConfig.RuntimeParams["application_name"] = "syncd"
	}
	cfg.ConnConfig.DialFunc = watchedDial
	if opts.Dial != nil {
		cfg.ConnConfig.DialFunc = opts.Dial
	}
	cfg.ConnConfig.OnPgError = f.onServerError
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

// prepareConnection makes the server notice within deadAfter that this host is
// gone, and within two seconds that this process is, even while it runs one of
// its statements (which only a server on Linux can), so that their locks fall.
// An administrator's limit on idle sessions would cut a run off that waits for
// Polar. On a Unix socket the settings of TCP have no effect. Times are stored
// and read in UTC whatever the server's zone is.
func prepareConnection(ctx context.Context, conn *pgx.Conn) error {
	const sql = `
SELECT
    set_config('tcp_keepalives_idle', '10', false),
    set_config('tcp_keepalives_interval', '5', false),
    set_config('tcp_keepalives_count', '3', false),
    set_config('tcp_user_timeout', '25000', false),
    CASE WHEN version() LIKE '%linux%' THEN set_config('client_connection_check_interval', '2000', false) END,
    set_config('idle_session_timeout', '0', false),
    set_config('timezone', 'UTC', false),
    set_config('search_path', '', false)`
	if _, err := conn.Exec(ctx, sql); err != nil {
		return fmt.Errorf("prepare connection: %w", err)
	}
	return nil
}

// A failover watches for a server that went away or takes no more writes. Its
// connections are of no more use then, although those to a demoted server still
// answer: all are closed, and the next ones are made anew, to wherever the
// address leads by now.
type failover struct {
	pool atomic.Pointer[pgxpool.Pool] // nil until it is open
}

// onServerError is called by pgx with every error of the server. It reports
// whether the connection may be kept.
func (f *failover) onServerError(_ *pgconn.PgConn, err *pgconn.PgError) bool {
	if err.Code != readOnlyTransaction && !strings.HasPrefix(err.Code, operatorIntervention) {
		return !strings.EqualFold(err.Severity, "FATAL")
	}
	if err.Code == queryCanceled {
		return true // told by us, or by an administrator who meant one statement
	}
	if pool := f.pool.Load(); pool != nil {
		pool.Reset() // those in use are closed when they are given back
	}
	return false
}
