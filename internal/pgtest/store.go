package pgtest

import (
	"context"
	"testing"

	"polarmirror/internal/secret"
	"polarmirror/internal/store"
)

// NewMigrated returns a migrated database.
func NewMigrated(t testing.TB) *Database {
	t.Helper()
	return newMirrorDatabase(t).Database
}

// NewStore returns a store on a migrated database of its own, and that database.
func NewStore(t testing.TB) (*store.Store, *Database) {
	t.Helper()
	db := newMirrorDatabase(t)
	return db.openStore(t), db.Database
}

// OpenStore returns another store on db, as another process would have.
func OpenStore(t testing.TB, db *Database) *store.Store {
	t.Helper()
	st, err := store.Open(t.Context(), store.Options{
		URL:            secret.New(db.URL),
		MaxConnections: 8,
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
