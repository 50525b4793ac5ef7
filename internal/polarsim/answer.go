package polarsim

import (
	"io"
	"net/http"
	"strconv"
	"time"
)

// An answer is a response before it is put on a socket or handed over in
// memory.
type answer struct {
	status int
	header http.Header
	body   []byte
	pad    int64         // spaces that follow the body, of a length not announced
	cut    bool          // the connection breaks in the middle of the body
	stall  bool          // the body stops in the middle, and the connection stays open
	drop   bool          // the connection breaks before any of it
	depth  int           // rows that the server had to read past
	took   time.Duration // by its page's statement, simulated
	to     *account      // whom the server let in; nil if nobody
}

func newAnswer(status int, contentType string, body []byte) *answer {
	a := &answer{status: status, header: make(http.Header), body: body}
	if contentType != "" {
		a.header.Set("Content-Type", contentType)
	}
	return a
}

func jsonAnswer(status int, body string) *answer {
	return newAnswer(status, "application/json", []byte(body))
}

// length is the announced one; -1 for none.
func (a *answer) length() int64 {
	if a.pad > 0 {
		return -1
	}
	return int64(len(a.body))
}

// first is the part of the body that arrives for certain.
func (a *answer) first() []byte {
	if a.cut || a.stall {
		return a.body[:len(a.body)/2]
	}
	return a.body
}

// send puts the answer on a socket.
func (a *answer) send(w http.ResponseWriter, r *http.Request, released <-chan struct{}) {
	header := w.Header()
	for k, v := range a.header {
		header[k] = v
	}
	if n := a.length(); n >= 0 {
		header.Set("Content-Length", strconv.FormatInt(n, 10))
	}
	w.WriteHeader(a.status)
	if _, err := w.Write(a.first()); err != nil {
		return // the client left
	}
	switch {
	case a.cut:
		flush(w)
		panic(http.ErrAbortHandler) // closes the connection
	case a.stall:
		flush(w)
		select {
		case <-released:
			w.Write(a.body[len(a.first()):]) // an error means that the client left
		case <-r.Context().Done():
			panic(http.ErrAbortHandler)
		}
	case a.pad > 0:
		io.CopyN(w, spaces{}, a.pad) // likewise
	}
}

func flush(w http.ResponseWriter) {
	http.NewResponseController(w).Flush() // what can't be flushed goes out with the rest
}

// spaces is JSON's white space without end.
type spaces struct{}

func (spaces) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = ' '
	}
	return len(p), nil
}
