package main

import (
	"context"
	"time"
)

// The pace at which Polar answers in the phase paced: the latency of an ordinary
// request, and on top of it what its statements take.
const (
	polarLimit   = 500 // requests a minute
	pacedLatency = 150 * time.Millisecond
)

// A pacedReport is how well a first load uses its budget of requests.
type pacedReport struct {
	Rows        int     `json:"rows"`
	Requests    int64   `json:"requests"`
	RateLimited int64   `json:"answers_429"` // as the server counts them
	Seconds     float64 `json:"seconds"`
	Dictated    float64 `json:"seconds_that_the_limit_dictates"`
	Ratio       float64 `json:"ratio"`
	criteria    []criterion
}

func (b *bench) paced(ctx context.Context) (*pacedReport, error) {
	rows := b.opts.pacedRows
	b.say("%s customer meters, paced: this takes some %.0f minutes", count(rows), 1.4*float64(rows)/pageSize/polarLimit+0.5)
	p, err := startPolar(ctx, polarSpec{Rows: rows, Meters: usualMeters, RequestsPerMinute: polarLimit, Latency: pacedLatency, CostScale: 1})
	if err != nil {
		return nil, err
	}
	defer p.close()
	db, err := b.postgres.create(ctx, "paced")
	if err != nil {
		return nil, err
	}
	m, err := b.configure(p, db, syncdSetting{requestsPerMinute: polarLimit})
	if err != nil {
		return nil, err
	}
	if err := m.migrate(ctx); err != nil {
		return nil, err
	}
	taken, err := m.backfill(ctx, rows)
	if err != nil {
		return nil, err
	}
	served, err := p.do(ctx, "stats")
	if err != nil {
		return nil, err
	}
	r := &pacedReport{
		Rows: rows, Requests: taken.requests, RateLimited: served.RateLimited, Seconds: taken.wall.Seconds(),
		Dictated: float64(taken.requests) / polarLimit * 60,
	}
	r.Ratio = r.Seconds / r.Dictated
	r.criteria = []criterion{
		atMost("paced: time / time that the limit dictates", r.Ratio, 1.05),
		atMost("paced: answers 429", float64(r.RateLimited), 0),
	}
	return r, db.drop(ctx)
}
