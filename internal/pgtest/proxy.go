package pgtest

import (
	"context"
	"errors"
	"io"
	"net"
	"net/url"
	"sync"
	"testing"
)

// proxy listens for clients of the database at address, serves each until it
// leaves or the test ends, and returns the address of the database behind it. host is
// the server's.
func proxy(t testing.TB, address string, serve func(ctx context.Context, client net.Conn, host string)) *url.URL {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal("parse the database's address") // the error would show its password
	}
	host := u.Host
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	// Not the test's own context, which ends before those close who use the proxy.
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var open sync.WaitGroup
	open.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			open.Go(func() {
				defer client.Close()
				defer context.AfterFunc(ctx, func() { _ = client.Close() })()
				serve(ctx, client, host)
			})
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		cancel()
		open.Wait()
	})
	u.Host = listener.Addr().String()
	return u
}

// A Wire passes bytes between clients and a server until it is cut.
type Wire struct {
	mended  chan struct{} // closed when the clients of what was cut may find out
	mu      sync.Mutex
	servers []net.Conn
}

// NewWire starts a wire to the server of the database at address and returns it
// together with the address of the database behind it.
func NewWire(t testing.TB, address string) (*Wire, string) {
	t.Helper()
	w := &Wire{mended: make(chan struct{})}
	behind := proxy(t, address, func(ctx context.Context, client net.Conn, host string) {
		server, err := net.Dial("tcp", host)
		if err != nil {
			return
		}
		w.mu.Lock()
		w.servers = append(w.servers, server)
		w.mu.Unlock()
		pipe(client, server, func(err error) {
			if errors.Is(err, net.ErrClosed) { // by Cut, or the client is gone
				select {
				case <-w.mended:
				case <-ctx.Done():
				}
			}
		})
	})
	return w, behind.String()
}

// pipe passes bytes on until both sides have ended. Before the client hears that
// the server's side has, ended is called with the reason.
func pipe(client, server net.Conn, ended func(error)) {
	var sent sync.WaitGroup
	sent.Go(func() {
		_, _ = io.Copy(server, client)
		_ = server.Close()
	})
	_, err := io.Copy(client, server)
	ended(err)
	_ = client.Close()
	sent.Wait()
}

// Cut loses every connection there is, as the server sees it when it has given
// up a host that does not answer. The clients are told nothing: what they send
// goes nowhere.
func (w *Wire) Cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, server := range w.servers {
		_ = server.Close()
	}
}

// Mend lets the clients of connections that were cut find out; call it once. New
// connections have gone through all the time.
func (w *Wire) Mend() { close(w.mended) }
