package polarsim

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestRenderedRowsAreThoseListedByteByByte(t *testing.T) {
	t.Parallel()
	s := New(rows(300))
	org := s.Organizations()[0].ID
	all := s.Snapshot(org)
	if _, err := s.SetRaw(all[3].ID, `{"put":"in"}`); err != nil {
		t.Fatal(err)
	}
	if _, err := s.SetExtra(all[4].ID, `"one":1,"more":true`); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Consume(all[5].ID, "1.5"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.ArchiveMeter(all[0].MeterID); err != nil {
		t.Fatal(err)
	}
	var want, got []string
	for _, r := range s.Listed(org) {
		want = append(want, r.ID.String()+r.ModifiedAt.String()+r.JSON)
	}
	for r := range s.Rendered(org) {
		text := string(r.AppendTo(nil))
		if len(text) != r.Size() {
			t.Errorf("%d bytes, said to be %d", len(text), r.Size())
		}
		got = append(got, r.ID.String()+r.ModifiedAt.String()+text)
	}
	for _, r := range all {
		one, ok := s.FindRendered(r.ID)
		now, _ := s.Find(r.ID)
		if text := string(one.AppendTo(nil)); !ok || text != now.JSON {
			t.Errorf("%s, rendered alone: %s", r.ID, text)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-listed +rendered):\n%s", diff)
	}
}
