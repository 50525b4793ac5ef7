package polarsim

import (
	"bytes"
	"context"
	"errors"
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
	queue     []*delivery   // those that wait, the next one first
	idle      chan struct{} // closed when nothing is pending
	chance    *rand.Rand
	stats     WebhookStats
}

type endpoint struct {
	WebhookEndpoint
	key      []byte
	failures int // deliveries given up in a row
}

// A delivery is one request to an endpoint, repeated until it is taken.
type delivery struct {
	id     string
	to     *endpoint // whose URL is called
	key    []byte    // signed with
	signed []byte    // what is signed
	body   []byte    // what is sent
	age    time.Duration
	trick  bool // to be refused; tried once
	bare   bool // without a signature
	due    time.Time
	tries  int
}

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
		endpoints: make(map[uuid.UUID]*endpoint),
		idle:      make(chan struct{}),
		chance:    newRand(o.Seed, 4),
	}
	close(w.idle)
	for _, e := range o.Endpoints {
		key, err := e.key()
		if err != nil {
			stop()
			return nil, err
		}
		w.endpoints[e.OrganizationID] = &endpoint{WebhookEndpoint: e, key: key}
	}
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
	return w.stats
}

// Close forgets what was not delivered yet, and waits for what is under way.
func (w *Webhooks) Close() error {
	w.stop()
	w.stopped.Wait()
	w.client.CloseIdleConnections()
	return nil
}

// enqueue has an event delivered as the options say, and tricks that carry a lie.
func (w *Webhooks) enqueue(organization uuid.UUID, body, lie []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	to := w.endpoints[organization]
	if to == nil {
		return
	}
	happens := func(p float64) bool { return p > 0 && w.chance.Float64() < p }
	delay := func() time.Duration { return time.Duration(w.chance.Int64N(int64(w.options.MaxDelay))) }
	create := func(body []byte, trick bool) *delivery {
		return &delivery{id: "msg_" + newID(w.chance).String(), to: to, key: to.key, signed: body, body: body, due: time.Now(), trick: trick}
	}
	add := func(d *delivery) {
		w.open()
		w.wait(d)
	}
	genuine := create(body, false)
	if happens(w.options.Late) {
		genuine.due = genuine.due.Add(delay())
	}
	add(genuine)
	if happens(w.options.Duplicates) {
		for range 1 + w.chance.IntN(3) {
			again := *genuine
			again.due = again.due.Add(delay())
			add(&again)
		}
	}
	if happens(w.options.Forged) {
		d := create(lie, true)
		switch w.chance.IntN(5) {
		case 0:
			d.key = []byte("polar_whs_guessed")
		case 1:
			d.signed = body // changed on its way
		case 2:
			d.bare = true
		case 3:
			d.key = nil // what a receiver may make of a secret that it fails to decode
		default:
			d.key = append(slices.Clip(to.key), 'x')
		}
		add(d)
	}
	if happens(w.options.Stale) {
		d := create(lie, true)
		d.age = 5*time.Minute + time.Duration(2+w.chance.IntN(100_000))*time.Second
		add(d)
	}
	if happens(w.options.Astray) {
		d := create(body, true)
		for _, e := range w.options.Endpoints {
			if e.OrganizationID != organization {
				d.to = w.endpoints[e.OrganizationID]
				add(d)
				break
			}
		}
	}
}

// open counts a delivery that is new.
func (w *Webhooks) open() {
	if w.stats.Pending == 0 {
		w.idle = make(chan struct{})
	}
	w.stats.Pending++
}

// wait puts a delivery behind those that are due no later.
func (w *Webhooks) wait(d *delivery) {
	i, _ := slices.BinarySearchFunc(w.queue, d, func(other, d *delivery) int {
		if other.due.After(d.due) {
			return 1
		}
		return -1
	})
	w.queue = slices.Insert(w.queue, i, d)
	select {
	case w.woken <- struct{}{}:
	default:
	}
}

// next takes the delivery that is due, or returns how long to wait for one.
func (w *Webhooks) next(now time.Time) (*delivery, time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.queue) == 0 {
		return nil, time.Hour
	}
	d := w.queue[0]
	if wait := d.due.Sub(now); wait > 0 {
		return nil, wait
	}
	w.queue = w.queue[1:]
	return d, 0
}

func (w *Webhooks) run(ctx context.Context) {
	var flying sync.WaitGroup
	defer flying.Wait()
	places := make(chan struct{}, w.options.InFlight)
	for ctx.Err() == nil {
		d, wait := w.next(time.Now())
		if d == nil {
			select {
			case <-ctx.Done():
			case <-w.woken:
			case <-time.After(wait):
			}
			continue
		}
		select {
		case <-ctx.Done():
			return
		case places <- struct{}{}:
		}
		flying.Go(func() {
			defer func() { <-places }()
			w.attempt(ctx, d)
		})
	}
}

// attempt sends a delivery and counts what came of it.
func (w *Webhooks) attempt(ctx context.Context, d *delivery) {
	w.mu.Lock()
	disabled := d.to.failures >= webhookPatient
	w.mu.Unlock()
	status := 0
	if !disabled {
		status = w.send(ctx, d)
	}
	taken := status >= 200 && status < 300
	d.tries++

	w.mu.Lock()
	defer w.mu.Unlock()
	if !disabled {
		w.stats.Sent++
	}
	switch {
	case d.trick:
		w.stats.Tricks++
		if taken {
			w.stats.TricksAccepted++
		}
	case taken:
		w.stats.Delivered++
		d.to.failures = 0
	case disabled || d.tries >= webhookTries:
		w.stats.GivenUp++
		d.to.failures++
	default:
		w.stats.Failed++
		d.due = time.Now().Add(w.options.FirstRetry << (d.tries - 1))
		w.wait(d)
		return
	}
	if w.stats.Pending--; w.stats.Pending == 0 {
		close(w.idle)
	}
}

// send makes the request and returns its status, 0 if there was none.
func (w *Webhooks) send(ctx context.Context, d *delivery) int {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, d.to.URL, bytes.NewReader(d.body))
	if err != nil {
		return 0
	}
	at := time.Now().Add(-d.age)
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("User-Agent", "polar.sh webhooks")
	r.Header.Set("webhook-id", d.id)
	r.Header.Set("webhook-timestamp", fmt.Sprint(at.Unix()))
	if !d.bare {
		r.Header.Set("webhook-signature", SignWebhookKey(d.key, d.id, at, d.signed))
	}
	answer, err := w.client.Do(r)
	if err != nil {
		return 0
	}
	defer answer.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(answer.Body, 1<<16)) // so that the connection can be used again
	return answer.StatusCode
}
