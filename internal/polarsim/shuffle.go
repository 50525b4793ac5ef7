package polarsim

import "math/bits"

// mix scrambles x so that every bit depends on every other (the finalizer of
// splitmix64).
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// shuffled returns where place i of n goes in the permutation named by key. It
// needs no memory, so that a page out of a million ties costs as much as any:
// a Feistel network permutes the next power of four, and values beyond n are
// permuted again until they fall below it.
func shuffled(i, n int, key uint64) int {
	if n < 2 {
		return i
	}
	half := (bits.Len64(uint64(n-1)) + 1) / 2
	mask := uint64(1)<<half - 1
	x := uint64(i)
	for {
		left, right := x>>half, x&mask
		for round := range uint64(4) {
			left, right = right, left^mix(key^right^round<<56)&mask
		}
		x = left<<half | right
		if x < uint64(n) {
			return int(x)
		}
	}
}

// page returns the rows [from, to) of the list [from, to) of the list, shuffling rows that tie under
// the criteria, in the way named by key; key 0 leaves them where they are.
func (o *ordered) page(from, to int, ties func(a, b *row) int, key uint64) []*row {
	to = min(to, o.size)
	if from >= to {
		return nil
	}
	page := make([]*row, 0, to-from)
	for at := from; at < to; {
		first, end := o.group(at, ties)
		for ; at < end && at < to; at++ {
			i := at
			if key != 0 {
				i = first + shuffled(at-first, end-first, mix(key^uint64(first)))
			}
			page = append(page, o.at(i))
		}
	}
	return page
}

// group returns the stretch of rows that tie with the one at a place.
func (o *ordered) group(at int, ties func(a, b *row) int) (first, end int) {
	r := o.at(at)
	first, end = at, at+1
	if at > 0 && ties(o.at(at-1), r) == 0 {
		first = o.search(0, at, func(x *row) bool { return ties(x, r) >= 0 })
	}
	if end < o.size && ties(o.at(end), r) == 0 {
		end = o.search(end, o.size, func(x *row) bool { return ties(x, r) > 0 })
	}
	return first, end
}
