package web

import (
	"context"
	"errors"
	"net/http"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"polarmirror/internal/recent"
	"polarmirror/internal/store"
)

// A Database is what health checks ask; a [store.Store] is one.
type Database interface {
	Serviceable(context.Context) error
	OrgStatus(context.Context, store.OrgStatusQuery) ([]store.OrgStatus, error)
}

// probeTimeout and probeKeep bound what health checks ask of the database:
// once a second at most, each question for two seconds at most.
const (
	probeTimeout = 2 * time.Second
	probeKeep    = time.Second
)

// Health answers the checks that need the database.
type Health struct {
	ready  *recent.Cache[struct{}, struct{}]
	status *recent.Cache[struct{}, []store.OrgStatus]
	maxLag time.Duration

	log    *zap.Logger
	broken atomic.Bool // as last seen
}

// NewHealth makes the checks. organizations are the configured ones; data
// older than maxLag is stale.
func NewHealth(db Database, organizations []store.Organization, maxLag time.Duration, log *zap.Logger) *Health {
	h := &Health{maxLag: maxLag, log: log}
	opts := recent.Options{Timeout: probeTimeout, Keep: probeKeep}
	h.ready = recent.New(opts, func(ctx context.Context, _ struct{}) (struct{}, error) {
		err := db.Serviceable(ctx)
		h.note(err)
		return struct{}{}, err
	})
	h.status = recent.New(opts, func(ctx context.Context, _ struct{}) ([]store.OrgStatus, error) {
		return db.OrgStatus(ctx, store.OrgStatusQuery{Organizations: organizations})
	})
	return h
}

// note logs when the database stops or begins to be of use, and not each probe.
func (h *Health) note(err error) {
	switch was := h.broken.Swap(err != nil); {
	case err != nil && !was:
		h.log.Warn("database not ready", zap.Error(err))
	case err == nil && was:
		h.log.Info("database ready again")
	}
}

type notReady struct {
	Ready  bool   `json:"ready"` // false
	Reason string `json:"reason"`
}

// readyz tells whether the database can be reached and written to, and is
// migrated. Trouble of one organization must not take webhooks from the others.
func (h *Health) readyz(w http.ResponseWriter, r *http.Request) {
	if _, err := h.ready.Get(r.Context(), struct{}{}); err != nil {
		answerJSON(w, http.StatusServiceUnavailable, notReady{Reason: reason(err)})
		return
	}
	answerJSON(w, http.StatusOK, map[string]bool{"ready": true})
}

// reason is why the database cannot be used, as it was observed: anyone may ask, so
// it names nothing that an error may hold.
func reason(err error) string {
	var schema *store.SchemaError
	switch {
	case errors.Is(err, store.ErrReadOnly):
		return "the database is read-only"
	case errors.As(err, &schema):
		return "the database's schema does not fit: " + schema.Problem
	case errors.Is(err, recent.ErrTimeout):
		return "the database does not answer in time"
	}
	if cause := store.Cause(err); cause != "" {
		return "the database cannot be used: " + cause
	}
	return "the database cannot be used"
}

type dataAnswer struct {
	Status        string            `json:"status"` // of the oldest organization's data, or unknown
	Reason        string            `json:"reason,omitempty"`
	MaxLagSeconds float64           `json:"max_lag_seconds"`
	Organizations []organizationAge `json:"organizations"`
}

type organizationAge struct {
	Organization string     `json:"organization"`
	Status       string     `json:"status"` // ok or stale
	Reason       string     `json:"reason,omitempty"`
	AgeSeconds   *float64   `json:"age_seconds"`  // null if no run ever succeeded, or if it is unknown when
	LastSuccess  *time.Time `json:"last_success"` // when the last successful run ended

	// WebhooksSilentSince is when a change was made at Polar that no webhook announced;
	// left out while they arrive.
	WebhooksSilentSince *time.Time `json:"webhooks_silent_since,omitempty"`
}

// data tells how old each organization's data is, counted from the start of the
// run that brought it.
func (h *Health) data(w http.ResponseWriter, r *http.Request) {
	answer := dataAnswer{Status: "ok", MaxLagSeconds: h.maxLag.Seconds(), Organizations: []organizationAge{}}
	list, err := h.status.Get(r.Context(), struct{}{})
	if err != nil {
		answer.Status, answer.Reason, list.Value = "unknown", reason(err), nil
	}
	for _, s := range list.Value {
		age := h.age(s, list.At)
		if age.Status != "ok" {
			answer.Status = "stale"
		}
		answer.Organizations = append(answer.Organizations, age)
	}
	status := http.StatusOK
	if answer.Status != "ok" {
		status = http.StatusServiceUnavailable
	}
	answerJSON(w, status, answer)
}

// age is how old the data is now; s was asked for at that time.
func (h *Health) age(s store.OrgStatus, at time.Time) organizationAge {
	o := organizationAge{Organization: s.Organization, Status: "stale"}
	if end := s.LastSuccess(); !end.IsZero() {
		o.LastSuccess = &end
	}
	if since := s.WebhooksSilentSince; !since.IsZero() {
		o.WebhooksSilentSince = &since
	}
	if s.Undated() {
		o.Reason = "the last successful run is dated later than now: the database's clock was ahead"
	}
	if s.Age == nil {
		return o
	}
	age := *s.Age + time.Since(at)
	if age <= h.maxLag {
		o.Status = "ok"
	}
	seconds := age.Round(time.Millisecond).Seconds()
	o.AgeSeconds = &seconds
	return o
}
