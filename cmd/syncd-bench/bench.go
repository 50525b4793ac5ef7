package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"time"
)

// A bench is one benchmark under way.
type bench struct {
	opts     *plan
	dir      string // temporary
	postgres *postgres
	progress io.Writer
}

// runBench measures what p asks for. The report holds what was measured even if
// there is an error; it is nil if nothing was begun. When it returns everything
// it started has ended and everything it made is gone.
func runBench(ctx context.Context, p *plan, progress io.Writer) (_ *report, err error) {
	b := &bench{opts: p, progress: progress}
	if b.dir, err = os.MkdirTemp(p.parent, "syncd-bench-"); err != nil {
		return nil, fmt.Errorf("make a temporary folder: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(b.dir)) }()
	if p.syncd == "" {
		b.say("building syncd")
		if p.syncd, err = buildSyncd(ctx, b.dir); err != nil {
			return nil, err
		}
	}
	b.say("starting Postgres")
	if b.postgres, err = startPostgres(ctx, b.dir, p.settings); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, b.postgres.close(ctx)) }()
	r := &report{
		Began: time.Now().UTC(), CPUs: runtime.NumCPU(), System: runtime.GOOS + "/" + runtime.GOARCH,
		Go: runtime.Version(), Postgres: b.postgres.version, Settings: p.settings, Runs: p.runs, Load: loadAverage(),
	}
	if r.Load > busy*float64(r.CPUs) {
		b.say("the machine is busy (load %.1f on %d CPUs): what is measured will not say much", r.Load, r.CPUs)
	}
	if p.wants(phaseFirst, phaseUnchanged, phaseChanged, phaseTick, baseDownload, baseCopy, basePlain) {
		for _, rows := range p.sizes {
			s := &sizeReport{Rows: rows}
			r.Sizes = append(r.Sizes, s)
			if err := b.size(ctx, s); err != nil {
				return r, fmt.Errorf("%d customer meters: %w", rows, err)
			}
		}
	}
	if p.wants(phaseCost) {
		for _, rows := range p.sizes {
			for _, meters := range metersTried(rows) {
				c, err := b.costs(ctx, rows, meters)
				if err != nil {
					return r, fmt.Errorf("cost of %d customer meters: %w", rows, err)
				}
				r.Costs = append(r.Costs, c)
			}
		}
	}
	if p.wants(phasePaced) {
		if r.Paced, err = b.paced(ctx); err != nil {
			return r, fmt.Errorf("paced: %w", err)
		}
	}
	return r, nil
}

// busy is the load for each CPU above which measuring makes little sense.
const busy = 0.5

func (b *bench) say(format string, args ...any) {
	fmt.Fprintf(b.progress, format+"\n", args...)
}

// A sizing is the measuring of one size.
type sizing struct {
	*bench
	*sizeReport
	polar *polar
}

func (b *bench) size(ctx context.Context, r *sizeReport) error {
	b.say("%s customer meters: starting the simulated Polar", count(r.Rows))
	p, err := startPolar(ctx, polarSpec{Rows: r.Rows, Meters: usualMeters})
	if err != nil {
		return err
	}
	defer p.close()
	b.postgres.polar = p.cmd.Process.Pid
	r.NullRows, r.RowBytes = p.NullRows, p.RowBytes
	s := &sizing{bench: b, sizeReport: r, polar: p}
	if b.opts.wants(baseDownload) {
		if err := s.download(ctx); err != nil {
			return err
		}
	}
	if b.opts.wants(phaseFirst, phaseUnchanged, phaseChanged, phaseTick, baseCopy) {
		if err := s.mirror(ctx); err != nil {
			return err
		}
	}
	if b.opts.wants(basePlain) {
		return s.plain(ctx)
	}
	return nil
}

// repeated measures a phase as often as asked for, and notes it.
func (s *sizing) repeated(ctx context.Context, name, title string, once func(context.Context) (sample, error)) error {
	var samples []sample
	for i := range s.opts.runs {
		taken, err := once(ctx)
		if err != nil {
			return fmt.Errorf("%s: %w", title, err)
		}
		samples = append(samples, taken)
		s.tell(title, i, taken)
	}
	s.Phases = append(s.Phases, summarize(name, title, samples))
	return nil
}

func (s *sizing) tell(title string, i int, taken sample) {
	of := ""
	if s.opts.runs > 1 {
		of = fmt.Sprintf(" (%d of %d)", i+1, s.opts.runs)
	}
	if taken.rows == 0 {
		s.say("%s customer meters: %s%s: %d requests", count(s.Rows), title, of, taken.requests)
		return
	}
	s.say("%s customer meters: %s%s: %.2fs, %s rows a second", count(s.Rows), title, of,
		taken.wall.Seconds(), count(int(float64(taken.rows)/taken.wall.Seconds())))
}

func (s *sizing) download(ctx context.Context) error {
	maintenance := &database{postgres: s.postgres, name: "maintenance", url: s.postgres.server.URL()}
	defer maintenance.disconnect(ctx)
	return s.repeated(ctx, baseDownload, "plain download", func(ctx context.Context) (sample, error) {
		return s.baseline(ctx, maintenance, s.Rows, workerSpec{Kind: baseDownload, Polar: s.polar.polarInfo})
	})
}

// plain measures the plain script on an empty table and on unchanged rows.
func (s *sizing) plain(ctx context.Context) error {
	var db *database
	defer func() {
		if db != nil {
			_ = db.drop(context.WithoutCancel(ctx)) // the whole server goes, at the end
		}
	}()
	script := func(ctx context.Context) (sample, error) {
		return s.baseline(ctx, db, s.Rows, workerSpec{Kind: basePlain, Polar: s.polar.polarInfo, URL: db.url})
	}
	err := s.repeated(ctx, plainFirst, "plain script, first load", func(ctx context.Context) (_ sample, err error) {
		if db != nil {
			if err := db.drop(ctx); err != nil {
				return sample{}, err
			}
		}
		if db, err = s.postgres.create(ctx, "plain"); err != nil {
			return sample{}, err
		}
		conn, err := db.connect(ctx)
		if err != nil {
			return sample{}, err
		}
		if _, err := conn.Exec(ctx, plainTable); err != nil {
			return sample{}, fmt.Errorf("make the script's table: %w", err)
		}
		if err := db.vacuumCatalog(ctx); err != nil {
			return sample{}, err
		}
		return script(ctx)
	})
	if err != nil {
		return err
	}
	return s.repeated(ctx, plainUnchanged, "plain script, unchanged", func(ctx context.Context) (sample, error) {
		if err := db.vacuum(ctx); err != nil {
			return sample{}, err
		}
		return script(ctx)
	})
}
