package mirror

import (
	"context"
	"errors"
	"net"
	"sync/atomic"
)

// A fragileNet makes connections to Postgres that break when told to.
type fragileNet struct {
	loseAnswer  atomic.Bool // the next answer: what was asked for has happened, and nobody hears of it
	loseRequest atomic.Bool // the next request, half way
}

var errFragile = errors.New("connection broken by the test")

func (n *fragileNet) dial(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return &fragileConn{Conn: conn, net: n}, nil
}

type fragileConn struct {
	net.Conn
	net *fragileNet
}

func (c *fragileConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if err == nil && c.net.loseAnswer.CompareAndSwap(true, false) {
		_ = c.Close()
		return 0, &net.OpError{Op: "read", Net: "tcp", Err: errFragile}
	}
	return n, err
}

func (c *fragileConn) Write(p []byte) (int, error) {
	if c.net.loseRequest.CompareAndSwap(true, false) {
		n, _ := c.Conn.Write(p[:len(p)/2])
		_ = c.Close()
		return n, &net.OpError{Op: "write", Net: "tcp", Err: errFragile}
	}
	return c.Conn.Write(p)
}
