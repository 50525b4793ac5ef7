package pgtest

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
)

// A Wire passes bytes between clients and a server until it is cut.
type Wire struct {
	mu      sync.Mutex
	servers []net.Conn    // of the connections since the last cut
	mended  chan struct{} // closed when the clients of the next cut may find out
}

// NewWire starts a wire to the server of the database at address and returns it
// together with the address of the database behind it.
func NewWire(t testing.TB, address string) (*Wire, string) {
	t.Helper()
	host := parse(t, address).Host
	w := &Wire{mended: make(chan struct{})}
	behind := proxy(t, address, func(ctx context.Context, client net.Conn) {
		server, err := net.Dial("tcp", host)
		if err != nil {
			return
		}
		w.mu.Lock()
		w.servers = append(w.servers, server)
		mended := w.mended
		w.mu.Unlock()
		pipe(client, server, func(err error) {
			if errors.Is(err, net.ErrClosed) { // by Cut, or the client is gone
				select {
				case <-mended:
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
	w.servers = nil
}

// Mend lets the clients of connections that were cut find out. New connections
// have gone through all the time.
func (w *Wire) Mend() {
	w.mu.Lock()
	defer w.mu.Unlock()
	close(w.mended)
	w.mended = make(chan struct{})
}
