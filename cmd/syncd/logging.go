package main

import (
	"context"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"polarmirror/internal/config"
)

// A logPlan says what of the log this call shows.
type logPlan struct {
	level  zapcore.Level
	format string
	// returned says that the command returns what is logged as an error too and
	// ends by printing it, so that a person need not read it twice.
	returned bool
}

// planLog follows the configuration, then what suits a person at a terminal,
// then the flags. quiet is for commands whose result is on stdout.
func (p *program) planLog(cfg config.Log, quiet bool) logPlan {
	plan := logPlan{level: cfg.Level, format: cfg.Format}
	if p.terminal && (quiet || p.flags.backfill || p.flags.demo) {
		plan.format = config.FormatConsole
	}
	if quiet || p.flags.backfill && p.bars() {
		plan.level = max(plan.level, zapcore.WarnLevel)
	}
	if level, err := config.ParseLevel(p.flags.logLevel); err == nil && p.flags.logLevel != "" {
		plan.level = level
	}
	if p.flags.logFormat != "" {
		plan.format = p.flags.logFormat
	}
	plan.returned = plan.format == config.FormatConsole && (quiet || p.flags.backfill)
	return plan
}

// bars reports whether progress is shown as bars.
func (p *program) bars() bool { return p.terminal && !p.flags.noProgress }

// openLog begins to log to stderr, above the bars if there are any.
func (p *program) openLog(cfg config.Log, quiet bool) {
	plan := p.planLog(cfg, quiet)
	shown := zap.LevelEnablerFunc(func(l zapcore.Level) bool {
		return plan.level.Enabled(l) && (!plan.returned || l < zapcore.ErrorLevel)
	})
	p.log = zap.New(zapcore.NewCore(encoder(plan.format), p.screen, shown))
	p.onClose("log", func(context.Context) error { return p.log.Sync() })
}

func encoder(format string) zapcore.Encoder {
	c := zapcore.EncoderConfig{
		TimeKey:        "time",
		LevelKey:       "level",
		MessageKey:     "msg",
		LineEnding:     zapcore.DefaultLineEnding,
		EncodeLevel:    zapcore.LowercaseLevelEncoder,
		EncodeTime:     zapcore.RFC3339NanoTimeEncoder,
		EncodeDuration: zapcore.SecondsDurationEncoder,
	}
	if format == config.FormatJSON {
		return zapcore.NewJSONEncoder(c)
	}
	c.EncodeLevel = zapcore.CapitalLevelEncoder
	c.EncodeTime = zapcore.TimeEncoderOfLayout("15:04:05")
	c.EncodeDuration = zapcore.StringDurationEncoder
	c.ConsoleSeparator = "  "
	return zapcore.NewConsoleEncoder(c)
}
