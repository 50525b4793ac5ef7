package web

import (
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"polarmirror/internal/config"
)

func TestHealthIsAnsweredBeforeAnythingIsMounted(t *testing.T) {
	t.Parallel()
	r := newRig(t, Options{}, nil)
	if response, body := get(t, r.URL(), "/healthz"); response.StatusCode != 200 || body != "{\"alive\":true}\n" {
		t.Errorf("/healthz: %d %q", response.StatusCode, body)
	}
	for _, path := range []string{"/readyz", "/healthz/data", "/metrics", "/", "/customers/1"} {
		response, body := get(t, r.URL(), path)
		if response.StatusCode != 503 || !strings.Contains(body, `"reason":"starting`) || response.Header.Get("Retry-After") == "" {
			t.Errorf("%s: %d %q", path, response.StatusCode, body)
		}
	}
	r.Mount(*handlers(well()))
	if response, body := get(t, r.URL(), "/"); response.StatusCode != 200 || body != "the page" {
		t.Errorf("mounted: %d %q", response.StatusCode, body)
	}
}

func TestEachListenerServesWhatItIsFor(t *testing.T) {
	t.Parallel()
	one := newRig(t, Options{}, handlers(well()))
	two := newRig(t, Options{HTTP: config.HTTP{Listen: "127.0.0.1:0", WebhookListen: "127.0.0.1:0"}}, handlers(well()))
	alone := newRig(t, Options{HTTP: config.HTTP{WebhookListen: "127.0.0.1:0"}}, handlers(well()))
	if alone.URL() != "" || one.WebhookURL() != "" {
		t.Errorf("URLs of listeners that are off: %q, %q", alone.URL(), one.WebhookURL())
	}
	tests := []struct {
		path              string
		method            func(*http.Request)
		single, main, own int // status: all on one listener, the main one of two, the webhooks' own
	}{
		{"/healthz", nil, 200, 200, 200},
		{"/readyz", nil, 200, 200, 200},
		{"/healthz/data", nil, 200, 200, 200},
		{"/metrics", nil, 200, 200, 404},
		{"/", nil, 200, 200, 404},
		{"/customers/1", nil, 200, 200, 404},
		{"/webhooks/polar/acme", post, 202, 405, 202},
		{"/webhooks/polar/acme/", post, 202, 405, 202},
		{"/webhooks/polar/a/b", post, 405, 405, 404},
		{"/webhooks/polar/acme", nil, 202, 200, 202}, // its handler refuses the method
		{"/", post, 405, 405, 404},
		{"/metrics", post, 405, 405, 404},
		{"/healthz", post, 405, 405, 405},
	}
	for _, tt := range tests {
		var changes []func(*http.Request)
		if tt.method != nil {
			changes = append(changes, tt.method)
		}
		got := [4]int{}
		for i, base := range []string{one.URL(), two.URL(), two.WebhookURL(), alone.WebhookURL()} {
			response, body := get(t, base, tt.path, changes...)
			got[i] = response.StatusCode
			if got[i] == 202 && body != "acme\n" {
				t.Errorf("%s: the handler sees organization %q", tt.path, body)
			}
		}
		if want := [4]int{tt.single, tt.main, tt.own, tt.own}; got != want {
			t.Errorf("%s: got %v, want %v", tt.path, got, want)
		}
	}
}

func TestAddressThatCannotBeHadNamesTheSetting(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	address := taken.Addr().String()
	tests := []struct {
		http  config.HTTP
		want  string
		inUse bool
	}{
		{config.HTTP{Listen: address}, "http.listen: " + address + ` is in use by another program, perhaps another syncd; set another address, or "" to switch it off`, true},
		{config.HTTP{Listen: "127.0.0.1:0", WebhookListen: address}, "http.webhook_listen: " + address + " is in use by another program", true},
		{config.HTTP{Listen: "192.0.2.1:80"}, "http.listen: 192.0.2.1:80 is no address of this machine; set another", false},
		{config.HTTP{Listen: "nowhere.invalid:80"}, "http.listen: nowhere.invalid:80 cannot be listened on (", false},
	}
	for _, tt := range tests {
		_, err := Listen(t.Context(), Options{HTTP: tt.http, Log: zap.NewNop()})
		var listen *ListenError
		if !errors.As(err, &listen) || !strings.HasPrefix(err.Error(), tt.want) || listen.InUse() != tt.inUse {
			t.Errorf("got  %v\nwant %s", err, tt.want)
		}
	}
}

func TestEveryAnswerHasTheHeadersThatGuardBrowsers(t *testing.T) {
	t.Parallel()
	h := handlers(well())
	h.Page = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/own" {
			w.Header().Set("Content-Security-Policy", "default-src 'self'")
			return
		}
		http.NotFound(w, r)
	})
	r := newRig(t, Options{HTTP: config.HTTP{Token: fixed("right")}}, h)
	bearer := header("Authorization", "Bearer right")
	for _, path := range []string{"/healthz", "/metrics", "/nothing", "/own"} {
		for _, change := range []func(*http.Request){bearer, host("evil.example"), post} {
			response, _ := get(t, r.URL(), path, change)
			for name, want := range map[string]string{
				"X-Content-Type-Options": "nosniff",
				"X-Frame-Options":        "DENY",
				"Referrer-Policy":        "no-referrer",
				"Cache-Control":          "no-store",
			} {
				if got := response.Header.Get(name); got != want {
					t.Errorf("%s, status %d: %s is %q, want %q", path, response.StatusCode, name, got, want)
				}
			}
			if got := response.Header.Get("Content-Security-Policy"); !strings.Contains(got, "frame-ancestors 'none'") && got != "default-src 'self'" {
				t.Errorf("%s: policy %q", path, got)
			}
		}
	}
	if response, _ := get(t, r.URL(), "/own", bearer); response.Header.Get("Content-Security-Policy") != "default-src 'self'" {
		t.Errorf("a handler's own policy is lost: %q", response.Header.Get("Content-Security-Policy"))
	}
}

func TestObserverSeesPatternsAndNoPaths(t *testing.T) {
	t.Parallel()
	h := handlers(well())
	pages := http.NewServeMux()
	pages.Handle("GET /{$}", says("home"))
	pages.Handle("GET /customers/{id}", says("one"))
	h.Page = pages
	r := newRig(t, Options{}, h)
	for _, path := range []string{"/", "/customers/1", "/customers/2", "/healthz", "/nothing/4", "/nothing/5", "/metrics", "/%2e%2e/x", "//y"} {
		get(t, r.URL(), path)
	}
	get(t, r.URL(), "/webhooks/polar/acme", post)
	get(t, r.URL(), "/webhooks/polar/"+strings.Repeat("x", 99), post)
	get(t, r.URL(), "/elsewhere", post)
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	want := map[string]int{
		"GET /{$}": 1, "GET /customers/{id}": 2, "GET /healthz": 1, "GET /metrics": 1, "POST /webhooks/polar/{organization}": 2, "none": 4, "GET /": 1,
	}
	if d := cmp.Diff(want, r.served.routes); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

func TestPanicIsOneErrorAndTheServerGoesOn(t *testing.T) {
	t.Parallel()
	h := handlers(well())
	h.Page = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/half" {
			_, _ = io.WriteString(w, "half an ans")
			_ = http.NewResponseController(w).Flush()
		}
		panic("oh " + r.URL.Path)
	})
	r := newRig(t, Options{}, h)
	if response, body := get(t, r.URL(), "/whole"); response.StatusCode != 500 || strings.Contains(body, "oh ") {
		t.Errorf("%d %q", response.StatusCode, body)
	}
	response, err := http.Get(r.URL() + "half")
	if err != nil {
		t.Fatal(err)
	}
	if body, err := io.ReadAll(response.Body); err == nil {
		t.Errorf("half an answer looks like a whole one: %q", body)
	}
	_ = response.Body.Close()
	if response, _ := get(t, r.URL(), "/healthz"); response.StatusCode != 200 {
		t.Errorf("afterwards: %d", response.StatusCode)
	}
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	if got := r.logs.FilterMessage("request panicked").Len(); got != 2 {
		t.Errorf("%d lines for two panics", got)
	}
	if got := r.logs.FilterLevelExact(zapcore.WarnLevel).Len(); got != 0 {
		t.Errorf("net/http has logged too: %v", r.logs.All())
	}
}

func TestEndLetsRequestsFinish(t *testing.T) {
	t.Parallel()
	inside, goOn := make(chan struct{}), make(chan struct{})
	h := handlers(well())
	h.Page = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		inside <- struct{}{}
		<-goOn
		_, _ = io.WriteString(w, "done")
	})
	r := newRig(t, Options{}, h)
	slow := make(chan string, 1)
	go func() {
		response, err := http.Get(r.URL() + "slow")
		if err != nil {
			slow <- err.Error()
			return
		}
		defer response.Body.Close()
		body, _ := io.ReadAll(response.Body)
		slow <- string(body)
	}()
	<-inside
	stopped := make(chan error, 1)
	go func() { stopped <- r.stop() }()
	for { // until it no longer listens; the request is under way still
		conn, err := net.Dial("tcp", strings.TrimSuffix(strings.TrimPrefix(r.URL(), "http://"), "/"))
		if err != nil {
			break
		}
		_ = conn.Close()
		time.Sleep(time.Millisecond)
	}
	close(goOn)
	if err := <-stopped; err != nil {
		t.Errorf("serve: %v", err)
	}
	if got := <-slow; got != "done" {
		t.Errorf("the request under way got %q", got)
	}
	if _, err := http.Get(r.URL() + "healthz"); err == nil {
		t.Error("still listening")
	}
}
