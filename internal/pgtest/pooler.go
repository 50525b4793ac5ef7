package pgtest

import (
	"context"
	"math/rand/v2"
	"net"
	"net/url"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

// PoolerOptions say how a Pooler lends.
type PoolerOptions struct {
	Size      int  // server connections; the next client waits
	BySession bool // lend for as long as the client stays, instead of for a transaction
	TakeTurns bool // lend the connection that has rested longest, instead of the one used last
	SameKeys  bool // greet clients with a server connection's keys, instead of with keys of its own
}

// A Pooler lends a few server connections to any number of clients, as
// PgBouncer does. It lets everybody in who names the user that it knows.
type Pooler struct {
	opts     PoolerOptions
	listener net.Listener
	free     *pool
	greeting *pgconn.HijackedConn // whose parameters clients are told
	open     sync.WaitGroup

	mu      sync.Mutex
	clients map[net.Conn]bool
}

// NewPooler starts a pooler before the database at address and returns the
// address of the database behind it.
func NewPooler(t testing.TB, address string, opts PoolerOptions) string {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal("parse the database's address") // the error would show its password
	}
	p := &Pooler{opts: opts, free: newPool(opts), clients: map[net.Conn]bool{}}
	for range opts.Size {
		p.greeting = connect(t, address)
		p.free.put(p.greeting)
	}
	if p.listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	p.open.Go(p.accept)
	t.Cleanup(p.close)
	u.Host = p.listener.Addr().String()
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

func (p *Pooler) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.mu.Lock()
		p.clients[client] = true
		p.mu.Unlock()
		p.open.Go(func() {
			defer client.Close()
			p.serve(client)
		})
	}
}

func (p *Pooler) close() {
	_ = p.listener.Close()
	p.free.close()
	p.mu.Lock()
	for client := range p.clients {
		_ = client.Close()
	}
	p.mu.Unlock()
	p.open.Wait()
}

// serve speaks with one client until it leaves.
func (p *Pooler) serve(conn net.Conn) {
	client := pgproto3.NewBackend(conn, conn)
	if !p.greet(conn, client) {
		return
	}
	var lent *pgconn.HijackedConn
	copying := false // the server awaits rows
	defer func() {
		if lent != nil {
			rollBack(lent.Frontend)
			p.free.put(lent)
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
			if lent = p.free.take(); lent == nil {
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
			p.free.put(lent)
			lent = nil
		}
	}
}

// greet lets a client in. It offers no TLS.
func (p *Pooler) greet(conn net.Conn, client *pgproto3.Backend) bool {
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

// rollBack ends what a client has left open.
func rollBack(server *pgproto3.Frontend) {
	server.Send(&pgproto3.Query{String: `ROLLBACK`})
	if server.Flush() != nil {
		return
	}
	for {
		answer, err := server.Receive()
		if err != nil {
			return
		}
		if _, done := answer.(*pgproto3.ReadyForQuery); done {
			return
		}
	}
}

// A pool holds the server connections that nobody uses.
type pool struct {
	opts   PoolerOptions
	ctx    context.Context
	close  context.CancelFunc
	mu     sync.Mutex
	unused []*pgconn.HijackedConn
	back   chan struct{} // as many as there are connections
}

func newPool(opts PoolerOptions) *pool {
	s := &pool{opts: opts, back: make(chan struct{}, opts.Size)}
	s.ctx, s.close = context.WithCancel(context.Background())
	return s
}

func (s *pool) put(conn *pgconn.HijackedConn) {
	s.mu.Lock()
	s.unused = append(s.unused, conn)
	s.mu.Unlock()
	s.back <- struct{}{}
}

// take waits for a connection; nil once the pool is closed.
func (s *pool) take() *pgconn.HijackedConn {
	select {
	case <-s.back:
	case <-s.ctx.Done():
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	at := len(s.unused) - 1
	if s.opts.TakeTurns {
		at = 0
	}
	conn := s.unused[at]
	s.unused = append(s.unused[:at], s.unused[at+1:]...)
	return conn
}
