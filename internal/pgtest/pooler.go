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
	BySession bool // lend for as long as the client stays, instead of for a transaction
	TakeTurns bool // lend the connection that has rested longest, instead of the one used last
	SameKeys  bool // greet clients with a server connection's keys, instead of with keys of its own
}

// A pooler lends a few server connections to any number of clients, as
// PgBouncer does. It lets everybody in who names the user that it knows.
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
		p.greeting = connect(t, address)
		p.put(p.greeting)
	}
	u := proxy(t, address, p.serve)
	u.RawQuery = "sslmode=disable"
	return u.String()
}

func connect(t testing.TB, address string) *pgconn.HijackedConn {
	t.Helper()
	conn, err := pgconn.Connect(t.Context(), address)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := conn.Hijack()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = raw.Conn.Close() })
	return raw
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
func (p *pooler) serve(ctx context.Context, conn net.Conn) {
	client := pgproto3.NewBackend(conn, conn)
	if !p.greet(conn, client) {
		return
	}
	var lent *pgconn.HijackedConn
	copying := false // the server awaits rows
	defer func() {
		if lent != nil {
			// What the client has left open ends. Nobody hears the answer.
			lent.Frontend.Send(&pgproto3.Query{String: `ROLLBACK`})
			_, _, _ = relay(pgproto3.NewBackend(nil, io.Discard), lent.Frontend)
			p.put(lent)
		}
	}()
	for {
		message, err := client.Receive()
		if err != nil {
			return
		}
		if _, leaving := message.(*pgproto3.Terminate); leaving {
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
		case *pgproto3.CopyData:
			if lent.Frontend.Flush() != nil {
				return
			}
			continue
		case *pgproto3.CopyDone, *pgproto3.CopyFail:
			if !copying { // the COPY has failed, the server ignores what was on the way
				continue
			}
		default:
			continue
		}
		var status byte
		var ok bool
		if status, copying, ok = relay(client, lent.Frontend); !ok {
			return
		}
		if status == 'I' && !p.opts.BySession {
			p.put(lent)
			lent = nil
		}
	}
}

// greet lets a client in. It offers no TLS.
func (p *pooler) greet(conn net.Conn, client *pgproto3.Backend) bool {
	for {
		message, err := client.ReceiveStartupMessage()
		if err != nil {
			return false
		}
		if _, tls := message.(*pgproto3.SSLRequest); tls {
			if _, err := conn.Write([]byte{'N'}); err != nil {
				return false
			}
			continue
		}
		if _, start := message.(*pgproto3.StartupMessage); !start {
			return false
		}
		break
	}
	client.Send(&pgproto3.AuthenticationOk{})
	for name, value := range p.greeting.ParameterStatuses {
		client.Send(&pgproto3.ParameterStatus{Name: name, Value: value})
	}
	keys := &pgproto3.BackendKeyData{ProcessID: rand.Uint32(), SecretKey: []byte("0000")}
	if p.opts.SameKeys {
		keys = &pgproto3.BackendKeyData{ProcessID: p.greeting.PID, SecretKey: p.greeting.SecretKey}
	}
	client.Send(keys)
	client.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
	return client.Flush() == nil
}

// relay passes the server's answer on, and returns the state of the transaction
// that it ends with or that the server awaits the rows of a COPY.
func relay(client *pgproto3.Backend, server *pgproto3.Frontend) (status byte, copying, ok bool) {
	if server.Flush() != nil {
		return 0, false, false
	}
	for {
		answer, err := server.Receive()
		if err != nil {
			return 0, false, false
		}
		client.Send(answer)
		switch answer := answer.(type) {
		case *pgproto3.ReadyForQuery:
			return answer.TxStatus, false, client.Flush() == nil
		case *pgproto3.CopyInResponse:
			return 0, true, client.Flush() == nil
		}
	}
}
