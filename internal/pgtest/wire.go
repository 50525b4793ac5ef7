package pgtest

import (
	"bytes"
	"io"
	"net"
	"net/url"
	"sync"
	"testing"
)

// A Wire passes bytes between clients and a server until it is cut.
type Wire struct {
	listener net.Listener
	server   string // host:port

	mu       sync.Mutex
	pairs    map[*pair]bool
	old, new []byte // of what clients say
	open     sync.WaitGroup
}

type pair struct{ client, server net.Conn }

// NewWire starts a wire to the server of the database at address and returns it
// together with the address of the database behind it.
func NewWire(t testing.TB, address string) (*Wire, string) {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal("parse the database's address") // the error would show its password
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &Wire{listener: listener, server: u.Host, pairs: map[*pair]bool{}}
	w.open.Go(w.accept)
	t.Cleanup(func() {
		_ = listener.Close()
		w.mu.Lock()
		for p := range w.pairs {
			_ = p.client.Close()
			_ = p.server.Close()
		}
		w.mu.Unlock()
		w.open.Wait()
	})
	u.Host = listener.Addr().String()
	return w, u.String()
}

func (w *Wire) accept() {
	for {
		client, err := w.listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", w.server)
		if err != nil {
			_ = client.Close()
			continue
		}
		p := &pair{client, server}
		w.mu.Lock()
		w.pairs[p] = true
		w.mu.Unlock()
		w.open.Go(func() {
			_, _ = io.Copy(w.edit(server), client)
			_ = server.Close()
		})
		w.open.Go(func() {
			// The client's end stays open when the server's is closed: only the
			// other direction tells it so.
			_, _ = io.Copy(client, server)
			w.mu.Lock()
			cut := !w.pairs[p]
			w.mu.Unlock()
			if !cut {
				_ = client.Close()
			}
		})
	}
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
			_ = p.client.Close()
			delete(w.pairs, p)
		}
	}
}
