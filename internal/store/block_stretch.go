package store

import (
	"bytes"
	"encoding/binary"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"polarmirror/internal/polar"
)

// A standing is what the mirror's stretch says of a row of a block.
type standing byte

const (
	absent standing = iota // not met: new, or met elsewhere
	same                   // stored just so, and live
	other                  // stored otherwise, or marked; the statement that writes it decides
)

// A comparison is a block beside the same stretch of the mirror.
type comparison struct {
	places    map[uuid.UUID]int // of the block's rows, by their ids
	standings []standing        // of the block's rows
	made      bool
	missing   int // live rows of the stretch that the block lacks
	scratch   []byte
}

// stretchSQL reads the mirror's side. The order of the walk is that of an index,
// so the rows lie together; and what is stored just so costs Postgres no more
// than sending it.
const stretchSQL = `
SELECT
    s.id,
    s.customer_id,
    s.meter_id,
    s.credited_units,
    s.created_at,
    s.modified_at,
    s.consumed_units,
    s.balance,
    s.deleted_at IS NULL AND s.out_of_scope_at IS NULL,
    s.extra IS NOT NULL
FROM polar.customer_meters s
WHERE s.organization_id = $1
  AND (s.created_at, s.customer_id, s.meter_id) >= ($2::timestamptz, $3::uuid, $4::uuid)
  AND (s.created_at, s.customer_id, s.meter_id) <= ($5::timestamptz, $6::uuid, $7::uuid)`

// Columns of stretchSQL that are not compared as they are.
const (
	stretchLive  = 8
	stretchExtra = 9
)

// queueComparison compares the block with the mirror, if it has a stretch. It
// looks before the transaction of the block begins: what another writer writes
// after this look is met by the statements that write, and let stand there if it
// is newer.
func (s *Session) queueComparison(batch *pgx.Batch, b *Block) {
	if b.Stretch == nil || b.Force {
		return
	}
	c := &b.prepared.comparison
	lowAt, highAt := b.Stretch.bounds()
	low, high := b.Stretch.Low, b.Stretch.High
	batch.Queue(stretchSQL, s.organization, lowAt, low.CustomerID, low.MeterID, highAt, high.CustomerID, high.MeterID).
		Query(func(rows pgx.Rows) error {
			defer rows.Close()
			if err := rows.Err(); err != nil {
				return err // such rows have no descriptions to ask for
			}
			for _, f := range rows.FieldDescriptions() {
				if f.Format != pgx.BinaryFormatCode {
					return nil // nothing is known, so that all rows are handed to Postgres
				}
			}
			for rows.Next() {
				c.meet(b.CustomerMeters, rows.RawValues())
			}
			c.made = true
			return rows.Err()
		})
}

// meet takes in one row of the mirror's stretch.
func (c *comparison) meet(rows []*polar.CustomerMeter, stored [][]byte) {
	live := stored[stretchLive][0] != 0
	place, ok := c.places[uuid.UUID(stored[0])]
	switch {
	case ok && live && stored[stretchExtra][0] == 0 && c.equal(rows[place], stored):
		c.standings[place] = same
	case ok:
		c.standings[place] = other
	case live:
		c.missing++
	}
}

// equal reports whether m is stored just so. That of two forms of one number, or
// of two rows with fields unknown to syncd, it says no makes it dearer alone.
func (c *comparison) equal(m *polar.CustomerMeter, stored [][]byte) bool {
	return m.Extra == nil &&
		bytes.Equal(m.CustomerID[:], stored[1]) &&
		bytes.Equal(m.MeterID[:], stored[2]) &&
		c.holds(stored[3], binary.BigEndian.AppendUint64(c.scratch[:0], uint64(m.CreditedUnits))) &&
		c.holds(stored[4], appendTime(c.scratch[:0], m.CreatedAt)) &&
		m.ModifiedAt.IsZero() == (stored[5] == nil) &&
		(stored[5] == nil || c.holds(stored[5], appendTime(c.scratch[:0], m.ModifiedAt))) &&
		c.holds(stored[6], appendNumeric(c.scratch[:0], m.ConsumedUnits)) &&
		c.holds(stored[7], appendNumeric(c.scratch[:0], m.Balance))
}

// holds reports whether the two are equal, and keeps the second's memory.
func (c *comparison) holds(stored, ours []byte) bool {
	c.scratch = ours
	return bytes.Equal(stored, ours)
}

// appendTime appends the binary form of a timestamptz.
func appendTime(buf []byte, t time.Time) []byte {
	return binary.BigEndian.AppendUint64(buf, uint64(t.UnixMicro()-epochMicros))
}

// standing returns the rows of b that stand so, in id order.
func (b *Block) standing(want standing) []*polar.CustomerMeter {
	var rows []*polar.CustomerMeter
	for i, m := range b.CustomerMeters {
		if b.prepared.comparison.standings[i] == want {
			rows = append(rows, m)
		}
	}
	sortByID(rows, customerMeterID)
	return rows
}
