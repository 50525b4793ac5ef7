package polarsim

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func openJournal(t testing.TB, path string, o Options) *Journal {
	t.Helper()
	j, err := OpenJournal(path, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { j.Close() })
	return j
}

func TestJournalReplaysToTheSameData(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "journal")
	j := openJournal(t, path, rows(500))
	org := j.Server().Organizations()[0].ID
	at := time.Now()
	for step := range 40 {
		if err := j.Advance(at.Add(time.Duration(step*7) * time.Second)); err != nil {
			t.Fatal(err)
		}
		if step%10 == 0 { // someone reads meanwhile
			j.Server().Snapshot(org)
		}
	}
	want := j.Server().Snapshot(org)
	j.Close()

	// A crash in the middle of a write leaves half a line.
	file, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := file.WriteString("2026-08-01T00:0"); err != nil {
		t.Fatal(err)
	}
	file.Close()

	again := openJournal(t, path, rows(500))
	if diff := cmp.Diff(want, again.Server().Snapshot(org)); diff != "" {
		t.Fatalf("replayed data differs (-want +got):\n%s", diff)
	}
	if err := again.Advance(at.Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	want = again.Server().Snapshot(org)
	again.Close()
	if diff := cmp.Diff(want, openJournal(t, path, rows(500)).Server().Snapshot(org)); diff != "" {
		t.Fatalf("data after half a line and a step differs (-want +got):\n%s", diff)
	}
}

func TestJournalRefusesOtherDataAndOtherProcesses(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "journal")
	j := openJournal(t, path, rows(5))
	if _, err := OpenJournal(path, rows(5)); !errors.Is(err, ErrJournalInUse) {
		t.Errorf("opened twice: got %v, want %v", err, ErrJournalInUse)
	}
	j.Close()
	if _, err := OpenJournal(path, rows(6)); err == nil {
		t.Error("opened with options for other data")
	}
	openJournal(t, path, rows(5))
}
