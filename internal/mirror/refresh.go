package mirror

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"go.uber.org/zap"

	"polarmirror/internal/fetch"
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
	var errs []error
	for _, org := range m.opts.Organizations {
		report, err := m.worker(org).refresh(ctx, customers)
		if err != nil {
			errs = append(errs, fmt.Errorf("organization %s: %w", org.Name, err))
		}
		if report != nil {
			reports = append(reports, *report)
		}
	}
	m.notices.flush(ctx)
	return reports, errors.Join(errs...)
}

// refresh is one organization's refresh. What it changed is in the report even if it
// returns an error.
func (w *worker) refresh(ctx context.Context, asked []string) (*Refreshed, error) {
	if err := w.identify(ctx); err != nil {
		return nil, err
	}
	requests := &fetch.Counters{}
	r := &refresh{
		run: Run{
			mirror: w.mirror,
			org:    w.org,
			reader: w.reader(requests),
			record: &store.Run{Kind: store.Refresh},
			counts: counts{requests: requests},
			log:    w.log.With(zap.String("kind", string(store.Refresh))),
			began:  time.Now(),
		},
		customers: map[uuid.UUID]*RefreshedCustomer{},
		named:     map[string][]uuid.UUID{},
	}
	err := r.end(ctx, r.read(ctx, asked))
	return r.report(asked, err), err
}

// A refresh is one under way.
type refresh struct {
	run       Run
	customers map[uuid.UUID]*RefreshedCustomer
	named     map[string][]uuid.UUID // customers by either of their ids
	listed    int
}

// read lists the customers in as few requests as possible, and saves their rows.
func (r *refresh) read(ctx context.Context, asked []string) error {
	var ids []uuid.UUID
	for _, text := range asked {
		if id, ok := polarID(text); ok {
			ids = append(ids, id)
		}
	}
	known, err := r.run.mirror.store.KnownCustomers(ctx, r.run.org.ID, ids, asked)
	if err != nil {
		return err
	}
	for _, c := range known {
		r.customer(c.ID, c.ExternalID)
	}
	var external []string
	for _, text := range asked {
		// Sellers may use UUIDs too.
		if id, ok := polarID(text); !ok || r.customers[id] == nil {
			external = append(external, text)
		}
	}
	for _, filter := range r.filters(ids, external) {
		if err := r.readUnder(ctx, filter); err != nil {
			return err
		}
	}
	if r.listed == 0 && len(known) > 0 && r.run.org.Filter.Empty() {
		return checkVisible(ctx, r.run.reader.client, r.run.org.ID)
	}
	return nil
}

// polarID returns the id at Polar that text may be.
func polarID(text string) (uuid.UUID, bool) {
	id, err := uuid.Parse(text)
	return id, err == nil && len(text) == 36 && id.Version() == 4
}

// customer returns the customer, and notes its ids.
func (r *refresh) customer(id uuid.UUID, external string) *RefreshedCustomer {
	for _, name := range []string{id.String(), external} {
		if name != "" && !slices.Contains(r.named[name], id) {
			r.named[name] = append(r.named[name], id)
		}
	}
	if r.customers[id] == nil {
		r.customers[id] = &RefreshedCustomer{ID: id}
	}
	return r.customers[id]
}

// filters are those under which the customers are listed, within the organization's
// own.
func (r *refresh) filters(ids []uuid.UUID, external []string) []Filter {
	var filters []Filter
	own := r.run.org.Filter
	for set := range slices.Chunk(within(ids, own.CustomerIDs), customersPerSet) {
		filter := own
		filter.CustomerIDs = set
		filters = append(filters, filter)
	}
	for _, set := range packExternal(within(external, own.ExternalCustomerIDs)) {
		filter := own
		filter.ExternalCustomerIDs = set
		filters = append(filters, filter)
	}
	return filters
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

// packExternal makes sets of ids in the seller's own system, whose addresses are no
// longer than those of sets of Polar's ids.
func packExternal(ids []string) [][]string {
	const most = customersPerSet * len("&customer_id=00000000-0000-0000-0000-000000000000")
	var sets [][]string
	var set []string
	size := 0
	for _, id := range ids {
		n := len("&external_customer_id=") + len(url.QueryEscape(id))
		if len(set) > 0 && size+n > most {
			sets, set, size = append(sets, set), nil, 0
		}
		set, size = append(set, id), size+n
	}
	if len(set) > 0 {
		sets = append(sets, set)
	}
	return sets
}

// readUnder lists the rows under filter and saves them together. The block has no
// region, so that rows which the list lacks are no suspects.
func (r *refresh) readUnder(ctx context.Context, filter Filter) error {
	p := newProof(r.run.mirror.opts.PageSize)
	var b block
	for page, err := range r.run.reader.provenPages(ctx, filter, &p, nil) {
		if err != nil {
			return err
		}
		r.run.counts.pages++
		b.add(page.listedPage, nil)
	}
	rows := map[uuid.UUID]*polar.CustomerMeter{} // pages overlap
	var ids []uuid.UUID
	for _, m := range b.rows {
		if rows[m.ID] == nil {
			ids = append(ids, m.ID)
		}
		rows[m.ID] = m
	}
	r.listed += len(ids) + len(b.rejected)
	before, err := r.run.mirror.store.Rows(ctx, ids)
	if err != nil {
		return err
	}
	graceful, cancel := withGrace(ctx)
	defer cancel()
	saved, err := r.run.mirror.store.Refresh(graceful, r.run.org.ID, b.take())
	if err != nil {
		return err
	}
	r.run.count(saved.Counts)
	r.run.counts.changed = append(r.run.counts.changed, saved.Changed...)
	after, err := r.run.mirror.store.Rows(graceful, ids)
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
		for _, mark := range []struct {
			field string
			at    time.Time
		}{{"deleted_at", before.DeletedAt}, {"out_of_scope_at", before.OutOfScopeAt}} {
			if !mark.at.IsZero() {
				change.Fields = append(change.Fields, polar.Difference{Field: mark.field, A: mark.at.UTC().Format(time.RFC3339Nano)})
			}
		}
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

// end records the run and notifies listeners. It returns err, or why the run could
// not be recorded.
func (r *refresh) end(ctx context.Context, err error) error {
	run := &r.run
	run.count(run.counts.unrecorded())
	outcome := store.Outcome{Counts: run.counts.total, Err: err, Stopped: err != nil && ctx.Err() != nil}
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownGrace)
	defer cancel()
	id, failed := run.mirror.store.RecordRun(last, run.org.ID, store.Refresh, time.Since(run.began), outcome)
	if failed != nil && !lostDatabase(err) {
		outcome.Err = errors.Join(err, failed)
	}
	run.record.ID = id
	run.log = run.log.With(zap.Int64("run_id", id))
	run.notify()
	run.report(&outcome)
	return outcome.Err
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
	told := map[uuid.UUID]bool{}
	for _, text := range asked {
		found := r.named[text]
		if id, ok := polarID(text); ok && len(found) == 0 {
			found = r.named[id.String()] // which may have been written in capitals
		}
		if len(found) == 0 && err == nil && !slices.Contains(report.Unknown, text) {
			report.Unknown = append(report.Unknown, text)
		}
		for _, id := range found {
			if c := r.customers[id]; !told[id] {
				told[id], c.Asked = true, text
				report.Customers = append(report.Customers, *c)
			}
		}
	}
	return report
}
