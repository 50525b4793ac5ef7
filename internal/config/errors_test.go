package config

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
)

// Each file begins with minimal, four lines; so the first line in question is 5.
func TestProblemPointsAtItsPlace(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, more, want string // want: line:column, and a part of the message
	}{
		{"typing error in a key", "polar: {concurency: 8}", "5:9: polar: unknown key concurency; known here: api_version, base_url, concurrency, requests_per_minute, retry, timeout"},
		{"typing error in a section", "polr:\n  timeout: 1s", "5:1: unknown key polr; known here: database, heartbeat_url, history, http, log, organizations, polar, privacy, schedule, sync"},
		{"dashes for underscores", "polar:\n  base-url: x", "6:3: polar: unknown key base-url; known here: api_version, base_url"},
		{"key of another section", "polar:\n  max_connections: 3", "6:3: polar: unknown key max_connections; known here: api_version"},
		{"key in question-mark form", "? log\n: {}", "5:1: merge keys (<<) and keys behind a question mark are not supported"},
		{"merge key", "<<: {log: {}}", "5:1: merge keys (<<) and keys behind a question mark are not supported"},
		{"duplicate key", "polar:\n  timeout: 1s\n  timeout: 2s", "7:3: polar: key timeout is given twice, first in line 6"},
		{"duplicate section", "log: {level: info}\nlog: {level: debug}", "6:1: key log is given twice, first in line 5"},
		{"list for a scalar", "polar:\n  timeout: [1s]", "6:12: polar.timeout: want a single value"},
		{"scalar for a section", "polar: 3", "5:8: polar: want keys and values"},
		{"no value", "polar:\n  timeout:", "6:3: polar.timeout: has no value"},
		{"tag", "log: {level: !x info}", "5:14: log.level: YAML's anchors (&), aliases (*) and tags (!) are not supported"},
		{"anchor", "polar: {timeout: &t 7s}", "5:18: polar.timeout: YAML's anchors"},
		{"alias of nothing", "http: *nope", "5:7: http: YAML's anchors (&), aliases (*) and tags (!) are not supported"},
		{"unset variable", "polar:\n  base_url: ${NOPE}", "6:13: polar.base_url: environment variable NOPE is not set; set it, or write ${NOPE:-default}"},
		{"unset variable in a number", "polar:\n  requests_per_minute: \"${NOPE}\"", "6:24: polar.requests_per_minute: environment variable NOPE is not set"},
		{"malformed reference", "polar:\n  base_url: ${bad-name}", "6:13: polar.base_url: a reference to the environment is written ${NAME}"},
		{"unclosed reference", "polar:\n  base_url: ${TOKEN", "6:13: polar.base_url: a reference to the environment"},
		{"wrong value in a variable", "polar:\n  timeout: ${TOKEN}", "6:12: polar.timeout: want a duration with its unit, such as 500ms, 30s or 1h30m (the longest unit is h: a day is 24h) (the value comes from the environment variable TOKEN)"},
		{"plain http", "polar:\n  base_url: http://api.polar.sh", "6:13: polar.base_url: http:// would send the token in the clear; write https://"},
		{"address without scheme", "polar:\n  base_url: api.polar.sh", "6:13: polar.base_url: want an address such as https://api.polar.sh"},
		{"token in the address", "polar:\n  base_url: https://" + canary + "@api.polar.sh", "6:13: polar.base_url: want scheme and host alone"},
		{"version in the address", "polar:\n  base_url: https://api.polar.sh/v1/", "6:13: polar.base_url: leave /v1 out"},
		{"version", "polar: {api_version: latest}", "5:22: polar.api_version: want a version of Polar's API"},
		{"negative number", "polar: {requests_per_minute: -1}", "5:30: polar.requests_per_minute: want a whole number from 0"},
		{"fraction for a number", "polar: {requests_per_minute: 1.5}", "5:30: polar.requests_per_minute: want a whole number"},
		{"text for a number", "polar: {requests_per_minute: fast}", "5:30: polar.requests_per_minute: want a whole number"},
		{"no concurrency", "polar: {concurrency: 0}", "5:22: polar.concurrency: want a whole number from 1"},
		{"duration without unit", "polar: {timeout: 30}", "5:18: polar.timeout: want a duration with its unit"},
		{"duration in days", "polar: {timeout: 2d}", "5:18: polar.timeout: want a duration with its unit, such as 500ms"},
		{"zero duration", "polar: {timeout: 0s}", "5:18: polar.timeout: want a duration above zero"},
		{"negative duration", "history: {keep: -1h}", "5:17: history.keep: want a duration that is not negative"},
		{"shrinking back-off", "polar: {retry: {exponent: 0.5}}", "5:27: polar.retry.exponent: want a number from 1 to 100"},
		{"exponent that is none", "polar: {retry: {exponent: .nan}}", "5:27: polar.retry.exponent: want a number from 1 to 100"},
		{"intervals swapped", "polar: {retry: {initial_interval: 2m}}", "5:16: polar.retry: max_interval, 1m0s, is below initial_interval, 2m0s"},
		{"unknown field of a customer", "privacy: {exclude: [email, external_id]}", "5:28: privacy.exclude[1]: want one of email, name, billing_name, billing_address, tax_id, avatar_url, metadata"},
		{"yes for true", "schedule: {run_on_start: yes}", "5:26: schedule.run_on_start: want true or false"},
		{"fraction above one", "sync: {max_delete_fraction: 20}", "5:29: sync.max_delete_fraction: want a number from 0 to 1"},
		{"too few connections", "database:\n  max_connections: 5", "6:20: database.max_connections: 5 connections are too few for 4 organizations at a time: each holds one, and 3 more are needed; set database.max_connections to 7 or more"},
		{"too much side by side", "sync:\n  concurrency: 8", "6:16: sync.concurrency: 8 connections are too few for 8 organizations at a time"},
		{"minute out of range", "schedule: {full: \"61 * * * *\"}", "5:18: schedule.full: want five fields, each within its range (minute 0-59"},
		{"weekday of no week", "schedule: {full: \"1 * * * FOO\"}", "5:18: schedule.full: want five fields"},
		{"six fields", "schedule: {full: \"* * * * * *\"}", "5:18: schedule.full: want five fields"},
		{"unknown descriptor", "schedule: {full: \"@sometimes\"}", "5:18: schedule.full: want five fields"},
		{"only spaces", "schedule: {full: \" \"}", "5:18: schedule.full: want five fields"},
		{"30 February", "schedule: {full: \"0 0 30 2 *\"}", "5:18: schedule.full: names a date that never comes"},
		{"own time zone", "schedule: {full: TZ=UTC}", "5:18: schedule.full: has a time zone of its own; set schedule.timezone"},
		{"too often", "schedule: {full: \"@every 1ms\"}", "5:18: schedule.full: want whole seconds"},
		{"no such zone", "schedule: {timezone: Mars/Base}", "5:22: schedule.timezone: no such time zone"},
		{"local zone", "schedule: {timezone: Local}", "5:22: schedule.timezone: no such time zone"},
		{"listen without port", "http: {listen: localhost}", "5:16: http.listen: want host:port"},
		{"port out of range", "http:\n  webhook_listen: 127.0.0.1:99999", "6:19: http.webhook_listen: want host:port"},
		{"same address twice", "http:\n  webhook_listen: 127.0.0.1:8080", "6:19: http.webhook_listen: is the same address as http.listen"},
		{"everyone may read", "http: {listen: \":8080\"}", "5:16: http.listen: would show the status page and the metrics to everyone who reaches this machine; set http.token"},
		{"everyone by name", "http: {listen: \"syncd.internal:8080\"}", "5:16: http.listen: would show the status page"},
		{"everyone by address", "http: {listen: \"10.0.0.1:8080\", token: \"\", user: \"\"}", "5:16: http.listen: would show the status page"},
		{"short token", "http: {token: 0123456789abcde}", "5:15: http.token: is too short to keep anyone out; want 16 characters"},
		{"short password", "http: {user: me, password: 1234567}", "5:28: http.password: is too short"},
		{"token and file", "http:\n  token: ${TOKEN}\n  token_file: token", "7:15: http: has both token and token_file; keep one"},
		{"password and file", "http: {user: me, password_file: token, password: \"${TOKEN}\"}", "5:33: http: has both password and password_file; keep one"},
		{"user alone", "http: {user: me}", "5:14: http.user: has no password; add http.password"},
		{"password alone", "http: {password_file: token}", "5:7: http.password: has no user; add http.user"},
		{"user with a colon", "http: {user: \"a:b\", password: \"${TOKEN}\"}", "5:14: http.user: want a user's name without"},
		{"address as a host", "http: {hosts: [\"https://syncd.example.com\"]}", "5:16: http.hosts[0]: want a host's name without scheme and port"},
		{"host with a port", "http: {hosts: [\"syncd.example.com:8080\"]}", "5:16: http.hosts[0]: want a host's name without scheme and port"},
		{"password of the database", "database: {password: x}", "5:12: database: unknown key password; known here: data_dir, max_connections, url"},
		{"no lag", "http: {max_lag: 0}", "5:17: http.max_lag: want a duration above zero"},
		{"heartbeat by ftp", "heartbeat_url: ftp://example.com", "5:16: heartbeat_url: want an address that begins with https://"},
		{"level", "log: {level: loud}", "5:14: log.level: want debug, info, warn or error"},
		{"format", "log: {format: xml}", "5:15: log.format: want json or console"},
		{"another database", "database:\n  url: mysql://u:" + canary + "@h/db", "6:8: database.url: not a Postgres address"},
		{"bad port", "database:\n  url: postgres://u:" + canary + "@h:99999/db", "6:8: database.url: no Postgres client accepts it"},
		{"unescaped #", "database:\n  url: postgres://u:#" + canary + "@h/db", "6:8: database.url: not a valid URL; in user and password write"},
		{"unescaped @", "database:\n  url: postgres://u:top@" + canary + "@h/db", "6:8: database.url: not a valid URL; in user and password write @ as %40"},
		{"unescaped %", "database:\n  url: postgres://u:%zz" + canary + "@h/db", "6:8: database.url: not a valid URL"},
		{"no connection string", "database:\n  url: " + canary, "6:8: database.url: not a connection string"},
		{"empty folder", "database: {data_dir: \"\"}", "5:22: database.data_dir: want a text of one line"},
		{"second document", "---\nlog: {}", "6:1: the file holds a second YAML document"},
		{"tab", "polar:\n\ttimeout: 1s", "6:1: invalid YAML: found character '\t' that cannot start any token; here or in the line above, indent with spaces"},
		{"unquoted cron", "schedule:\n  full: * * * * *", "6:17: invalid YAML: undefined alias name; here or"},
		{"unquoted descriptor", "schedule:\n  full: @hourly", "6:9: invalid YAML: '@' is a reserved character; here or"},
		{"unquoted reference in braces", "polar: {base_url: ${X}}", "5:20: invalid YAML: ',' or '}' must be specified; here or"},
		{"open quote", "log: {level: \"info}", "5:14: invalid YAML: could not find end character of double-quoted text; here or"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := problemsOf(t, newEnv(minimal+tt.more+"\n"))
			if len(got) != 1 || !strings.HasPrefix(got[0], "config.yaml:"+tt.want) {
				t.Errorf("got  %q\nwant one problem beginning %q", got, "config.yaml:"+tt.want)
			}
			noSecret(t, strings.Join(got, "\n"))
		})
	}
}

func TestProblemOfAnOrganizationPointsAtIt(t *testing.T) {
	t.Parallel()
	acme := "- {name: acme, id: " + acmeID
	tests := []struct {
		name, text string
		want       []string
	}{
		{"empty file", "", []string{"1:1: organizations: want at least one"}},
		{"comments alone", "# later\n", []string{"1:1: organizations: want at least one"}},
		{"no list", "organizations: {}\n", []string{"1:16: organizations: want a list; write"}},
		{"empty list", "log: {}\norganizations: []\n", []string{"2:16: organizations: want at least one"}},
		{"empty element", minimal + "  -\n", []string{
			"5:3: organizations[1]: has no name", "5:3: organizations[1]: has no id", "5:3: organizations[1]: has no access token",
		}},
		{"name alone", "organizations:\n  - name: acme\n", []string{
			"2:5: organizations[0]: has no id", "2:5: organizations[0]: has no access token",
		}},
		{"no name", "organizations:\n- id: " + acmeID + "\n  access_token: x\n", []string{"2:3: organizations[0]: has no name"}},
		{"space in the name", strings.Replace(minimal, "acme", "a b", 1), []string{"2:11: organizations[0].name: want a label"}},
		{"name that is a path", strings.Replace(minimal, "acme", "..", 1), []string{"2:11: organizations[0].name: want a label"}},
		{"token as id", strings.Replace(minimal, acmeID, canary, 1), []string{"3:9: organizations[0].id: want an id"}},
		{"zero id", strings.Replace(minimal, acmeID, "00000000-0000-0000-0000-000000000000", 1), []string{"3:9: organizations[0].id: want an id"}},
		{"id without dashes", strings.Replace(minimal, acmeID, strings.ReplaceAll(acmeID, "-", ""), 1), []string{"3:9: organizations[0].id: want an id"}},
		{"empty variable", strings.Replace(minimal, "TOKEN", "EMPTY", 1), []string{
			"4:19: organizations[0].access_token: is empty (the value comes from the environment variable EMPTY)",
		}},
		{"broken token", strings.Replace(minimal, "${TOKEN}", "'${TOKEN} x'", 1), []string{"4:19: organizations[0].access_token: it contains a space"}},
		{"missing colon space", strings.Replace(minimal, "access_token: ${TOKEN}", "access_token:"+canary, 1), []string{"4:5: invalid YAML: non-map value is specified; here or"}},
		{"both tokens", minimal + "    access_token_file: token\n", []string{"5:24: organizations[0]: has both access_token and access_token_file; keep one"}},
		{"both webhook secrets", minimal + "    webhook_secret_file: token\n    webhook_secret: x\n", []string{"5:26: organizations[0]: has both webhook_secret and webhook_secret_file"}},
		{"filter", minimal + "    filter: {customer_id: [1], meter_id: x, external_customer_id: [\"\"], metr_id: []}\n", []string{
			"5:28: organizations[0].filter.customer_id[0]: want an id",
			"5:42: organizations[0].filter.meter_id: want a list",
			"5:68: organizations[0].filter.external_customer_id[0]: want a customer's id",
			"5:73: organizations[0].filter: unknown key metr_id; known here: customer_id, external_customer_id, meter_id",
		}},
		{"token files", "organizations:\n" + acme + ", access_token_file: nofile}\n" +
			"- {name: acme, id: " + betaID + ", access_token_file: empty}\n" +
			"- {name: b, id: " + betaID + ", access_token_file: two-lines}\n", []string{
			"2:77: organizations[0].access_token_file: read nofile: file does not exist",
			"3:10: organizations[1].name: is already used by the organization on line 2",
			"3:77: organizations[1].access_token_file: read empty: the file is empty",
			"4:17: organizations[2].id: is already used by the organization on line 3",
			"4:74: organizations[2].access_token_file: read two-lines: it contains a",
		}},
		{"token as path", "organizations:\n" + acme + ", access_token_file: \"${TOKEN}\"}\n", []string{
			"2:77: organizations[0].access_token_file: read the file: file does not exist (the value comes from the environment variable TOKEN)",
		}},
		{"token pasted as path", "organizations:\n" + acme + ", access_token_file: " + canary + "}\n", []string{
			"2:77: organizations[0].access_token_file: read the file: file does not exist",
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := problemsOf(t, newEnv(tt.text))
			if len(got) != len(tt.want) {
				t.Fatalf("got %d problems %q, want %d", len(got), got, len(tt.want))
			}
			for i := range got {
				if !strings.HasPrefix(got[i], "config.yaml:"+tt.want[i]) {
					t.Errorf("problem %d: got  %q\nwant beginning %q", i, got[i], "config.yaml:"+tt.want[i])
				}
			}
			noSecret(t, strings.Join(got, "\n"))
		})
	}
}

func TestProblemsOfTheFileItselfNameIt(t *testing.T) {
	t.Parallel()
	latin := newEnv(minimal + "# \xe9\n")
	folder := newEnv("")
	folder.files["config.yaml"] = &fstest.MapFile{Mode: fs.ModeDir}
	for name, w := range map[string]env{"not UTF-8": latin, "read the configuration": folder} {
		got := problemsOf(t, w)
		if len(got) != 1 || !strings.HasPrefix(got[0], "config.yaml: ") || !strings.Contains(got[0], name) {
			t.Errorf("got %q, want one problem of config.yaml with %q", got, name)
		}
	}
}

func TestFileThatIsTooLongIsNotRead(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "syncd.yaml")
	if err := os.WriteFile(path, []byte(minimal+"# "+strings.Repeat("x", maxFile)), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(path, os.LookupEnv); err == nil || !strings.Contains(err.Error(), "longer than") {
		t.Errorf("got %v", err)
	}
}

func TestAskedForFileMustExist(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "syncd.yaml")
	_, err := Load(path, os.LookupEnv)
	want := path + ": there is no such file; copy config.example.yaml there, or leave --config out"
	if err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}

func TestFileOfAnotherKindGivesAHundredProblemsAtMost(t *testing.T) {
	t.Parallel()
	if got := len(problemsOf(t, newEnv(minimal+strings.Repeat("unheard: of\n", 500)))); got != maxProblems {
		t.Errorf("got %d problems, want %d", got, maxProblems)
	}
}

func TestErrorIsALineForEachProblemInFileOrder(t *testing.T) {
	t.Parallel()
	err := errorOf([]Problem{
		{File: "f", Line: 9, Column: 1, Message: "c"},
		{File: "f", Line: 2, Column: 7, Message: "b"},
		{File: "f", Line: 2, Column: 3, Message: "a"},
		{File: environment, Message: "e"},
		{Message: "alone"},
	})
	want := "environment: e\nalone\nf:2:3: a\nf:2:7: b\nf:9:1: c"
	if diff := cmp.Diff(want, err.Error()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// noSecret fails if text shows the canary.
func noSecret(t testing.TB, text string) {
	t.Helper()
	if strings.Contains(text, canary) || strings.Contains(text, "canaryCANARY") {
		t.Errorf("the secret shows: %s", text)
	}
}
