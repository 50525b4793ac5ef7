package polarsim

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"
)

// Running is a server that listens.
type Running struct {
	URL string // such as http://127.0.0.1:40123

	http   *http.Server
	done   chan struct{} // closed when serving has ended
	served error         // why it ended; set before done is closed
}

// Start serves s on a free port of the loopback interface until Close.
func (s *Server) Start() (*Running, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("start simulated Polar: %w", err)
	}
	r := &Running{
		URL:  "http://" + listener.Addr().String(),
		http: &http.Server{Handler: s, ReadHeaderTimeout: 10 * time.Second},
		done: make(chan struct{}),
	}
	go func() {
		defer close(r.done)
		r.served = r.http.Serve(listener)
	}()
	return r, nil
}

// Close stops listening and breaks every connection.
func (r *Running) Close() error {
	err := r.http.Close()
	<-r.done
	if !errors.Is(r.served, http.ErrServerClosed) {
		return errors.Join(err, r.served)
	}
	return err
}
