package pgtest

import (
	"context"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

// PoolerOptions say how a pooler lends.
type PoolerOptions struct {
	Size      int  // server connections; the next client waits
	TakeTurns bool // lend the connection that has rested longest, instead of the one used last
	SameKeys  bool // greet clients with a server connection's keys, instead of with keys of its own
}

// A pooler lends a few server connections to any number of clients, for one
// transaction at a time, as PgBouncer does. It lets everybody in who names the
// user that it knows. It knows no COPY: syncd refuses it before it would copy.
type pooler struct {
	opts     PoolerOptions
	greeting *pgconn.HijackedConn   // whose parameters clients are told
	returned chan struct{}          // as many as there are unused connections
	mu       sync.Mutex             // guards the next one
	unused   []*pgconn.HijackedConn // in the order in which they came back
}

// NewPooler starts a pooler before the database at address and returns the
// address of the database behind it.
func NewPooler(t testing.TB, address string, opts PoolerOptions) string {
	t.Helper()
	p := &pooler{opts: opts, returned: make(chan struct{}, opts.Size)}
	for range opts.Size {
		conn, err := pgconn.Connect(t.Context(), address)
		if err != nil {
			t.Fatal(err)
		}
		hijacked, err := conn.Hijack()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = hijacked.Conn.Close() })
		p.greeting = hijacked
		p.put(hijacked)
	}
	u := proxy(t, address, p.serve)
	u.RawQuery = "sslmode=disable"
	return u.String()
}

// NewSessionPooler starts a pooler that lends a server connection for as long as
// its client stays. As one that resets what a client leaves behind, it has a
// fresh connection for each; the client that comes after size others waits.
func NewSessionPooler(t testing.TB, address string, size int) string {
	t.Helper()
	lent := make(chan struct{}, size)
	return proxy(t, address, func(ctx context.Context, client net.Conn, host string) {
		select {
		case lent <- struct{}{}:
			defer func() { <-lent }()
		case <-ctx.Done():
			return
		}
		if server, err := (&net.Dialer{}).DialContext(ctx, "tcp", host); err == nil {
			pipe(client, server, func(error) {})
		}
	}).String()
}

func (p *pooler) put(conn *pgconn.HijackedConn) {
	p.mu.Lock()
	p.unused = append(p.unused, conn)
	p.mu.Unlock()
	p.returned <- struct{}{}
}

// take waits for a connection; nil once the test has ended.
func (p *pooler) take(ctx context.Context) *pgconn.HijackedConn {
	select {
	case <-p.returned:
	case <-ctx.Done():
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	at := len(p.unused) - 1
	if p.opts.TakeTurns {
		at = 0
	}
	conn := p.unused[at]
	p.unused = slices.Delete(p.unused, at, at+1)
	return conn
}

// serve speaks with one client until it leaves.
func (p *pooler) serve(ctx context.Context, conn net.Conn, _ string) {
	client := pgproto3.NewBackend(conn, conn)
	keys := &pgproto3.BackendKeyData{ProcessID: rand.Uint32(), SecretKey: []byte("0000")}
	if p.opts.SameKeys {
		keys = &pgproto3.BackendKeyData{ProcessID: p.greeting.PID, SecretKey: p.greeting.SecretKey}
	}
	if !greet(client, p.greeting, keys) {
		return
	}
	var lent *pgconn.HijackedConn
	defer func() {
		if lent != nil {
			// What the client has left open ends. Nobody hears the answer.
			lent.Frontend.Send(&pgproto3.Query{String: `ROLLBACK`})
			_, _ = relay(pgproto3.NewBackend(nil, io.Discard), lent.Frontend)
			p.put(lent)
		}
	}()
	for {
		message, err := client.Receive()
		if _, leaving := message.(*pgproto3.Terminate); leaving || err != nil {
			return
		}
		if lent == nil {
			if lent = p.take(ctx); lent == nil {
				return
			}
		}
		lent.Frontend.Send(message)
		switch message.(type) {
		case *pgproto3.Query, *pgproto3.Sync:
			status, ok := relay(client, lent.Frontend)
			if ok && status == 'I' { // before the client knows: others may have the connection then
				p.put(lent)
				lent = nil
			}
			if !ok || client.Flush() != nil {
				return
			}
		}
	}
}

// greet lets a client in, and tells it the parameters of a server connection.
func greet(client *pgproto3.Backend, server *pgconn.HijackedConn, keys *pgproto3.BackendKeyData) bool {
	message, err := client.ReceiveStartupMessage()
	if err != nil {
		return false
	}
	if _, start := message.(*pgproto3.StartupMessage); !start { // a request to cancel
		return false
	}
	client.Send(&pgproto3.AuthenticationOk{})
	for name, value := range server.ParameterStatuses {
		client.Send(&pgproto3.ParameterStatus{Name: name, Value: value})
	}
	client.Send(keys)
	client.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
	return client.Flush() == nil
}

// relay passes the server's answer on, which the caller flushes, and returns the state of
// the transaction that it ends with.
func relay(client *pgproto3.Backend, server *pgproto3.Frontend) (status byte, ok bool) {
	if server.Flush() != nil {
		return 0, false
	}
	for {
		answer, err := server.Receive()
		if err != nil {
			return 0, false
		}
		client.Send(answer)
		if ready, ok := answer.(*pgproto3.ReadyForQuery); ok {
			return ready.TxStatus, true
		}
	}
}
