package mirror

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"polarmirror/internal/polar"
	"polarmirror/internal/store"
)

// Refreshed is what a refresh found and changed in one organization.
type Refreshed struct {
	Organization string              `json:"organization"`
	RunID        int64               `json:"run_id"`    // its run in sync_runs
	Customers    []RefreshedCustomer `json:"customers"` // that Polar lists or the mirror knows, as they were asked for
	Unknown      []string            `json:"unknown"`   // asked for, and neither listed nor known here
	Rejected     int64               `json:"rejected"`  // rows that could not be mirrored
	Filtered     bool                `json:"-"`         // the organization's filter applied
}

// A RefreshedCustomer is a customer that was asked for.
type RefreshedCustomer struct {
	Asked   string      `json:"asked"` // the id that was given, Polar's or the seller's
	ID      uuid.UUID   `json:"customer_id"`
	Listed  int         `json:"listed"` // customer meters that Polar lists
	Changes []RowChange `json:"changes"`

	external []string // ids in the seller's system that the mirror knew and that Polar says now
}

// A RowChange is a customer meter that is not in the mirror as it was.
type RowChange struct {
	ID        uuid.UUID          `json:"id"`
	MeterID   uuid.UUID          `json:"meter_id"`
	MeterName string             `json:"meter"`
	Kind      RowChangeKind      `json:"kind"`
	Fields    []polar.Difference `json:"fields"` // A is the value before, B the one now
}

// A RowChangeKind says how a row changed.
type RowChangeKind string

// The kinds of changes.
const (
	RowAdded    RowChangeKind = "added"    // the mirror did not have it
	RowReturned RowChangeKind = "returned" // it was marked deleted or out of scope
	RowChanged  RowChangeKind = "changed"
)

// Refresh reads all customer meters of some customers and mirrors them at once,
// whatever else runs: it takes no lock, and of two states the newer wins. Customers
// are named by Polar's id or by that in the seller's own system, and each organization
// is asked for all of them. Nothing is marked deleted: rows that Polar does not list,
// such as those of archived meters, stay as they are.
func (m *Mirror) Refresh(ctx context.Context, customers []string) ([]Refreshed, error) {
	var reports []Refreshed
	err := m.forEach(ctx, 1, func(w *worker) error {
		report, err := w.refresh(ctx, customers)
		if report != nil {
			reports = append(reports, *report)
		}
		return err
	})
	return reports, err
}

// refresh is one organization's refresh. What it changed is in the report even if it
// returns an error.
func (w *worker) refresh(ctx context.Context, asked []string) (*Refreshed, error) {
	if err := w.identify(ctx); err != nil {
		return nil, err
	}
	r := &refresh{run: w.newRun(nil, &store.Run{Kind: store.Refresh})}
	err := r.run.finish(ctx, store.Outcome{Err: r.read(ctx, asked)})
	r.run.mirror.notify(w.org, r.run.record.ID, store.Refresh, r.run.counts.total, r.changed)
	return r.report(asked, err), err
}

// A refresh is one under way.
type refresh struct {
	run       *Run
	customers []*RefreshedCustomer
	changed   []uuid.UUID // customers whose rows were written
	listed    int
}

// isNamed reports whether text is one of the customer's ids.
func (c *RefreshedCustomer) isNamed(text string) bool {
	id, ok := polarID(text)
	return ok && id == c.ID || slices.Contains(c.external, text)
}

// polarID returns the id at Polar that text may be.
func polarID(text string) (uuid.UUID, bool) {
	id, err := uuid.Parse(text)
	return id, err == nil && len(text) == 36 && id.Version() == 4
}

// customer returns the customer, and notes its id in the seller's system.
func (r *refresh) customer(id uuid.UUID, external string) *RefreshedCustomer {
	i := slices.IndexFunc(r.customers, func(c *RefreshedCustomer) bool { return c.ID == id })
	if i < 0 {
		i = len(r.customers)
		r.customers = append(r.customers, &RefreshedCustomer{ID: id})
	}
	if external != "" {
		r.customers[i].external = append(r.customers[i].external, external)
	}
	return r.customers[i]
}

// externalPerSet keeps addresses as short as customersPerSet, for ids like UUIDs.
const externalPerSet = 50

// read lists the customers in few requests, within the organization's own filter, and
// saves their rows.
func (r *refresh) read(ctx context.Context, asked []string) error {
	var ids []uuid.UUID
	for _, text := range asked {
		if id, ok := polarID(text); ok {
			ids = append(ids, id)
		}
	}
	known, err := r.run.mirror.opts.Store.KnownCustomers(ctx, r.run.org.ID, ids, asked)
	if err != nil {
		return err
	}
	for _, c := range known {
		r.customer(c.ID, c.ExternalID)
	}
	var external []string
	for _, text := range asked {
		// Sellers may use UUIDs too.
		id, ok := polarID(text)
		if !ok || !slices.ContainsFunc(known, func(c store.KnownCustomer) bool { return c.ID == id }) {
			external = append(external, text)
		}
	}
	filter := r.run.org.Filter
	for filter.CustomerIDs = range slices.Chunk(within(ids, r.run.org.Filter.CustomerIDs), customersPerSet) {
		if err := r.readUnder(ctx, filter); err != nil {
			return err
		}
	}
	filter = r.run.org.Filter
	for filter.ExternalCustomerIDs = range slices.Chunk(within(external, filter.ExternalCustomerIDs), externalPerSet) {
		if err := r.readUnder(ctx, filter); err != nil {
			return err
		}
	}
	if r.listed == 0 && len(known) > 0 {
		return r.run.org.checkVisible(ctx, r.run.reader.client)
	}
	return nil
}

// within returns the ids that allowed lets in, each once; an empty list lets in all.
func within[T comparable](ids, allowed []T) []T {
	var kept []T
	for _, id := range ids {
		if !slices.Contains(kept, id) && (len(allowed) == 0 || slices.Contains(allowed, id)) {
			kept = append(kept, id)
		}
	}
	return kept
}

// readUnder lists the rows under filter and saves them together. The block has no
// region, so that rows which the list lacks are no suspects.
func (r *refresh) readUnder(ctx context.Context, filter Filter) error {
	p := newProof(r.run.reader.pageSize())
	var b block
	for page, err := range r.run.reader.provenPages(ctx, filter, &p, nil) {
		if err != nil {
			return err
		}
		r.run.counts.pages++
		b.add(page, nil)
	}
	rows := map[uuid.UUID]*polar.CustomerMeter{} // pages overlap
	var ids []uuid.UUID
	for _, m := range b.CustomerMeters {
		if rows[m.ID] == nil {
			ids = append(ids, m.ID)
		}
		rows[m.ID] = m
	}
	r.listed += len(ids) + len(b.Rejected)
	before, err := r.run.mirror.opts.Store.Rows(ctx, ids)
	if err != nil {
		return err
	}
	graceful, cancel := withGrace(ctx)
	defer cancel()
	saved, err := r.run.mirror.opts.Store.Apply(graceful, r.run.org.ID, store.Refresh, b.take())
	if err != nil {
		return err
	}
	r.run.count(saved.Counts)
	r.changed = append(r.changed, saved.Changed...)
	after, err := r.run.mirror.opts.Store.Rows(graceful, ids)
	if err != nil {
		return err
	}
	for _, id := range ids {
		m := rows[id]
		var external string
		if m.Customer.ExternalID != nil {
			external = *m.Customer.ExternalID
		}
		c := r.customer(m.CustomerID, external)
		c.Listed++
		if change := compareRows(before[id], after[id]); change != nil {
			c.Changes = append(c.Changes, *change)
		}
	}
	return nil
}

// compareRows returns how a row changed; nil if it did not. before is nil if the
// mirror did not have it, after if Postgres refused it.
func compareRows(before, after *store.Row) *RowChange {
	if after == nil {
		return nil
	}
	change := &RowChange{ID: after.ID, MeterID: after.MeterID, MeterName: after.Meter.Name, Kind: RowChanged}
	if before == nil {
		change.Kind = RowAdded
		change.Fields = []polar.Difference{
			{Field: "consumed_units", B: after.ConsumedUnits.String()},
			{Field: "credited_units", B: strconv.FormatInt(after.CreditedUnits, 10)},
			{Field: "balance", B: after.Balance.String()},
		}
		return change
	}
	change.Fields = withoutRaw(polar.Diff(&before.CustomerMeter, &after.CustomerMeter))
	if after.Live() && !before.Live() {
		change.Kind = RowReturned
		ended := func(field string, at time.Time) {
			if !at.IsZero() {
				change.Fields = append(change.Fields, polar.Difference{Field: field, A: at.UTC().Format(time.RFC3339Nano)})
			}
		}
		ended("deleted_at", before.DeletedAt)
		ended("out_of_scope_at", before.OutOfScopeAt)
	}
	if len(change.Fields) == 0 {
		return nil
	}
	return change
}

// withoutRaw leaves out that the whole JSON of a customer or a meter has changed,
// where a field of it tells that.
func withoutRaw(all []polar.Difference) []polar.Difference {
	var kept []polar.Difference
	for _, d := range all { // raw comes last
		of, raw := strings.CutSuffix(d.Field, "raw")
		if !raw || !slices.ContainsFunc(kept, func(o polar.Difference) bool { return strings.HasPrefix(o.Field, of) }) {
			kept = append(kept, d)
		}
	}
	return kept
}

// report tells of the customers in the order in which they were asked for. Whether
// one is unknown is not known after an error.
func (r *refresh) report(asked []string, err error) *Refreshed {
	report := &Refreshed{
		Organization: r.run.org.Name,
		RunID:        r.run.record.ID,
		Rejected:     r.run.counts.total.RowsRejected,
		Filtered:     !r.run.org.Filter.Empty(),
	}
	for _, text := range asked {
		unknown := err == nil
		for _, c := range r.customers {
			if !c.isNamed(text) {
				continue
			}
			unknown = false
			if c.Asked == "" {
				c.Asked = text
				report.Customers = append(report.Customers, *c)
			}
		}
		if unknown && !slices.Contains(report.Unknown, text) {
			report.Unknown = append(report.Unknown, text)
		}
	}
	return report
}
