package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"polarmirror/internal/config"
	"polarmirror/internal/console"
	"polarmirror/internal/web"
)

func (p *program) configCommand() *cobra.Command {
	var offline bool
	check := &cobra.Command{
		Use:   "check",
		Short: "Find out what is wrong with the configuration",
		Long: `Validates the configuration, shows when the next runs are due and, unless
--offline, tries every access token with one small request, looks at the database,
writes a row of each table and takes it back, and says how long a backfill will
take. Each failure names its cure.

Exit codes: 0 all is well, 1 Polar gave no answer, 2 the configuration or a token
is wrong, 3 the database cannot be used.`,
		Example: "  syncd config check\n  syncd config check --offline --config staging.yaml",
		Args:    noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return p.check(cmd.Context(), offline)
		},
	}
	check.Flags().BoolVar(&offline, "offline", false, "ask neither Polar nor the database")
	return group(&cobra.Command{
		Use:     "config",
		Short:   "Look at the configuration",
		Example: "  syncd config check",
	}, check)
}

// check is the doctor. What keeps the configuration from being read at all is an
// error like everywhere; what comes after are findings.
func (p *program) check(ctx context.Context, offline bool) error {
	cfg, err := p.loadConfig()
	if err != nil {
		return err
	}
	p.openLog(cfg.Log, true)
	d := &doctor{program: p, cfg: cfg, out: p.stdout}
	d.checkConfiguration()
	d.checkSchedule("schedule.incremental", cfg.Schedule.Incremental, time.Now())
	d.checkSchedule("schedule.full", cfg.Schedule.Full, time.Now())
	if !offline {
		seen := d.checkPolar(ctx)
		d.checkDatabase(ctx)
		d.estimate(seen)
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return d.verdict()
}

// A doctor prints findings as it makes them.
type doctor struct {
	*program
	cfg    *config.Config
	out    io.Writer
	failed map[int]int // findings to cure, by the exit code they call for
	writes error       // the first failure to print
}

func (d *doctor) checkConfiguration() {
	names := ""
	for i, o := range d.cfg.Organizations {
		if i > 0 {
			names += ", "
		}
		names += o.Name
	}
	d.good("configuration: %s is valid; organizations: %s", d.cfg.Source, names)
	d.checkWebhooks()
	for _, w := range d.cfg.Warnings() {
		d.doubt("%s", w)
	}
}

// checkSchedule says when the next runs are, and which of them a change of the
// clocks skips or repeats.
func (d *doctor) checkSchedule(key string, schedule config.Cron, now time.Time) {
	loc := d.cfg.Schedule.Location
	times, err := schedule.In(loc)
	if err != nil || schedule.Never() {
		return // a loaded configuration gives no error
	}
	next := make([]string, 3)
	at := now.In(loc)
	for i := range next {
		at = times.Next(at)
		next[i] = at.Format("2006-01-02 15:04:05 MST")
	}
	d.good("%s: the next times are %s", key, strings.Join(next, ", "))
	const wall = "15:04 on 2006-01-02"
	skipped, repeated := schedule.Shifts(loc, now)
	if !skipped.IsZero() {
		d.doubt("%s: no run at %s, because the clocks in %s skip that time: choose another hour, or set schedule.timezone to UTC", key, skipped.Format(wall), loc)
	}
	if !repeated.IsZero() {
		d.doubt("%s: two runs at %s, because the clocks in %s show that time twice: choose another hour, or set schedule.timezone to UTC", key, repeated.Format(wall), loc)
	}
}

// checkWebhooks says who receives webhooks, where, and how they may be signed.
// Without any secret there is nothing to say.
func (d *doctor) checkWebhooks() {
	var paths, without []string
	for _, o := range d.cfg.Organizations {
		if o.WebhookSecret.IsZero() {
			without = append(without, o.Name)
		} else {
			paths = append(paths, web.WebhookPath+o.Name)
			d.checkWebhookSecret(o)
		}
	}
	switch listen := cmp.Or(d.cfg.HTTP.WebhookListen, d.cfg.HTTP.Listen); {
	case len(paths) == 0 || listen == "":
	case len(without) == 0:
		d.good("webhooks: received on %s at %s", listen, strings.Join(paths, ", "))
	default:
		d.good("webhooks: received on %s at %s; refused, for want of a webhook_secret: %s",
			listen, strings.Join(paths, ", "), strings.Join(without, ", "))
	}
}

// checkWebhookSecret says which of Polar's two rules for keys a secret can satisfy.
func (d *doctor) checkWebhookSecret(o config.Organization) {
	s, err := o.WebhookSecret.Read()
	if err != nil {
		d.bad(exitUsage, "organization %s: webhook secret: %v", o.Name, err)
		return
	}
	_, generated := web.GeneratedKey(s)
	switch prefixed := strings.HasPrefix(s.Reveal(), web.GeneratedSecretPrefix); {
	case generated:
		d.good("organization %s: its webhook secret satisfies both of Polar's key rules: the base64 behind %s (secrets that Polar generated since September 2026) and the whole text (older ones, and those you chose)", o.Name, web.GeneratedSecretPrefix)
	case prefixed:
		d.doubt("organization %s: its webhook secret begins with %s, but no key in base64 follows, so it satisfies one of Polar's key rules, the whole text: that is right for a secret you chose; copy one that Polar generated again, whole", o.Name, web.GeneratedSecretPrefix)
	default:
		d.good("organization %s: its webhook secret satisfies one of Polar's key rules: the whole text (secrets that Polar generated before September 2026, and those you chose)", o.Name)
	}
}

func (d *doctor) good(format string, args ...any)  { d.print("✓", format, args...) }
func (d *doctor) doubt(format string, args ...any) { d.print("!", format, args...) }

// bad prints a finding to cure.
func (d *doctor) bad(code int, format string, args ...any) {
	if d.failed == nil {
		d.failed = map[int]int{}
	}
	d.failed[code]++
	d.print("✗", format, args...)
}

func (d *doctor) print(mark, format string, args ...any) {
	line := console.Clean(namedOnce(oneLine(fmt.Sprintf(format, args...))))
	if _, err := fmt.Fprintf(d.out, "%s %s\n", mark, line); err != nil && d.writes == nil {
		d.writes = err
	}
}

// verdict is the error that carries the exit code; everything has been said.
func (d *doctor) verdict() error {
	for _, code := range []int{exitUsage, exitDatabase, exitFailed} {
		if d.failed[code] > 0 {
			return &exitError{code}
		}
	}
	return d.writes
}
