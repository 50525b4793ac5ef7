package main

import (
	"net"
	"strings"
	"testing"
)

const minimal = `organizations:
  - name: acme
    id: 1dbfc517-0bbf-4301-9ba8-555ca42b9737
    access_token: polar_oat_` + canary + "\n"

func TestWrongConfigurationIsOneLineThatNamesTheCure(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, yaml, want string }{
		{"unset variable", strings.Replace(minimal, "polar_oat_"+canary, "${SYNCD_TEST_UNSET}", 1),
			":4:19: organizations[0].access_token: environment variable SYNCD_TEST_UNSET is not set; set it"},
		{"unknown key", minimal + "polar:\n  concurency: 8\n", ":6:3: polar: unknown key concurency; known here: api_version, base_url, concurrency"},
		{"plain http", minimal + "polar:\n  base_url: http://api.polar.sh\n", ":6:13: polar.base_url: http:// would send the token in the clear; write https://"},
		{"bad cron", minimal + "schedule:\n  full: every hour\n", ":6:9: schedule.full: want five fields"},
	}
	for _, tt := range tests {
		path := writeFile(t, "config.yaml", tt.yaml)
		for _, line := range []string{"", "--backfill", "status", "migrate up", "config check", "config check --offline"} {
			t.Run(tt.name+" "+line, func(t *testing.T) {
				t.Parallel()
				r := call(t, nil, append(strings.Fields(line), "--config", path)...)
				if r.code != exitUsage || r.stdout != "" {
					t.Errorf("exit code %d, stdout %q", r.code, r.stdout)
				}
				assertContains(t, only(t, strings.Split(strings.TrimSuffix(r.stderr, "\n"), "\n")), path, tt.want)
			})
		}
	}
}

func TestEachProblemOfTheConfigurationIsALine(t *testing.T) {
	t.Parallel()
	path := writeFile(t, "config.yaml", minimal+"log: {level: loud}\nsync: {concurrency: 0}\n")
	r := call(t, nil, "--config", path)
	if r.code != exitUsage || strings.Count(r.stderr, "\n") != 2 {
		t.Errorf("exit code %d, stderr:\n%s", r.code, r.stderr)
	}
	assertContains(t, r.stderr, ":5:14: log.level", ":6:21: sync.concurrency")
}

func TestUnreachableDatabaseIsExitCode3(t *testing.T) {
	t.Parallel()
	nobody, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := nobody.Addr().String()
	if err := nobody.Close(); err != nil {
		t.Fatal(err)
	}
	path := writeFile(t, "config.yaml", minimal+"http: {listen: \"\"}\ndatabase:\n  url: postgres://user:"+canary+"@"+address+"/db\n")
	for _, line := range []string{"", "--backfill", "status", "migrate up", "migrate status"} {
		t.Run(line, func(t *testing.T) {
			t.Parallel()
			r := call(t, nil, append(strings.Fields(line), "--config", path)...)
			if r.code != exitDatabase || r.stdout != "" {
				t.Errorf("exit code %d, stdout %q", r.code, r.stdout)
			}
			assertContains(t, only(t, strings.Split(strings.TrimSuffix(r.stderr, "\n"), "\n")), address, "check database.url")
		})
	}
}

func TestUnusableDataDirIsExitCode3(t *testing.T) {
	t.Parallel()
	file := writeFile(t, "file", "")
	path := writeFile(t, "config.yaml", minimal+"database: {data_dir: "+file+"/db}\n")
	r := call(t, nil, "migrate", "up", "--config", path)
	if r.code != exitDatabase {
		t.Errorf("exit code %d", r.code)
	}
	assertContains(t, only(t, r.plainLines()), "database.data_dir")
}
