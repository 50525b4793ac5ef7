package heartbeat

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"polarmirror/internal/fetch"
	"polarmirror/internal/secret"
	"polarmirror/internal/store"
)

const canary = "canary0secret"

// An env is organizations whose runs end as a test says, and a watchdog.
type env struct {
	mu      sync.Mutex
	state   map[string]store.OrgStatus
	broken  error // of the look
	refuses error // of the call
	status  int
	beats   []time.Time
	sent    int
	failed  int
	logs    *observer.ObservedLogs
}

func newEnv(t testing.TB, names ...string) (*env, *Pulse) {
	t.Helper()
	core, logs := observer.New(zapcore.DebugLevel)
	w := &env{state: map[string]store.OrgStatus{}, status: http.StatusOK, logs: logs}
	for _, name := range names {
		w.state[name] = store.OrgStatus{Organization: name}
	}
	p := New(Options{
		URL:    secret.New("https://watchdog.test/ping/" + canary),
		Status: w.statuses,
		Sent:   w.told,
		Log:    zap.New(core),
	})
	p.client.Transport = w
	return w, p
}

func (w *env) statuses(context.Context) ([]store.OrgStatus, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	var list []store.OrgStatus
	for _, f := range w.state {
		list = append(list, f)
	}
	return list, w.broken
}

func (w *env) RoundTrip(r *http.Request) (*http.Response, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.beats = append(w.beats, time.Now())
	if w.refuses != nil {
		return nil, w.refuses
	}
	header := http.Header{"Location": {"https://elsewhere.test/"}}
	return &http.Response{StatusCode: w.status, Header: header, Body: io.NopCloser(strings.NewReader("OK")), Request: r}, nil
}

func (w *env) told(sent bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if sent {
		w.sent++
	} else {
		w.failed++
	}
}

// ends reports the end of a run of each organization.
func (w *env) ends(failing bool, names ...string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, name := range names {
		f := w.state[name]
		f.Organization, f.Failed = name, store.Failure{}
		if failing {
			f.Failed.Kind = store.Incremental
		} else {
			f.LastIncremental.ID++ // its times are not looked at: a clock may have been ahead
		}
		w.state[name] = f
	}
}

func (w *env) calls() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.beats)
}

// running runs p until the test's bubble ends.
func running(t testing.TB, p *Pulse) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var group sync.WaitGroup
	group.Go(func() { _ = p.Run(ctx) }) // nil: it was told to end
	synctest.Wait()                     // for the first look
	t.Cleanup(func() {
		cancel()
		group.Wait()
	})
}

func TestOneBeatAfterEachRoundInWhichAllSucceeded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w, p := newEnv(t, "acme", "globex")
		w.ends(false, "acme", "globex") // before the start
		time.Sleep(time.Minute)
		running(t, p)
		step := func(what string, failing bool, want int, names ...string) {
			t.Helper()
			time.Sleep(time.Minute)
			w.ends(failing, names...)
			time.Sleep(10 * time.Second)
			synctest.Wait()
			if got := w.calls(); got != want {
				t.Errorf("%s: %d beats, want %d", what, got, want)
			}
		}
		step("nothing new", false, 0)
		step("one of two", false, 0, "acme")
		step("the same again", false, 0, "acme")
		step("the other too", false, 1, "globex")
		step("one of the next round", false, 1, "globex")
		step("one fails", true, 1, "acme")
		step("the other goes on", false, 1, "globex")
		step("it succeeds again", false, 2, "acme")
		step("both at once", false, 3, "acme", "globex")
		step("a new organization", false, 3, "initech")
		step("the others", false, 4, "acme", "globex")
	})
}

func TestRunsOfARestoredDatabaseCount(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w, p := newEnv(t, "acme")
		for range 1000 {
			w.ends(false, "acme")
		}
		running(t, p)
		w.mu.Lock()
		w.state["acme"] = store.OrgStatus{Organization: "acme", LastIncremental: store.LastRun{ID: 7}} // as of the backup
		w.mu.Unlock()
		time.Sleep(time.Minute)
		if w.calls() != 0 {
			t.Error("a beat, though no run has succeeded since the start")
		}
		w.ends(false, "acme")
		time.Sleep(time.Minute)
		if w.calls() != 1 {
			t.Errorf("%d beats after a run on the restored database, want 1", w.calls())
		}
	})
}

func TestManyRunsThatEndTogetherCostFewLooks(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w, p := newEnv(t, "acme")
		looks := 0
		fresh := p.opts.Status
		p.opts.Status = func(ctx context.Context) ([]store.OrgStatus, error) {
			looks++
			return fresh(ctx)
		}
		running(t, p)
		for range 600 {
			w.ends(false, "acme")
			time.Sleep(10 * time.Millisecond)
		}
		synctest.Wait()
		if looks > 4 || w.calls() < 2 {
			t.Errorf("%d looks and %d beats in six seconds", looks, w.calls())
		}
	})
}

func TestFailedBeatIsTriedAgainWithoutAStorm(t *testing.T) {
	t.Parallel()
	tests := map[string]func(w *env){
		"refused":    func(w *env) { w.refuses = errors.New("refused " + canary) },
		"500":        func(w *env) { w.status = 500 },
		"a redirect": func(w *env) { w.status = 302 },
		"404":        func(w *env) { w.status = 404 },
		"not to be had": func(w *env) {
			w.refuses = &url.Error{Op: "Get", URL: "https://watchdog.test/" + canary, Err: errors.New(canary)}
		},
	}
	for name, breaks := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w, p := newEnv(t, "acme")
				running(t, p)
				breaks(w)
				for range 600 { // runs end all the time
					w.ends(false, "acme")
					time.Sleep(time.Second)
				}
				synctest.Wait()
				if got := w.calls(); got < 15 || got > 21 || w.failed != got || w.sent != 0 {
					t.Errorf("%d calls in ten minutes, %d told as failed, %d as sent", got, w.failed, w.sent)
				}
				w.mu.Lock()
				w.refuses, w.status, w.beats = nil, 200, nil
				w.mu.Unlock()
				time.Sleep(time.Minute) // no run ends; the retry alone sends it
				synctest.Wait()
				if got := w.calls(); got != 1 || w.sent != 1 {
					t.Errorf("%d calls after the watchdog came back", got)
				}
				if shown := fmt.Sprint(w.logs.All()); strings.Contains(shown, canary) || !strings.Contains(shown, "no heartbeat") {
					t.Errorf("the log: %s", shown)
				}
			})
		})
	}
}

func TestUnknownStateIsNoBeat(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w, p := newEnv(t, "acme")
		w.broken = errors.New("down")
		running(t, p)
		w.ends(false, "acme")
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if w.calls() != 0 {
			t.Errorf("%d beats while the database is down", w.calls())
		}
		w.mu.Lock()
		w.broken = nil
		w.mu.Unlock()
		time.Sleep(time.Minute) // what succeeded meanwhile is the new beginning
		w.ends(false, "acme")
		time.Sleep(time.Minute)
		synctest.Wait()
		if w.calls() != 1 {
			t.Errorf("%d beats after the next round", w.calls())
		}
	})
}

func TestHungWatchdogIsGivenUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		_, p := newEnv(t, "acme")
		p.client.Transport = hang{}
		began := time.Now()
		err := p.Send(t.Context())
		if err == nil || strings.Contains(err.Error(), canary) || time.Since(began) != sendTimeout {
			t.Errorf("%v after %v", err, time.Since(began))
		}
	})
}

type hang struct{}

func (hang) RoundTrip(r *http.Request) (*http.Response, error) {
	<-r.Context().Done()
	return nil, r.Context().Err()
}

func ignore(bool) {}

func TestBeatIsOneGetOfTheAddress(t *testing.T) {
	t.Parallel()
	got := make(chan string, 2)
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		got <- r.Method + " " + r.URL.String() + " " + r.UserAgent()
	}))
	t.Cleanup(s.Close)
	p := New(Options{URL: secret.New(s.URL + "/ping/" + canary + "?rid=1"), UserAgent: "syncd/1", Sent: ignore})
	if err := p.Send(t.Context()); err != nil {
		t.Fatal(err)
	}
	if want := "GET /ping/" + canary + "?rid=1 syncd/1"; <-got != want {
		t.Errorf("want %s", want)
	}
	address := s.URL
	s.Close()
	p = New(Options{URL: secret.New(address + "/" + canary), Sent: ignore})
	if err := p.Send(t.Context()); err == nil || strings.Contains(err.Error(), canary) || !strings.Contains(err.Error(), "refused") {
		t.Errorf("nobody listens: %v", err)
	}
}

func TestHeartbeatNamesTheProxyThatIsInTheWay(t *testing.T) {
	t.Parallel()
	refuses := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusProxyAuthRequired) }))
	t.Cleanup(refuses.Close)
	gone := httptest.NewServer(nil)
	gone.Close()
	for _, tt := range []struct{ target, proxy, says string }{
		{"https://watchdog.test", refuses.URL, "refused access to watchdog.test:443: status 407"},
		{"http://watchdog.test", refuses.URL, "refused access to watchdog.test: status 407"},
		{"https://watchdog.test", gone.URL, "connection refused"},
		{"http://watchdog.test", gone.URL, "connection refused"},
	} {
		proxy, err := url.Parse(tt.proxy)
		if err != nil {
			t.Fatal(err)
		}
		proxy.User = url.UserPassword("operator", canary)
		transport := fetch.NewTransport()
		transport.Proxy = http.ProxyURL(proxy)
		p := New(Options{URL: secret.New(tt.target + "/ping/" + canary), Sent: ignore})
		p.client.Transport = transport
		err = p.Send(t.Context())
		if err == nil || strings.Contains(err.Error(), canary) || !strings.Contains(err.Error(), tt.says) || !strings.Contains(err.Error(), "proxy "+proxy.Host) {
			t.Errorf("%s by way of %s: %v", tt.target, tt.proxy, err)
		}
	}
}
