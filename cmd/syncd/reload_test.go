package main

import (
	"context"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"polarmirror/internal/config"
	"polarmirror/internal/secret"
)

// A served service runs in this process and can be told to reload.
type served struct {
	*fixture
	path           string // of its configuration
	hangUps        *hangUps
	stdout, stderr buffer
}

// serveFixture runs the service until the test ends, with organizations and
// other sections of the configuration.
func serveFixture(t *testing.T, f *fixture, organizations []string, more ...string) *served {
	t.Helper()
	s := &served{fixture: f, path: f.write(t, f.yamlOf(organizations, more...)), hangUps: newHangUps()}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan int, 1)
	go func() {
		done <- run(ctx, []string{"--config", s.path}, env(nil).lookup, &s.stdout, &s.stderr, s.hangUps)
	}()
	t.Cleanup(func() {
		stop()
		if code := <-done; code != exitDone {
			t.Errorf("exit code %d, stderr:\n%s", code, s.stderr.String())
		}
		if strings.Contains(s.stderr.String(), canary) {
			t.Errorf("the log shows a secret:\n%s", s.stderr.String())
		}
	})
	s.eventuallyLogs(t, `"msg":"serving"`)
	return s
}

// yamlOf is the configuration of some of the organizations.
func (f *fixture) yamlOf(organizations []string, more ...string) string {
	text := f.yaml(nil, more...)
	for _, o := range f.orgs {
		line := regexp.MustCompile(`(?m)^  - \{name: ` + o.Name + `,.*\n`)
		kept := false
		for _, name := range organizations {
			kept = kept || name == o.Name
		}
		if !kept {
			text = line.ReplaceAllString(text, "")
		}
	}
	return text
}

func (s *served) eventuallyLogs(t testing.TB, parts ...string) {
	t.Helper()
	eventually(t, strings.Join(parts, ", "), func() bool {
		for _, part := range parts {
			if !strings.Contains(s.stderr.String(), part) {
				return false
			}
		}
		return true
	})
}

// reload replaces the configuration and tells the service.
func (s *served) reload(t testing.TB, text string) {
	t.Helper()
	if err := os.WriteFile(s.path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if !s.hangUps.deliver() {
		t.Fatal("the service takes no hang-ups")
	}
}

const often = `schedule: {incremental: "@every 1s", full: "@every 1h"}`

func TestReloadFollowsOrganizationsSchedulesAndLevel(t *testing.T) {
	t.Parallel()
	s := serveFixture(t, newFixture(t, 250, 30, 40), []string{"acme", "globex"}, `schedule: {incremental: "", full: "@every 1h"}`)
	s.eventuallyLogs(t, `"msg":"run finished","organization":"acme"`, `"msg":"run finished","organization":"globex"`)
	if strings.Contains(s.stderr.String(), `"level":"debug"`) {
		t.Error("debug lines before the reload")
	}
	s.reload(t, s.yamlOf([]string{"globex", "initech"}, often, "log: {level: debug}"))
	s.eventuallyLogs(t, `"msg":"configuration reloaded"`,
		`"msg":"organization removed","organization":"acme"`, `"msg":"organization added","organization":"initech"`)
	eventually(t, "rows of initech", func() bool { return s.rows(t, "initech") == 40 })
	eventually(t, "ticks of globex", func() bool { return s.runs(t, "globex", "incremental") > 1 })
	s.eventuallyLogs(t, `"level":"debug"`)
	if n := s.runs(t, "acme", "incremental"); n != 0 {
		t.Errorf("%d ticks of an organization that was removed before there were any", n)
	}
}

// runs counts an organization's successful runs of a kind.
func (f *fixture) runs(t testing.TB, organization, kind string) int {
	t.Helper()
	var n int
	const sql = `
SELECT count(*)
  FROM polar.sync_runs r
  JOIN polar.organizations o ON o.id = r.organization_id
 WHERE o.name = $1 AND r.kind = $2 AND r.status = 'succeeded'`
	if err := f.db.Pool.QueryRow(t.Context(), sql, organization, kind).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

func TestReloadOfABrokenConfigurationKeepsTheOldOneAndSaysWhy(t *testing.T) {
	t.Parallel()
	s := serveFixture(t, newFixture(t, 30), []string{"acme"}, often)
	s.reload(t, s.yaml(nil, `schedule: {incremental: "@every 1s", full: "61 * * * *"}`, "sinc: {}"))
	s.eventuallyLogs(t, `"msg":"configuration not reloaded, the old one stays in force"`, "minute (0-59)", "sinc", s.path+":")
	before := s.runs(t, "acme", "incremental")
	eventually(t, "ticks by the old configuration", func() bool { return s.runs(t, "acme", "incremental") > before+1 })

	if err := os.Remove(s.path); err != nil {
		t.Fatal(err)
	}
	if !s.hangUps.deliver() {
		t.Fatal("the service takes no hang-ups")
	}
	s.eventuallyLogs(t, s.path+": there is no such file")
}

// TestReloadDoesNotTakeTheEnvironmentForAFileThatIsGone: the file at the default
// place was found without being asked for. The test moves to another directory,
// so no other may run beside it.
func TestReloadDoesNotTakeTheEnvironmentForAFileThatIsGone(t *testing.T) {
	t.Chdir(t.TempDir())
	core, logs := observer.New(zap.DebugLevel)
	r := reloader{p: &program{log: zap.New(core), lookupEnv: env(nil).lookup}, cfg: &config.Config{Source: config.DefaultPath}}
	r.reload(t.Context())
	if text := fmt.Sprint(logs.All()); !strings.Contains(text, config.DefaultPath+": there is no such file") || strings.Contains(text, "DATABASE_URL") {
		t.Errorf("logged: %s", text)
	}
}

func TestReloadNamesWhatTakesARestart(t *testing.T) {
	t.Parallel()
	large(t)
	s := serveFixture(t, newFixture(t, 30), []string{"acme"}, often)
	text := strings.Replace(s.yaml(nil, often, "http: {listen: 127.0.0.1:1}"), s.db.URL, "postgres://nobody:"+canary+"@127.0.0.1:1/db", 1)
	s.reload(t, text)
	s.eventuallyLogs(t, `"level":"warn"`, `restart it","keys":"database.url, http.listen"`, `"msg":"configuration reloaded"`)
	before := s.runs(t, "acme", "incremental")
	eventually(t, "ticks in the old database", func() bool { return s.runs(t, "acme", "incremental") > before+1 })
	s.reload(t, s.yaml(nil, often)) // as it was
	eventually(t, "another reload", func() bool { return strings.Count(s.stderr.String(), `"msg":"configuration reloaded"`) == 2 })
	if n := strings.Count(s.stderr.String(), "restart it"); n != 1 {
		t.Errorf("a restart was asked for %d times", n)
	}
}

func TestClientsOfUnchangedOrganizationsStay(t *testing.T) {
	t.Parallel()
	cfg := func(change func(*config.Config)) *config.Config {
		c := config.Default()
		for _, name := range []string{"acme", "globex"} {
			c.Organizations = append(c.Organizations, config.Organization{Name: name, AccessToken: config.Credential{Value: secret.New("polar_oat_" + name)}})
		}
		if change != nil {
			change(c)
		}
		return c
	}
	p := &program{}
	clients := p.newClients()
	first, err := clients.of(cfg(nil))
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		what         string
		change       func(*config.Config)
		acme, globex bool // stay
	}{
		{"nothing changes", nil, true, true},
		{"in flight", func(c *config.Config) { c.Polar.Concurrency = 3 }, true, true},
		{"one token", func(c *config.Config) { c.Organizations[0].AccessToken.Value = secret.New("polar_oat_new") }, false, true},
		{"as before", nil, false, true},
		{"one goes", func(c *config.Config) { c.Organizations = c.Organizations[1:] }, false, true},
		{"the server", func(c *config.Config) { c.Polar.BaseURL = config.SandboxURL }, false, false},
		{"the pace", func(c *config.Config) { c.Polar.RequestsPerMinute = 7 }, false, false},
	} {
		now, err := clients.of(cfg(step.change))
		if err != nil {
			t.Fatal(err)
		}
		got := fmt.Sprint(now["acme"] == first["acme"], now["globex"] == first["globex"])
		if want := fmt.Sprint(step.acme, step.globex); got != want {
			t.Errorf("%s: acme and globex keep their clients: %s, want %s", step.what, got, want)
		}
	}
}
