package main

import (
	"context"
	"net"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

func TestWrongUsageIsOneLineAndExitCode2(t *testing.T) {
	t.Parallel()
	tests := map[string]string{ // command line: part of what is said
		"--frobnicate":                        "unknown flag: --frobnicate; see syncd --help",
		"statu":                               `unknown command "statu" for "syncd"; did you mean status; see syncd --help`,
		"status now":                          `unknown command "now" for "syncd status"; see syncd status --help`,
		"status --backfill":                   "unknown flag: --backfill; see syncd status --help",
		"--backfill=maybe":                    `invalid argument "maybe" for "--backfill" flag: want true or false; see syncd --help`,
		"status --demo=1st":                   `invalid argument "1st" for "--demo" flag: want true or false; see syncd status --help`,
		"migrate":                             "a command is missing: syncd migrate up or syncd migrate status; see syncd migrate --help",
		"migrate down":                        `unknown command "down" for "syncd migrate"; see syncd migrate --help`,
		"config":                              "a command is missing: syncd config check; see syncd config --help",
		"config check --deep":                 "unknown flag: --deep; see syncd config check --help",
		"version 2":                           `unknown command "2" for "syncd version"; see syncd version --help`,
		"refresh":                             "refresh takes the ids of customers: Polar's, or those in your own system; see syncd refresh --help",
		"--walk":                              "--walk goes with --backfill and with verify: ",
		"status --walk":                       "unknown flag: --walk; see syncd status --help",
		"help nothing":                        `unknown command "nothing" for "syncd"; see syncd help --help`,
		"--organization":                      "flag needs an argument: --organization; see syncd --help",
		"--log-level loud":                    `"--log-level" flag: want debug, info, warn or error; see syncd --help`,
		"--log-format xml":                    `"--log-format" flag: `,
		"--demo --config x.yaml":              "leave --config out; see syncd --help",
		"--config=":                           "--config names no file",
		"--demo --organization nope":          `no organization "nope"; configured: acme, globex, initech`,
		"status --demo --organization nobody": `no organization "nobody"; configured: acme, globex, initech`,
	}
	for line, want := range tests {
		t.Run(line, func(t *testing.T) {
			t.Parallel()
			r := call(t, nil, strings.Fields(line)...)
			if r.code != exitUsage || r.stdout != "" {
				t.Errorf("exit code %d, stdout %q", r.code, r.stdout)
			}
			assertContains(t, only(t, strings.Split(strings.TrimSuffix(r.stderr, "\n"), "\n")), "syncd: ", want)
		})
	}
}

func TestEveryCommandHelpsWithAnExample(t *testing.T) {
	t.Parallel()
	p := &program{}
	var visit func(c *cobra.Command)
	visit = func(c *cobra.Command) {
		path := strings.Fields(c.CommandPath())[1:]
		t.Run(c.CommandPath(), func(t *testing.T) {
			t.Parallel()
			r := call(t, nil, append(path, "--help")...)
			if r.code != exitDone || r.stderr != "" {
				t.Errorf("exit code %d, stderr %q", r.code, r.stderr)
			}
			assertContains(t, r.stdout, "Usage:")
			assertContains(t, r.stdout, "Examples:")
			viaHelp := call(t, nil, append([]string{"help"}, path...)...)
			if viaHelp.code != exitDone || viaHelp.stdout != r.stdout {
				t.Errorf("syncd help %v says something else (exit code %d)", path, viaHelp.code)
			}
		})
		for _, sub := range c.Commands() {
			if sub.Name() != "help" {
				visit(sub)
			}
		}
	}
	visit(p.rootCommand())
}

// TestVersionNamesGo, and a binary that was built without a version says so.
func TestVersionNamesGo(t *testing.T) {
	t.Parallel()
	r := call(t, nil, "version")
	if r.code != exitDone {
		t.Errorf("exit code %d", r.code)
	}
	assertContains(t, r.stdout, "syncd (devel)\n", "commit unknown\n", "go1.")
}

func TestCompletionOffersConfiguredOrganizations(t *testing.T) {
	t.Parallel()
	r := call(t, nil, "__complete", "status", "--demo", "--organization", "")
	assertContains(t, r.stdout, "acme\n", "globex\n", "initech\n")
}

// TestStoppedWhileTheDatabaseOpensIsNoFaultOfTheDatabase has a database that takes
// connections and never answers.
func TestStoppedWhileTheDatabaseOpensIsNoFaultOfTheDatabase(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]string{
		"--backfill":     "syncd: stopped before the end: what was saved stands, and the next --backfill goes on from there\n",
		"verify":         "syncd: interrupted\n",
		"status":         "syncd: interrupted\n",
		"migrate status": "syncd: interrupted\n",
	} {
		t.Run(line, func(t *testing.T) {
			t.Parallel()
			silent, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer silent.Close()
			ctx, stop := context.WithCancel(t.Context())
			go func() {
				conn, err := silent.Accept()
				stop()
				if err == nil {
					<-t.Context().Done()
					conn.Close()
				}
			}()
			e := variables{"POLAR_ACCESS_TOKEN": "polar_oat_x", "DATABASE_URL": "postgres://u:p@" + silent.Addr().String() + "/d?sslmode=disable"}
			if r := callContext(ctx, t, e, strings.Fields(line)...); r.code != exitFailed || !strings.HasSuffix(r.stderr, want) || strings.Contains(r.stderr, "database") {
				t.Errorf("exit code %d, stderr %q, want the end %q", r.code, r.stderr, want)
			}
		})
	}
}
