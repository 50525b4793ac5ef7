package polarsim

import (
	"bytes"
	"container/heap"
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"
)

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
	number uint64 // in order of making, among those due at one time
	tries  int
}

// deliveries is a heap of those that wait.
type deliveries []*delivery

func (q deliveries) Len() int { return len(q) }
func (q deliveries) Less(i, j int) bool {
	if !q[i].due.Equal(q[j].due) {
		return q[i].due.Before(q[j].due)
	}
	return q[i].number < q[j].number
}
func (q deliveries) Swap(i, j int) { q[i], q[j] = q[j], q[i] }

// Push is for package heap.
func (q *deliveries) Push(d any) { *q = append(*q, d.(*delivery)) }

// Pop is for package heap.
func (q *deliveries) Pop() any {
	old := *q
	d := old[len(old)-1]
	old[len(old)-1] = nil
	*q = old[:len(old)-1]
	return d
}

// enqueue has an event delivered as the options say. lie returns one that is not
// true.
func (w *Webhooks) enqueue(organization uuid.UUID, body []byte, lie func() []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	to := w.endpoints[organization]
	if to == nil {
		return
	}
	o := &w.options
	genuine := w.newDelivery(to, body)
	if w.happens(o.Late) {
		genuine.due = genuine.due.Add(w.delay())
	}
	w.push(genuine)
	if w.happens(o.Duplicates) {
		for range 1 + w.chance.IntN(3) {
			again := *genuine
			again.due = again.due.Add(w.delay())
			w.push(&again)
		}
	}
	if w.happens(o.Forged) {
		w.push(w.forged(to, body, lie()))
	}
	if w.happens(o.Stale) {
		d := w.newDelivery(to, lie())
		d.trick, d.age = true, 5*time.Minute+time.Duration(2+w.chance.IntN(100_000))*time.Second
		w.push(d)
	}
	if other := w.another(to); other != nil && w.happens(o.Astray) {
		d := w.newDelivery(to, body)
		d.trick, d.to = true, other
		w.push(d)
	}
	select {
	case w.woken <- struct{}{}:
	default:
	}
}

func (w *Webhooks) newDelivery(to *endpoint, body []byte) *delivery {
	return &delivery{id: "msg_" + newID(w.chance).String(), to: to, key: to.key, signed: body, body: body, due: time.Now()}
}

// forged returns a delivery that was not signed by who may sign it.
func (w *Webhooks) forged(to *endpoint, body, lie []byte) *delivery {
	d := w.newDelivery(to, lie)
	d.trick = true
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
	return d
}

// another returns an endpoint of another organization, or nil.
func (w *Webhooks) another(than *endpoint) *endpoint {
	for _, e := range w.options.Endpoints {
		if e.OrganizationID != than.OrganizationID {
			return w.endpoints[e.OrganizationID]
		}
	}
	return nil
}

func (w *Webhooks) happens(p float64) bool { return p > 0 && w.chance.Float64() < p }

func (w *Webhooks) delay() time.Duration {
	return time.Duration(w.chance.Int64N(int64(w.options.MaxDelay)))
}

// push adds a delivery that is new.
func (w *Webhooks) push(d *delivery) {
	if w.open == 0 {
		w.idle = make(chan struct{})
	}
	w.open++
	w.made++
	d.number = w.made
	heap.Push(&w.queue, d)
}

// next takes the delivery that is due, or returns how long to wait for one.
func (w *Webhooks) next(now time.Time) (*delivery, time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.queue) == 0 {
		return nil, time.Hour
	}
	if wait := w.queue[0].due.Sub(now); wait > 0 {
		return nil, wait
	}
	return heap.Pop(&w.queue).(*delivery), 0
}

func (w *Webhooks) run(ctx context.Context) {
	var flying sync.WaitGroup
	defer flying.Wait()
	places := make(chan struct{}, w.options.InFlight)
	for ctx.Err() == nil {
		d, wait := w.next(time.Now())
		if d == nil {
			timer := time.NewTimer(wait)
			select {
			case <-ctx.Done():
			case <-w.woken:
			case <-timer.C:
			}
			timer.Stop()
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

// attempt sends a delivery and books what came of it.
func (w *Webhooks) attempt(ctx context.Context, d *delivery) {
	w.mu.Lock()
	disabled := d.to.disabled()
	w.mu.Unlock()
	status, sent := 0, false
	if !disabled {
		status, sent = w.send(ctx, d), true
	}
	taken := status >= 200 && status < 300
	d.tries++

	w.mu.Lock()
	defer w.mu.Unlock()
	again := false
	if sent {
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
		again = true
		d.due = time.Now().Add(w.options.FirstRetry << (d.tries - 1))
		heap.Push(&w.queue, d)
		select {
		case w.woken <- struct{}{}:
		default:
		}
	}
	if !again {
		if w.open--; w.open == 0 {
			close(w.idle)
		}
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
