package main

import (
	"cmp"
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// linkedVersion and linkedCommit are set by the linker alone (-ldflags "-X
// main.linkedVersion=v0.1.0"), in builds that see no repository, such as that of
// the Dockerfile. Nothing writes them at run time.
var linkedVersion, linkedCommit string

// A build says what this binary was made from.
type build struct {
	Version string // the module's; (devel) when built from a checkout without tags
	Commit  string // "" if the build did not record it
	Changed bool   // the checkout held more than the commit
	Go      string
}

func thisBuild() build {
	b := build{Version: "(devel)", Go: runtime.Version()}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		info = &debug.BuildInfo{} // a build without modules
	}
	b.Version = cmp.Or(linkedVersion, info.Main.Version, b.Version)
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			b.Commit = s.Value
		case "vcs.modified":
			b.Changed = s.Value == "true"
		}
	}
	b.Commit = cmp.Or(linkedCommit, b.Commit)
	return b
}

// userAgent is how syncd calls itself at Polar.
func userAgent() string { return "syncd/" + thisBuild().Version }

func (p *program) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		Short:   "Print version, commit and Go version",
		Example: "  syncd version",
		Args:    noArguments,
		RunE: func(*cobra.Command, []string) error {
			b := thisBuild()
			commit := b.Commit
			if commit == "" {
				commit = "unknown"
			}
			if b.Changed {
				commit += " (with changes)"
			}
			_, err := fmt.Fprintf(p.stdout, "syncd %s\ncommit %s\n%s %s/%s\n", b.Version, commit, b.Go, runtime.GOOS, runtime.GOARCH)
			return err
		},
	}
}
