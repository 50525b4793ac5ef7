package web

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
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

// A ListenError is an address that cannot be listened at. Its text names the
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
	what := fmt.Sprintf("cannot be listened at (%v)", cause)
	switch {
	case e.InUse():
		what = "is in use by another program, perhaps another syncd"
	case errors.Is(e.Err, syscall.EACCES):
		what = "may not be listened at by this user; ports below 1024 are the administrator's"
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
	if s.server.ErrorLog, err = zap.NewStdLogAt(log, zap.WarnLevel); err != nil {
		return nil, errors.Join(err, listener.Close())
	}
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

// serve answers until the site is shut down, which is no error. A nil site has
// nothing to do.
func (s *site) serve() error {
	if s == nil {
		return nil
	}
	if err := s.server.Serve(s.listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve http at %s: %w", s.listener.Addr(), err)
	}
	return nil
}

// shutdown lets requests under way end within grace and cuts off the rest.
func (s *site) shutdown(grace time.Duration) {
	if s == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), grace)
	defer cancel()
	if s.server.Shutdown(ctx) != nil {
		_ = s.server.Close() // its error is about connections that are given up
	}
	_ = s.listener.Close() // closed already, if it was ever served
}
