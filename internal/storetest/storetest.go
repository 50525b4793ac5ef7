// Package storetest gives each test a migrated mirror of its own in a real
// Postgres.
package storetest

import (
	"context"
	"io/fs"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"

	"polarmirror/internal/pgtest"
	"polarmirror/internal/secret"
	"polarmirror/internal/store"
	"polarmirror/migrations"
)

// New returns a store on a database of its own, and that database.
func New(t testing.TB) (*store.Store, *pgtest.Database) {
	t.Helper()
	db := pgtest.New(t, migrate, pgtest.Key(migrationTexts(t)...))
	return Open(t, db), db
}

func migrationTexts(t testing.TB) []string {
	t.Helper()
	names, err := fs.Glob(migrations.FS, "*.sql")
	if err != nil {
		t.Fatal(err)
	}
	var texts []string
	for _, name := range names {
		text, err := fs.ReadFile(migrations.FS, name)
		if err != nil {
			t.Fatal(err)
		}
		texts = append(texts, name, string(text))
	}
	// Partitions belong to the month.
	return append(texts, time.Now().UTC().Format("2006-01"))
}

// Open returns another store on db, as another process would have.
func Open(t testing.TB, db *pgtest.Database) *store.Store {
	t.Helper()
	st, err := store.Open(t.Context(), store.Options{
		URL:            secret.New(db.URL),
		MaxConnections: 8,
		Log:            zaptest.NewLogger(t, zaptest.Level(zap.WarnLevel)),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(st.Close)
	return st
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
