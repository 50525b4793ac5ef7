package pgtest

import (
	"bytes"
	"context"
	"io"
	"net"
	"sync"
	"testing"
)

// A Wire passes bytes between clients and a server until it is cut.
type Wire struct {
	server string // host:port

	mu       sync.Mutex
	pairs    map[*pair]bool // false: cut
	old, new []byte         // of what clients say
}

type pair struct {
	server net.Conn
	mended chan struct{}
}

// NewWire starts a wire to the server of the database at address and returns it
// together with the address of the database behind it.
func NewWire(t testing.TB, address string) (*Wire, string) {
	t.Helper()
	w := &Wire{server: parse(t, address).Host, pairs: map[*pair]bool{}}
	return w, proxy(t, address, w.serve).String()
}

func (w *Wire) serve(ctx context.Context, client net.Conn) {
	server, err := net.Dial("tcp", w.server)
	if err != nil {
		return
	}
	p := &pair{server: server, mended: make(chan struct{})}
	w.mu.Lock()
	w.pairs[p] = true
	w.mu.Unlock()
	var said sync.WaitGroup
	said.Go(func() {
		_, _ = io.Copy(w.edit(server), client)
		_ = server.Close()
	})
	_, _ = io.Copy(client, server)
	w.mu.Lock()
	cut := !w.pairs[p]
	w.mu.Unlock()
	if cut {
		select {
		case <-p.mended:
		case <-ctx.Done():
		}
	}
	_ = client.Close()
	said.Wait()
}

// Replace makes the server hear new where a client says old, which must be as
// long and come in one piece.
func (w *Wire) Replace(old, new string) {
	if len(old) != len(new) {
		panic("pgtest: the length of a message would change")
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.old, w.new = []byte(old), []byte(new)
}

// edit returns a writer to server that replaces.
func (w *Wire) edit(server io.Writer) io.Writer {
	return writer(func(p []byte) (int, error) {
		w.mu.Lock()
		if len(w.old) > 0 {
			p = bytes.ReplaceAll(p, w.old, w.new)
		}
		w.mu.Unlock()
		return server.Write(p)
	})
}

type writer func([]byte) (int, error)

func (write writer) Write(p []byte) (int, error) { return write(p) }

// Cut loses every connection there is, as the server sees it when it has given
// up a host that does not answer. The clients are told nothing: what they send
// goes nowhere.
func (w *Wire) Cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for p := range w.pairs {
		w.pairs[p] = false
		_ = p.server.Close()
	}
}

// Mend lets the clients of connections that were cut find out. New connections
// have gone through all the time.
func (w *Wire) Mend() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for p, alive := range w.pairs {
		if !alive {
			close(p.mended)
			delete(w.pairs, p)
		}
	}
}
