package main

import (
	"context"
	"fmt"
	"strings"

	"go.uber.org/zap"

	"polarmirror/internal/config"
	"polarmirror/internal/mirror"
)

// A reloader makes the service follow its configuration file when it is told to.
type reloader struct {
	p       *program
	mirror  *mirror.Mirror
	clients *clients
	intake  *intake
	source  string
	cfg     *config.Config // in force
}

// follow reloads at each order until ctx ends.
func (r *reloader) follow(ctx context.Context, orders <-chan struct{}) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-orders:
			r.reload(ctx)
		}
	}
}

// reload reads the configuration again and has the service follow it, or says
// why it stays as it was.
func (r *reloader) reload(ctx context.Context) {
	log := r.p.log
	if r.p.flags.demo {
		log.Info("configuration not reloaded: a demo has none")
		return
	}
	path := r.p.flags.config
	if r.cfg.Source == config.DefaultPath {
		path = r.cfg.Source // the environment is no substitute for a file that is gone
	}
	next, err := r.p.loadConfigFrom(path)
	if err == nil && next.Source != r.cfg.Source {
		err = fmt.Errorf("the configuration would come from %s, and came from %s: restart syncd if that is meant", next.Source, r.cfg.Source)
	}
	if err == nil {
		err = r.adopt(ctx, next)
	}
	if ctx.Err() != nil {
		return
	}
	if err != nil {
		log.Error("configuration not reloaded, the old one stays in force", zap.Strings("problems", errorLines(err)))
		return
	}
	log.Info("configuration reloaded", zap.String("from", next.Source), zap.Int("organizations", len(next.Organizations)),
		zap.String("incremental", string(next.Schedule.Incremental)), zap.String("full", string(next.Schedule.Full)))
}

// adopt puts next in force, but for what takes a restart, which it names.
func (r *reloader) adopt(ctx context.Context, next *config.Config) error {
	keys := keepFixed(r.cfg, next)
	schedules, err := schedulesOf(next.Schedule)
	if err != nil {
		return err
	}
	opts, err := r.p.mirrorOptions(r.clients, next, r.source)
	if err != nil {
		return err
	}
	if err := r.mirror.Reload(ctx, opts, schedules); err != nil {
		return err
	}
	r.cfg = next
	r.p.outlook.configure(next)
	r.p.outlook.show(next, schedules)
	r.intake.follow(next, r.mirror.Now())
	r.p.level.SetLevel(r.p.planLog(next.Log, false).level)
	r.p.warn(next)
	if len(keys) > 0 {
		r.p.log.Warn("configuration changed where a running service cannot follow: restart it", zap.String("keys", strings.Join(keys, ", ")))
	}
	return nil
}

// keepFixed gives next what old has where a running service cannot change, and
// returns the keys that would have changed.
func keepFixed(old, next *config.Config) (keys []string) {
	keep := func(key string, same bool, restore func()) {
		if !same {
			keys = append(keys, key)
			restore()
		}
	}
	was, is := &old.Database, &next.Database
	keep("database.url", is.URL.Equal(was.URL), func() { is.URL = was.URL })
	keep("database.data_dir", is.DataDir == was.DataDir, func() { is.DataDir = was.DataDir })
	keep("database.max_connections", is.MaxConnections == was.MaxConnections, func() { is.MaxConnections = was.MaxConnections })
	keep("sync.concurrency", next.Sync.Concurrency == old.Sync.Concurrency, func() { next.Sync.Concurrency = old.Sync.Concurrency })
	keep("history.keep", next.History == old.History, func() { next.History = old.History })
	keep("http.listen", next.HTTP.Listen == old.HTTP.Listen, func() { next.HTTP.Listen = old.HTTP.Listen })
	keep("http.webhook_listen", next.HTTP.WebhookListen == old.HTTP.WebhookListen, func() { next.HTTP.WebhookListen = old.HTTP.WebhookListen })
	keep("http.max_lag", next.HTTP.MaxLag == old.HTTP.MaxLag, func() { next.HTTP.MaxLag = old.HTTP.MaxLag })
	keep("heartbeat_url", next.HeartbeatURL.Equal(old.HeartbeatURL), func() { next.HeartbeatURL = old.HeartbeatURL })
	keep("log.format", next.Log.Format == old.Log.Format, func() { next.Log.Format = old.Log.Format })
	return keys
}
