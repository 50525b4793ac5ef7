package main

import (
	"context"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"polarmirror/internal/config"
	"polarmirror/internal/mirror"
	"polarmirror/internal/polarsim"
	"polarmirror/internal/web"
)

// An intake receives webhooks and applies them, as configured now.
//
// Inboxes share nothing but the database: what one has received and not applied
// when the configuration is reloaded, the next applies.
type intake struct {
	p       *program
	current atomic.Pointer[reception]
	changed chan struct{} // holds one
}

// A reception is an intake under one configuration.
type reception struct {
	inbox    *mirror.Inbox
	endpoint http.Handler
}

func newIntake(p *program, cfg *config.Config, m *mirror.Mirror) *intake {
	in := &intake{p: p, changed: make(chan struct{}, 1)}
	in.current.Store(in.reception(cfg, m))
	return in
}

func (in *intake) reception(cfg *config.Config, m *mirror.Mirror) *reception {
	o := in.p.outlook
	inbox := m.Inbox(mirror.InboxOptions{Settled: o.settled})
	opts := web.WebhookOptions{
		Inbox: inbox,
		Observe: func(organization string, outcome web.WebhookOutcome) {
			o.metrics.WebhookReceived(organization, string(outcome))
		},
		Log: in.p.log,
	}
	for _, c := range cfg.Organizations {
		if !c.WebhookSecret.IsZero() {
			opts.Endpoints = append(opts.Endpoints, web.WebhookEndpoint{Organization: c.Name, Secret: c.WebhookSecret.Read})
		}
	}
	return &reception{inbox, web.NewWebhooks(opts)}
}

// follow goes on with another configuration.
func (in *intake) follow(cfg *config.Config, m *mirror.Mirror) {
	in.current.Store(in.reception(cfg, m))
	select {
	case in.changed <- struct{}{}:
	default: // one is enough
	}
}

// ServeHTTP takes a delivery.
func (in *intake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	in.current.Load().endpoint.ServeHTTP(w, r)
}

// serve applies deliveries until ctx ends.
func (in *intake) serve(ctx context.Context) error {
	for ctx.Err() == nil {
		serving, stop := context.WithCancel(ctx)
		ended := make(chan error, 1)
		inbox := in.current.Load().inbox
		go func() { ended <- inbox.Serve(serving) }()
		var err error
		select {
		case err = <-ended:
		case <-in.changed:
			stop()
			err = <-ended
		}
		stop()
		if err != nil {
			return err
		}
	}
	return nil
}

// settled counts what became of a delivery.
func (o *outlook) settled(s mirror.Settled) {
	o.metrics.WebhookSettled(s.Organization, string(s.Status), s.Delay)
}

// sendWebhooks has the simulated Polar send webhooks to base, such as
// http://127.0.0.1:8080/, until the program ends; to nobody if base is "".
func (d *demo) sendWebhooks(p *program, cfg *config.Config, base string) error {
	if base == "" {
		return nil
	}
	o := polarsim.WebhookOptions{Seed: demoSeed, MaxDelay: time.Second, Duplicates: 0.02, Late: 0.05}
	for _, org := range cfg.Organizations {
		o.Endpoints = append(o.Endpoints, polarsim.WebhookEndpoint{
			OrganizationID: org.ID,
			URL:            strings.TrimSuffix(base, "/") + web.WebhookPath + org.Name,
			Secret:         org.WebhookSecret.Value.Reveal(),
			Generated:      true,
		})
	}
	sending, err := d.journal.Server().StartWebhooks(o)
	if err != nil {
		return err
	}
	p.onClose("webhooks of the simulated Polar", func(context.Context) error {
		d.journal.Server().StopWebhooks()
		return sending.Close()
	})
	return nil
}
