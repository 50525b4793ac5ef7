package pgtest

import (
	"context"
	"net"
	"net/url"
	"sync"
	"testing"
)

// proxy listens for clients of the database at address, serves each until it
// leaves or the test ends, and returns the address of the database behind it.
func proxy(t testing.TB, address string, serve func(ctx context.Context, client net.Conn)) *url.URL {
	t.Helper()
	u := parse(t, address)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	// Not the test's own context, which ends before those close who use the proxy.
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var open sync.WaitGroup
	open.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			open.Go(func() {
				defer client.Close()
				defer context.AfterFunc(ctx, func() { _ = client.Close() })()
				serve(ctx, client)
			})
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		cancel()
		open.Wait()
	})
	u.Host = listener.Addr().String()
	return u
}

func parse(t testing.TB, address string) *url.URL {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal("parse the database's address") // the error would show its password
	}
	return u
}
