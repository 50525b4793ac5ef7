package pgtest

import (
	"testing"

	"github.com/jackc/pgx/v5"

	"polarmirror/internal/localpg"
)

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

func TestTemplatesOfEarlierMonthsAreDropped(t *testing.T) {
	t.Parallel()
	c := useCluster(t)
	old := templatePrefix + "202001_" + randomID()
	if err := c.create(t.Context(), old, "template0"); err != nil {
		t.Fatal(err)
	}
	if err := c.sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if exists(t, c, old) {
		t.Error("it is still there")
	}
}
