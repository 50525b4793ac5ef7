package store_test

import (
	"testing"
	"time"

	"polarmirror/internal/pgtest"
	"polarmirror/internal/store"
)

func TestSimulatedPastBeginsTheHistoryOnce(t *testing.T) {
	t.Parallel()
	st, db := pgtest.NewStore(t)
	s := openOn(t, st)
	m := sample(t, 1)
	now := time.Now().UTC().Truncate(time.Second)
	var states []store.PastState
	for _, daysAgo := range []int{1, 40, 20} {
		states = append(states, store.PastState{
			CustomerMeterID: m.ID,
			SeenAt:          now.AddDate(0, 0, -daysAgo),
			ConsumedUnits:   decimal(t, "1.10"),
			Balance:         decimal(t, "98.90"),
			CreditedUnits:   100,
		})
	}
	for range 2 {
		if err := st.AddSimulatedPast(t.Context(), organization, func() ([]store.PastState, error) { return states, nil }); err != nil {
			t.Fatal(err)
		}
	}
	save(t, s, start(t, s, store.Full), &store.Block{CustomerMeters: rows(m)})
	const history = `SELECT string_agg(concat_ws(' ', source, consumed_units, round(extract(epoch FROM now() - observed_at) / 86400)), ', ' ORDER BY observed_at) FROM polar.customer_meter_history`
	if got, want := lookup(t, db, history), "simulated 1.10 40, simulated 1.10 20, simulated 1.10 1, full 0.1 0"; got != want {
		t.Errorf("history %s, want %s", got, want)
	}
}
