package fetch

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"polarmirror/internal/secret"
)

const (
	testToken = "polar_oat_S3cr3tS3cr3tS3cr3t"
	emptyPage = `{"items":[],"pagination":{"total_count":0,"max_page":0}}`
	meterID   = "b4a33ab9-2b3c-4b39-9d4b-2e7b3a0c1d01"
	oneItem   = `{"id":"` + meterID + `","created_at":"2026-04-01T12:34:56Z","modified_at":null,
		"customer_id":"0a3c1f7e-5d2b-4c1a-8e4f-6b7a8c9d0e02","meter_id":"7f2e4d6c-8b1a-4f3e-a5d7-9c0b1e2f3a03",
		"consumed_units":1.50,"credited_units":2,"balance":0.50,
		"customer":{"id":"0a3c1f7e-5d2b-4c1a-8e4f-6b7a8c9d0e02","created_at":"2026-03-01T08:00:00Z","modified_at":null,
			"organization_id":"1dbfc517-0bbf-4301-9ba8-555ca42b9737"},
		"meter":{"id":"7f2e4d6c-8b1a-4f3e-a5d7-9c0b1e2f3a03","created_at":"2026-03-01T08:00:00Z","modified_at":null,
			"organization_id":"1dbfc517-0bbf-4301-9ba8-555ca42b9737","name":"calls"}}`
	onePage = `{"items":[` + oneItem + `],"pagination":{"total_count":1,"max_page":1}}`
)

// roundTrip is an in-memory server.
type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// answer makes a response; header lists names and values in turn.
func answer(status int, body string, header ...string) *http.Response {
	h := http.Header{"Content-Type": {"application/json"}}
	for i := 0; i+1 < len(header); i += 2 {
		h.Set(header[i], header[i+1])
	}
	return &http.Response{
		StatusCode:    status,
		Header:        h,
		Body:          io.NopCloser(strings.NewReader(body)),
		ContentLength: int64(len(body)),
	}
}

// A server answers with its steps in turn, the last one for ever, and notes when
// each request came.
type server struct {
	steps []roundTrip

	mu    sync.Mutex
	times []time.Time
}

func (s *server) RoundTrip(r *http.Request) (*http.Response, error) {
	s.mu.Lock()
	n := len(s.times)
	s.times = append(s.times, time.Now())
	s.mu.Unlock()
	return s.steps[min(n, len(s.steps)-1)](r)
}

func (s *server) arrivals() []time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]time.Time(nil), s.times...)
}

// Steps of a server.

func ok(*http.Request) (*http.Response, error) { return answer(200, onePage), nil }

func say(status int, body string, header ...string) roundTrip {
	return func(*http.Request) (*http.Response, error) { return answer(status, body, header...), nil }
}

func refuse(*http.Request) (*http.Response, error) { return nil, errors.New("connection refused") }

// hang answers when the request's context ends.
func hang(r *http.Request) (*http.Response, error) {
	<-r.Context().Done()
	return nil, r.Context().Err()
}

func cutBody(*http.Request) (*http.Response, error) {
	response := answer(200, onePage[:100])
	response.ContentLength = int64(len(onePage))
	return response, nil
}

// slow answers after d, or fails when the request's context ends.
func slow(d time.Duration, step roundTrip) roundTrip {
	return func(r *http.Request) (*http.Response, error) {
		if err := sleep(r.Context(), d); err != nil {
			return nil, err
		}
		return step(r)
	}
}

func options(transport http.RoundTripper) Options {
	return Options{
		Organization: "acme",
		UserAgent:    "syncd",
		BaseURL:      "https://api.polar.sh",
		Token:        StaticToken(secret.New(testToken)),
		Retry:        Retry{RetryConnectionErrors: true},
		Transport:    transport,
	}
}

func newClient(t testing.TB, o Options) *Client {
	t.Helper()
	c, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func testID(t testing.TB) uuid.UUID {
	t.Helper()
	return uuid.MustParse(meterID)
}

// observed returns a logger and a function that renders all it logged.
func observed(t testing.TB) (*zap.Logger, func() string) {
	t.Helper()
	core, logs := observer.New(zapcore.DebugLevel)
	return zap.New(core), func() string {
		var out bytes.Buffer
		enc := zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig())
		for _, e := range logs.All() {
			line, err := enc.EncodeEntry(e.Entry, e.Context)
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprint(&out, line.String())
		}
		return out.String()
	}
}
