package main

import (
	"context"

	"polarmirror/internal/config"
	"polarmirror/internal/fetch"
)

// clients returns a client for each organization, by label. They share one pool
// of connections, and a pace where they share a token.
func (p *program) clients(cfg *config.Config) (map[string]*fetch.Client, error) {
	transport := fetch.NewTransport()
	p.onClose("connections to Polar", func(context.Context) error {
		transport.CloseIdleConnections()
		return nil
	})
	limiters := fetch.NewLimiters(cfg.Polar.RequestsPerMinute)
	var observer fetch.Observer
	if p.observability != nil {
		observer = p.observability.metrics
	}
	clients := make(map[string]*fetch.Client, len(cfg.Organizations))
	for _, o := range cfg.Organizations {
		client, err := fetch.New(fetch.Options{
			Organization: o.Name,
			BaseURL:      cfg.Polar.BaseURL,
			APIVersion:   cfg.Polar.APIVersion,
			UserAgent:    userAgent(),
			Token:        tokenSource(o.AccessToken),
			Exclude:      cfg.Privacy.Exclude,
			Timeout:      cfg.Polar.Timeout,
			Retry:        fetch.Retry(cfg.Polar.Retry),
			Limiters:     limiters,
			Log:          p.log,
			Observer:     observer,
			Transport:    transport,
		})
		if err != nil {
			return nil, err
		}
		clients[o.Name] = client
	}
	return clients, nil
}

// tokenSource re-reads a token that lies in a file when Polar refuses it.
func tokenSource(c config.Credential) fetch.TokenSource {
	if c.File != "" {
		return fetch.RereadToken(c.Read)
	}
	return fetch.StaticToken(c.Value)
}
