package store

import (
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"polarmirror/internal/polar"
)

// nested are the customers, or the meters, of a block: each once, its newest
// state, in id order, with the digests of their JSON.
type nested[T any] struct {
	nestedKind[T]
	rows    []*T
	digests [][]byte
	absent  []bool // of each, whether the mirror lacks it; empty if nobody looked
}

// A nestedKind says how customers, or meters, are dealt with.
type nestedKind[T any] struct {
	siftSQL    string // compares them with what is stored
	of         func(*polar.CustomerMeter) *T
	id         func(*T) uuid.UUID
	createdAt  func(*T) time.Time
	modifiedAt func(*T) time.Time
	changedAt  func(*T) time.Time
	raw        func(*T) []byte
}

func (k nestedKind[T]) in(rows []*polar.CustomerMeter) *nested[T] {
	return k.newestOf(column(rows, k.of))
}

// newestOf takes the newest state of each of all.
func (k nestedKind[T]) newestOf(all []*T) *nested[T] {
	all, _ = newest(all, k.id, k.changedAt)
	sortByID(all, k.id)
	return &nested[T]{
		nestedKind: k,
		rows:       all,
		digests:    column(all, func(t *T) []byte { return digest(k.raw(t)) }),
	}
}

// siftBatch returns the statements that leave only customers and meters that
// have to be written, and note in saved.Older one customer meter of each that
// was listed with an older state than is stored. Most of the bytes of a block
// are customers' JSON, and most of it is stored already.
//
// They look before the transaction of the block begins. What another writer
// writes after this look is newer than what is stored now, and where it meets
// the block the statement that writes lets the newer stand.
//
// The first statement reads the clock by which deletions and changes are dated.
func (s *Session) siftBatch(b *Block, saved *Saved) *pgx.Batch {
	batch := &pgx.Batch{}
	batch.Queue(`SELECT clock_timestamp()`).QueryRow(func(row pgx.Row) error {
		var now time.Time
		err := row.Scan(&now)
		b.looked = now
		b.dateBack(now)
		return err
	})
	s.queueComparison(batch, b)
	if b.Rewrite {
		return batch
	}
	b.prepared.customers.queueSift(batch, b, saved)
	b.prepared.meters.queueSift(batch, b, saved)
	return batch
}

// dateBack notes when the block's oldest request was begun, given what the
// database's clock said a moment ago: not later than it was, since the moment
// counts as part of the time that has passed since.
func (b *Block) dateBack(now time.Time) {
	b.begun = pgtype.Timestamptz{InfinityModifier: pgtype.NegativeInfinity, Valid: true}
	if !b.Began.IsZero() {
		b.begun = pgtype.Timestamptz{Time: now.Add(-time.Since(b.Began)), Valid: true}
	}
}

func (n *nested[T]) queueSift(batch *pgx.Batch, b *Block, saved *Saved) {
	batch.Queue(n.siftSQL,
		uuids(n.rows, n.id),
		blobs(n.digests, func(d []byte) []byte { return d }),
		times(n.rows, n.createdAt),
		times(n.rows, n.modifiedAt),
	).Query(func(rows pgx.Rows) error {
		kept, older := 0, make(map[uuid.UUID]bool)
		var place int64
		var isAbsent, isOlder bool
		_, err := pgx.ForEachRow(rows, []any{&place, &isAbsent, &isOlder}, func() error {
			i := place - 1 // not below kept: places ascend
			if isOlder && !b.Force {
				older[n.id(n.rows[i])] = true
				return nil
			}
			n.rows[kept], n.digests[kept] = n.rows[i], n.digests[i]
			n.absent = append(n.absent, isAbsent)
			kept++
			return nil
		})
		if err != nil {
			return err
		}
		n.rows, n.digests = n.rows[:kept], n.digests[:kept]
		for _, m := range b.CustomerMeters {
			if id := n.id(n.of(m)); older[id] {
				delete(older, id)
				saved.Older = append(saved.Older, m.ID)
			}
		}
		return nil
	})
}

// split parts those that the mirror lacks from the others, after the sifting.
func (n *nested[T]) split() (absent, others *nested[T]) {
	absent, others = &nested[T]{nestedKind: n.nestedKind}, &nested[T]{nestedKind: n.nestedKind}
	for i, row := range n.rows {
		to := others
		if i < len(n.absent) && n.absent[i] {
			to = absent
		}
		to.rows, to.digests = append(to.rows, row), append(to.digests, n.digests[i])
	}
	return absent, others
}
