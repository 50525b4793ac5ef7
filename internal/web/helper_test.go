package web

import (
	"context"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"polarmirror/internal/config"
	"polarmirror/internal/secret"
	"polarmirror/internal/store"
)

// canary is part of every secret in the tests; no answer and no log may hold it.
const canary = "canary0secret"

// A rig is a server that answers, and what it told the observer and the log.
type rig struct {
	*Server
	served *served
	logs   *observer.ObservedLogs
	stop   func() error // ends it and returns what Serve returned
}

// served remembers what a server answered.
type served struct {
	mu     sync.Mutex
	routes map[string]int
	status map[int]int
}

func (s *served) Served(route string, status int, _ time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.routes[route]++
	s.status[status]++
}

// newRig serves on loopback with the given options, mounted with h unless nil.
func newRig(t testing.TB, o Options, h *Handlers) *rig {
	t.Helper()
	core, logs := observer.New(zapcore.DebugLevel)
	r := &rig{served: &served{routes: map[string]int{}, status: map[int]int{}}, logs: logs}
	if o.HTTP.Listen == "" && o.HTTP.WebhookListen == "" {
		o.HTTP.Listen = "127.0.0.1:0"
	}
	o.Observe, o.Log = r.served.Served, zap.New(core)
	server, err := Listen(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	r.Server = server
	if h != nil {
		server.Mount(*h)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(ctx) }()
	r.stop = sync.OnceValue(func() error {
		cancel()
		return <-ended
	})
	t.Cleanup(func() {
		if err := r.stop(); err != nil {
			t.Error(err)
		}
	})
	return r
}

// get asks for base + path; changes alter the request.
func get(t testing.TB, base, path string, changes ...func(*http.Request)) (*http.Response, string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, strings.TrimSuffix(base, "/")+path, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	for _, change := range changes {
		change(request)
	}
	response, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(body), canary) {
		t.Errorf("%s shows a secret: %s", path, body)
	}
	return response, string(body)
}

func post(r *http.Request)                 { r.Method = http.MethodPost }
func host(name string) func(*http.Request) { return func(r *http.Request) { r.Host = name } }

func header(name, value string) func(*http.Request) {
	return func(r *http.Request) { r.Header.Set(name, value) }
}

// says answers with a text.
func says(text string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, text) })
}

// fake is a Database that answers as a test wants it to.
type fake struct {
	ready  func(context.Context) error
	status func(context.Context) ([]store.OrgStatus, error)
}

func (f fake) Serviceable(ctx context.Context) error { return f.ready(ctx) }

func (f fake) OrgStatus(ctx context.Context, _ store.OrgStatusQuery) ([]store.OrgStatus, error) {
	return f.status(ctx)
}

// well is a database without trouble.
func well() fake {
	return fake{
		ready:  func(context.Context) error { return nil },
		status: func(context.Context) ([]store.OrgStatus, error) { return nil, nil },
	}
}

// handlers are ones of every kind, over db.
func handlers(db Database) *Handlers {
	return &Handlers{
		Page: says("the page"),
		Webhooks: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			answerText(w, http.StatusAccepted, "%s", r.PathValue("organization"))
		}),
		Metrics: says("the metrics"),
		Health:  NewHealth(db, nil, time.Hour, zap.NewNop()),
	}
}

func fixed(text string) config.Credential { return config.Credential{Value: secret.New(text)} }
