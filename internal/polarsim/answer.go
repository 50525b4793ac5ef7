package polarsim

import (
	"io"
	"maps"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// errDropped is what net/http reports of a connection closed unanswered.
var errDropped = io.EOF

// An answer is a response, before it goes over a socket or is handed over in memory.
type answer struct {
	http.Response
	took time.Duration // by its page's statement, simulated
	cost Cost
	to   *account // whom the server let in; nil if nobody
}

func newAnswer(status int, contentType, body string) *answer {
	a := &answer{Response: http.Response{
		StatusCode:    status,
		Header:        make(http.Header),
		Body:          io.NopCloser(strings.NewReader(body)),
		ContentLength: int64(len(body)),
	}}
	if contentType != "" {
		a.Header.Set("Content-Type", contentType)
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
	defer a.Body.Close()
	maps.Copy(w.Header(), a.Header)
	w.Header().Set("Content-Length", strconv.FormatInt(a.ContentLength, 10))
	w.WriteHeader(a.StatusCode)
	if _, err := io.Copy(w, a.Body); err != nil { // the body is cut, or the client left
		http.NewResponseController(w).Flush() // what can't be flushed goes out with the rest
		panic(http.ErrAbortHandler)
	}
}

// Transport returns a transport that calls the server in memory, whatever host
// a request names: the same answers and faults without sockets or goroutines,
// so that it also works inside a testing/synctest bubble.
func (s *Server) Transport() http.RoundTripper { return s }

// RoundTrip is of [http.RoundTripper]: see Transport. Nothing that is served here
// has a body.
func (s *Server) RoundTrip(r *http.Request) (*http.Response, error) { return s.respond(r) }

// broken reads as a connection that has broken.
type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }
