package polarsim

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"github.com/google/uuid"
)

const (
	webhookTimeout = 10 * time.Second // after which a delivery has failed
	webhookTries   = 10               // of one delivery
	webhookPatient = 10               // deliveries given up in a row before the endpoint is disabled
)

// A WebhookEndpoint is where the webhooks of an organization go.
type WebhookEndpoint struct {
	OrganizationID uuid.UUID
	URL            string
	Secret         string // the whole text that Polar's dashboard shows
	// Generated says that Polar itself made the secret, in September 2026 or
	// later: the key is the base64 behind whsec_. Otherwise the key is the bytes
	// of the whole text.
	Generated bool
}

// String hides the secret.
func (e WebhookEndpoint) String() string { return e.OrganizationID.String() + " " + e.URL }

// GoString hides the secret.
func (e WebhookEndpoint) GoString() string { return e.String() }

// WebhookOptions say where webhooks go, and how badly. Fractions are of the
// deliveries; their zero values are a Polar that delivers each once, in order
// as far as deliveries side by side allow.
type WebhookOptions struct {
	Endpoints  []WebhookEndpoint
	Seed       uint64
	InFlight   int           // deliveries side by side; 0 means 4
	FirstRetry time.Duration // after a failure; doubles with each further one; 0 means 1 s
	Transport  http.RoundTripper

	Duplicates float64       // delivered again, up to three times
	Late       float64       // held back, so that later ones overtake
	MaxDelay   time.Duration // of those held back and of duplicates; 0 means 1 s

	// Tricks that a receiver has to refuse, beside the genuine delivery. What they
	// carry is false and looks newer than anything true.
	Forged float64 // signed by no one who may, or changed after signing
	Stale  float64 // signed, with a timestamp of more than five minutes ago
	Astray float64 // signed for one organization, sent to another's endpoint
}

// WebhookStats count what was sent.
type WebhookStats struct {
	Sent           int // requests, tricks included
	Delivered      int // genuine ones that were taken, duplicates included
	Failed         int // tries of genuine ones
	GivenUp        int // after ten tries, or because the endpoint was disabled
	Tricks         int
	TricksAccepted int // of them, those that the receiver took
	Pending        int // waiting or under way
}

// Webhooks send what happens at a simulated Polar.
type Webhooks struct {
	options WebhookOptions
	client  *http.Client
	stop    context.CancelFunc
	stopped sync.WaitGroup
	woken   chan struct{} // holds one

	mu        sync.Mutex // guards what follows
	endpoints map[uuid.UUID]*endpoint
	queue     deliveries
	made      uint64
	open      int           // in the queue or under way
	idle      chan struct{} // closed when open comes to 0
	chance    *rand.Rand
	stats     WebhookStats
}

type endpoint struct {
	WebhookEndpoint
	key      []byte
	failures int // deliveries given up in a row
}

func (e *endpoint) disabled() bool { return e.failures >= webhookPatient }

// StartWebhooks sends webhooks about every change from now on, until Close. It
// is an error if they are sent already, or if a secret that is said to be
// generated is none that Polar generates.
func (s *Server) StartWebhooks(o WebhookOptions) (*Webhooks, error) {
	if o.InFlight <= 0 {
		o.InFlight = 4
	}
	if o.FirstRetry <= 0 {
		o.FirstRetry = time.Second
	}
	if o.MaxDelay <= 0 {
		o.MaxDelay = time.Second
	}
	endpoints := map[uuid.UUID]*endpoint{}
	for _, e := range o.Endpoints {
		key, err := e.key()
		if err != nil {
			return nil, err
		}
		endpoints[e.OrganizationID] = &endpoint{WebhookEndpoint: e, key: key}
	}
	ctx, stop := context.WithCancel(context.Background())
	w := &Webhooks{
		options: o,
		client: &http.Client{
			Transport:     o.Transport,
			Timeout:       webhookTimeout,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		stop:      stop,
		woken:     make(chan struct{}, 1),
		endpoints: endpoints,
		idle:      make(chan struct{}),
		chance:    newRand(o.Seed, 4),
	}
	close(w.idle)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.webhooks != nil {
		stop()
		return nil, errors.New("webhooks are sent already")
	}
	s.webhooks = w
	w.stopped.Go(func() { w.run(ctx) })
	return w, nil
}

// StopWebhooks sends no more about changes. What waits is still sent.
func (s *Server) StopWebhooks() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.webhooks = nil
}

// Drain waits until everything has been delivered or given up.
func (w *Webhooks) Drain(ctx context.Context) error {
	w.mu.Lock()
	idle := w.idle
	w.mu.Unlock()
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("deliver webhooks: %w (%d to go)", ctx.Err(), w.Stats().Pending)
	}
}

// Stats returns what was sent so far.
func (w *Webhooks) Stats() WebhookStats {
	w.mu.Lock()
	defer w.mu.Unlock()
	stats := w.stats
	stats.Pending = w.open
	return stats
}

// Close forgets what was not delivered yet, and waits for what is under way.
func (w *Webhooks) Close() error {
	w.stop()
	w.stopped.Wait()
	w.client.CloseIdleConnections()
	return nil
}
