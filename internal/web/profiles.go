package web

import (
	"cmp"
	"context"
	"net"
	"net/http"
	"net/http/pprof"
	"time"

	"go.uber.org/zap"
)

// ListenProfiles serves Go's profiler at an address, a host and a port, or a port
// alone, which is one on loopback. It returns where, and a function that answers
// until its context ends. Errors are of type [*ListenError].
//
// It is a listener of its own, since profiles show what the program holds and cost
// time.
func ListenProfiles(ctx context.Context, address string, log *zap.Logger) (url string, serve func(context.Context) error, err error) {
	at, err := listenAt(ctx, "--pprof", profileAddress(address), log)
	if err != nil {
		return "", nil, err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	at.server.Handler = knownHost(at, nil, mux)
	at.server.WriteTimeout = 0           // a profile takes as long as it is asked to
	const grace = 100 * time.Millisecond // nobody needs the rest of a profile
	return at.url() + "debug/pprof/", func(ctx context.Context) error { return at.serve(ctx, grace) }, nil
}

// profileAddress completes an address that names no host.
func profileAddress(address string) string {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		port = address
	}
	return net.JoinHostPort(cmp.Or(host, "127.0.0.1"), port)
}
