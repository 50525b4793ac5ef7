package web

import (
	"context"
	"net"
	"net/http"
	"net/http/pprof"
	"time"

	"go.uber.org/zap"
)

// Profiles is the listener for Go's profiler: one of its own, since profiles
// show what the program holds and cost time.
type Profiles struct{ site *site }

// ListenProfiles listens at address for profiles: a host and a port, or a port
// alone, which is one on loopback. Errors are of type [*ListenError].
func ListenProfiles(ctx context.Context, address string, log *zap.Logger) (*Profiles, error) {
	at, err := listenAt(ctx, "--pprof", profileAddress(address), log)
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	at.server.Handler = knownHost(at, nil, mux)
	at.server.WriteTimeout = 0 // a profile takes as long as it is asked to
	return &Profiles{at}, nil
}

// profileAddress completes an address that names no host.
func profileAddress(address string) string {
	host, port, err := net.SplitHostPort(address)
	switch {
	case err != nil:
		return net.JoinHostPort("127.0.0.1", address)
	case host == "":
		return net.JoinHostPort("127.0.0.1", port)
	}
	return address
}

// URL is where this machine reaches them.
func (p *Profiles) URL() string { return p.site.url() + "debug/pprof/" }

// Serve answers until ctx ends.
func (p *Profiles) Serve(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { p.site.shutdown(100 * time.Millisecond) }) // nobody needs the rest of a profile
	defer stop()
	return p.site.serve()
}
