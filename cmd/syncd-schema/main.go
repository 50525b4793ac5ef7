// Syncd-schema prints docs/schema.md: what is in schema polar, in the words of
// the database's own comments. It needs nothing but Go: it makes an empty
// database, migrates it, describes it and removes it again.
//
//	go run ./cmd/syncd-schema > docs/schema.md
//
// Its invariant: the same migrations give the same bytes, on every version of
// Postgres that syncd knows and in every month. An object or a column without a
// comment is an error, so that none goes undescribed.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/jackc/pgx/v5"

	"polarmirror/internal/localpg"
	"polarmirror/internal/secret"
	"polarmirror/internal/store"
)

// command is how people renew the document.
const command = "go run ./cmd/syncd-schema > docs/schema.md"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "syncd-schema:", err)
		os.Exit(1)
	}
}

// run migrates a database of its own and writes its description to out.
func run(ctx context.Context, out io.Writer) (err error) {
	dir, err := os.MkdirTemp("", "syncd-schema-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	server, err := localpg.Start(ctx, localpg.Options{DataDir: dir, Settings: map[string]string{"fsync": "off"}})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, server.Close(context.WithoutCancel(ctx))) }()
	if err := migrate(ctx, server.URL()); err != nil {
		return err
	}
	conn, err := pgx.Connect(ctx, server.URL())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close(context.WithoutCancel(ctx))) }()
	document, err := describe(ctx, conn)
	if err != nil {
		return err
	}
	_, err = io.WriteString(out, document)
	return err
}

func migrate(ctx context.Context, url string) error {
	st, err := store.Open(ctx, store.Options{URL: secret.New(url), MaxConnections: 2})
	if err != nil {
		return err
	}
	defer st.Close()
	_, err = st.Migrate(ctx)
	return err
}

// describe returns the document about schema polar of the database at conn.
func describe(ctx context.Context, conn *pgx.Conn) (string, error) {
	s, err := read(ctx, conn)
	if err != nil {
		return "", err
	}
	if err := s.uncommented(); err != nil {
		return "", err
	}
	return s.markdown(), nil
}
