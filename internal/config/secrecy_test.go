package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

func TestNoFormOfAConfigShowsASecret(t *testing.T) {
	t.Parallel()
	c := mustLoad(t, minimal+"    webhook_secret: ${TOKEN}\n"+
		"database: {url: \"postgres://u:${TOKEN}@h/db\"}\nheartbeat_url: https://watchdog.example/${TOKEN}\n"+
		"http: {token: \"${TOKEN}\", user: me, password: \"${TOKEN}\"}\n")
	forms := map[string]string{}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x"} {
		forms[verb] = fmt.Sprintf(verb+verb, c, *c)
		noSecret(t, forms[verb])
	}
	body, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	entry, err := zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig()).EncodeEntry(zapcore.Entry{}, []zapcore.Field{zap.Any("config", c)})
	if err != nil {
		t.Fatal(err)
	}
	forms["json"], forms["zap"] = string(body), entry.String()
	noSecret(t, forms["json"])
	noSecret(t, forms["zap"])
	for _, form := range []string{"%+v", "json"} {
		if got := strings.Count(forms[form], "[redacted]"); got < 6 {
			t.Errorf("%s shows [redacted] %d times, want at least 6: the test looks at nothing\n%s", form, got, forms[form])
		}
	}
	if got := c.Organizations[0].AccessToken.Value.Reveal(); got != canary {
		t.Errorf("the token does not arrive where it is used")
	}
}

// FuzzLoad looks for a panic, an error that shows a secret, and a Config that
// breaks the promise of the package.
func FuzzLoad(f *testing.F) {
	for _, more := range []string{
		"", "polar: {timeout: ${TOKEN}}", "polar:\n  base_url: ${TOKEN}", "log: &l {level: *l}", "a: &x [*x]", "? [a]: b", "<<: *x",
		"schedule: {full: \"${TOKEN}\"}", "schedule:\n  full: TZ=${TOKEN}", "database: {url: \"postgres://${TOKEN}@h/d\"}", "history: {keep: \"${TOKEN}\"}",
		"    access_token_file: ${TOKEN}", "    webhook_secret_file: \"${TOKEN}\"", "polar: !!str ${TOKEN}", "x: |\n  ${TOKEN}\n", "http: {listen: \"${TOKEN}\"}", "---\n- a",
		"heartbeat_url: '${TOKEN}'", "http: {token: \"${TOKEN}\", hosts: [\"${TOKEN}\"]}", "http:\n  user: ${TOKEN}\n  password_file: ${TOKEN}", "sync: {max_delete_fraction: \"${TOKEN}\"}", "\"" + canary, canary + ": 1", "polar: " + canary, "%YAML " + canary, "log: {level: !" + canary + " x}",
	} {
		f.Add(minimal + more)
	}
	f.Fuzz(func(t *testing.T, text string) {
		c, err := newEnv(text).load()
		if err == nil {
			usable(t, c)
			return
		}
		if strings.Contains(err.Error(), canary) {
			t.Errorf("the secret shows: %v", err)
		}
		var all *Error
		if !errors.As(err, &all) || len(all.Problems) == 0 {
			t.Fatalf("%T without problems: %v", err, err)
		}
		for _, p := range all.Problems {
			if p.File != "config.yaml" || strings.ContainsAny(p.Message, "\r\n") || p.Line < 0 || (p.Line > 0) != (p.Column > 0) {
				t.Errorf("problem %#v is no line about config.yaml", p)
			}
			if lines := strings.Count(text, "\n") + strings.Count(text, "\r") + 1; p.Line > lines {
				t.Errorf("%v: the file has %d lines", p, lines)
			}
		}
	})
}

// usable fails unless c keeps what [Load] promises.
func usable(t testing.TB, c *Config) {
	t.Helper()
	if len(c.Organizations) == 0 || c.Schedule.Location == nil || c.Polar.Timeout <= 0 || c.Polar.Concurrency < 1 ||
		c.Polar.Retry.Exponent < 1 || c.Polar.Retry.MaxInterval < c.Polar.Retry.InitialInterval ||
		c.Database.MaxConnections < c.Sync.Concurrency+SpareConnections {
		t.Errorf("not usable: %+v", c)
	}
	for _, o := range c.Organizations {
		if o.Name == "" || o.AccessToken.IsZero() || (!o.AccessToken.Value.IsZero() && o.AccessToken.File != "") {
			t.Errorf("organization not usable: %+v", o)
		}
	}
	for _, expression := range []Cron{c.Schedule.Incremental, c.Schedule.Full} {
		if _, err := expression.In(c.Schedule.Location); err != nil {
			t.Errorf("schedule %q: %v", expression, err)
		}
	}
	_ = c.Warnings()
}
