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
	version string // the module's, marked if the checkout held more than the commit; (devel) if it is not known
	commit  string // "" if the build did not record it
}

func thisBuild() build {
	b := build{linkedVersion, linkedCommit}
	if info, ok := debug.ReadBuildInfo(); ok {
		b.version = cmp.Or(b.version, info.Main.Version)
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				b.commit = cmp.Or(b.commit, s.Value)
			}
		}
	}
	b.version = cmp.Or(b.version, "(devel)")
	return b
}

// userAgent is how syncd calls itself at Polar.
func userAgent() string { return "syncd/" + thisBuild().version }

func (p *program) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		Short:   "Print version, commit and Go version",
		Example: "  syncd version",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			b := thisBuild()
			_, err := fmt.Fprintf(p.stdout, "syncd %s\ncommit %s\n%s %s/%s\n", b.version, cmp.Or(b.commit, "unknown"), runtime.Version(), runtime.GOOS, runtime.GOARCH)
			return err
		},
	}
}
