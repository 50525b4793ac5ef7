package localpg_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"polarmirror/internal/localpg"
)

// hostile are values of variables that lead every client astray that reads them.
func hostile(dir string) map[string]string {
	missing := filepath.Join(dir, "missing")
	return map[string]string{
		"PGHOST":               "192.0.2.1",
		"PGPORT":               "1",
		"PGDATABASE":           "other",
		"PGUSER":               "somebody",
		"PGPASSWORD":           "wrong",
		"PGPASSFILE":           missing,
		"PGAPPNAME":            "other",
		"PGCONNECT_TIMEOUT":    "soon",
		"PGSSLMODE":            "verify-full",
		"PGSSLKEY":             missing,
		"PGSSLCERT":            missing,
		"PGSSLCERTMODE":        "require",
		"PGSSLSNI":             "2",
		"PGSSLROOTCERT":        missing,
		"PGSSLPASSWORD":        "wrong",
		"PGSSLNEGOTIATION":     "direct",
		"PGTARGETSESSIONATTRS": "standby",
		"PGSERVICE":            "other",
		"PGSERVICEFILE":        missing,
		"PGTZ":                 "Asia/Kathmandu",
		"PGOPTIONS":            "-c client_encoding=LATIN1 -c default_transaction_read_only=on",
		"PGMINPROTOCOLVERSION": "3.2",
		"PGMAXPROTOCOLVERSION": "9.9",
		"PGCHANNELBINDING":     "require",
		"PGREQUIREAUTH":        "none",
		"PGDATA":               missing, // the rest is read by Postgres's own programs
		"PGOAUTHDEBUG":         "UNSAFE",
		"PGLOCALEDIR":          missing,
		"PGCLIENTENCODING":     "LATIN1",
		"PGDATESTYLE":          "German",
		"PGGEQO":               "off",
	}
}

// TestEmbeddedDatabaseIgnoresTheEnvironment sets every variable that pgx's source
// names, all at once, with a broken ~/.postgresql, and then each alone.
func TestEmbeddedDatabaseIgnoresTheEnvironment(t *testing.T) {
	for _, pair := range os.Environ() {
		if name, _, _ := strings.Cut(pair, "="); strings.HasPrefix(name, "PG") {
			t.Setenv(name, "")
			os.Unsetenv(name)
		}
	}
	dir := t.TempDir()
	values := hostile(dir)
	for _, name := range variablesOfPgx(t) {
		if values[name] == "" {
			t.Fatalf("pgx reads %s from the environment, and this test has no value for it: does Server.url name it?", name)
		}
	}
	server := startAmidst(t, values)
	want := parsed(t, server.URL())
	for name, value := range values {
		t.Run(name, func(t *testing.T) {
			t.Setenv(name, value)
			if diff := cmp.Diff(want, parsed(t, server.URL())); diff != "" {
				t.Errorf("(-without +with %s=%s):\n%s", name, value, diff)
			}
		})
	}
}

// startAmidst starts a server and connects to it while all the variables have
// their values and ~/.postgresql is broken.
func startAmidst(t *testing.T, values map[string]string) (server *localpg.Server) {
	t.Helper()
	data, dir := madeDir(t), t.TempDir()
	home := filepath.Join(dir, ".postgresql")
	if err := os.Mkdir(home, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"root.crt", "postgresql.crt", "postgresql.key"} {
		if err := os.WriteFile(filepath.Join(home, name), []byte("none"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	const settings = `SELECT concat_ws(' ', current_database(), current_user, current_setting('TimeZone'), current_setting('client_encoding'),
		current_setting('DateStyle'), current_setting('geqo'), current_setting('default_transaction_read_only'))`
	parent := t // which closes the server
	t.Run("all", func(t *testing.T) {
		t.Setenv("HOME", dir)
		for name, value := range values {
			t.Setenv(name, value)
		}
		server = start(parent, options(data))
		if got := query(t, server.URL(), settings); got != "syncd syncd UTC UTF8 ISO, MDY on off" {
			t.Errorf("settings are %s", got)
		}
	})
	return server
}

// variablesOfPgx are those that this version of pgx looks up.
func variablesOfPgx(t *testing.T) []string {
	t.Helper()
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/jackc/pgx/v5").Output()
	if err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(dir)), "pgconn", "config.go"))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, match := range regexp.MustCompile(`"(PG[A-Z_]+)":`).FindAllStringSubmatch(string(source), -1) {
		names = append(names, match[1])
	}
	if len(names) < 20 || !slices.Contains(names, "PGSERVICE") {
		t.Fatalf("pgx's source is not as expected: %v", names)
	}
	return names
}

type parameters struct {
	Host, Database, User, Password, RequireAuth, ChannelBinding, Least, Most, SSLNegotiation, SSLCertMode string
	Port                                                                                                  uint16
	ConnectTimeout                                                                                        time.Duration
	Runtime                                                                                               map[string]string
	TLS, Validated                                                                                        bool
	Fallbacks                                                                                             int
}

func parsed(t *testing.T, url string) parameters {
	t.Helper()
	c, err := pgx.ParseConfig(url)
	if err != nil {
		t.Error(err)
		return parameters{}
	}
	return parameters{
		c.Host, c.Database, c.User, c.Password, c.RequireAuth, c.ChannelBinding, c.MinProtocolVersion, c.MaxProtocolVersion, c.SSLNegotiation, c.SSLCertMode,
		c.Port, c.ConnectTimeout, c.RuntimeParams, c.TLSConfig != nil, c.ValidateConnect != nil, len(c.Fallbacks),
	}
}
