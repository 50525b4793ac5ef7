package localpg

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

const (
	connectTime = 5 * time.Second // one attempt to connect to the running server

	// https://www.postgresql.org/docs/current/errcodes-appendix.html
	invalidPassword   = "28P01"
	duplicateDatabase = "42P04"
)

// connect opens a connection to a database of the server. SCRAM proves both
// sides: a server that answers holds our password.
func (s *Server) connect(ctx context.Context, database string) (*pgx.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, connectTime)
	defer cancel()
	return pgx.Connect(ctx, s.url(database)) // pgx keeps passwords out of its errors
}

func (s *Server) ping(ctx context.Context) error {
	conn, err := s.connect(ctx, "postgres")
	if err != nil {
		return err
	}
	return conn.Close(ctx)
}

func isWrongPassword(err error) bool {
	var pgErr *pgconn.PgError
	return errors.As(err, &pgErr) && pgErr.Code == invalidPassword
}

// ensureDatabase makes the database if it is missing.
func (s *Server) ensureDatabase(ctx context.Context) error {
	conn, err := s.connect(ctx, "postgres")
	if err != nil {
		return fmt.Errorf("connect to the database in %s: %w", s.home.dir, err)
	}
	defer conn.Close(ctx)
	var exists bool
	const find = `SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)`
	if err := conn.QueryRow(ctx, find, s.opts.Database).Scan(&exists); err != nil {
		return fmt.Errorf("look for database %s: %w", s.opts.Database, err)
	}
	if exists {
		return nil
	}
	_, err = conn.Exec(ctx, "CREATE DATABASE "+pgx.Identifier{s.opts.Database}.Sanitize())
	var pgErr *pgconn.PgError
	if errors.As(err, &pgErr) && pgErr.Code == duplicateDatabase {
		return nil
	}
	if err != nil {
		return fmt.Errorf("make database %s: %w", s.opts.Database, explain(err))
	}
	return nil
}
