package web

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync/atomic"
	"syscall"
	"time"

	"go.uber.org/zap"
)

// Bounds of one connection. A handler that goes on for longer, such as a stream
// of events, lifts its own with [http.ResponseController].
const (
	readHeaderTimeout = 5 * time.Second
	readTimeout       = 30 * time.Second
	writeTimeout      = 60 * time.Second
	idleTimeout       = 2 * time.Minute
	maxHeaderBytes    = 16 << 10
)

// A ListenError is an address that cannot be listened on. Its text names the
// setting and the cure.
type ListenError struct {
	Setting string // such as http.listen
	Address string
	Err     error
}

func (e *ListenError) Error() string {
	cause := e.Err
	if op, ok := errors.AsType[*net.OpError](cause); ok {
		cause = op.Err // what net repeats of the address is left out
	}
	what := fmt.Sprintf("cannot be listened on (%v)", cause)
	switch {
	case e.InUse():
		what = "is in use by another program, perhaps another syncd"
	case errors.Is(e.Err, syscall.EACCES):
		what = "cannot be opened by this user; ports below 1024 need administrator rights"
	case errors.Is(e.Err, syscall.EADDRNOTAVAIL):
		what = "is no address of this machine"
	}
	return fmt.Sprintf(`%s: %s %s; set another address, or "" to switch it off`, e.Setting, e.Address, what)
}

func (e *ListenError) Unwrap() error { return e.Err }

// InUse reports whether somebody else listens there.
func (e *ListenError) InUse() bool { return errors.Is(e.Err, syscall.EADDRINUSE) }

// A site is one listener and what is served on it.
type site struct {
	listener net.Listener
	server   *http.Server
	loopback bool // only this machine reaches it
	routes   atomic.Pointer[http.ServeMux]
}

// listenAt listens at address, which setting asked for. Nothing is answered
// before serve.
func listenAt(ctx context.Context, setting, address string, log *zap.Logger) (*site, error) {
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", address)
	if err != nil {
		return nil, &ListenError{Setting: setting, Address: address, Err: err}
	}
	s := &site{listener: listener, server: &http.Server{
		ReadHeaderTimeout: readHeaderTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
	}}
	s.server.ErrorLog, _ = zap.NewStdLogAt(log, zap.WarnLevel) // an error only for an unknown level
	if tcp, ok := listener.Addr().(*net.TCPAddr); ok {
		s.loopback = tcp.IP.IsLoopback()
	}
	return s, nil
}

// url is how this machine reaches the site.
func (s *site) url() string {
	if s == nil {
		return ""
	}
	address := s.listener.Addr().String()
	if tcp, ok := s.listener.Addr().(*net.TCPAddr); ok && tcp.IP.IsUnspecified() {
		address = net.JoinHostPort("127.0.0.1", fmt.Sprint(tcp.Port))
	}
	return "http://" + address + "/"
}

// serve answers until ctx ends, which is no error. Requests under way may then end
// within grace; the rest is cut off.
func (s *site) serve(ctx context.Context, grace time.Duration) error {
	ended := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(ended)
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
		defer cancel()
		if s.server.Shutdown(ctx) != nil {
			_ = s.server.Close() // its error is about connections that are given up
		}
	})
	err := s.server.Serve(s.listener)
	if !stop() {
		<-ended
	}
	if !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve http at %s: %w", s.listener.Addr(), err)
	}
	return nil
}
