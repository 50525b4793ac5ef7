package polarsim

import (
	"slices"
	"sort"
)

// chunkSize bounds a chunk of an ordered list: large enough that a million
// rows are few chunks, small enough that an insertion moves little memory.
const chunkSize = 1024

// An ordered list holds rows in a total order. A row is found by its place or
// by its order in logarithmic time, and added or removed in about the time of
// moving one chunk.
type ordered struct {
	compare func(a, b *row) int // never 0 for two different rows
	chunks  [][]*row            // none empty
	starts  []int               // place of each chunk's first row; nil: to be counted
	size    int
}

// newOrdered sorts rows and takes hold of the slice.
func newOrdered(rows []*row, compare func(a, b *row) int) *ordered {
	slices.SortFunc(rows, compare)
	o := &ordered{compare: compare, size: len(rows)}
	for chunk := range slices.Chunk(rows, chunkSize/2) {
		o.chunks = append(o.chunks, chunk)
	}
	return o
}

// at returns the row at place i, counted from 0.
func (o *ordered) at(i int) *row {
	if o.starts == nil {
		o.starts = make([]int, len(o.chunks))
		n := 0
		for k, chunk := range o.chunks {
			o.starts[k] = n
			n += len(chunk)
		}
	}
	k := sort.SearchInts(o.starts, i+1) - 1
	return o.chunks[k][i-o.starts[k]]
}

// chunkOf returns the index of the only chunk that can hold r.
func (o *ordered) chunkOf(r *row) int {
	k := sort.Search(len(o.chunks), func(k int) bool { return o.compare(o.chunks[k][0], r) > 0 })
	return max(k-1, 0)
}

func (o *ordered) insert(r *row) {
	o.starts = nil
	o.size++
	if len(o.chunks) == 0 {
		o.chunks = [][]*row{{r}}
		return
	}
	k := o.chunkOf(r)
	i, _ := slices.BinarySearchFunc(o.chunks[k], r, o.compare)
	chunk := slices.Insert(o.chunks[k], i, r)
	o.chunks[k] = chunk
	if len(chunk) > chunkSize {
		half := len(chunk) / 2
		o.chunks[k] = chunk[:half:half] // clipped: never grows into its neighbour
		o.chunks = slices.Insert(o.chunks, k+1, chunk[half:])
	}
}

func (o *ordered) remove(r *row) {
	if len(o.chunks) == 0 {
		return
	}
	k := o.chunkOf(r)
	i, found := slices.BinarySearchFunc(o.chunks[k], r, o.compare)
	if !found {
		return
	}
	o.starts = nil
	o.size--
	o.chunks[k] = slices.Delete(o.chunks[k], i, i+1)
	if len(o.chunks[k]) == 0 {
		o.chunks = slices.Delete(o.chunks, k, k+1)
	}
}

// search returns the first place in [low, high) whose row is f, or high; f must
// be false and then true along the list.
func (o *ordered) search(low, high int, f func(*row) bool) int {
	return low + sort.Search(high-low, func(i int) bool { return f(o.at(low + i)) })
}
