package main

import (
	"strings"
	"testing"

	"polarmirror/internal/pgtest"
)

func TestTransactionPoolingProxyIsOneErrorAndExitCode3(t *testing.T) {
	t.Parallel()
	f := newUnmigrated(t, 30)
	address := pgtest.NewPooler(t, f.db.URL, pgtest.PoolerOptions{Size: 3})
	path := f.write(t, strings.Replace(f.yaml(nil), f.db.URL, address, 1))
	for _, args := range [][]string{{}, {"migrate", "up"}, {"status"}} {
		r := call(t, nil, append(args, "--config", path)...)
		if r.code != exitDatabase {
			t.Errorf("%v: exit code %d", args, r.code)
		}
		assertContains(t, only(t, r.plainLines()), "does not keep a connection's session", "direct address", "pools by session")
	}
	r := call(t, nil, "config", "check", "--config", path)
	if r.code != exitDatabase {
		t.Errorf("config check: exit code %d", r.code)
	}
	assertContains(t, r.stdout, "✗ database ", "pools by transaction", "✓ organization acme")
	var exists bool
	if err := f.db.Pool.QueryRow(t.Context(), `SELECT to_regnamespace('polar') IS NOT NULL`).Scan(&exists); err != nil || exists {
		t.Errorf("something was made through the proxy: %v, %v", exists, err)
	}
}

func TestServiceWorksBehindAProxyThatPoolsBySession(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 300, 40)
	address := pgtest.NewSessionPooler(t, f.db.URL, 10)
	path := f.write(t, strings.Replace(f.yaml(nil), f.db.URL, address, 1))
	if r := call(t, nil, "--backfill", "--config", path); r.code != exitDone {
		t.Fatalf("exit code %d, stderr:\n%s", r.code, r.stderr)
	}
	for _, org := range f.orgs {
		f.compareAll(t, org.ID)
	}
}
