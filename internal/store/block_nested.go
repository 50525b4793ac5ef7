package store

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"

	"polarmirror/internal/polar"
)

// nested are the customers, or the meters, of a block: each once, in id order,
// with the digests of their JSON.
type nested[T any] struct {
	rows    []*T
	digests [][]byte
}

// nestedOf collects what the rows hold, the newest state of each.
func nestedOf[T any](rows []*polar.CustomerMeter, of func(*polar.CustomerMeter) *T, idOf func(*T) uuid.UUID, changedAt func(*T) time.Time, raw func(*T) []byte) nested[T] {
	var all []*T
	seen := make(map[*T]bool)
	for _, m := range rows {
		if t := of(m); !seen[t] {
			seen[t] = true
			all = append(all, t)
		}
	}
	all = newest(all, idOf, changedAt)
	return nested[T]{rows: all, digests: column(all, func(t *T) []byte { return digest(raw(t)) })}
}

func customersOf(b *Block) nested[polar.Customer] {
	return nestedOf(b.CustomerMeters, func(m *polar.CustomerMeter) *polar.Customer { return m.Customer },
		customerID, (*polar.Customer).ChangedAt, func(c *polar.Customer) []byte { return c.Raw })
}

func metersOf(b *Block) nested[polar.Meter] {
	return nestedOf(b.CustomerMeters, func(m *polar.CustomerMeter) *polar.Meter { return m.Meter },
		meterID, (*polar.Meter).ChangedAt, func(m *polar.Meter) []byte { return m.Raw })
}

// keep keeps the rows at places, counted from 1 and ascending.
func (n *nested[T]) keep(places []int64) {
	for i, place := range places {
		n.rows[i], n.digests[i] = n.rows[place-1], n.digests[place-1]
	}
	n.rows, n.digests = n.rows[:len(places)], n.digests[:len(places)]
}

// sift leaves only customers and meters that are not stored just so: most of the
// bytes of a block that brings nothing new are their JSON. One that is changed
// by another writer after this look becomes newer than what was listed, so there
// is nothing to compare it for.
func (s *Session) sift(ctx context.Context, customers *nested[polar.Customer], meters *nested[polar.Meter]) error {
	const sql = `
SELECT
    ARRAY(
        SELECT i.place
          FROM unnest($1::uuid[], $2::bytea[]) WITH ORDINALITY AS i (id, digest, place)
         WHERE NOT EXISTS (SELECT FROM polar.customers c WHERE c.id = i.id AND c.digest = i.digest)
         ORDER BY i.place
    ),
    ARRAY(
        SELECT i.place
          FROM unnest($3::uuid[], $4::bytea[]) WITH ORDINALITY AS i (id, digest, place)
         WHERE NOT EXISTS (SELECT FROM polar.meters t WHERE t.id = i.id AND t.digest = i.digest)
         ORDER BY i.place
    )`
	var newCustomers, newMeters []int64
	err := s.conn.QueryRow(ctx, sql,
		uuids(customers.rows, customerID),
		blobs(customers.digests, sameBytes),
		uuids(meters.rows, meterID),
		blobs(meters.digests, sameBytes),
	).Scan(&newCustomers, &newMeters)
	if err != nil {
		return fmt.Errorf("compare customers and meters: %w", err)
	}
	customers.keep(newCustomers)
	meters.keep(newMeters)
	return nil
}

func sameBytes(b []byte) []byte { return b }
