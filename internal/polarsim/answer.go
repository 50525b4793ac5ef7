package polarsim

import (
	"bytes"
	"io"
	"maps"
	"net/http"
	"strconv"
	"time"
)

// errDropped is what net/http reports of a connection closed unanswered.
var errDropped = io.EOF

// An answer is a response before it is put on a socket or handed over in
// memory.
type answer struct {
	status int
	header http.Header
	body   []byte
	cut    bool          // the connection breaks in the middle of the body
	took   time.Duration // by its page's statement, simulated
	to     *account      // whom the server let in; nil if nobody
}

func newAnswer(status int, contentType, body string) *answer {
	a := &answer{status: status, header: make(http.Header), body: []byte(body)}
	if contentType != "" {
		a.header.Set("Content-Type", contentType)
	}
	return a
}

func jsonAnswer(status int, body string) *answer { return newAnswer(status, "application/json", body) }

// ServeHTTP answers one request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a, err := s.respond(r)
	if err != nil {
		panic(http.ErrAbortHandler) // closes the connection
	}
	maps.Copy(w.Header(), a.header)
	w.Header().Set("Content-Length", strconv.Itoa(len(a.body)))
	w.WriteHeader(a.status)
	if a.cut {
		w.Write(a.body[:len(a.body)/2])       // an error means that the client left
		http.NewResponseController(w).Flush() // what can't be flushed goes out with the rest
		panic(http.ErrAbortHandler)
	}
	w.Write(a.body) // likewise
}

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
	body := io.Reader(bytes.NewReader(a.body))
	if a.cut {
		body = io.MultiReader(io.LimitReader(body, int64(len(a.body)/2)), broken{})
	}
	return &http.Response{
		Status:        strconv.Itoa(a.status) + " " + http.StatusText(a.status),
		StatusCode:    a.status,
		Proto:         "HTTP/1.1",
		ProtoMajor:    1,
		ProtoMinor:    1,
		Header:        a.header,
		Body:          io.NopCloser(body),
		ContentLength: int64(len(a.body)),
		Request:       r,
	}, nil
}

// broken reads as a connection that has broken.
type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }
