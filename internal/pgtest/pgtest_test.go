package pgtest

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"polarmirror/internal/localpg"
)

func TestDatabasesOfTestsDoNotSeeEachOther(t *testing.T) {
	t.Parallel()
	one, other := newDatabase(t, createVisits, "visits"), newDatabase(t, createVisits, "visits")
	if _, err := one.Pool.Exec(t.Context(), `INSERT INTO visits VALUES (1)`); err != nil {
		t.Fatal(err)
	}
	var got int
	if err := other.Pool.QueryRow(t.Context(), `SELECT count(*) FROM visits`).Scan(&got); err != nil {
		t.Fatal(err)
	}
	if got != 0 {
		t.Errorf("another test's rows: %d", got)
	}
}

func TestDatabaseIsGoneAfterItsTest(t *testing.T) {
	t.Parallel()
	c := useCluster(t)
	var name string
	t.Run("test", func(t *testing.T) {
		db := New(t)
		name = db.Name
		// A test may forget a connection.
		if _, err := pgx.Connect(t.Context(), db.URL); err != nil {
			t.Fatal(err)
		}
	})
	if exists(t, c, name) {
		t.Error("it is still there")
	}
}

func TestEachPostgresHasAFolderOfItsOwn(t *testing.T) {
	t.Parallel()
	names := map[string]localpg.Binaries{}
	for _, postgres := range []localpg.Binaries{{Dir: "/a", Major: 15}, {Dir: "/a", Major: 17}, {Dir: "/b", Major: 17}} {
		name := folderName(postgres)
		if other, taken := names[name]; taken {
			t.Errorf("%+v and %+v share %s", postgres, other, name)
		}
		names[name] = postgres
	}
}

func TestDigestTellsPartsApart(t *testing.T) {
	t.Parallel()
	keys := []string{digest("a", "b"), digest("ab"), digest("ab", ""), digest("a", "c")}
	for i, key := range keys {
		for _, other := range keys[:i] {
			if key == other {
				t.Errorf("%v share a key", keys)
			}
		}
	}
	if diff := cmp.Diff(digest("a", "b"), keys[0]); diff != "" {
		t.Errorf("a key changes: %s", diff)
	}
}

func TestTemplatesOfEarlierMonthsAreDropped(t *testing.T) {
	t.Parallel()
	c := useCluster(t)
	old := templatePrefix + "202001_" + randomID()
	if err := c.createFrom(t.Context(), old, "template0"); err != nil {
		t.Fatal(err)
	}
	if err := c.sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if exists(t, c, old) {
		t.Error("it is still there")
	}
}
