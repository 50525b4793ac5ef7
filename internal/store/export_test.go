package store

import (
	"context"
	"net"
)

// Show returns a setting as it is in the session.
func (s *Session) Show(ctx context.Context, name string) (string, error) {
	var value string
	err := s.conn.QueryRow(ctx, `SELECT current_setting($1)`, name).Scan(&value)
	return value, err
}

// Dial connects as a store without a dialer of its own does.
func Dial(ctx context.Context, network, address string) (net.Conn, error) {
	return watchedDial(ctx, network, address)
}
