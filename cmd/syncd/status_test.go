package main

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"polarmirror/internal/config"
	"polarmirror/internal/store"
)

func readStatusJSON(t testing.TB, r result) []map[string]any {
	t.Helper()
	if r.code != exitDone {
		t.Fatalf("exit code %d, stderr:\n%s", r.code, r.stderr)
	}
	var list []map[string]any
	if err := json.Unmarshal([]byte(r.stdout), &list); err != nil {
		t.Fatalf("%v in:\n%s", err, r.stdout)
	}
	return list
}

func TestStatusBeforeAnythingWasMirrored(t *testing.T) {
	t.Parallel()
	f := newUnmigrated(t, 30, 40)
	r := call(t, nil, "status", "--config", f.config)
	if r.code != exitDone || r.stderr != "" {
		t.Errorf("exit code %d, stderr %q", r.code, r.stderr)
	}
	assertContains(t, r.stdout, "acme", "globex", "never", "Nothing has been mirrored yet: run syncd")
	list := readStatusJSON(t, call(t, nil, "status", "--json", "--config", f.config))
	if len(list) != 2 || list[0]["last_success"] != nil || list[0]["lag_seconds"] != nil || list[0]["rows"] != 0.0 {
		t.Errorf("got %v", list)
	}
}

func TestStatusDoesNotMakeTheEmbeddedDatabase(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "db")
	path := writeFile(t, "config.yaml", minimal+"database: {data_dir: "+dir+"}\n")
	r := call(t, nil, "status", "--config", path)
	if r.code != exitDone {
		t.Errorf("exit code %d, stderr:\n%s", r.code, r.stderr)
	}
	assertContains(t, r.stdout, "Nothing has been mirrored yet")
	if found, err := filepath.Glob(dir + "*"); err != nil || len(found) > 0 {
		t.Errorf("found %v, %v", found, err)
	}

	// Its folder is there since the demo ran.
	if err := os.MkdirAll(filepath.Join(dir, "demo"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "demo", "start.lock"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	r = call(t, nil, "status", "--config", path)
	assertContains(t, r.stdout, "Nothing has been mirrored yet")
	if found, err := filepath.Glob(dir + "/*"); err != nil || len(found) != 1 {
		t.Errorf("beside the demo's folder: found %v, %v", found, err)
	}
}

// TestEmptyDataFolderIsLookedAtByItsOwner: one of ours is where the database will be
// made; of another user's, config check and status say what a start would say.
func TestEmptyDataFolderIsLookedAtByItsOwner(t *testing.T) {
	t.Parallel()
	look := func(dir, check, status string) {
		t.Helper()
		path := writeFile(t, "config.yaml", minimal+"polar: {base_url: http://127.0.0.1:1}\ndatabase: {data_dir: "+dir+"}\n")
		assertContains(t, call(t, nil, "config", "check", "--config", path).stdout, check)
		r := call(t, nil, "status", "--config", path)
		assertContains(t, r.stdout+r.stderr, status)
	}
	look(t.TempDir(), "will be made in", "Nothing has been mirrored yet")
	if os.Geteuid() == 0 { // nobody else can give a folder away
		dir := t.TempDir()
		if err := os.Chown(dir, 65534, 65534); err != nil {
			t.Fatal(err)
		}
		look(dir, "belongs to user id 65534", "belongs to user id 65534")
	}
}

// TestStatusAfterBackfills of which one organization's failed, and one was of another
// organization under the same label.
func TestStatusAfterBackfills(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 30, 40, 20)
	path := f.write(t, f.yaml(map[string]string{"globex": "polar_oat_wrong" + canary}, `schedule: {incremental: "", full: "17 3 * * *"}`))
	if r := call(t, nil, "--backfill", "--config", path); r.code != exitFailed {
		t.Fatalf("exit code %d, stderr:\n%s", r.code, r.stderr)
	}
	table := call(t, nil, "status", "--config", path)
	assertContains(t, table.stdout, "acme", "30", "walk", "03:17:00Z (full)", "none", "status 401")

	list := readStatusJSON(t, call(t, nil, "status", "--json", "--config", path))
	want := []string{"organization", "organization_id", "configured", "rows", "last_success", "last_full",
		"last_full_exact", "last_full_method", "last_incremental", "lag_seconds", "running", "running_since", "last_error",
		"last_error_at", "next_run", "next_run_kind"}
	if diff := cmp.Diff(want, slices.Collect(maps.Keys(list[0])), sorted()); diff != "" {
		t.Errorf("keys (-want +got):\n%s", diff)
	}
	acme, globex := list[0], list[1]
	if acme["organization"] != "acme" || acme["rows"] != 30.0 || acme["last_full_exact"] != true || acme["last_full_method"] != "walk" ||
		acme["last_error"] != nil || acme["next_run_kind"] != "full" || acme["organization_id"] != f.orgs[0].ID.String() {
		t.Errorf("acme: %v", acme)
	}
	if _, err := time.Parse(time.RFC3339, acme["last_success"].(string)); err != nil {
		t.Error(err)
	}
	if lag, ok := acme["lag_seconds"].(float64); !ok || lag < 0 {
		t.Errorf("lag_seconds: %v", acme["lag_seconds"])
	}
	if globex["last_success"] != nil || !strings.Contains(globex["last_error"].(string), "401") {
		t.Errorf("globex: %v", globex)
	}

	// A run with a wrong id fails, and leaves its organization behind.
	const wrongID = "ffffffff-ffff-4fff-bfff-ffffffffffff"
	wrong := f.write(t, strings.Replace(f.yaml(nil), f.orgs[2].ID.String(), wrongID, 1))
	list = readStatusJSON(t, call(t, nil, "status", "--json", "--config", wrong))
	if last := list[len(list)-1]; len(list) != 3 || last["rows"] != 0.0 || last["last_success"] != nil || last["organization_id"] != wrongID {
		t.Errorf("before the first run with another id: %v", list)
	}
	if r := call(t, nil, "--backfill", "--config", wrong, "--organization", "initech"); r.code != exitFailed {
		t.Fatalf("with a wrong id: exit code %d, %s", r.code, r.stderr)
	}
	list = readStatusJSON(t, call(t, nil, "status", "--json", "--config", f.config, "--organization", "initech"))
	if len(list) != 1 || list[0]["rows"] != 20.0 || list[0]["organization_id"] != f.orgs[2].ID.String() {
		t.Errorf("status: %v", list)
	}

	f.orgs = f.orgs[1:]
	fewer := call(t, nil, "status", "--config", f.write(t, f.yaml(nil)))
	if !regexp.MustCompile(`(?s) globex .* initech .* acme .* not configured `).MatchString(fewer.stdout) {
		t.Errorf("with one that is no longer configured:\n%s", fewer.stdout)
	}
}

func TestNextRunIsTheEarlierSchedule(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 8, 1, 10, 16, 30, 0, time.UTC)
	tests := []struct {
		incremental, full config.Cron
		at                string
		kind              string
	}{
		{"* * * * *", "17 * * * *", "10:17:00", "full"}, // the full run does the tick's work as well
		{"* * * * *", "30 * * * *", "10:17:00", "incremental"},
		{"", "30 * * * *", "10:30:00", "full"},
		{"@every 30s", "", "10:17:00", "incremental"},
		{"", "", "00:00:00", ""},
	}
	for _, tt := range tests {
		s := config.Schedule{Incremental: tt.incremental, Full: tt.full, Location: time.UTC}
		at, kind := nextRun(s, now)
		if at.Format(time.TimeOnly) != tt.at || kind != tt.kind {
			t.Errorf("%q and %q: got %v %q, want %s %q", tt.incremental, tt.full, at, kind, tt.at, tt.kind)
		}
	}
}

func TestStatusTextDatesWhatIsMoreThanADayAway(t *testing.T) {
	t.Parallel()
	now, reason, kind := time.Date(2026, 8, 1, 10, 16, 30, 0, time.UTC), "no answer", "full"
	at := func(failed, next time.Duration) string {
		failedAt, nextAt := now.Add(failed), now.Add(next)
		return statusText([]organizationStatus{{Configured: true, LastError: &reason, LastErrorAt: &failedAt, NextRun: &nextAt, NextRunKind: &kind}}, now)
	}
	assertContains(t, at(-time.Hour, time.Minute), "│ 09:16:30Z no answer", "│ 10:17:30Z (full)")
	assertContains(t, at(-72*time.Hour, 120*time.Hour), "│ 2026-07-29 10:16:30Z no answer", "│ 2026-08-06 10:16:30Z (full)")
}

func TestStatusTextCannotSteerTheTerminal(t *testing.T) {
	t.Parallel()
	text := "broken\x1b[2J\nand more"
	if got := statusText([]organizationStatus{{Organization: "acme", LastError: &text}}, time.Now()); strings.Contains(got, "\x1b") {
		t.Errorf("got %q", got)
	}
}

func TestStatusOfARunDatedLaterThanNowIsUnknown(t *testing.T) {
	t.Parallel()
	one := describeStatus(store.OrgStatus{Organization: "acme", LastFull: store.LastRun{ID: 1}})
	if one.LagSeconds != nil || !one.Undated {
		t.Errorf("lag %v, undated %v", one.LagSeconds, one.Undated)
	}
	assertContains(t, statusText([]organizationStatus{one}, time.Now()), "dated later than now", "unknown")
}
