package config

import (
	"errors"
	"testing"
	"testing/fstest"
	"time"
	_ "time/tzdata" // the tests' time zones, on machines that have none

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"polarmirror/internal/secret"
)

const (
	acmeID = "1dbfc517-0bbf-4301-9ba8-555ca42b9737"
	betaID = "7f0c3f4e-50b1-4ed4-a2f1-8f9f6a1c9f10"

	// canary stands for every secret: no error may hold it.
	canary = "polar_oat_canaryCANARYcanary"
)

// minimal is the smallest valid file; tests append what they are about.
const minimal = `organizations:
  - name: acme
    id: ` + acmeID + `
    access_token: ${TOKEN}
`

// env is a file system and an environment.
type env struct {
	files fstest.MapFS
	env   map[string]string
}

// newEnv has text as config.yaml and canary as TOKEN.
func newEnv(text string) env {
	return env{
		files: fstest.MapFS{
			"config.yaml": {Data: []byte(text), Mode: 0o600},
			"token":       {Data: []byte(canary + "\n"), Mode: 0o600},
			"empty":       {Data: []byte(" \n"), Mode: 0o600},
			"two-lines":   {Data: []byte(canary + "\n" + canary), Mode: 0o600},
		},
		env: map[string]string{"TOKEN": canary, "EMPTY": ""},
	}
}

func (w env) load() (*Config, error) {
	return source{
		lookupEnv: func(name string) (string, bool) { text, ok := w.env[name]; return text, ok },
		readFile:  w.files.ReadFile,
	}.load()
}

// mustLoad loads text as config.yaml.
func mustLoad(t testing.TB, text string) *Config {
	t.Helper()
	c, err := newEnv(text).load()
	if err != nil {
		t.Fatalf("Load: %v", err)
	}
	return c
}

// problemsOf returns what Load says about w, one string a problem.
func problemsOf(t testing.TB, w env) []string {
	t.Helper()
	c, err := w.load()
	if err == nil {
		return nil
	}
	if c != nil {
		t.Errorf("Load returned an error and a Config")
	}
	var all *Error
	if !errors.As(err, &all) {
		t.Fatalf("Load returned a %T, want *Error: %v", err, err)
	}
	var lines []string
	for _, p := range all.Problems {
		lines = append(lines, p.String())
	}
	return lines
}

// defaults is what minimal means.
func defaults() *Config {
	c := Default()
	c.Source = "config.yaml"
	c.Organizations = []Organization{{
		Name:        "acme",
		ID:          uuid.MustParse(acmeID),
		AccessToken: inline(canary),
	}}
	return c
}

// diff compares configurations, secrets by their text.
func diff(want, got *Config) string {
	return cmp.Diff(want, got, cmp.Comparer(sameZone))
}

func sameZone(a, b *time.Location) bool { return a.String() == b.String() }

func inline(text string) Credential { return Credential{Value: secret.New(text)} }
