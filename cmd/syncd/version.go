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

// builtFrom says what this binary was made from: the module's version, marked if the
// checkout held more than the commit, and the commit, "" if the build did not record it.
func builtFrom() (version, commit string) {
	version, commit = linkedVersion, linkedCommit
	if info, ok := debug.ReadBuildInfo(); ok {
		version = cmp.Or(version, info.Main.Version)
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				commit = cmp.Or(commit, s.Value)
			}
		}
	}
	return cmp.Or(version, "(devel)"), commit
}

// userAgent is how syncd calls itself at Polar.
func userAgent() string {
	version, _ := builtFrom()
	return "syncd/" + version
}

func (p *program) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		Short:   "Print version, commit and Go version",
		Example: "  syncd version",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			version, commit := builtFrom()
			return p.print(fmt.Sprintf("syncd %s\ncommit %s\n%s %s/%s\n", version, cmp.Or(commit, "unknown"), runtime.Version(), runtime.GOOS, runtime.GOARCH))
		},
	}
}
