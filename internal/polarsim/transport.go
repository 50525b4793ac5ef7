package polarsim

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"strconv"
)

// Transport returns a transport that calls the server in memory, whatever host
// a request names: the same answers and faults without sockets or goroutines,
// so that it also works inside a testing/synctest bubble.
func (s *Server) Transport() http.RoundTripper { return memoryTransport{s} }

type memoryTransport struct{ server *Server }

// RoundTrip calls the server.
func (t memoryTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body != nil {
		r.Body.Close() // nothing that is served here has one
	}
	in := r.Clone(r.Context())
	in.Body = http.NoBody
	if in.Host == "" {
		in.Host = in.URL.Host
	}
	a, err := t.server.respond(in)
	if err != nil {
		return nil, err
	}
	if a.drop {
		return nil, io.EOF // what net/http reports of a connection closed unanswered
	}
	return &http.Response{
		Status:        strconv.Itoa(a.status) + " " + http.StatusText(a.status),
		StatusCode:    a.status,
		Proto:         "HTTP/1.1",
		ProtoMajor:    1,
		ProtoMinor:    1,
		Header:        a.header,
		Body:          newMemoryBody(r.Context(), a, t.server.watch.released()),
		ContentLength: a.length(),
		Request:       r,
	}, nil
}

// A memoryBody reads as the body of a response from a socket would.
type memoryBody struct {
	ctx context.Context
	r   io.Reader
}

func newMemoryBody(ctx context.Context, a *answer, released <-chan struct{}) *memoryBody {
	parts := []io.Reader{bytes.NewReader(a.first())}
	switch {
	case a.cut:
		parts = append(parts, failing{io.ErrUnexpectedEOF})
	case a.stall:
		rest := bytes.NewReader(a.body[len(a.first()):])
		parts = append(parts, &waiting{ctx: ctx, released: released, r: rest})
	case a.pad > 0:
		parts = append(parts, io.LimitReader(spaces{}, a.pad))
	}
	return &memoryBody{ctx: ctx, r: io.MultiReader(parts...)}
}

// Read fails once the request is cancelled, as a read from a socket does.
func (b *memoryBody) Read(p []byte) (int, error) {
	if err := b.ctx.Err(); err != nil {
		return 0, err
	}
	return b.r.Read(p)
}

// Close ends reading.
func (b *memoryBody) Close() error {
	b.r = failing{http.ErrBodyReadAfterClose}
	return nil
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// waiting holds its bytes back until they are released.
type waiting struct {
	ctx      context.Context
	released <-chan struct{}
	r        io.Reader
}

func (w *waiting) Read(p []byte) (int, error) {
	select {
	case <-w.released:
		return w.r.Read(p)
	case <-w.ctx.Done():
		return 0, w.ctx.Err()
	}
}
