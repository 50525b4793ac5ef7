package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A version of Postgres that is neither installed nor offered stands for a machine
// without Postgres and without a way to fetch one.
func TestMissingPostgresIsOneSentenceWithTheCure(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	data := filepath.Join(dir, "data")
	if err := os.Mkdir(data, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"start.lock": "", "password": "x\n", "data/PG_VERSION": "13\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if os.Geteuid() == 0 { // Postgres refuses data of root
		if err := os.Chown(data, 65534, 65534); err != nil {
			t.Fatal(err)
		}
	}
	config := writeFile(t, "config.yaml", `organizations: [{name: acme, id: 1dbfc517-0bbf-4301-9ba8-555ca42b9737, access_token: polar_oat_`+canary+`}]
database: {data_dir: "`+dir+`"}
`)
	r := call(t, nil, "status", "--config", config)
	if r.code != exitDatabase {
		t.Errorf("exit code %d, want %d", r.code, exitDatabase)
	}
	line := only(t, strings.Split(strings.TrimSpace(r.stderr), "\n"))
	assertContains(t, line, "no Postgres 13", "install it (apt-get install postgresql-13", "set database.url")
}
