package config

import (
	"strings"
	"testing"

	"github.com/google/uuid"

	"polarmirror/internal/secret"
)

func TestEnvironmentAloneIsAConfiguration(t *testing.T) {
	t.Parallel()
	load := func(env map[string]string) (*Config, error) {
		w := newEnv("")
		delete(w.files, "config.yaml")
		w.env = env
		return w.load()
	}
	want := Default()
	want.Source = "environment"
	want.Organizations = []Organization{{Name: "default", AccessToken: inline(canary)}}
	got, err := load(map[string]string{"POLAR_ACCESS_TOKEN": canary})
	if err != nil || diff(want, got) != "" {
		t.Errorf("token alone: %v (-want +got):\n%s", err, diff(want, got))
	}

	const url = "postgres://u:" + canary + "@db/polar"
	want.Organizations[0].ID = uuid.MustParse(acmeID)
	want.Polar.BaseURL, want.Polar.RequestsPerMinute = SandboxURL, 60
	want.Database.URL = secret.New(url)
	got, err = load(map[string]string{"POLAR_ACCESS_TOKEN": canary, "POLAR_ORGANIZATION_ID": acmeID, "POLAR_SERVER": "sandbox", "DATABASE_URL": url})
	if err != nil || diff(want, got) != "" {
		t.Errorf("all four: %v (-want +got):\n%s", err, diff(want, got))
	}

	_, err = load(map[string]string{"POLAR_ACCESS_TOKEN": canary + "\n", "POLAR_ORGANIZATION_ID": canary, "POLAR_SERVER": canary, "DATABASE_URL": canary})
	if err == nil || strings.Count(err.Error(), "\n") != 3 {
		t.Fatalf("all wrong: got %v, want four lines", err)
	}
	noSecret(t, err.Error())

	for _, env := range []map[string]string{{}, {"POLAR_ACCESS_TOKEN": ""}} {
		_, err = load(env)
		if err == nil {
			t.Fatal("no file and no token: no error")
		}
		for _, way := range []string{"POLAR_ACCESS_TOKEN", "config.yaml", "--demo"} {
			if !strings.Contains(err.Error(), way) {
				t.Errorf("error %q does not name %s", err, way)
			}
		}
	}
}

func TestDatabaseURLComesFromTheEnvironmentUnlessTheFileSaysOtherwise(t *testing.T) {
	t.Parallel()
	const fromEnv = "postgres://env/db"
	for text, want := range map[string]string{
		"":                                      fromEnv,
		"database: {data_dir: x}\n":             fromEnv,
		"database: {url: \"\"}\n":               "",
		"database: {url: postgres://file/db}\n": "postgres://file/db",
	} {
		w := newEnv(minimal + text)
		w.env["DATABASE_URL"] = fromEnv
		c, err := w.load()
		if err != nil {
			t.Fatal(err)
		}
		if got := c.Database.URL.Reveal(); got != want || c.Database.Embedded() != (want == "") {
			t.Errorf("%q: url %q, embedded %v, want %q", text, got, c.Database.Embedded(), want)
		}
	}
}

// TestVariablesOfPostgresAreThoughtOf: the address is right, and what the environment
// adds to it is not.
func TestVariablesOfPostgresAreThoughtOf(t *testing.T) {
	t.Setenv("PGCONNECT_TIMEOUT", "abc")
	problems := problemsOf(t, newEnv(minimal+"\ndatabase:\n  url: postgres://u@h/db\n"))
	if len(problems) != 1 || !strings.Contains(problems[0], "the variables PG... of the environment") {
		t.Errorf("problems %q, want one that speaks of the variables", problems)
	}
}
