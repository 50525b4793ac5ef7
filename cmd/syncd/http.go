package main

import (
	"context"
	"errors"
	"net/http"
	"time"

	"go.uber.org/zap"

	"polarmirror/internal/config"
	"polarmirror/internal/heartbeat"
	"polarmirror/internal/metrics"
	"polarmirror/internal/mirror"
	"polarmirror/internal/secret"
	"polarmirror/internal/store"
	"polarmirror/internal/web"
)

// observability is how a running service is observed: over HTTP, by its metrics, and
// by its heartbeat.
type observability struct {
	server  *web.Server
	metrics *metrics.Metrics
	pulse   *heartbeat.Pulse // nil without heartbeat_url
	walks   *web.Walks
	pages   *web.Page // nil until mounted
	end     context.CancelFunc
	ended   chan struct{} // closed when the server has ended
	err     error         // why, if not because it was told to; set before ended
}

// openObservability begins to listen and to answer health checks, before the database
// is opened and migrated. Its close, or the end of ctx, ends it.
func (p *program) openObservability(ctx context.Context, cfg *config.Config) (*observability, error) {
	b := thisBuild()
	o := &observability{ended: make(chan struct{}), walks: new(web.Walks)}
	var names []string
	for _, c := range cfg.Organizations {
		names = append(names, c.Name)
	}
	o.metrics = metrics.New(metrics.Options{
		Version:       b.Version,
		Commit:        b.Commit,
		Go:            b.Go,
		Organizations: names,
		MaxLag:        cfg.HTTP.MaxLag,
		Log:           p.log,
	})
	var err error
	if o.server, err = p.listen(ctx, cfg.HTTP, o.metrics); err != nil {
		return nil, err
	}
	ctx, o.end = context.WithCancel(ctx)
	go func() {
		defer close(o.ended)
		o.err = o.server.Serve(ctx)
	}()
	if url := o.server.URL(); url != "" {
		p.log.Info("listening", zap.String("url", url), zap.Bool("protected", cfg.HTTP.Protected()))
	}
	if url := o.server.WebhookURL(); url != "" {
		p.log.Info("listening for webhooks", zap.String("url", url))
	}
	return o, nil
}

// listen takes the configured addresses. The demo is content with any.
func (p *program) listen(ctx context.Context, c config.HTTP, observer web.Observer) (*web.Server, error) {
	opts := web.Options{
		Listen:        c.Listen,
		WebhookListen: c.WebhookListen,
		Hosts:         c.Hosts,
		Access:        web.Access{Token: reader(c.Token), User: c.User, Password: reader(c.Password)},
		Observer:      observer,
		Log:           p.log,
	}
	server, err := web.Listen(ctx, opts)
	var taken *web.ListenError
	if p.flags.demo && errors.As(err, &taken) && taken.InUse() {
		opts.Listen = "127.0.0.1:0"
		return web.Listen(ctx, opts)
	}
	return server, err
}

// reader reads a credential anew for each request; nil if there is none.
func reader(c config.Credential) func() (secret.Secret, error) {
	if c.IsZero() {
		return nil
	}
	return c.Read
}

// configured are the configured organizations, as the store knows them.
func configured(cfg *config.Config) []store.Organization {
	var list []store.Organization
	for _, c := range cfg.Organizations {
		list = append(list, store.Organization{Name: c.Name, ID: c.ID})
	}
	return list
}

// mount shows what needs the database, which has been opened and migrated.
func (o *observability) mount(ctx context.Context, p *program, e *env, schedules mirror.Schedules, webhooks http.Handler) error {
	cfg, db := e.cfg, e.db
	page, err := o.openPage(p, cfg, db, schedules)
	if err != nil {
		return err
	}
	organizations := configured(cfg)
	o.metrics.WatchDatabase(db, organizations)
	o.server.Mount(web.Handlers{
		Page:     page,
		Webhooks: webhooks,
		Metrics:  o.metrics.Handler(),
		Health:   web.NewHealth(db, organizations, cfg.HTTP.MaxLag, p.log),
	})
	if !cfg.HeartbeatURL.IsZero() {
		o.pulse = newPulse(p, cfg, db, o.metrics.Beat)
		o.pulse.Begin(ctx)
	}
	return nil
}

func newPulse(p *program, cfg *config.Config, db *database, sent func(ok bool)) *heartbeat.Pulse {
	organizations := configured(cfg)
	return heartbeat.New(heartbeat.Options{
		URL:       cfg.HeartbeatURL,
		UserAgent: userAgent(),
		Status: func(ctx context.Context) ([]store.OrgStatus, error) {
			return db.OrgStatus(ctx, store.OrgStatusQuery{Organizations: organizations})
		},
		Sent: sent,
		Log:  p.log,
	})
}

// watch sends heartbeats until ctx ends, or the server does, which is an error.
func (o *observability) watch(ctx context.Context) error {
	if o.pulse != nil {
		beating, stop := context.WithCancel(ctx)
		done := make(chan struct{})
		go func() {
			defer close(done)
			o.pulse.Run(beating)
		}()
		defer func() {
			stop()
			<-done
		}()
	}
	select {
	case <-ctx.Done():
		return nil
	case <-o.ended:
		return o.err
	}
}

// close ends the server and waits for it.
func (o *observability) close() {
	o.end()
	<-o.ended
	if o.pages != nil {
		o.pages.Close()
	}
}

// Observers of what the mirror does: the metrics, and the heartbeat.

// Counted is of [mirror.Observer].
func (o *observability) Counted(organization string, counts store.Counts) {
	o.metrics.Counted(organization, counts)
}

// Ended is of [mirror.Observer].
func (o *observability) Ended(organization string, kind store.Kind, end mirror.End, elapsed time.Duration) {
	o.metrics.Ended(organization, kind, end, elapsed)
	if o.pulse != nil && end == mirror.Succeeded {
		o.pulse.Wake()
	}
}

// Skipped is of [mirror.Observer].
func (o *observability) Skipped(organization string, why mirror.Skip) {
	o.metrics.Skipped(organization, why)
}

// beatOnce sends the heartbeat of a backfill in which every organization
// succeeded. Nothing fails for want of it.
func (p *program) beatOnce(ctx context.Context, cfg *config.Config, db *database) {
	if cfg.HeartbeatURL.IsZero() || len(p.flags.organizations) > 0 {
		return
	}
	if err := newPulse(p, cfg, db, func(bool) {}).Send(ctx); err != nil {
		p.log.Warn("no heartbeat", zap.Error(err))
	}
}

// openProfiles serves Go's profiles if the command line asks for them.
func (p *program) openProfiles(ctx context.Context) error {
	if p.flags.pprof == "" {
		return nil
	}
	profiles, err := web.ListenProfiles(ctx, p.flags.pprof, p.log)
	if err != nil {
		return err
	}
	serving, stop := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan error, 1)
	go func() { done <- profiles.Serve(serving) }()
	p.onClose("profiles", func(context.Context) error {
		stop()
		return <-done
	})
	p.log.Info("profiles", zap.String("url", profiles.URL()))
	return nil
}
