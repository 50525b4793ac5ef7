package config

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"go.uber.org/zap/zapcore"
	"pgregory.net/rapid"

	"polarmirror/internal/secret"
)

func TestOmittedKeysHaveTheirDefaults(t *testing.T) {
	t.Parallel()
	for _, empty := range []string{"", "polar:\ndatabase:\nschedule:\nhttp: {}\n", "log: # later\n", "polar: {retry: }\n"} {
		if d := diff(defaults(), mustLoad(t, minimal+empty)); d != "" {
			t.Errorf("%q (-want +got):\n%s", empty, d)
		}
	}
}

func TestEveryKeyReachesItsField(t *testing.T) {
	t.Parallel()
	got := mustLoad(t, `
polar:
  base_url: http://localhost:9999/
  api_version: 2027-01
  requests_per_minute: 0
  concurrency: 3
  timeout: 1m
  retry: {initial_interval: 1s, max_interval: 2s, exponent: 2, max_elapsed_time: 3s, retry_connection_errors: false}
organizations:
  - name: acme
    id: `+acmeID+`
    access_token_file: token
    webhook_secret: hush hush
    filter: {customer_id: [`+betaID+`], external_customer_id: [42, "é"], meter_id: [`+acmeID+`, `+betaID+`]}
  - {name: b.e-t_a, id: `+betaID+`, access_token: abc, webhook_secret_file: token}
database: {url: "host=/run/pg dbname=polar", data_dir: /var/lib/syncd, max_connections: 21}
schedule: {incremental: "@every 30s", full: "", timezone: Europe/Berlin, run_on_start: false}
sync: {concurrency: 18, max_delete_fraction: 1}
history: {keep: 0}
privacy: {exclude: [email, tax_id]}
http:
  listen: :8080
  webhook_listen: "[::1]:8081"
  max_lag: 90m
  hosts: [Syncd.example.com, "[fd00::1]"]
  token: 0123456789abcdef
  user: operator
  password_file: token
heartbeat_url: https://watchdog.example/key
log: {level: warn, format: console}
`)
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	acme, beta := uuid.MustParse(acmeID), uuid.MustParse(betaID)
	want := &Config{
		Source: "config.yaml",
		Polar: Polar{BaseURL: "http://localhost:9999", APIVersion: "2027-01", Concurrency: 3, Timeout: time.Minute,
			Retry: Retry{InitialInterval: time.Second, MaxInterval: 2 * time.Second, Exponent: 2, MaxElapsedTime: 3 * time.Second}},
		Organizations: []Organization{
			{Name: "acme", ID: acme, AccessToken: Credential{File: "token"}, WebhookSecret: inline("hush hush"),
				Filter: Filter{CustomerIDs: []uuid.UUID{beta}, ExternalCustomerIDs: []string{"42", "é"}, MeterIDs: []uuid.UUID{acme, beta}}},
			{Name: "b.e-t_a", ID: beta, AccessToken: inline("abc"), WebhookSecret: Credential{File: "token"}},
		},
		Database: Database{URL: secret.New("host=/run/pg dbname=polar"), DataDir: "/var/lib/syncd", MaxConnections: 21},
		Schedule: Schedule{Incremental: "@every 30s", Location: berlin},
		Sync:     Sync{Concurrency: 18, MaxDeleteFraction: 1},
		Privacy:  Privacy{Exclude: []string{"email", "tax_id"}},
		HTTP: HTTP{Listen: ":8080", WebhookListen: "[::1]:8081", MaxLag: 90 * time.Minute,
			Hosts: []string{"syncd.example.com", "fd00::1"}, Token: inline("0123456789abcdef"), User: "operator", Password: Credential{File: "token"}},
		HeartbeatURL: secret.New("https://watchdog.example/key"),
		Log:          Log{Level: zapcore.WarnLevel, Format: FormatConsole},
	}
	if d := diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

func TestFilesOfOtherEditorsAreRead(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"byte order mark":   "\ufeff" + minimal,
		"carriage returns":  strings.ReplaceAll(minimal, "\n", "\r\n"),
		"no last line end":  strings.TrimSuffix(minimal, "\n"),
		"document markers":  "---\n" + minimal + "...\n",
		"quoted everything": strings.NewReplacer("acme", `"acme"`, "${TOKEN}", `'${TOKEN}'`).Replace(minimal),
	} {
		if d := diff(defaults(), mustLoad(t, text)); d != "" {
			t.Errorf("%s (-want +got):\n%s", name, d)
		}
	}
}

func TestReferenceStandsForAnyKindOfValue(t *testing.T) {
	t.Parallel()
	w := newEnv(minimal + `
polar: {requests_per_minute: "${RPM:-120}", timeout: "${TIMEOUT:-30s}"}
schedule: {run_on_start: "${RUN:-false}", full: "${FULL:-}"}
sync:
  max_delete_fraction: ${FRACTION}
`)
	w.env["TIMEOUT"], w.env["FRACTION"], w.env["FULL"] = "5s", "0.5", "@daily"
	got, err := w.load()
	if err != nil {
		t.Fatal(err)
	}
	want := defaults()
	want.Polar.RequestsPerMinute, want.Polar.Timeout = 120, 5*time.Second
	want.Schedule.RunOnStart, want.Schedule.Full, want.Sync.MaxDeleteFraction = false, "@daily", 0.5
	if d := diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

func TestVariableStaysOneScalar(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		env := rapid.OneOf(rapid.StringMatching(`[ -~]{1,40}`), rapid.SampledFrom([]string{
			"x\n    filter: {meter_id: []}", "{a: b}", "[1]", "*x", "&x y", "${TOKEN}", "$${", "a: b", "# c", "true", "~", "'", "\"",
		})).Draw(t, "env")
		w := newEnv(minimal + "    filter:\n      external_customer_id:\n        - a${X}b\n        - ${X}\nhistory: {keep: 1h}\n")
		w.env["X"] = env
		c, err := w.load()
		if err != nil {
			t.Fatalf("%q: %v", env, err)
		}
		want := defaults()
		want.History.Keep = time.Hour
		want.Organizations[0].Filter.ExternalCustomerIDs = []string{"a" + env + "b", env}
		if d := diff(want, c); d != "" {
			t.Fatalf("%q (-want +got):\n%s", env, d)
		}
	})
}

func TestExpand(t *testing.T) {
	t.Parallel()
	lookup := func(name string) (string, bool) {
		text, ok := map[string]string{"A": "1", "B_2": "${A}", "EMPTY": ""}[name]
		return text, ok
	}
	for text, want := range map[string]string{
		"":                "",
		"plain $ $A $$":   "plain $ $A $$",
		"${A}":            "1",
		"x${A}y${A}z":     "x1y1z",
		"${B_2}":          "${A}",
		"${EMPTY}":        "",
		"${EMPTY:-d}":     "d",
		"${NOPE:-}":       "",
		"${NOPE:-a:-b c}": "a:-b c",
		"$${A}":           "${A}",
		"a$$${A}":         "a$${A}",
		"$${${A}":         "${1",
	} {
		got, _, err := expand(text, lookup)
		if err != nil || got != want {
			t.Errorf("expand(%q) = %q, %v, want %q", text, got, err, want)
		}
	}
	for _, text := range []string{"${", "${}", "${A", "${1A}", "${A-b}", "${A:?b}", "${ A }", "${NOPE}", "${NOPE:-${A}}"} {
		if got, _, err := expand(text, lookup); err == nil {
			t.Errorf("expand(%q) = %q, want an error", text, got)
		}
	}
}

func TestLoadReadsTheRealFileSystem(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path, tokenPath := filepath.Join(dir, "c.yaml"), filepath.Join(dir, "token")
	text := strings.Replace(minimal, "access_token: ${TOKEN}", "access_token_file: "+tokenPath, 1)
	for name, body := range map[string]string{path: text, tokenPath: canary + "\r\n"} {
		if err := os.WriteFile(name, []byte(body), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c, err := Load(path, os.LookupEnv)
	if err != nil {
		t.Fatal(err)
	}
	credential := c.Organizations[0].AccessToken
	if got, err := credential.Read(); err != nil || got.Reveal() != canary {
		t.Errorf("Read: %v, the token differs: %v", err, got.Reveal() != canary)
	}

	// Replaced while syncd runs: the next Read has the new one.
	if err := os.WriteFile(tokenPath, []byte("new"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := credential.Read(); err != nil || got.Reveal() != "new" {
		t.Errorf("Read after the change: %v, want the new token", err)
	}
	for body, reason := range map[string]string{"\n": "empty", canary + "\nx": "line break"} {
		if err := os.WriteFile(tokenPath, []byte(body), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := credential.Read()
		if err == nil || !strings.Contains(err.Error(), tokenPath) || !strings.Contains(err.Error(), reason) {
			t.Errorf("Read of %q: %v, want an error that names the file and %q", body, err, reason)
		} else {
			noSecret(t, err.Error())
		}
	}
	if err := os.Remove(tokenPath); err != nil {
		t.Fatal(err)
	}
	if _, err := credential.Read(); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), tokenPath) {
		t.Errorf("Read of no file: %v", err)
	}
}

func TestOnlyKeepsTheNamedOrganizations(t *testing.T) {
	t.Parallel()
	c := Default()
	c.Source = "config.yaml"
	for _, name := range []string{"a", "b", "c"} {
		c.Organizations = append(c.Organizations, Organization{Name: name})
	}
	names := func(c *Config) (names []string) {
		for _, o := range c.Organizations {
			names = append(names, o.Name)
		}
		return names
	}
	only, err := c.Only("c", "a", "a")
	if err != nil {
		t.Fatal(err)
	}
	all, err := c.Only()
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([][]string{{"a", "c"}, {"a", "b", "c"}, {"a", "b", "c"}}, [][]string{names(only), names(all), names(c)}); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	_, err = c.Only("a", "x")
	if want := `config.yaml: there is no organization "x"; configured: a, b, c`; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}
