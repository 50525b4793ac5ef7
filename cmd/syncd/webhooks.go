package main

import (
	"context"
	"net/http"
	"strings"
	"time"

	"polarmirror/internal/config"
	"polarmirror/internal/mirror"
	"polarmirror/internal/polarsim"
	"polarmirror/internal/store"
	"polarmirror/internal/web"
)

// webhooks takes deliveries for the organizations that have a secret.
func (p *program) webhooks(cfg *config.Config, inbox *mirror.Inbox) http.Handler {
	opts := web.WebhookOptions{
		Inbox: inbox,
		Observe: func(organization string, outcome web.WebhookOutcome) {
			p.observability.metrics.WebhookReceived(organization, string(outcome))
		},
		Log: p.log,
	}
	for _, c := range cfg.Organizations {
		if !c.WebhookSecret.IsZero() {
			opts.Endpoints = append(opts.Endpoints, web.WebhookEndpoint{Organization: c.Name, Secret: c.WebhookSecret.Read})
		}
	}
	return web.NewWebhooks(opts)
}

// webhookProcessed counts an attempt to apply a delivery.
func (o *observability) webhookProcessed(organization string, result store.DeliveryResult, delay time.Duration) {
	o.metrics.WebhookProcessed(organization, string(result.Status), delay)
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
	sending, err := d.StartWebhooks(o)
	if err != nil {
		return err
	}
	p.onClose("webhooks of the simulated Polar", func(context.Context) error {
		d.StopWebhooks()
		return sending.Close()
	})
	return nil
}
