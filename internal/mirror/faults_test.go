package mirror

import (
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"polarmirror/internal/fetch"
	"polarmirror/internal/polar"
	"polarmirror/internal/polarsim"
	"polarmirror/internal/secret"
)

func TestPageOutOfOrderFailsTheRunAndNamesTheOffset(t *testing.T) {
	t.Parallel()
	large(t)
	for _, fault := range []polarsim.Fault{polarsim.WrongOrder, polarsim.RepeatedRow} {
		w := small(t, 500)
		w.sim.FailWhen(func(n int, _ *http.Request) polarsim.Fault {
			if n == 4 {
				return fault
			}
			return polarsim.NoFault
		})
		var order *polar.OrderError
		if err := w.mirror().Backfill(t.Context()); !errors.As(err, &order) || !strings.Contains(err.Error(), "at offset") {
			t.Errorf("%v: %v", fault, err)
		}
		w.sim.FailWhen(nil)
		if got := w.runs(); got[0] != "full failed false" {
			t.Errorf("%v: runs %v", fault, got)
		}
		w.backfill()
		w.same()
	}
}

// TestUnusableRowsAreRejectedVisibly has rows that no database takes, among
// them one at each edge of the list.
func TestUnusableRowsAreRejectedVisibly(t *testing.T) {
	t.Parallel()
	w := small(t, 300)
	org := w.orgs[0].ID
	rows := w.sim.Listed(org)
	broken := map[string]string{}
	for i, change := range []func(string) string{
		func(s string) string { return strings.Replace(s, `"balance":`, `"balance":1e400000,"old":`, 1) },
		func(s string) string { return strings.Replace(s, `"id":`, `"no_id":`, 1) },
		func(s string) string {
			return strings.Replace(s, `"credited_units":`, `"credited_units":1.5,"old":`, 1)
		},
		func(s string) string { return strings.Replace(s, `"meter_id":`, `"meter_id":"x","old":`, 1) },
	} {
		row := rows[[]int{0, 150, 298, 299}[i]]
		text := change(row.JSON)
		if text == row.JSON {
			t.Fatalf("row %d was not changed", i)
		}
		must1(w.sim.SetRaw(row.ID, text))
		broken[row.ID.String()] = text
	}
	w.backfill()
	if got := w.runs(); got[0] != "full succeeded false" {
		t.Errorf("a run with rejected rows: %v, want succeeded and not exact", got)
	}
	if got := w.value(`SELECT concat_ws(' ', (SELECT count(*) FROM polar.rejected_rows), (SELECT count(*) FROM polar.customer_meters), (SELECT rows_rejected FROM polar.sync_runs))`); got != "4 296 4" {
		t.Errorf("rejected, mirrored and counted rows: %s, want 4 296 4", got)
	}
	w.agedRows()
	w.backfill()
	if got := w.deleted(); got != "0" {
		t.Errorf("%s rows marked deleted", got)
	}
	if got := w.value(`SELECT count(*)::text FROM polar.rejected_rows`); got != "4" {
		t.Errorf("%s rejected rows after a second walk, want the same 4", got)
	}
	if got := w.verify(false); !got.Equal() || got.Rejected != 4 || got.Exact {
		t.Errorf("verify: %+v", got)
	}
}

func TestOddButLegalValuesArrive(t *testing.T) {
	t.Parallel()
	w := small(t, 120)
	rows := w.sim.Listed(w.orgs[0].ID)
	must1(w.sim.SetUnits(rows[3].ID, polarsim.Units{Consumed: "1e-7", Credited: "9223372036854775807", Balance: "-12345678901234.123456"}))
	must1(w.sim.SetRaw(rows[5].ID, strings.Replace(rows[5].JSON, `"consumed_units":`, `"brand_new":{"a":[1,2.50]},"consumed_units":`, 1)))
	single := rows[6] // a customer on one row alone: no other sight of it disagrees
	for _, row := range rows {
		if len(must1(w.sim.RenameCustomer(row.CustomerID, "x"))) == 1 && row.CustomerID != rows[4].CustomerID {
			single, _ = w.sim.Find(row.ID)
			break
		}
	}
	must1(w.sim.RenameCustomer(rows[4].CustomerID, "Łódź 🚀 \u202e x"))
	must1(w.sim.SetRaw(single.ID, strings.Replace(single.JSON, `"email_verified":`, `"nickname":"a\u0000b","email_verified":`, 1)))
	w.backfill()
	for sql, want := range map[string]string{
		fmt.Sprintf(`SELECT concat_ws(' ', consumed_units, credited_units, balance) FROM polar.customer_meters WHERE id = '%s'`, rows[3].ID): "0.0000001 9223372036854775807 -12345678901234.123456",
		fmt.Sprintf(`SELECT name FROM polar.customers WHERE id = '%s'`, rows[4].CustomerID):                                                  "Łódź 🚀 \u202e x",
		fmt.Sprintf(`SELECT extra::text FROM polar.customer_meters WHERE id = '%s'`, rows[5].ID):                                             `{"brand_new": {"a": [1, 2.50]}}`,
		fmt.Sprintf(`SELECT raw ->> 'nickname' FROM polar.customers WHERE id = '%s'`, single.CustomerID):                                     "a\uFFFDb",
	} {
		if got := w.value(sql); got != want {
			t.Errorf("%s: %q, want %q", sql, got, want)
		}
	}
}

// TestTickLooksBehindItsFloor: a transaction at Polar that began before the
// last tick and committed after it carries the time at which it began.
func TestTickLooksBehindItsFloor(t *testing.T) {
	t.Parallel()
	w := quiet(t, 400, 0.3)
	w.backfill()
	if err := w.tick(); err != nil {
		t.Fatal(err)
	}
	late := time.Now().Add(-time.Minute)
	must1(w.sim.AddCustomerMeter(w.orgs[0].ID, polarsim.NewCustomerMeter{CreatedAt: late, Units: polarsim.Units{Consumed: "5"}}))
	changed := w.sim.Listed(w.orgs[0].ID)[200]
	must1(w.sim.SetState(changed.ID, polarsim.Units{Consumed: "77.7", Credited: changed.Units.Credited, Balance: "1"}, late))
	if err := w.tick(); err != nil {
		t.Fatal(err)
	}
	w.same()
}

// TestHistoryAnswersWhatPolarHadWhenObserved asks for the balances as of each
// moment at which the mirror was known to be current.
func TestHistoryAnswersWhatPolarHadWhenObserved(t *testing.T) {
	t.Parallel()
	large(t)
	w := quiet(t, 150, 0.3)
	org := w.orgs[0].ID
	w.backfill()
	w.agedRows()
	type moment struct {
		at       time.Time
		balances map[uuid.UUID]string
	}
	var moments []moment
	observe := func() {
		t.Helper()
		m := moment{balances: make(map[uuid.UUID]string)}
		if err := w.db.Pool.QueryRow(t.Context(), `SELECT clock_timestamp()`).Scan(&m.at); err != nil {
			t.Fatal(err)
		}
		for _, r := range w.sim.Listed(org) {
			m.balances[r.ID] = digits(t, r.Units.Balance)
		}
		moments = append(moments, m)
	}
	observe()
	for i := range 5 {
		rows := w.sim.Listed(org)
		must1(w.sim.Consume(rows[i*7].ID, "2.5"))
		must1(w.sim.Reset(rows[i*11+1].ID))
		must1(w.sim.AddCustomerMeter(org, polarsim.NewCustomerMeter{}))
		must1(w.sim.DeleteCustomerMeter(rows[i*13+2].ID))
		w.backfill()
		observe()
	}
	for i, m := range moments {
		rows, err := w.db.Pool.Query(t.Context(), `SELECT customer_meter_id, balance::text FROM polar.balances_at($1)`, m.at)
		if err != nil {
			t.Fatal(err)
		}
		got := make(map[uuid.UUID]string)
		for rows.Next() {
			var id uuid.UUID
			var balance string
			if err := rows.Scan(&id, &balance); err != nil {
				t.Fatal(err)
			}
			got[id] = digits(t, balance)
		}
		if rows.Err() != nil {
			t.Fatal(rows.Err())
		}
		for id, want := range m.balances {
			if got[id] != want {
				t.Errorf("moment %d: %s has balance %q, Polar had %q", i, id, got[id], want)
			}
		}
		if len(got) != len(m.balances) {
			t.Errorf("moment %d: %d balances, Polar had %d", i, len(got), len(m.balances))
		}
	}
}

func TestUnreachablePolarIsNoLostDatabase(t *testing.T) {
	t.Parallel()
	w := small(t, 300)
	w.sim.FailWhen(func(int, *http.Request) polarsim.Fault { return polarsim.Dropped })
	err := w.mirror(func(o *Options) {
		o.Organizations[0].Client = must1(fetch.New(fetch.Options{
			Organization: "acme", BaseURL: "https://polar.test", Token: fetch.StaticToken(secret.New(w.orgs[0].Token)), Transport: w.sim.Transport(),
			Retry: fetch.Retry{InitialInterval: time.Millisecond, MaxInterval: time.Millisecond, MaxElapsedTime: time.Millisecond, Exponent: 1, RetryConnectionErrors: true},
		}))
	}).Backfill(t.Context())
	var request *fetch.RequestError
	if !errors.As(err, &request) {
		t.Fatalf("got %v, want a request without an answer", err)
	}
	if got := w.runs(); len(got) != 1 {
		t.Errorf("the walk was repeated as if the database had been lost: %v", got)
	}
}

func TestRowsOfAnyBytesAreMirroredOrRejectedAndNoneFailsTheRun(t *testing.T) {
	t.Parallel()
	w := small(t, 300)
	rows := w.sim.Listed(w.orgs[0].ID)
	noise := make([]byte, 64<<10)
	random := rand.NewChaCha8([32]byte{})
	_, _ = random.Read(noise)
	big := hex.EncodeToString(noise) // compressed it is still half of that
	put := func(field, value string) func(string) string {
		return func(s string) string {
			return strings.Replace(s, `"`+field+`":`, `"`+field+`":`+value+`,"old_`+field+`":`, 1)
		}
	}
	metadata := func(value string) func(string) string {
		return func(s string) string { return strings.Replace(s, `"metadata":{`, `"metadata":{`+value+`,`, 1) }
	}
	rejected := 0
	for i, tt := range []struct {
		name    string
		change  func(string) string
		refused bool
	}{
		{"id of invalid UTF-8", put("id", "\"\xff\xfe\""), true},
		{"id of U+0000", put("id", `"\u0000"`), true},
		{"id that is a lone surrogate", put("id", `"\ud800"`), true},
		{"id of 128 KiB", put("id", `"`+big+`"`), true},
		{"metadata of invalid UTF-8", metadata("\"a\":\"\xc3\""), true},
		{"metadata of U+0000", metadata(`"a\u0000":"b\u0000"`), false},
		{"metadata with a lone surrogate", metadata(`"\udfff":1`), true},
		{"metadata of 128 KiB", metadata(`"a":"` + big + `"`), false},
		{"metadata with a number beyond numeric", metadata(`"a":1e400000`), true},
		{"metadata of nine thousand levels", metadata(`"a":` + strings.Repeat("[", 9000) + strings.Repeat("]", 9000)), true},
		{"128 KiB and a broken balance", put("balance", `"`+big+`"`), true},
		{"external id that no index takes", func(s string) string {
			// The customer is newer than on its other rows, which would replace it.
			before, customer, _ := strings.Cut(put("external_id", `"`+big+`"`)(s), `"customer":{`)
			return before + `"customer":{` + put("modified_at", `"2031-01-01T00:00:00Z"`)(customer)
		}, true},
	} {
		row := rows[i*20]
		text := tt.change(row.JSON)
		if text == row.JSON {
			t.Fatalf("%s: nothing changed", tt.name)
		}
		must1(w.sim.SetRaw(row.ID, text))
		if tt.refused {
			rejected++
		}
	}
	w.backfill()
	got := w.value(`SELECT concat_ws(' ', (SELECT count(*) FROM polar.rejected_rows), (SELECT count(*) FROM polar.customer_meters), (SELECT max(octet_length(raw)) < 66000 AND max(octet_length(reason)) < 5000 FROM polar.rejected_rows))`)
	if want := fmt.Sprintf("%d %d t", rejected, 300-rejected); got != want {
		t.Errorf("rejected rows, mirrored rows, whether texts are bounded: %s, want %s\n%s", got, want,
			w.value(`SELECT string_agg(left(reason, 100), E'\n') FROM polar.rejected_rows`))
	}
}

func TestPageWithoutAnyKeyIsNamed(t *testing.T) {
	t.Parallel()
	w := small(t, 300)
	for _, row := range w.sim.Listed(w.orgs[0].ID) {
		must1(w.sim.SetRaw(row.ID, strings.Replace(row.JSON, `"customer_id":"`, `"customer_id":"cus_`, 1)))
	}
	for _, change := range []func(*Options){sweeping, func(*Options) {}} {
		w.sim.ForgetRequests()
		err := w.full(change)
		if !errors.Is(err, ErrNotProven) || !strings.Contains(err.Error(), "rows at offset 0 has a usable place in the list (customer_id: ") {
			t.Errorf("a list of such rows: %v", err)
		}
		if got := w.sim.RequestCount(); got > 3 {
			t.Errorf("%d requests", got)
		}
	}
}
