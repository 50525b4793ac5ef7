package main

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"polarmirror/internal/config"
	"polarmirror/internal/console"
)

// openLog begins to log to stderr, above the bars if there are any. What is logged
// follows the configuration, then what suits a person at a terminal, then the flags.
// quiet is for commands whose result is on stdout.
func (p *program) openLog(cfg config.Log, quiet bool) {
	level, format := cfg.Level, cfg.Format
	if p.terminal && (quiet || p.flags.backfill || p.flags.demo) {
		format = config.FormatConsole
	}
	if quiet || p.flags.backfill && p.bars() {
		level = max(level, zapcore.WarnLevel)
	}
	if p.flags.logLevel != nil {
		level = *p.flags.logLevel
	}
	format = cmp.Or(p.flags.logFormat, format)
	// The command returns what is logged as an error too and ends by printing it: a
	// person need not read it twice.
	returned := format == config.FormatConsole && (quiet || p.flags.backfill)
	shown := zap.LevelEnablerFunc(func(l zapcore.Level) bool {
		return level.Enabled(l) && (!returned || l < zapcore.ErrorLevel)
	})
	p.log = zap.New(zapcore.NewCore(encoder(format), zapcore.AddSync(p.screen), shown))
}

func encoder(format string) zapcore.Encoder {
	c := zap.NewProductionEncoderConfig()
	c.TimeKey = "time"
	c.EncodeTime = zapcore.RFC3339NanoTimeEncoder
	if format == config.FormatJSON {
		return zapcore.NewJSONEncoder(c)
	}
	c.EncodeLevel = zapcore.CapitalLevelEncoder
	c.EncodeTime = zapcore.TimeEncoderOfLayout("15:04:05")
	c.EncodeDuration = zapcore.StringDurationEncoder
	c.ConsoleSeparator = "  "
	return zapcore.NewConsoleEncoder(c)
}

// bars reports whether progress is shown as bars.
func (p *program) bars() bool { return p.terminal && !p.flags.noProgress }

// announceStop says, once ctx has ended, that the end may take a moment.
func (p *program) announceStop(ctx context.Context) {
	p.background(func(closing context.Context) error {
		select {
		case <-ctx.Done():
		case <-closing.Done():
		}
		switch {
		case ctx.Err() == nil: // it ends by itself
		case p.terminal:
			fmt.Fprintln(p.screen, "stopping, press Ctrl-C again to abort")
		default:
			p.log.Info("stopping")
		}
		return nil
	})
}

// showProgress shows walks: as bars on a terminal, which with keep stay there in the
// end, else as lines in the log.
func (p *program) showProgress(keep bool) {
	if p.bars() {
		p.screen.ShowBars(keep)
		return
	}
	p.background(func(ctx context.Context) error { return logWalks(ctx, p.screen, p.log) })
}

// logEvery is how often a walk is logged where there are no bars.
const logEvery = 10 * time.Second

// logWalks logs now and then where each walk is, until ctx ends.
func logWalks(ctx context.Context, screen *console.Screen, log *zap.Logger) error {
	return every(ctx, logEvery, func() {
		for _, w := range screen.Walks() {
			fields := []zap.Field{
				zap.String("organization", w.Organization),
				zap.Int("pages", w.Pages),
				zap.Int("rows", w.Rows),
				zap.Int("remaining", w.Remaining),
				zap.Float64("rows_per_second", float64(int(w.Rate))),
			}
			if w.Left >= 0 {
				fields = append(fields, zap.Duration("time_left", w.Left))
			}
			log.Info("walk under way", fields...)
		}
	})
}
