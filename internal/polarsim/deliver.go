package polarsim

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"
)

const (
	webhookTimeout = 10 * time.Second // after which a delivery has failed
	webhookTries   = 10               // of one delivery
	webhooksAtOnce = 8                // requests
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
// deliveries; their zero values are a Polar that delivers each once.
type WebhookOptions struct {
	Endpoints  []WebhookEndpoint
	Seed       uint64
	FirstRetry time.Duration // after a failure; doubles with each further one; 0 means 1 s
	Transport  http.RoundTripper

	Duplicates float64       // delivered again, up to three times
	Late       float64       // held back, so that later ones overtake
	MaxDelay   time.Duration // of those held back and of duplicates; 0 means 1 s

	// Tricks that a receiver has to refuse, beside the genuine delivery. The first
	// two carry what is false and looks newer than anything true.
	Forged float64 // signed with a guessed key
	Stale  float64 // signed, with a timestamp of more than five minutes ago
	Astray float64 // signed for one organization, sent to another's endpoint
}

// WebhookStats count what was sent.
type WebhookStats struct {
	Sent           int // requests, tricks included
	Delivered      int // genuine ones that were taken, duplicates included
	Failed         int // tries of genuine ones
	GivenUp        int // after ten tries
	Tricks         int
	TricksAccepted int // of them, those that the receiver took
	Pending        int // waiting or under way
}

// Webhooks send what happens at a simulated Polar.
type Webhooks struct {
	server  *Server
	options WebhookOptions
	client  *http.Client
	ctx     context.Context // of what is under way
	stop    context.CancelFunc
	turns   chan struct{} // as many as there are requests under way
	sending sync.WaitGroup

	mu     sync.Mutex // guards what follows
	chance *rand.Rand
	stats  WebhookStats
}

// A delivery is one request to an endpoint, repeated until it is taken.
type delivery struct {
	id    string
	url   string
	key   string // signed with
	body  []byte
	age   time.Duration // of its timestamp
	trick bool          // to be refused; tried once
}

// StartWebhooks sends webhooks about every change from now on, until Close. Call it
// again only after that.
func (s *Server) StartWebhooks(o WebhookOptions) *Webhooks {
	o.FirstRetry = cmp.Or(o.FirstRetry, time.Second)
	o.MaxDelay = cmp.Or(o.MaxDelay, time.Second)
	w := &Webhooks{
		server:  s,
		options: o,
		client: &http.Client{
			Transport:     o.Transport,
			Timeout:       webhookTimeout,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		turns:  make(chan struct{}, webhooksAtOnce),
		chance: newRand(o.Seed, 4),
	}
	w.ctx, w.stop = context.WithCancel(context.Background())
	s.mu.Lock()
	defer s.mu.Unlock()
	s.webhooks = w
	return w
}

// Drain waits until everything has been delivered or given up.
func (w *Webhooks) Drain(ctx context.Context) error {
	for w.Stats().Pending > 0 {
		select {
		case <-time.After(5 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("deliver webhooks: %w (%d to go)", ctx.Err(), w.Stats().Pending)
		}
	}
	return nil
}

// Stats returns what was sent so far.
func (w *Webhooks) Stats() WebhookStats {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.stats
}

// Close sends nothing about further changes, forgets what was not delivered yet, and
// waits for what is under way.
func (w *Webhooks) Close() {
	w.server.mu.Lock()
	w.server.webhooks = nil
	w.server.mu.Unlock()
	w.stop()
	w.sending.Wait()
	w.client.CloseIdleConnections()
}

// deliver has an event delivered as the options say, and tricks that carry a lie.
func (w *Webhooks) deliver(organization uuid.UUID, body, lie []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	i := slices.IndexFunc(w.options.Endpoints, func(e WebhookEndpoint) bool { return e.OrganizationID == organization })
	if i < 0 {
		return
	}
	url, key := w.options.Endpoints[i].URL, w.options.Endpoints[i].key()
	happens := func(p float64) bool { return p > 0 && w.chance.Float64() < p }
	delay := func() time.Duration { return time.Duration(w.chance.Int64N(int64(w.options.MaxDelay))) }
	add := func(d delivery, delay time.Duration) {
		d.id = cmp.Or(d.id, "msg_"+newID(w.chance).String())
		w.stats.Pending++
		w.sending.Go(func() { w.send(d, delay) })
	}
	genuine := delivery{id: "msg_" + newID(w.chance).String(), url: url, key: key, body: body}
	wait := time.Duration(0)
	if happens(w.options.Late) {
		wait = delay()
	}
	add(genuine, wait)
	if happens(w.options.Duplicates) {
		for range 1 + w.chance.IntN(3) {
			add(genuine, wait+delay())
		}
	}
	if happens(w.options.Forged) {
		add(delivery{url: url, key: "polar_whs_guessed", body: lie, trick: true}, 0)
	}
	if happens(w.options.Stale) {
		age := 5*time.Minute + time.Duration(2+w.chance.IntN(100_000))*time.Second
		add(delivery{url: url, key: key, body: lie, age: age, trick: true}, 0)
	}
	for _, e := range w.options.Endpoints {
		if e.OrganizationID != organization && happens(w.options.Astray) {
			add(delivery{url: e.URL, key: key, body: body, trick: true}, 0)
		}
	}
}

// send makes a delivery's requests: the first after a while, and more until one is
// taken, it is given up, or the webhooks are closed.
func (w *Webhooks) send(d delivery, wait time.Duration) {
	for tries := 1; ; tries++ {
		select {
		case <-time.After(wait):
		case <-w.ctx.Done():
			return
		}
		w.turns <- struct{}{}
		taken := w.post(d)
		<-w.turns
		if w.count(d, tries, taken) {
			return
		}
		wait = w.options.FirstRetry << (tries - 1)
	}
}

// count counts what came of a try, and reports whether it was the last one.
func (w *Webhooks) count(d delivery, tries int, taken bool) (last bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stats.Sent++
	switch {
	case d.trick:
		w.stats.Tricks++
		if taken {
			w.stats.TricksAccepted++
		}
	case taken:
		w.stats.Delivered++
	case tries == webhookTries:
		w.stats.GivenUp++
	default:
		w.stats.Failed++
		return false
	}
	w.stats.Pending--
	return true
}

// post makes a delivery's request, signed anew, and reports whether it was taken.
func (w *Webhooks) post(d delivery) bool {
	r, err := http.NewRequestWithContext(w.ctx, http.MethodPost, d.url, bytes.NewReader(d.body))
	if err != nil {
		return false
	}
	at := time.Now().Add(-d.age)
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("User-Agent", "polar.sh webhooks")
	r.Header.Set("webhook-id", d.id)
	r.Header.Set("webhook-timestamp", fmt.Sprint(at.Unix()))
	r.Header.Set("webhook-signature", SignWebhook(d.key, d.id, at, d.body))
	answer, err := w.client.Do(r)
	if err != nil {
		return false
	}
	defer answer.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(answer.Body, 1<<16)) // so that the connection can be used again
	return answer.StatusCode/100 == 2
}
