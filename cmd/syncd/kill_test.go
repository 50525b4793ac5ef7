package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"math/big"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

var (
	killRequests = flag.Int64("kill.requests", 100, "requests until a backfill is killed, at most")
	killRows     = flag.Int("kill.rows", 7_000, "customer meters that it backfills")
)

// TestBackfillKilledAtRandomMomentsEndsEqualToTheSource kills syncd with
// SIGKILL again and again while it backfills the customer meters of three
// organizations, of which the first is swept, after a random number of requests
// each time. The last call is left alone.
func TestBackfillKilledAtRandomMomentsEndsEqualToTheSource(t *testing.T) {
	t.Parallel()
	large(t)
	f := newFixture(t, *killRows*3/4, *killRows*3/20, *killRows/10)
	var served atomic.Int64
	killAt := make(chan struct{}, 1)
	var limit atomic.Int64
	f.sim.Before(func(int, *http.Request) {
		if n := served.Add(1); n == limit.Load() {
			killAt <- struct{}{}
		}
	})

	kills := 0
	for {
		span := *killRequests * 9 / 10
		if kills < 2 {
			span /= 2 // so that neither of these calls comes to its end
		}
		limit.Store(served.Load() + *killRequests/10 + rand.Int64N(span))
		done, killed := f.backfillUntil(t, killAt)
		if done {
			break
		}
		if killed {
			kills++
		}
	}
	t.Logf("kills: %d", kills)
	if kills < 2 {
		t.Errorf("killed only %d times: the test has not tested much", kills)
	}

	// 1.4 requests a hundred rows and thirty for each organization, and for each
	// organization and kill the block that was being saved, the one being gathered,
	// the pages in flight, and the first page.
	const blockPages, inFlight = 4000/80 + 1, 8
	most := int64(*killRows*140/10_000 + 3*30 + kills*3*(2*blockPages+inFlight+1))
	if got := served.Load(); got > most {
		t.Errorf("%d requests with %d kills, want at most %d", got, kills, most)
	}
	for _, org := range f.orgs {
		f.compareAll(t, org.ID)
	}
}

// backfillUntil starts a backfill and kills it when told to. done is set if it
// ended by itself.
func (f *fixture) backfillUntil(t *testing.T, kill <-chan struct{}) (done, killed bool) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "--config", f.config, "--backfill")
	cmd.Env = append(os.Environ(), mainEnv+"=1")
	var output buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case err := <-ended:
		if err != nil {
			t.Fatalf("backfill: %v\n%s", err, output.String())
		}
		return true, false
	case <-kill:
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		<-ended
		return false, true
	case <-time.After(patience):
		_ = cmd.Process.Kill()
		t.Fatalf("backfill does not end:\n%s", output.String())
		return false, false
	}
}

// compareAll compares an organization's mirror with the source, digit by digit
// and name by name.
func (f *fixture) compareAll(t *testing.T, org uuid.UUID) {
	t.Helper()
	got := make(map[string]string)
	rows, err := f.db.Pool.Query(t.Context(), `
SELECT m.id::text, m.consumed_units::text, m.credited_units::text, m.balance::text,
       m.created_at, coalesce(m.modified_at, '0001-01-01 00:00:00+00'), coalesce(c.name, ''), t.name
  FROM polar.customer_meters m
  JOIN polar.customers c ON c.id = m.customer_id
  JOIN polar.meters t ON t.id = m.meter_id
 WHERE m.organization_id = $1 AND m.deleted_at IS NULL`, org)
	if err != nil {
		t.Fatal(err)
	}
	var id, consumed, credited, balance, customer, meter string
	var created, modified time.Time
	_, err = pgx.ForEachRow(rows, []any{&id, &consumed, &credited, &balance, &created, &modified, &customer, &meter}, func() error {
		got[id] = rowText(t, consumed, credited, balance, created, modified, customer, meter)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	wrong := 0
	for row := range f.sim.All(org) {
		if row.Archived {
			continue
		}
		name := ""
		if row.CustomerName != nil {
			name = *row.CustomerName
		}
		want := rowText(t, row.Units.Consumed, row.Units.Credited, row.Units.Balance, row.CreatedAt, row.ModifiedAt, name, row.MeterName)
		if got[row.ID.String()] != want {
			if wrong++; wrong <= 5 {
				t.Errorf("row %s: mirror has %q, Polar %q", row.ID, got[row.ID.String()], want)
			}
		}
		delete(got, row.ID.String())
	}
	if wrong > 0 || len(got) > 0 {
		t.Errorf("organization %s: %d rows differ, %d rows too many", org, wrong, len(got))
	}
}

// rowText is a row with its numbers as fractions: equal exactly if all is.
func rowText(t *testing.T, consumed, credited, balance string, created, modified time.Time, customer, meter string) string {
	t.Helper()
	text := ""
	for _, digits := range []string{consumed, credited, balance} {
		n, ok := new(big.Rat).SetString(digits)
		if !ok {
			t.Fatalf("%q is no number", digits)
		}
		text += n.RatString() + " "
	}
	names, err := json.Marshal([]string{customer, meter})
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint(text, created.UTC().UnixMicro(), " ", modified.UTC().UnixMicro(), " ", string(names))
}
