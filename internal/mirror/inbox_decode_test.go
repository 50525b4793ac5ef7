package mirror

import (
	"encoding/hex"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/uuid"

	"polarmirror/internal/polarsim"
)

// TestDeliveriesOfAnyBytesAreKeptAndProcessed: none is answered with an error, which
// would have Polar disable the endpoint, or holds up the next.
func TestDeliveriesOfAnyBytesAreKeptAndProcessed(t *testing.T) {
	t.Parallel()
	w := small(t, 50)
	w.backfill()
	rows := w.sim.Listed(w.orgs[0].ID)
	inbox, _ := w.inbox()
	var noise [380_000]byte
	_, _ = rand.NewChaCha8([32]byte{}).Read(noise[:])
	big := hex.EncodeToString(noise[:]) // with the rest under 1 MiB, more than an endpoint takes
	fates := map[string]string{}
	for body, want := range map[string]string{
		"\xff\x00":                        "failed",
		`{"type":"` + "\xff" + `"}`:       "failed",
		`{"type":"\ud800"}`:               "failed",
		`{"type":"\u0000"}`:               "ignored",
		`{"type":"` + big + `"}`:          "ignored",
		`{"type":7,"data":"` + big + `"}`: "failed",
	} {
		fates[w.receive(inbox, "acme", []byte(body))] = want
	}
	for i, edit := range []struct{ value, want string }{
		{"{\"a\":\"\xc3\",", "failed"},
		{`{"a\u0000":"\u0000",`, "applied"},
		{`{"a":"\udfff",`, "failed"},
		{`{"a":"` + big + `",`, "applied"},
		{`{"a":1e400000,`, "failed"},
		{`{"a":` + strings.Repeat("[", 9000) + strings.Repeat("]", 9000) + `,`, "failed"},
	} {
		must1(w.sim.RenameCustomer(rows[i].CustomerID, "changed"))
		fates[w.deliver(inbox, rows[i].CustomerID, polarsim.CustomerUpdated, `"metadata":{`, `"metadata":`+edit.value)] = edit.want
	}
	must1(w.sim.RenameCustomer(rows[9].CustomerID, "changed"))
	fates[w.deliver(inbox, rows[9].CustomerID, polarsim.CustomerUpdated, `"external_id":`, `"external_id":"`+big+`","old":`)] = "failed"
	w.applying(inbox)
	w.becomes("0", unprocessed)
	for id, want := range fates {
		if got, _, _ := strings.Cut(w.value(fate, id), " "); got != want {
			t.Errorf("%s, want %s", w.value(fate, id), want)
		}
	}
	if got := w.value(`SELECT concat_ws(' ', max(octet_length(type)) < 5000, max(octet_length(error)) < 5000) FROM polar.webhook_events`); got != "t t" {
		t.Errorf("types and errors are bounded: %s", got)
	}
}

// TestPoisonEndsWithAnErrorAndHoldsNothingUp has deliveries that nothing can be
// made of between others about the same customers.
func TestPoisonEndsWithAnErrorAndHoldsNothingUp(t *testing.T) {
	t.Parallel()
	w := two(t, 100)
	w.backfill()
	rows := w.sim.Listed(w.orgs[0].ID)
	w.exec(`ALTER TABLE polar.customers ADD CONSTRAINT no_poison CHECK (name <> 'poison')`)
	inbox, _ := w.inbox()
	fates := map[string]string{}
	for i := range 6 {
		must1(w.sim.RenameCustomer(rows[i].CustomerID, "fine"))
	}
	c := rows[0].CustomerID
	for body, want := range map[string]string{
		`{"type":"order.paid","data":{"id":1}}`: "ignored",
		`{`:                                     "failed JSON that ends in the middle",
		`{"type":"customer.updated","data":7}`:  "failed data: no customer with an id and an organization_id",
		`{"type":"customer.updated","data":{"id":"` + c.String() + `"}}`: "failed data: no customer with an id and an organization_id",
	} {
		fates[w.receive(inbox, "acme", []byte(body))] = want
	}
	fates[w.deliver(inbox, c, polarsim.CustomerStateChanged, `"active_meters":[`, `"active_meters":[{"id":1},7,`)] =
		"failed data.active_meters[0]: id: a number instead of a UUID (and 1 more); the rest of it was applied"
	fates[w.deliver(inbox, rows[1].CustomerID, polarsim.CustomerStateChanged, `"metadata":{`, `"metadata":{"huge":1e400000,`)] =
		"failed data.metadata.huge: number 1e400000: beyond the range of Postgres's numeric"
	fates[w.deliver(inbox, rows[1].CustomerID, polarsim.CustomerUpdated, `"name":"fine"`, `"name":"a\u0000b"`)] = "applied"
	must1(w.sim.RenameCustomer(rows[2].CustomerID, "poison"))
	poison := w.deliver(inbox, rows[2].CustomerID, polarsim.CustomerUpdated)
	must1(w.sim.RenameCustomer(rows[2].CustomerID, "cured"))
	fates[w.deliver(inbox, rows[2].CustomerID, polarsim.CustomerUpdated)] = "applied"
	for i := range 6 {
		must1(w.sim.Consume(rows[i].ID, "1.5"))
		fates[w.deliver(inbox, rows[i].CustomerID, polarsim.CustomerStateChanged)] = "applied"
	}
	foreign := must1(w.sim.CustomerEvent(w.sim.Listed(w.orgs[1].ID)[0].CustomerID, polarsim.CustomerStateChanged))
	misdirected := w.receive(inbox, "acme", foreign)
	w.applying(inbox)
	w.becomes("0", unprocessed)
	for id, want := range fates {
		if got := w.value(fate, id); got != want {
			t.Errorf("%s: %s, want %s", id, got, want)
		}
	}
	if got := w.value(fate, poison); !strings.Contains(got, "failed Postgres refuses it") || !strings.Contains(got, "no_poison") {
		t.Errorf("refused by Postgres: %s", got)
	}
	if got := w.value(`SELECT concat_ws(' ', status, error LIKE 'data.organization_id: %', payload IS NULL) FROM polar.webhook_events WHERE webhook_id = $1`, misdirected); got != "failed t t" {
		t.Errorf("another organization's: %s, want failed, with an error and without its payload", got)
	}
	w.same()
}

func TestFilterKeepsOutWhatWebhooksTellOf(t *testing.T) {
	t.Parallel()
	large(t)
	w := small(t, 100)
	org := w.orgs[0].ID
	rows, meters := w.sim.Listed(org), w.sim.Meters(org)
	var external *polarsim.Customer
	for _, c := range w.sim.Customers(org) {
		if c.ExternalID != nil {
			external = &c
			break
		}
	}
	for name, filter := range map[string]Filter{
		"customer": {CustomerIDs: []uuid.UUID{rows[0].CustomerID}},
		"external": {ExternalCustomerIDs: []string{*external.ExternalID}},
		"meter":    {MeterIDs: []uuid.UUID{meters[0].ID}},
		"both":     {CustomerIDs: []uuid.UUID{rows[0].CustomerID}, MeterIDs: []uuid.UUID{rows[0].MeterID}},
	} {
		filtered := func(o *Options) { o.Organizations[0].Filter = filter }
		other := newEnvLike(t, w)
		other.backfill(filtered)
		before := other.mirrored(org)
		customers := other.value(`SELECT count(*)::text FROM polar.customers`)
		inbox, _ := other.inbox(filtered)
		for _, c := range w.sim.Customers(org) {
			other.deliver(inbox, c.ID, polarsim.CustomerUpdated)
			other.deliver(inbox, c.ID, polarsim.CustomerStateChanged)
		}
		stop := other.applying(inbox)
		other.becomes("0", unprocessed)
		stop()
		if got := other.value(`SELECT concat_ws(' ', count(*), bool_and(status IN ('applied', 'ignored')), bool_or(status = 'applied')) FROM polar.webhook_events`); !strings.HasSuffix(got, " t t") {
			t.Errorf("%s: %s", name, got)
		}
		if got := other.mirrored(org); len(got) != len(before) {
			t.Errorf("%s: %d rows, before the webhooks %d", name, len(got), len(before))
		}
		if got := other.value(`SELECT count(*)::text FROM polar.customers`); got != customers {
			t.Errorf("%s: %s customers, before the webhooks %s", name, got, customers)
		}
	}
}

// newEnvLike is another mirror of the same simulated Polar.
func newEnvLike(t testing.TB, like *env) *env {
	t.Helper()
	w := newEnv(t, polarsim.Options{})
	w.sim, w.orgs = like.sim, like.orgs
	return w
}
