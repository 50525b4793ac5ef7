package main

import (
	"context"

	"polarmirror/internal/config"
	"polarmirror/internal/fetch"
)

// clients are those of the organizations. They share one pool of connections,
// and a pace where they share a token.
type clients struct {
	p         *program
	transport *fetch.Transport
	limiters  *fetch.Limiters
	polar     config.Polar // what they were made with
	made      map[string]madeClient
}

type madeClient struct {
	token  config.Credential
	client *fetch.Client
}

func (p *program) newClients() *clients {
	c := &clients{p: p, transport: fetch.NewTransport(), made: map[string]madeClient{}}
	p.onClose("connections to Polar", func(context.Context) error {
		c.transport.CloseIdleConnections()
		return nil
	})
	return c
}

// of returns a client for each organization of cfg, by label: the one it had, if
// it is made of the same.
func (c *clients) of(cfg *config.Config) (map[string]*fetch.Client, error) {
	polar := cfg.Polar
	polar.Concurrency = 0 // not a client's affair
	if c.limiters == nil || polar.RequestsPerMinute != c.polar.RequestsPerMinute {
		c.limiters = fetch.NewLimiters(polar.RequestsPerMinute)
	}
	if polar != c.polar {
		c.polar, c.made = polar, map[string]madeClient{}
	}
	made := make(map[string]madeClient, len(cfg.Organizations))
	byName := make(map[string]*fetch.Client, len(cfg.Organizations))
	for _, o := range cfg.Organizations {
		m, ok := c.made[o.Name]
		if !ok || !sameCredential(m.token, o.AccessToken) {
			client, err := c.build(o)
			if err != nil {
				return nil, err
			}
			m = madeClient{token: o.AccessToken, client: client}
		}
		made[o.Name], byName[o.Name] = m, m.client
	}
	c.made = made
	return byName, nil
}

func (c *clients) build(o config.Organization) (*fetch.Client, error) {
	var observer fetch.Observer
	if c.p.outlook != nil {
		observer = c.p.outlook.metrics
	}
	return fetch.New(fetch.Options{
		Organization: o.Name,
		BaseURL:      c.polar.BaseURL,
		APIVersion:   c.polar.APIVersion,
		UserAgent:    userAgent(),
		Token:        tokenSource(o.AccessToken),
		Timeout:      c.polar.Timeout,
		Retry:        fetch.Retry(c.polar.Retry),
		Limiters:     c.limiters,
		Log:          c.p.log,
		Observer:     observer,
		Transport:    c.transport,
	})
}

func sameCredential(a, b config.Credential) bool {
	return a.File == b.File && a.Value.Equal(b.Value)
}

// tokenSource re-reads a token that lies in a file when Polar refuses it.
func tokenSource(c config.Credential) fetch.TokenSource {
	if c.File != "" {
		return fetch.RereadToken(c.Read)
	}
	return fetch.StaticToken(c.Value)
}
