package store

import (
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgtype"

	"polarmirror/internal/polar"
)

// A Block is what one transaction saves: pages of a walk or a tick, or single
// customer meters that were asked for. Nobody changes it, or its rows, while it
// is being saved.
type Block struct {
	// CustomerMeters with their nested customers and meters, in any order. If one
	// occurs more than once, the newest is written.
	CustomerMeters []*polar.CustomerMeter
	Rejected       []RejectedRow

	// RequestedAt is when the oldest request of the block began, by this machine's
	// clock; zero if unknown. Only an answer to a request that began after a row
	// was marked deleted revives it.
	RequestedAt time.Time

	// Region, if set, is the part of the list that the block shows completely.
	// Live rows of the mirror in it that the block lacks become suspects.
	Region *Region

	// Cursor, if set, moves with the block.
	Cursor *Cursor

	// Force writes what differs even if it is older: Polar still had it when asked
	// for that very row. What was written after the request began stays.
	Force bool

	// Rewrite writes the nested customers and meters even if their digest is the
	// stored one: the stored columns are not trusted.
	Rewrite bool

	Counts Counts // of the requests and pages behind the block
}

// A Region is a part of the list: a range of keys in the order of the walk, both
// ends included, of all rows or of those of some customers or meters.
type Region struct {
	Low, High    polar.Key
	FromStart    bool        // everything below Low as well
	ToEnd        bool        // everything above High as well
	Customers    []uuid.UUID // nil: of all customers
	Meters       []uuid.UUID // nil: of all meters
	LowestOffset int         // where in the list its lowest page began
}

// Holds reports whether a row with the key lies in the region.
func (r *Region) Holds(key polar.Key) bool {
	return (r.FromStart || key.Compare(r.Low) >= 0) &&
		(r.ToEnd || key.Compare(r.High) <= 0) &&
		(r.Customers == nil || slices.Contains(r.Customers, key.CustomerID)) &&
		(r.Meters == nil || slices.Contains(r.Meters, key.MeterID))
}

// where is the condition that finds at least the rows of the region: those of some
// customers, or a range in the order of the walk, which is that of an index.
func (r *Region) where(organization uuid.UUID) (condition string, args []any) {
	if r.Customers != nil {
		return `
 WHERE m.customer_id = ANY($1::uuid[])`, []any{ids(r.Customers)}
	}
	low, high := timestamp(r.Low.CreatedAt), timestamp(r.High.CreatedAt)
	if r.FromStart {
		low = pgtype.Timestamptz{Valid: true, InfinityModifier: pgtype.NegativeInfinity}
	}
	if r.ToEnd {
		high = pgtype.Timestamptz{Valid: true, InfinityModifier: pgtype.Infinity}
	}
	return `
 WHERE m.organization_id = $1
   AND (m.created_at, m.customer_id, m.meter_id) >= ($2::timestamptz, $3::uuid, $4::uuid)
   AND (m.created_at, m.customer_id, m.meter_id) <= ($5::timestamptz, $6::uuid, $7::uuid)
   AND ($8::uuid[] IS NULL OR m.meter_id = ANY($8::uuid[]))`,
		[]any{organization, low, r.Low.CustomerID, r.Low.MeterID, high, r.High.CustomerID, r.High.MeterID, ids(r.Meters)}
}

// A RejectedRow is a row that can't be mirrored, with its place.
type RejectedRow struct {
	polar.RejectedRow
	Offset int // of its page in the list
}

// refusedRow describes a row that decoding let through and Postgres did not.
func (b *Block) refusedRow(m *polar.CustomerMeter, err error) RejectedRow {
	offset := 0
	if b.Region != nil {
		offset = b.Region.LowestOffset
	}
	raw := fmt.Appendf(nil, `{"id":%q,"customer":%s,"meter":%s}`, m.ID, m.Customer.Raw, m.Meter.Raw)
	return RejectedRow{
		RejectedRow: polar.RejectedRow{ID: m.ID, Key: m.Key(), HasKey: true, Raw: raw, Reason: "Postgres refuses it: " + err.Error()},
		Offset:      offset,
	}
}

// Saved is what a block did.
type Saved struct {
	Counts Counts
	// Older are customer meters that were listed with an older state than the
	// mirror has, of themselves or of their customer or meter. That state was not
	// written. One may occur more than once.
	Older []uuid.UUID
	// Refused are the rows that Postgres refused. They are stored as rejected.
	Refused []RejectedRow
	// NewCustomers are the customers of the rows that the mirror did not have live
	// before. One may be there more than once.
	NewCustomers []uuid.UUID
	// Changed are the customers of the rows that were written. One may be there more
	// than once.
	Changed []uuid.UUID
}
