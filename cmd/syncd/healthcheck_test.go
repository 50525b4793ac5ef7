package main

import (
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
)

// listening is a configuration that says where a service already listens.
func (f *fixture) listening(t testing.TB, http string) string {
	t.Helper()
	return f.write(t, f.yaml(nil, "http: {"+http+"}"))
}

func portOf(t testing.TB, address string) string {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	return u.Port()
}

// TestHealthcheckOfARunningService, which shows its metrics to those who have the
// token, and whose data becomes stale though nothing fails.
func TestHealthcheckOfARunningService(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 30)
	file := writeFile(t, "token", "file-"+canary+"-token\n")
	s := serve(t, "--config", f.write(t, f.yaml(nil, `schedule: {incremental: "", full: "@every 1h"}`,
		`http: {listen: "127.0.0.1:0", webhook_listen: "localhost:0", max_lag: 1s, token_file: `+file+`, user: me, password: "pass-`+canary+`"}`)))
	port, hooks := portOf(t, s.url), portOf(t, s.logged("listening for webhooks"))
	token := `, token: "token-` + canary + `"`
	for name, http := range map[string]string{
		"its address":      `listen: "127.0.0.1:` + port + `"`,
		"its name":         `listen: "localhost:` + port + `"`,
		"everywhere":       `listen: ":` + port + `"` + token,
		"everywhere, IPv4": `listen: "0.0.0.0:` + port + `"` + token,
		"everywhere, IPv6": `listen: "[::]:` + port + `"` + token,
		"webhooks alone":   `listen: "", webhook_listen: ":` + hooks + `"`,
	} {
		path := f.listening(t, http)
		r := call(t, nil, "healthcheck", "--config", path)
		if r.code != exitDone || r.stderr != "" {
			t.Errorf("%s: exit code %d, stderr %q", name, r.code, r.stderr)
		}
		assertContains(t, r.stdout, "/healthz is alive.\n")
		eventually(t, name+": ready", func() bool {
			r := call(t, nil, "healthcheck", "--ready", "--config", path)
			return r.code == exitDone && strings.HasSuffix(r.stdout, "/readyz is ready.\n")
		})
	}
	for shown, want := range map[string]int{"": 401, "Bearer wrong": 401, "Bearer file-" + canary + "-token": 200} {
		eventually(t, "an answer to "+shown, func() bool {
			code, _ := s.get("/metrics", shown)
			return code == want
		})
	}
	eventually(t, "stale data", func() bool {
		code, body := s.get("/healthz/data", "")
		return code == 503 && strings.Contains(body, `"organization":"acme","status":"stale","age_seconds":`) && !strings.Contains(body, "null")
	})
	if code, body := s.get("/readyz", ""); code != 200 {
		t.Errorf("ready: %d %s", code, body)
	}
	s.stop()
	r := call(t, nil, "healthcheck", "--config", f.listening(t, `listen: "127.0.0.1:`+port+`"`))
	if r.code != exitFailed || r.stdout != "" {
		t.Errorf("stopped: exit code %d, stdout %q", r.code, r.stdout)
	}
	assertContains(t, only(t, r.plainLines()), "syncd: the service at http://127.0.0.1:"+port+"/healthz is not alive: ", "is syncd running, with this configuration?")
}

func TestHealthcheckBelievesNoOtherProgram(t *testing.T) {
	t.Parallel()
	f := newWithoutDatabase(t, 30)
	for name, answer := range map[string]http.HandlerFunc{
		"says yes to all": func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<p>Welcome")) },
		"moved":           func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/elsewhere", http.StatusFound) },
		"finds nothing":   http.NotFound,
	} {
		other := httptest.NewServer(answer)
		t.Cleanup(other.Close)
		r := call(t, nil, "healthcheck", "--config", f.listening(t, `listen: "`+strings.TrimPrefix(other.URL, "http://")+`"`))
		if r.code != exitFailed {
			t.Errorf("%s: exit code %d", name, r.code)
		}
		assertContains(t, only(t, r.plainLines()), "does another program listen there?")
	}
}

func TestHealthcheckGivesUpOnSilence(t *testing.T) {
	t.Parallel()
	large(t)
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	f := newWithoutDatabase(t, 30)
	r := call(t, nil, "healthcheck", "--config", f.listening(t, `listen: "`+silent.Addr().String()+`"`))
	if r.code != exitFailed {
		t.Errorf("exit code %d", r.code)
	}
	assertContains(t, only(t, r.plainLines()), "is not alive: no answer within 4s")
}

func TestHealthcheckWithoutAnAddressIsAConfigurationError(t *testing.T) {
	t.Parallel()
	f := newWithoutDatabase(t, 30)
	for http, want := range map[string]string{
		`listen: ""`:            `http.listen and http.webhook_listen are both ""`,
		`listen: "127.0.0.1:0"`: "http.listen leaves the port to chance (0)",
	} {
		path := f.listening(t, http)
		r := call(t, nil, "healthcheck", "--config", path)
		if r.code != exitUsage {
			t.Errorf("%s: exit code %d", http, r.code)
		}
		assertContains(t, only(t, r.plainLines()), "syncd: "+path+": "+want)
	}
	if r := call(t, nil, "healthcheck", "--config", "/nowhere/config.yaml"); r.code != exitUsage {
		t.Errorf("no file: exit code %d", r.code)
	}
}
