package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"go.uber.org/zap/zapcore"

	"polarmirror/internal/config"
)

// flags are what the command line says.
type flags struct {
	config          string
	organizations   []string
	logLevel        *zapcore.Level // nil: as configured
	logFormat       string
	noProgress      bool
	demo            bool
	backfill        bool
	acceptDeletions bool
	walk            bool
	pprof           string

	// Of single commands.
	json, repair, offline, ready bool
}

const rootLong = `syncd mirrors the customer meters of Polar organizations into Postgres: every one
of them, with the digits Polar sent, and keeps them current.

Without a command it is the service: it brings the database's schema up to date
and syncs every organization on its schedules until it is told to stop.
With nothing configured, "syncd --demo" shows what it does.

Exit codes: 0 done, 1 the work failed, 2 wrong usage or configuration,
3 database unreachable or not migratable.`

const rootExample = `  syncd --demo --backfill                  see it work, with nothing to configure
  POLAR_ACCESS_TOKEN=polar_oat_... syncd   mirror one organization, and keep it current
  syncd --backfill --organization acme     read all of one organization once
  syncd config check                       what is wrong with the configuration
  syncd status                             how current the mirror is`

func (p *program) rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:           "syncd",
		Short:         "Mirror the customer meters of Polar organizations into Postgres",
		Long:          rootLong,
		Example:       rootExample,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if p.flags.backfill {
				return p.backfill(cmd.Context())
			}
			return p.serve(cmd.Context())
		},
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			err := p.checkFlags(cmd)
			p.started = err == nil
			return err
		},
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error {
		if invalid, ok := errors.AsType[*pflag.InvalidValueError](err); ok && invalid.GetFlag().Value.Type() == "bool" {
			return fmt.Errorf("invalid argument %q for %q flag: want true or false", invalid.GetValue(), "--"+invalid.GetFlag().Name)
		}
		return err
	})
	p.addFlags(root)
	root.AddCommand(p.statusCommand(), p.verifyCommand(), p.getCommand(), p.refreshCommand(), p.migrateCommand(), p.configCommand(),
		p.healthcheckCommand(), p.versionCommand())
	root.InitDefaultHelpCmd()
	if help, _, err := root.Find([]string{"help"}); err == nil {
		help.Args = func(_ *cobra.Command, args []string) error { // cobra calls it success to know no such command
			_, rest, err := root.Find(args)
			if err == nil && len(rest) > 0 {
				err = fmt.Errorf("unknown command %q", strings.Join(args, " "))
			}
			return err
		}
	}
	return root
}

func (p *program) addFlags(root *cobra.Command) {
	f := &p.flags
	all := root.PersistentFlags()
	all.StringVar(&f.config, "config", "", "configuration `FILE` (default config.yaml if it is there)")
	all.StringArrayVar(&f.organizations, "organization", nil, "only the organization `NAME`; may be repeated")
	all.Func("log-level", "`LEVEL`: debug, info, warn or error (default as configured)", func(text string) error {
		level, err := config.ParseLevel(text)
		f.logLevel = &level
		return err
	})
	all.Func("log-format", "`FORMAT`: json or console (default as configured; console for people at a terminal)", func(text string) (err error) {
		f.logFormat, err = config.ParseFormat(text)
		return err
	})
	all.BoolVar(&f.noProgress, "no-progress", false, "log lines instead of progress bars, also on a terminal")
	own := root.Flags()
	own.BoolVar(&f.backfill, "backfill", false, "read all customer meters of every organization once, then exit")
	own.BoolVar(&f.demo, "demo", false, "a simulated Polar and the embedded database, in .syncd/demo; nothing to configure")
	own.StringVar(&f.pprof, "pprof", "", "serve Go's profiles at `ADDR`: a port of this machine such as 6060, or host:port")
	own.BoolVar(&f.walk, "walk", false, "with --backfill and verify: prove by overlapping pages, whatever the size")
	own.BoolVar(&f.acceptDeletions, "accept-deletions", false, "this run may mark more customer meters deleted than sync.max_delete_fraction allows")

	// An unknown flag name is the only error, and these are known.
	_ = root.RegisterFlagCompletionFunc("log-level", cobra.FixedCompletions([]string{"debug", "info", "warn", "error"}, cobra.ShellCompDirectiveNoFileComp))
	_ = root.RegisterFlagCompletionFunc("log-format", cobra.FixedCompletions([]string{config.FormatJSON, config.FormatConsole}, cobra.ShellCompDirectiveNoFileComp))
	_ = root.RegisterFlagCompletionFunc("organization", p.completeOrganizations)
}

// demoFlag lets a command work on the demo's database instead of a configured one.
func (p *program) demoFlag(cmd *cobra.Command, what string) {
	cmd.Flags().BoolVar(&p.flags.demo, "demo", false, what)
}

// jsonFlag lets a command print its result as JSON.
func (p *program) jsonFlag(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&p.flags.json, "json", false, "an array of objects, one for each organization")
}

// completeOrganizations offers the configured names to the shell.
func (p *program) completeOrganizations(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	cfg, err := p.loadConfig()
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return cfg.Names(), cobra.ShellCompDirectiveNoFileComp
}

// checkFlags refuses combinations that mean nothing.
func (p *program) checkFlags(cmd *cobra.Command) error {
	switch f := &p.flags; {
	case cmd.Flags().Changed("config") && f.config == "":
		return errors.New("--config names no file")
	case f.demo && f.config != "":
		return errors.New("--demo brings a configuration of its own: leave --config out")
	case f.walk && !cmd.HasParent() && !f.backfill:
		return errors.New("--walk goes with --backfill and with verify: the service proves large organizations by rank")
	}
	return nil
}

// group makes a command that only holds others.
func group(cmd *cobra.Command, commands ...*cobra.Command) *cobra.Command {
	cmd.AddCommand(commands...)
	cmd.Args = cobra.MatchAll(cobra.NoArgs, func(*cobra.Command, []string) error {
		var names []string
		for _, c := range commands {
			names = append(names, c.CommandPath())
		}
		return fmt.Errorf("a command is missing: %s", strings.Join(names, " or "))
	})
	cmd.Run = func(*cobra.Command, []string) {} // without it, the arguments are not looked at
	return cmd
}
